"""Medians and spreads that survive outliers and missing values (NaN), without warnings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution in units of its median absolute deviation."""

MOST_SAMPLED = 1_000_000
"""Values that a median over a matrix is taken from: its error is then a thousandth of the spread."""

Floats = NDArray[np.float64]


def row_medians(values: NDArray[Any]) -> Floats:
    """Return the median (n,) of the finite values of each row of (n, m), NaN for a row without any."""
    ordered = np.sort(values, axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    rows = np.arange(len(ordered))
    low = ordered[rows, np.maximum(count - 1, 0) // 2]
    high = ordered[rows, np.minimum(count // 2, np.maximum(count - 1, 0))]
    return np.where(count > 0, (low + high) / 2.0, np.nan)


def running_median(series: Floats, width: int) -> Floats:
    """Return the median (n,) of the finite values within a window of odd `width` around each point."""
    half = width // 2
    padded = np.concatenate([np.full(half, np.nan), series, np.full(half, np.nan)])
    return row_medians(np.lib.stride_tricks.sliding_window_view(padded, width))


def spread(values: NDArray[Any]) -> float:
    """Return the standard deviation that the finite values suggest (from their median absolute deviation)."""
    finite = values[np.isfinite(values)].astype(np.float64, copy=False)
    if finite.size == 0:
        return 0.0
    finite -= np.median(finite, overwrite_input=True)
    return NORMAL_MAD * float(np.median(np.abs(finite, out=finite), overwrite_input=True))


def mean_of_finite(values: NDArray[Any]) -> tuple[float, int]:
    """Return the mean of the finite values (NaN without any), and how many there are."""
    finite = values[np.isfinite(values)]
    return (float(finite.mean(dtype=np.float64)) if finite.size else np.nan), int(finite.size)
