"""The answer as rows: what a terminal, a log and the report show of a point fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.results.measurement import ABSENT, matching, measurement, number
from hpcxpcs.results.records import Fit

Truth = float | list[float]
"""A known number, or one per angle of the data."""

SAME_ANGLE = 1e-3
"""Degrees within which an angle of the data is one of the truth's; files store angles in single precision."""

HEADINGS = ("parameter", "value ± uncertainty", "robust ±", "unit", "", "truth", "off by")


@dataclass(frozen=True)
class Row:
    """One parameter as text; `remark` says why it has no error bar, `off_by` is in error bars."""

    name: str
    value: str
    robust: str
    unit: str
    remark: str
    truth: str
    off_by: str

    def cells(self) -> tuple[str, ...]:
        """The texts in the order of HEADINGS."""
        return (self.name, self.value, self.robust, self.unit, self.remark, self.truth, self.off_by)


def summary_lines(fit: Fit, data: TwoTime, truth: Mapping[str, Any] | None = None) -> tuple[Row, ...]:
    """Rows for the physical parameters, then for contrast and offset (one row per angle, in degrees)."""
    known = true_values(truth, data.phi)
    return (*_physical(fit, known), *_scaling(fit, data, known))


def shown_columns(rows: Sequence[Row]) -> tuple[int, ...]:
    """Indices into HEADINGS of the columns in which any row has something to say."""
    table = [row.cells() for row in rows]
    return tuple(c for c in range(len(HEADINGS)) if any(cells[c] not in ("", ABSENT) for cells in table))


def plain_text(rows: Sequence[Row]) -> str:
    """The rows as an aligned table of plain text."""
    columns = shown_columns(rows)
    lines = [HEADINGS, *(row.cells() for row in rows)]
    texts = [[line[c] for c in columns] for line in lines]
    widths = [max(len(line[c]) for line in texts) for c in range(len(columns))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in texts)


def true_values(truth: Mapping[str, Any] | None, phi: Sequence[float] | np.ndarray) -> dict[str, Truth]:
    """The known numbers of simulated data, flat or under `parameters`: scalars, or one per angle of phi.

    Lists belong to the angles `phi` of the truth (degrees), or else to those of the data in their order.
    """
    if not truth:
        return {}
    parameters = truth.get("parameters")
    named = {**truth, **(parameters if isinstance(parameters, Mapping) else {})}
    places = _places(truth.get("phi"), phi)
    known: dict[str, Truth] = {}
    for name, value in named.items():
        if isinstance(value, int | float):
            known[name] = float(value)
        elif name in ("contrast", "offset") and places is not None and len(value) > max(places):
            known[name] = [float(value[place]) for place in places]
    return known


def _places(known: Sequence[float] | None, phi: Sequence[float] | np.ndarray) -> list[int] | None:
    """Where each angle of the data is in the truth's list; None if one of them is not."""
    if known is None:
        return list(range(len(phi)))
    nearest = [int(np.argmin(np.abs(np.asarray(known, dtype=float) - angle))) for angle in phi]
    found = all(abs(known[place] - angle) <= SAME_ANGLE for place, angle in zip(nearest, phi, strict=True))
    return nearest if found else None


def _physical(fit: Fit, known: Mapping[str, Truth]) -> Iterator[Row]:
    for k, name in enumerate(fit.names):
        robust = None if fit.robust_uncertainty is None else float(fit.robust_uncertainty[k])
        remark = "at bound" if fit.at_bound[k] else "" if fit.free[k] else "fixed"
        truth = known.get(name)
        yield _row(
            name, float(fit.values[k]), float(fit.uncertainty[k]), robust, fit.units[k], remark,
            truth if isinstance(truth, float) else None,
        )  # fmt: skip


def _scaling(fit: Fit, data: TwoTime, known: Mapping[str, Truth]) -> Iterator[Row]:
    scaling = fit.scaling
    parts = (
        ("contrast", scaling.contrast, scaling.contrast_uncertainty, scaling.robust_contrast_uncertainty),
        ("offset", scaling.offset, scaling.offset_uncertainty, scaling.robust_offset_uncertainty),
    )
    for name, values, uncertainties, robust in parts:
        for k, phi in enumerate(data.phi):
            truth = _at_angle(known.get(name), k)
            wider = None if robust is None else float(robust[k])
            yield _row(f"{name} {phi:g}°", float(values[k]), float(uncertainties[k]), wider, "", "", truth)


def _at_angle(truth: Truth | None, k: int) -> float | None:
    return truth[k] if isinstance(truth, list) else truth


def _row(
    name: str,
    value: float,
    uncertainty: float,
    robust: float | None,
    unit: str,
    remark: str,
    truth: float | None,
) -> Row:
    shown = measurement(value, uncertainty)
    return Row(
        name=name,
        value=str(shown),
        robust=matching(shown, robust),
        unit=unit,
        remark=remark,
        truth=ABSENT if truth is None else number(truth),
        off_by=ABSENT if truth is None else _off_by(value - truth, uncertainty),
    )


def _off_by(difference: float, uncertainty: float) -> str:
    """How many error bars a value is away from the truth."""
    if not (math.isfinite(difference) and math.isfinite(uncertainty) and uncertainty > 0):
        return ABSENT
    return f"{difference / uncertainty:+.1f} σ"
