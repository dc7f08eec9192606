"""Tolerant reading of numbers: what a person means by a number in YAML or JSON, and nothing else."""

from __future__ import annotations

import math
import re
from numbers import Integral, Real

_DIGITS = r"\d(?:_?\d)*"
_NUMBER = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?\d+)?")
_NOT_FINITE = re.compile(r"[+-]?\.?(?:nan|inf|infinity)", re.IGNORECASE)
_SIZE = re.compile(r"(?P<number>\S+?)\s*(?P<unit>[kMGT]i?B)")
_MOST_DIGITS = 400
"""Characters of the longest number: the largest float has 309 digits."""
_SMALLEST_MEMORY = 64 * 1024**2


def number_from_text(text: str) -> int | float | None:
    """The int or float that text spells ("12", "1e-3", "1.0e5", "2_000"), or None when it spells none."""
    text = text.strip()
    if len(text) > _MOST_DIGITS or not _NUMBER.fullmatch(text):
        return None
    return int(text) if re.fullmatch(r"[+-]?[\d_]+", text) else float(text)


def read_number(value: object) -> float:
    """A finite float from an int, a float or text that spells one; never from a bool, NaN or infinity."""
    if isinstance(value, bool):
        raise ValueError("is not a number")
    if isinstance(value, str):
        if _NOT_FINITE.fullmatch(value.strip()):
            raise ValueError("is not a finite number")
        value = number_from_text(value)
    if not isinstance(value, Real):
        raise ValueError("is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("is not a finite number")
    return number + 0.0  # turns -0.0 into 0.0, so that both have one fingerprint


def read_whole(value: object) -> int:
    """An int from an int, a float without fraction or text that spells one ("8", 8.0, "1e3")."""
    if isinstance(value, str):
        value = number_from_text(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError("is not a whole number")
    if isinstance(value, Integral):
        return int(value)
    number = read_number(value)
    if not number.is_integer():
        raise ValueError("is not a whole number")
    return int(number)


def read_memory(value: object) -> int:
    """A memory size in bytes from a count of bytes or from text with a unit ("4 GiB", "800MB")."""
    factor = 1
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        unit = match["unit"]
        factor = (1024 if "i" in unit else 1000) ** (1 + "kMGT".index(unit[0]))
        value = match["number"]
    try:
        size = int(read_number(value) * factor)
    except ValueError:
        raise ValueError('is not a memory size; write for example "4 GiB" or "800 MB"') from None
    if size < _SMALLEST_MEMORY:
        raise ValueError('is less than 64 MiB; write the unit, for example "4 GiB"')
    return size
