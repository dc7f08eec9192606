"""Numbers as a scientist writes them: rounded to two digits of their uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal

_CONTEXT = Context(prec=400, rounding=ROUND_HALF_EVEN)
_FIXED_EXPONENTS = range(-4, 6)
"""Powers of ten between which a number is written out in full."""
_DIGITS_OF_DOUBLE = 15
"""Digits that a double carries; an uncertainty below them doesn't decide the rounding."""

ABSENT = "—"


@dataclass(frozen=True)
class Measurement:
    """A value and its uncertainty with the same last decimal and the same power of ten."""

    value: str
    uncertainty: str
    exponent: int = 0

    def __str__(self) -> str:
        """For example `1.234 ± 0.012`, `(1.234 ± 0.012)e+07`, or the value alone."""
        power = f"e{self.exponent:+03d}" if self.exponent else ""
        if self.uncertainty == ABSENT:
            return f"{self.value}{power}"
        pair = f"{self.value} ± {self.uncertainty}"
        return f"({pair}){power}" if power else pair


def measurement(value: float, uncertainty: float | None = None) -> Measurement:
    """Round a value to two significant digits of its uncertainty (six digits of its own if it has none)."""
    value = float(value)
    error = math.nan if uncertainty is None else abs(float(uncertainty))
    if not math.isfinite(value):
        return Measurement(_special(value), ABSENT)
    if math.isinf(error):
        return Measurement(number(value), _special(error))
    if math.isnan(error) or error == 0:
        return Measurement(number(value), ABSENT if math.isnan(error) else "0")
    return _rounded(value, error)


def number(value: float, digits: int = 6) -> str:
    """A number with at most so many significant digits, or a word for one that is not finite."""
    return f"{float(value):.{digits}g}" if math.isfinite(value) else _special(value)


def matching(shown: Measurement, uncertainty: float | None) -> str:
    """A second uncertainty to two significant digits, on the power of ten of a shown measurement."""
    if uncertainty is None or not math.isfinite(uncertainty):
        return ABSENT if uncertainty is None else _special(uncertainty)
    error = abs(float(uncertainty))
    if error == 0:
        return "0"
    scaled = _scaled(error, shown.exponent)
    if _leading(error) - shown.exponent < -_DIGITS_OF_DOUBLE:
        return f"{error:.1e}"
    text = _fixed(scaled, _leading(error) - shown.exponent - 1)
    return f"{text}e{shown.exponent:+03d}" if shown.exponent else text


def _rounded(value: float, error: float) -> Measurement:
    size = max(_leading(value), _leading(error))
    exponent = 0 if size in _FIXED_EXPONENTS else size
    last = max(_leading(error) - 1, size - _DIGITS_OF_DOUBLE) - exponent
    shown = _fixed(_scaled(error, exponent), last)
    if not Decimal(shown):
        shown = f"{_scaled(error, exponent):.1e}"
    return Measurement(_fixed(_scaled(value, exponent), last), shown, exponent)


def _leading(value: float) -> int:
    """The power of ten of the first digit after rounding to two: 0.0996 counts as 0.10."""
    return int(f"{value:.1e}".partition("e")[2]) if value else -400


def _scaled(value: float, exponent: int) -> Decimal:
    return Decimal(repr(float(value))).scaleb(-exponent, _CONTEXT)


def _fixed(value: Decimal, last: int) -> str:
    """Written out, rounded at the power of ten `last`."""
    rounded = value.quantize(Decimal(1).scaleb(last), context=_CONTEXT)
    return f"{rounded + 0:f}" if rounded else f"{abs(rounded):f}"


def _special(value: float) -> str:
    if math.isnan(value):
        return ABSENT
    return "∞" if value > 0 else "-∞"
