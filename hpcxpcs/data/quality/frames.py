"""What single frames do to a matrix: hot frames, noise that a frame shares with all its pairs, gaps in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.quality.robust import Floats, row_medians, running_median, spread

NEIGHBOURS = 4
"""Live frames around each one that it is compared with."""

HOT = 8.0
"""Spreads from its neighbours at which a frame is hot: no normal frame of a million lies there."""

HOT_SHARE = 0.1
"""Smallest distance of a hot frame from its neighbours, as a share of the matrix's spread."""

AT_THE_END = 3.0
"""How many times farther a frame with neighbours on one side only must be: a trend looks like a distance there."""

CORNER = 3
"""Frames on either side of a boundary whose pairs are looked at for a gap."""

GAP_WINDOW = 15
GAP_SHARE = 0.2
"""Smallest drop of the correlation across a gap, as a share of the contrast."""

MOST_COLUMNS = 1000
"""Pairs of each frame that its level is the median of."""

FEWEST_COLUMNS = 16
"""Pairs of a frame below which their own noise hides what the frame adds."""

ROWS_AT_ONCE = 128


@dataclass(frozen=True)
class Departures:
    """How far each frame (N,) lies from the others, as the median over its pairs; NaN for dead frames.

    `distance` is from the median of four live neighbours, `bend` from the mean of two; `reach` multiplies what
    counts as far. Each bend is the median of about `columns` pairs.
    """

    distance: Floats
    bend: Floats
    reach: Floats
    columns: int


def departures(work: NDArray[Any]) -> Departures:
    """Compare each frame of `work` (N, N), NaN where not usable and on the diagonal, with its live neighbours."""
    n = len(work)
    live = np.flatnonzero(live_frames(work))
    distance, bend, reach = np.full(n, np.nan), np.full(n, np.nan), np.ones(n)
    columns = live[np.unique(np.linspace(0, len(live) - 1, min(len(live), MOST_COLUMNS)).round().astype(int))]
    if len(live) <= NEIGHBOURS:
        return Departures(distance, bend, reach, max(1, len(columns)))
    position = np.arange(len(live))
    start = np.clip(position - NEIGHBOURS // 2, 0, len(live) - NEIGHBOURS - 1)
    window = start[:, None] + np.arange(NEIGHBOURS + 1)
    around = window[window != position[:, None]].reshape(len(live), NEIGHBOURS)
    known = []
    for first in range(0, len(live), ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, len(live))
        low, high = window[first, 0], window[last - 1, -1] + 1
        near = work[np.ix_(live[low:high], columns)]
        middle = _middle_of_four(*(near[rows - low] for rows in around[first:last].T))
        distance[live[first:last]] = row_medians(near[first - low : last - low] - middle)
        inner = slice(max(first, 1), min(last, len(live) - 1))
        before, here, after = (near[inner.start - low + s : inner.stop - low + s] for s in (-1, 0, 1))
        each = here - (before + after) / 2
        bend[live[inner]] = row_medians(each)
        known.append(np.isfinite(each).sum(axis=1))
    reach[live[[0, 1, -2, -1]]] = AT_THE_END
    return Departures(distance, bend, reach, max(1, int(np.median(np.concatenate(known)))))


def live_frames(work: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which frames (N,) of `work` (N, N) have a usable pair."""
    slabs = (work[first : first + ROWS_AT_ONCE] for first in range(0, len(work), ROWS_AT_ONCE))
    return np.concatenate([np.isfinite(rows).any(axis=1) for rows in slabs])


def _middle_of_four(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], d: NDArray[Any]) -> NDArray[Any]:
    """The mean of the second and the third smallest of four arrays, element by element; NaN counts as the largest."""
    second = np.maximum(np.fmin(a, b), np.fmin(c, d))
    third = np.fmin(np.maximum(a, b), np.maximum(c, d))
    return np.asarray((second + third) / 2)


def hot_frames(found: Departures, size: float, sigma: float) -> NDArray[np.bool_]:
    """Tell which frames (N,) lie far from their neighbours.

    `size` is the spread of the matrix between its low and high values, `sigma` the noise of one pair.
    """
    floor = sigma * np.sqrt(np.pi / 2.0 / found.columns)
    limit = max(HOT * max(spread(found.distance), floor), HOT_SHARE * size) * found.reach
    return np.asarray(np.isfinite(found.distance) & (np.abs(found.distance) > limit))


def shared_noise(found: Departures, sigma: float) -> float:
    """Return the standard deviation of what a frame adds to all its pairs, 0 when pair noise explains it all."""
    if found.columns < FEWEST_COLUMNS:
        return 0.0
    of_pairs = sigma**2 * np.pi / 2.0 / found.columns
    excess = spread(found.bend) ** 2 / 1.5 - of_pairs
    return float(np.sqrt(excess)) if excess > of_pairs else 0.0


def gaps(work: NDArray[Any], contrast: float) -> tuple[int, ...]:
    """Return the frames (from 0) after which time is missing: the correlation across that boundary drops."""
    n = len(work)
    if n < 2 * GAP_WINDOW:
        return ()
    total, count = np.zeros(n - 1), np.zeros(n - 1)
    for before in range(CORNER):
        for after in range(CORNER):
            diagonal = work.diagonal(1 + before + after)
            known = np.isfinite(diagonal)
            where = np.arange(len(diagonal)) + before
            total[where[known]] += diagonal[known]
            count[where[known]] += 1
    across = np.where(count >= CORNER, total / np.maximum(count, 1), np.nan)
    across[: CORNER - 1] = across[n - CORNER :] = np.nan  # The corners at the ends hold other lags.
    drop = running_median(across, GAP_WINDOW) - across
    limit = max(HOT * spread(drop), GAP_SHARE * contrast)
    deepest = running_maximum(drop, CORNER)
    return tuple(np.flatnonzero(np.isfinite(drop) & (drop > limit) & (drop >= deepest)).tolist())


def running_maximum(series: Floats, reach: int) -> Floats:
    """Return the largest finite value (n,) within `reach` points of each."""
    padded = np.concatenate(
        [np.full(reach, -np.inf), np.nan_to_num(series, nan=-np.inf), np.full(reach, -np.inf)]
    )
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1))
