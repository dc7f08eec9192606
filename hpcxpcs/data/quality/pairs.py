"""Noise and outliers of single pairs, from neighbours at the same lag: no model, and a decay is not noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.quality.robust import MOST_SAMPLED, spread

SPIKE = 10.0
"""Standard deviations from its neighbours at which a pair is a spike."""

SPIKE_SHARE = 0.25
"""Smallest distance of a spike from its neighbours, as a share of the matrix's spread: what bends is no spike."""

MEDIAN_OF_FOUR = 1.14
"""Standard deviation of a value minus the median of four others, in units of theirs."""

SECOND_DIFFERENCE = np.sqrt(1.5)
"""The same for a value minus the mean of two."""

ROWS_AT_ONCE = 256
SATURATED = 8
"""Fewest pairs that share the largest value of a saturated matrix, and ..."""

SATURATED_RATIO = 4
"""... how many times more they are than those that share the next one."""


def sigma_of(work: NDArray[Any]) -> float:
    """Return the noise of one pair of `work` (N, N), from second differences along lines of equal lag."""
    n = len(work)
    step = max(1, (n - 2) * (n - 2) // (2 * MOST_SAMPLED))
    parts = []
    for first in range(1, n - 1, ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, n - 1)
        middle, before, after = (work[first + s : last + s, 1 + s : n - 1 + s] for s in (0, -1, 1))
        above = np.arange(1, n - 1)[None, :] > np.arange(first, last)[:, None] + 1
        bend = middle - (before + after) / 2
        parts.append(bend[above & np.isfinite(bend)][::step])
    return spread(np.concatenate(parts)) / float(SECOND_DIFFERENCE) if parts else 0.0


def spikes(work: NDArray[Any], sigma: float, size: float) -> NDArray[np.intp]:
    """Return the pairs (k, 2), i < j, far from the median of their four neighbours at the same lag.

    `size` is the spread of the matrix between its low and high values.
    """
    limit = max(SPIKE * MEDIAN_OF_FOUR * sigma, SPIKE_SHARE * size)
    found = [
        np.argwhere(np.abs(distance) > limit) + np.array([first, 0])
        for first, distance in _distances(work)
        if distance.size
    ]
    pairs = np.concatenate(found) if found else np.empty((0, 2), dtype=np.intp)
    return pairs[pairs[:, 0] < pairs[:, 1]]


def _distances(work: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Slabs of rows of the distance of each pair from its four neighbours; NaN where fewer than four are known."""
    n = len(work)
    for first in range(0, n, ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, n)
        total = np.zeros((last - first, n), dtype=work.dtype)
        low, high = np.full_like(total, np.inf), np.full_like(total, -np.inf)
        for shift in (-2, -1, 1, 2):
            beside = _shifted(work, first, last, shift)
            total += beside
            np.fmin(low, beside, out=low)
            np.fmax(high, beside, out=high)
        yield first, work[first:last] - (total - low - high) / 2


def _shifted(work: NDArray[Any], first: int, last: int, shift: int) -> NDArray[Any]:
    """Rows first … last of the matrix moved along its diagonal, NaN where that is outside."""
    n = len(work)
    beside = np.full((last - first, n), np.nan, dtype=work.dtype)
    rows, columns = np.arange(first, last) + shift, np.arange(n) + shift
    inside_rows, inside = (rows >= 0) & (rows < n), (columns >= 0) & (columns < n)
    beside[np.ix_(inside_rows, inside)] = work[np.ix_(rows[inside_rows], columns[inside])]
    return beside


def saturated_value(work: NDArray[Any]) -> float | None:
    """Return the largest value of a matrix if many pairs share it and few the next one, else None."""
    finite = np.concatenate([row[k + 1 :][np.isfinite(row[k + 1 :])] for k, row in enumerate(work)])
    if finite.size < SATURATED:
        return None
    highest = float(finite.max())
    below = finite[finite < highest]
    if below.size == 0:
        return None
    shared = int(np.count_nonzero(finite == highest))
    next_ones = int(np.count_nonzero(finite == below.max()))
    return float(highest) if shared >= max(SATURATED, SATURATED_RATIO * next_ones) else None
