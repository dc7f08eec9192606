"""Noise and outliers of single pairs, from neighbours at the same lag: no model, and a decay is not noise."""

from __future__ import annotations

from collections import Counter
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
        middle, before, after = (work[first + s : last + s, first + s : n - 1 + s] for s in (0, -1, 1))
        bend = before + after
        bend /= 2
        np.subtract(middle, bend, out=bend)
        known = np.isfinite(bend)
        known &= np.arange(first, n - 1)[None, :] > np.arange(first, last)[:, None] + 1
        parts.append(bend[known][::step].copy())
    if not parts:
        return 0.0
    sample = np.concatenate(parts)
    del parts
    return spread(sample) / float(SECOND_DIFFERENCE)


def spikes(work: NDArray[Any], sigma: float, size: float) -> NDArray[np.intp]:
    """Return the pairs (k, 2), i < j, far from the median of their four neighbours at the same lag.

    `size` is the spread of the matrix between its low and high values.
    """
    limit = max(SPIKE * MEDIAN_OF_FOUR * sigma, SPIKE_SHARE * size)
    found = [
        np.argwhere(np.abs(distance, out=distance) > limit) + first for first, distance in _distances(work)
    ]
    pairs = np.concatenate(found) if found else np.empty((0, 2), dtype=np.intp)
    return pairs[pairs[:, 0] < pairs[:, 1]]


def _distances(work: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Slabs of the distance of each pair from its four neighbours, NaN where fewer than four are known.

    Each begins at element (first, first) and goes on to the last frame but two: what is before is another's mirror.
    """
    n = len(work)
    for first in range(2, n - 2, ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, n - 2)
        here, *beside = (work[first + s : last + s, first + s : n - 2 + s] for s in (0, -2, -1, 1, 2))
        total = beside[0] + beside[1]
        low, high = np.fmin(beside[0], beside[1]), np.fmax(beside[0], beside[1])
        for other in beside[2:]:
            total += other
            np.fmin(low, other, out=low)
            np.fmax(high, other, out=high)
        total -= low
        total -= high
        total /= 2
        yield first, np.subtract(here, total, out=total)


def saturated_value(work: NDArray[Any]) -> float | None:
    """Return the largest value of a matrix if many pairs share it and few the next one, else None."""
    size, shared = 0, Counter[float]()
    for first in range(0, len(work), ROWS_AT_ONCE):
        rows = work[first : first + ROWS_AT_ONCE, first:]
        above = np.isfinite(rows)
        above &= np.arange(rows.shape[1])[None, :] > np.arange(len(rows))[:, None]
        values = rows[above]
        size += values.size
        shared.update(_largest_two(values))
        shared = Counter({value: shared[value] for value in sorted(shared)[-2:]})
    if size < SATURATED or len(shared) < 2:
        return None
    below, highest = sorted(shared)
    return highest if shared[highest] >= max(SATURATED, SATURATED_RATIO * shared[below]) else None


def _largest_two(values: NDArray[Any]) -> dict[float, int]:
    """The largest value of an array (n,) and the next smaller one, and how often each occurs."""
    counts: dict[float, int] = {}
    while values.size and len(counts) < 2:
        largest = values.max()
        rest = values[values < largest]
        counts[float(largest)] = values.size - rest.size
        values = rest
    return counts
