"""What may be done to matrices before they are fitted or drawn: off unless asked for, and always told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.config.sections import Preprocessing
from hpcxpcs.data.clean import Masks, beside_diagonal, mean_beside, median_of_finite, row_slabs
from hpcxpcs.errors import DataError

BASELINE_LAGS = 0.75
"""Share of the longest lag of live frames from which on pairs are the baseline."""

ROWS_AT_ONCE = 64

Matrix = NDArray[Any]


def stages_of(asked: Preprocessing) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield stage, method and parameters of everything that is on, in its order."""
    if asked.diagonal != "basic":
        yield "diagonal", asked.diagonal, {"for": "pictures", "window": asked.window}
    if asked.normalization != "none":
        extra = {"lags_from": BASELINE_LAGS} if asked.normalization == "baseline" else {}
        yield "normalization", asked.normalization, extra
    if asked.noise_reduction != "none":
        yield "noise_reduction", asked.noise_reduction, {"window": asked.window, "along": "equal lag"}
    if asked.standard != "as_stored":
        yield "standardise", asked.standard, {}
    if asked.validate_result:
        yield "validate", "finite and symmetric", {}


def changes_of_fit(asked: Preprocessing) -> dict[str, Any]:
    """Return what of it changes a fit, for fingerprints; empty when nothing does."""
    changing = ("normalization", "noise_reduction", "standardise")
    return {stage: [method, more] for stage, method, more in stages_of(asked) if stage in changing}


def warnings_of(asked: Preprocessing) -> tuple[str, ...]:
    """Return what a reader of the results must know."""
    told = {
        "normalization": "c2 was normalised ({method}) before the fit: contrast and offset are those of the result",
        "noise_reduction": "noise was reduced ({method}, {window} frames): points share noise, and error bars are "
        "too small",
    }
    return tuple(
        told[stage].format(method=method, window=asked.window) for stage, method, _ in stages_of(asked) if stage in told
    )


def records(asked: Preprocessing, n: int) -> list[dict[str, Any]]:
    """The provenance of matrices (n, n): every stage that is on; `seconds` begin as None and grow with each."""
    return [
        {
            "stage": stage,
            "method": method,
            "parameters": parameters,
            "input_shape": [n, n],
            "output_shape": [n, n],
            "seconds": None,
        }
        for stage, method, parameters in stages_of(asked)
    ]


def processed(
    c2: Matrix, masks: Masks, asked: Preprocessing, name: str, told: list[dict[str, Any]]
) -> tuple[Matrix, float]:
    """Return a symmetric matrix (N, N) after all stages, and by how much σ has to be divided.

    Pairs that are masked and the diagonal do not influence others; masked pairs stay as they are. The matrix given is
    left alone, and is what is returned where no stage changes it.
    """
    seconds = {record["stage"]: record for record in told}
    factor = 1.0
    for stage, method, _ in stages_of(asked):
        begun = time.perf_counter()
        if stage == "normalization":
            shift, factor = _level_and_size(c2, masks, asked.normalization, name)
            c2 = c2 - shift
            c2 /= factor
        elif stage == "noise_reduction":
            c2 = _REDUCED[method](c2, masks, asked.window)
        elif stage == "standardise":
            c2 = np.ascontiguousarray(c2, dtype=np.float64)
        elif stage == "validate":
            _check(c2, masks, name)
        if stage in seconds:
            seconds[stage]["seconds"] = (seconds[stage]["seconds"] or 0.0) + time.perf_counter() - begun
    return c2, factor


def _level_and_size(c2: Matrix, masks: Masks, method: str, name: str) -> tuple[float, float]:
    """What is subtracted from a matrix and what it is divided by."""
    live = np.flatnonzero(~masks.dead)
    longest = int(live[-1] - live[0]) if live.size else 0
    values = _looked_at(c2, masks, int(BASELINE_LAGS * longest) if method == "baseline" else None)
    if values.size == 0:
        raise DataError(f"{name}: preprocessing.normalization: {method} finds no usable pair; set it to none")
    mean = values.mean()
    shift, size = {"min_max": (values.min(), np.ptp(values)), "z_score": (mean, 1.0)}.get(method, (0.0, mean))
    if method == "z_score":
        values -= mean
        size = np.sqrt(np.multiply(values, values, out=values).mean())
    if not size > 0.0:
        raise DataError(f"{name}: preprocessing.normalization: {method} would divide by {size:g}; set it to none")
    return float(shift), float(size)


def _looked_at(c2: Matrix, masks: Masks, after: int | None) -> NDArray[np.float64]:
    """The usable values of a matrix, row by row: all, or those at lags above `after`."""

    slabs = list(row_slabs(len(c2), ROWS_AT_ONCE))
    counts = [int(np.count_nonzero(masks.usable(rows, after))) for rows in slabs]
    values, filled = np.empty(sum(counts)), 0
    for rows, count in zip(slabs, counts, strict=True):
        values[filled : filled + count] = c2[rows][masks.usable(rows, after)]
        filled += count
    return values


def _along_the_lag(c2: Matrix, masks: Masks, rows: slice, window: int) -> Matrix:
    """For each pair of some rows, those of the same lag up to half a window away: (rows, window, N), or NaN."""
    n, half = len(c2), window // 2
    near = slice(max(0, rows.start - half), min(n, rows.stop + half))
    padded = np.full((rows.stop - rows.start + 2 * half, n + 2 * half), np.nan, dtype=c2.dtype)
    top = near.start - (rows.start - half)
    inside = padded[top : top + near.stop - near.start, half : n + half]
    np.copyto(inside, c2[near], where=masks.usable(near, None))
    return np.stack([padded[k : k + rows.stop - rows.start, k : n + k] for k in range(2 * half + 1)], axis=1)


def _replaced(c2: Matrix, masks: Masks, window: int, reduce: Callable[[Matrix], Matrix]) -> Matrix:
    reduced = c2.copy()
    for rows in row_slabs(len(c2), ROWS_AT_ONCE):
        beside = reduce(_along_the_lag(c2, masks, rows, window))
        np.copyto(reduced[rows], beside, where=masks.usable(rows, None), casting="same_kind")
    return reduced


def _median(c2: Matrix, masks: Masks, window: int) -> Matrix:
    return _replaced(c2, masks, window, lambda beside: median_of_finite(beside, 1))


def _gaussian(c2: Matrix, masks: Masks, window: int) -> Matrix:
    half = window // 2
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / (window / 4.0)) ** 2)[None, :, None]

    def mean(beside: Matrix) -> Matrix:
        known = np.isfinite(beside)
        total = (weights * known).sum(axis=1)
        return np.asarray((weights * np.where(known, beside, 0.0)).sum(axis=1) / np.maximum(total, 1e-300))

    return _replaced(c2, masks, window, mean)


_REDUCED: Mapping[str, Callable[[Matrix, Masks, int], Matrix]] = {"median": _median, "gaussian": _gaussian}


def _check(c2: Matrix, masks: Masks, name: str) -> None:
    """Refuse a matrix that preprocessing has spoilt."""
    for rows in row_slabs(len(c2), ROWS_AT_ONCE):
        allowed = masks.usable(rows, None)
        values = c2[rows][allowed]
        if not np.isfinite(values).all():
            raise DataError(f"{name}: preprocessing left values that are no finite numbers; switch its stages off")
        if not np.array_equal(values, c2[:, rows].T[allowed]):
            raise DataError(f"{name}: preprocessing left a matrix that is not symmetric; switch its stages off")


def drawn_diagonal(c2: NDArray[Any], dead: NDArray[np.bool_], asked: Preprocessing) -> NDArray[np.float64]:
    """Return the diagonal (N,) that a matrix (N, N) has in pictures, NaN where nothing beside it is known.

    basic: the mean of the two neighbours; statistical: the median of pairs up to `window` lags away, of the same row
    and column; interpolation: the straight line through lags 2 and 1, carried on to 0.
    """
    basic = mean_beside(c2, dead)
    if asked.diagonal == "basic":
        return basic
    if asked.diagonal == "statistical":
        reach = range(1, min(asked.window, len(c2) - 1) + 1)
        beside = np.concatenate([beside_diagonal(c2, dead, lag) for lag in reach])
        found = median_of_finite(beside, 0)
    else:
        found = 2.0 * basic - mean_beside(c2, dead, 2)
    return np.where(np.isfinite(found), found, basic)
