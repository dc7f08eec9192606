"""Units as files spell them, turned into Å⁻¹, degrees and seconds: a unit is read or refused, never guessed."""

from __future__ import annotations

import math
import unicodedata
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.one_file import attribute
from hpcxpcs.data.formats.source import Source, vector
from hpcxpcs.errors import FormatError

Kind = Literal["q", "angle", "time"]

OURS: dict[Kind, str] = {"q": "Å⁻¹", "angle": "degrees", "time": "s"}

_LENGTHS = {"å": 1.0, "a": 1.0, "ang": 1.0, "angstrom": 1.0, "angstroms": 1.0, "nm": 0.1, "m": 1e-10}
_FACTORS: dict[Kind, dict[str, float]] = {
    "q": {
        spelling: factor
        for length, factor in _LENGTHS.items()
        for spelling in (f"{length}-1", f"1/{length}", f"/{length}")
    },
    "angle": {
        **dict.fromkeys(("deg", "degs", "degree", "degrees", "°"), 1.0),
        **dict.fromkeys(("rad", "rads", "radian", "radians"), 180.0 / math.pi),
    },
    "time": {
        **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
        **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1e-3),
        **dict.fromkeys(("us", "μs", "microsecond", "microseconds"), 1e-6),
        **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
    },
}
_EXAMPLES: dict[Kind, str] = {"q": "1/angstrom or 1/nm", "angle": "deg or rad", "time": "s or ms"}
_FILLERS = str.maketrans({"−": "-", "⁻": "-", **dict.fromkeys(" ^*{}()[]_", "")})


class Quantity(NamedTuple):
    """Values (n,) in Å⁻¹, degrees or seconds, and in words the unit they were stored in."""

    values: NDArray[np.float64]
    unit: str


def quantity(
    source: Source, path: str, kind: Kind, *, required: bool = False, elsewhere: str | None = None
) -> Quantity:
    """Return a list of a file in our unit: converted from the one its attribute `units` (or `unit`) states.

    Without the attribute, the unit that the file states `elsewhere` holds, or else the layout's own (which is
    ours), unless it is `required`.
    """
    values = vector(source, path)
    if values.dtype.kind not in "fiu":
        raise FormatError(f"/{path} holds values of type {values.dtype}; numbers are needed")
    stated = stated_unit(source, path) or elsewhere
    if stated is None and required:
        raise FormatError(
            f"/{path} has no attribute units, and its unit is not guessed: state it, for example in Python "
            f"with h5py.File(…, 'r+')['{path}'].attrs['units'] = '{_EXAMPLES[kind].split()[0]}'"
        )
    if stated is None:
        return Quantity(values.astype(np.float64), f"{OURS[kind]} (not stated: that of the layout)")
    factor = factor_of(stated, kind, path)
    told = f"{stated} (stated)" if factor == 1.0 else f"{stated} (stated), converted to {OURS[kind]}"
    return Quantity(values.astype(np.float64) * factor, told)


def factor_of(unit: str, kind: Kind, path: str) -> float:
    """Return by what a number in a unit, however it is spelled, is multiplied to be in Å⁻¹, degrees or s."""
    spelled = unicodedata.normalize("NFKC", unit).strip().lower().translate(_FILLERS)
    if spelled not in _FACTORS[kind]:
        raise FormatError(f"/{path}: the unit {unit!r} is not understood here; use {_EXAMPLES[kind]}")
    return _FACTORS[kind][spelled]


def stated_unit(source: Source, path: str) -> str | None:
    """Return the unit that a dataset's attribute `units` or `unit` states, None when there is none."""
    for name in ("units", "unit"):
        stored = attribute(source[path], name)
        if stored is not None and (unit := text(stored).strip()):
            return unit
    return None


def text(value: Any) -> str:
    """Return an attribute as text, whether it is stored as text, bytes or an array of one of them."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
