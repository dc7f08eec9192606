"""Types of configuration values, each with its reader and JSON Schema, and the base of all sections."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from numbers import Integral, Real
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    StrictStr,
    WithJsonSchema,
)

from hpcxpcs.config.problems import suggestion
from hpcxpcs.files.places import path_problem

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


_LONGEST_DT = 1e12
"""Seconds; far beyond any measurement, and small enough for the arithmetic of times."""
_LARGEST_Q = 10.0
"""1/Å; where atoms scatter."""

Number = Annotated[float, BeforeValidator(read_number)]
Whole = Annotated[int, BeforeValidator(read_whole)]


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def _path(value: str) -> str:
    problem = path_problem(_text(value))
    if problem is not None:
        raise ValueError(problem)
    return value


Text = Annotated[StrictStr, AfterValidator(_text)]
PathText = Annotated[StrictStr, AfterValidator(_path)]


def _word_or_positive(
    *words: str, allowed: str, most: float = math.inf, unit: str = ""
) -> Callable[[object], float | str]:
    """A reader of one of the words or of a positive number; `allowed` says so to those who give something else."""

    def read(value: object) -> float | str:
        if isinstance(value, str) and value in words:
            return value
        try:
            number = read_number(value)
        except ValueError as error:
            hint = suggestion(value, words) if isinstance(value, str) else ""
            raise ValueError(f"{error}; allowed: {allowed}{hint}") from None
        if number <= 0:
            raise ValueError("must be greater than 0")
        if number > most:
            raise ValueError(f"must be at most {most:g} {unit}")
        return number

    return read


_read_dt = _word_or_positive(
    "auto", "frames", allowed="a number of seconds, auto or frames", most=_LONGEST_DT, unit="s"
)
_read_q = _word_or_positive("unknown", allowed="a number in 1/Å or unknown", most=_LARGEST_Q, unit="1/Å")
_read_noise = _word_or_positive("auto", allowed="auto, a number, or a dataset path such as /exchange/sigma")


def _read_sigma(value: object) -> float | str:
    return value if isinstance(value, str) and "/" in value else _read_noise(value)


def _read_dead_frames(value: object) -> str | tuple[int, ...]:
    if value in ("auto", "none"):
        return str(value)
    if not isinstance(value, (list, tuple)):
        hint = suggestion(value, ("auto", "none")) if isinstance(value, str) else ""
        raise ValueError(f"must be auto, none or a list of frames such as [17, 230]{hint}")
    frames = sorted({read_whole(frame) for frame in value})
    if frames and frames[0] < 1:
        raise ValueError("has a frame below 1; frames count from 1")
    return tuple(frames) or "none"


def _read_memory(value: object) -> int | Literal["auto"]:
    return "auto" if value == "auto" else read_memory(value)


DT = Annotated[
    float | Literal["auto", "frames"],
    BeforeValidator(_read_dt),
    WithJsonSchema({"anyOf": [{"enum": ["auto", "frames"]}, {"type": "number", "exclusiveMinimum": 0}]}),
]
Wavevector = Annotated[
    float | Literal["unknown"],
    BeforeValidator(_read_q),
    WithJsonSchema({"anyOf": [{"const": "unknown"}, {"type": "number", "exclusiveMinimum": 0, "maximum": _LARGEST_Q}]}),
]
Sigma = Annotated[
    float | str,
    BeforeValidator(_read_sigma),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number", "exclusiveMinimum": 0}]}),
]
DeadFrames = Annotated[
    Literal["auto", "none"] | tuple[int, ...],
    BeforeValidator(_read_dead_frames),
    WithJsonSchema(
        {"anyOf": [{"enum": ["auto", "none"]}, {"type": "array", "items": {"type": "integer", "minimum": 1}}]}
    ),
]
MemorySize = Annotated[int, BeforeValidator(read_memory)]
Memory = Annotated[
    int | Literal["auto"],
    BeforeValidator(_read_memory),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
]
