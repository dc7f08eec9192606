"""What may be done to matrices before they are fitted or drawn: off unless asked for, and always told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.clean import Masks, beside_diagonal, mean_beside
from hpcxpcs.errors import DataError

Diagonal = Literal["basic", "statistical", "interpolation"]
Normalization = Literal["none", "baseline", "mean", "min_max", "z_score"]
NoiseReduction = Literal["none", "median", "gaussian"]
Standard = Literal["as_stored", "float64"]

BASELINE_LAGS = 0.75
"""Share of the longest lag of live frames from which on pairs are the baseline."""

ROWS_AT_ONCE = 64

Matrix = NDArray[Any]


@dataclass(frozen=True)
class Processing:
    """Which stages are on: normalisation and noise reduction (over `window` frames) change c2, the diagonal pictures.

    `standard` is the number type that matrices are turned into, `validate` checks each matrix afterwards.
    """

    diagonal: Diagonal = "basic"
    normalization: Normalization = "none"
    noise_reduction: NoiseReduction = "none"
    window: int = 3
    standard: Standard = "as_stored"
    validate: bool = False

    def stages(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield stage, method and parameters of everything that is on, in its order."""
        if self.diagonal != "basic":
            yield "diagonal", self.diagonal, {"for": "pictures", "window": self.window}
        if self.normalization != "none":
            extra = {"lags_from": BASELINE_LAGS} if self.normalization == "baseline" else {}
            yield "normalization", self.normalization, extra
        if self.noise_reduction != "none":
            yield "noise_reduction", self.noise_reduction, {"window": self.window, "along": "equal lag"}
        if self.standard != "as_stored":
            yield "standardise", self.standard, {}
        if self.validate:
            yield "validate", "finite and symmetric", {}

    def settings(self) -> dict[str, Any]:
        """What of it changes a fit, for fingerprints; empty when nothing does."""
        changing = ("normalization", "noise_reduction", "standardise")
        return {stage: [method, more] for stage, method, more in self.stages() if stage in changing}

    def words(self) -> tuple[str, ...]:
        """What a reader of the results must know."""
        told = {
            "normalization": "c2 was normalised ({method}) before the fit: contrast and offset are those of the result",
            "noise_reduction": "noise was reduced ({method}, {window} frames): points share noise, and error bars are "
            "too small",
        }
        return tuple(
            told[stage].format(method=method, window=self.window)
            for stage, method, _ in self.stages()
            if stage in told
        )


def records(processing: Processing, n: int) -> list[dict[str, Any]]:
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
        for stage, method, parameters in processing.stages()
    ]


def processed(
    c2: Matrix, masks: Masks, processing: Processing, name: str, told: list[dict[str, Any]]
) -> tuple[Matrix, float]:
    """Return a symmetric matrix (N, N) after all stages, and by how much σ has to be divided.

    Pairs that are masked and the diagonal do not influence others; masked pairs stay as they are. The matrix given is
    left alone, and is what is returned where no stage changes it.
    """
    seconds = {record["stage"]: record for record in told}
    factor = 1.0
    for stage, method, _ in processing.stages():
        begun = time.perf_counter()
        if stage == "normalization":
            shift, factor = _level_and_size(c2, masks, processing.normalization, name)
            c2 = c2 - shift
            c2 /= factor
        elif stage == "noise_reduction":
            c2 = _REDUCED[method](c2, masks, processing.window)
        elif stage == "standardise":
            c2 = np.ascontiguousarray(c2, dtype=np.float64)
        elif stage == "validate":
            _check(c2, masks, name)
        if stage in seconds:
            seconds[stage]["seconds"] = (seconds[stage]["seconds"] or 0.0) + time.perf_counter() - begun
    return c2, factor


def _slabs(n: int) -> Iterator[slice]:
    return (slice(first, min(first + ROWS_AT_ONCE, n)) for first in range(0, n, ROWS_AT_ONCE))


def _usable(masks: Masks, rows: slice) -> NDArray[np.bool_]:
    """Which elements of some rows (m, N) are those of usable pairs; the diagonal is not."""
    allowed = ~masks.dead[rows, None] & ~masks.dead[None, :]
    if masks.pair_ok is not None:
        allowed &= masks.pair_ok[rows]
    inside = np.arange(len(allowed))
    allowed[inside, rows.start + inside] = False
    return allowed


def _level_and_size(c2: Matrix, masks: Masks, method: Normalization, name: str) -> tuple[float, float]:
    """What is subtracted from a matrix and what it is divided by."""
    live = np.flatnonzero(~masks.dead)
    longest = int(live[-1] - live[0]) if live.size else 0
    values = _looked_at(c2, masks, int(BASELINE_LAGS * longest) if method == "baseline" else -len(c2))
    if values.size == 0:
        raise DataError(f"{name}: preprocessing.normalization: {method} finds no usable pair; set it to none")
    mean = values.mean()
    shift, size = {"min_max": (values.min(), np.ptp(values)), "z_score": (mean, 1.0)}.get(method, (0.0, mean))
    if method == "z_score":
        values -= mean
        size = np.sqrt(np.multiply(values, values, out=values).mean())
    if not size > 0.0:
        raise DataError(
            f"{name}: preprocessing.normalization: {method} would divide by {size:g}; set it to none"
        )
    return float(shift), float(size)


def _looked_at(c2: Matrix, masks: Masks, after: int) -> NDArray[np.float64]:
    """The usable values of a matrix at signed lags above `after`, row by row."""

    def allowed(rows: slice) -> NDArray[np.bool_]:
        late = np.arange(len(c2))[None, :] > np.arange(rows.start, rows.stop)[:, None] + after
        return np.asarray(late & _usable(masks, rows))

    counts = [int(np.count_nonzero(allowed(rows))) for rows in _slabs(len(c2))]
    values, filled = np.empty(sum(counts)), 0
    for rows, count in zip(_slabs(len(c2)), counts, strict=True):
        values[filled : filled + count] = c2[rows][allowed(rows)]
        filled += count
    return values


def _along_the_lag(c2: Matrix, masks: Masks, rows: slice, window: int) -> Matrix:
    """For each pair of some rows, those of the same lag up to half a window away: (rows, window, N), or NaN."""
    n, half = len(c2), window // 2
    near = slice(max(0, rows.start - half), min(n, rows.stop + half))
    padded = np.full((rows.stop - rows.start + 2 * half, n + 2 * half), np.nan, dtype=c2.dtype)
    top = near.start - (rows.start - half)
    inside = padded[top : top + near.stop - near.start, half : n + half]
    np.copyto(inside, c2[near], where=_usable(masks, near))
    return np.stack([padded[k : k + rows.stop - rows.start, k : n + k] for k in range(2 * half + 1)], axis=1)


def _replaced(c2: Matrix, masks: Masks, window: int, reduce: Callable[[Matrix], Matrix]) -> Matrix:
    reduced = c2.copy()
    for rows in _slabs(len(c2)):
        beside = reduce(_along_the_lag(c2, masks, rows, window))
        np.copyto(reduced[rows], beside, where=_usable(masks, rows), casting="same_kind")
    return reduced


def _median(c2: Matrix, masks: Masks, window: int) -> Matrix:
    def middle(beside: Matrix) -> Matrix:
        ordered = np.sort(beside, axis=1)
        last = np.maximum(np.isfinite(ordered).sum(axis=1) - 1, 0)
        low, high = (np.take_along_axis(ordered, k[:, None, :], axis=1) for k in (last // 2, (last + 1) // 2))
        return np.asarray((low + high)[:, 0, :] / 2)

    return _replaced(c2, masks, window, middle)


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
    for rows in _slabs(len(c2)):
        allowed = _usable(masks, rows)
        values = c2[rows][allowed]
        if not np.isfinite(values).all():
            raise DataError(
                f"{name}: preprocessing left values that are no finite numbers; switch its stages off"
            )
        if not np.array_equal(values, c2[:, rows].T[allowed]):
            raise DataError(
                f"{name}: preprocessing left a matrix that is not symmetric; switch its stages off"
            )


def drawn_diagonal(
    c2: NDArray[Any], dead: NDArray[np.bool_], processing: Processing
) -> NDArray[np.float64]:
    """Return the diagonal (N,) that a matrix (N, N) has in pictures, NaN where nothing beside it is known.

    basic: the mean of the two neighbours; statistical: the median of pairs up to `window` lags away, of the same row
    and column; interpolation: the straight line through lags 2 and 1, carried on to 0.
    """
    basic = mean_beside(c2, dead)
    if processing.diagonal == "basic":
        return basic
    if processing.diagonal == "statistical":
        reach = range(1, min(processing.window, len(c2) - 1) + 1)
        beside = np.concatenate([beside_diagonal(c2, dead, lag) for lag in reach])
        ordered = np.sort(beside, axis=0)
        last = np.maximum(np.isfinite(ordered).sum(axis=0) - 1, 0)
        frames = np.arange(len(c2))
        found = (ordered[last // 2, frames] + ordered[(last + 1) // 2, frames]) / 2.0
    else:
        found = 2.0 * basic - mean_beside(c2, dead, 2)
    return np.where(np.isfinite(found), found, basic)
