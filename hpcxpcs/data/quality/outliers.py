"""What stands out in a matrix, by medians that survive it; repair masks it and puts nothing in its place.

Hot frames, noise that frames share with pairs, gaps in time, noise and outliers of single pairs. Those are found from
neighbours at the same lag: no model, and a decay is not noise. What repair masks is recorded pair by pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.arrays import Flags, Floats
from hpcxpcs.data import clean
from hpcxpcs.data.clean import Masks, Screening, median_of_finite, row_slabs

NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution in units of its median absolute deviation."""

MOST_SAMPLED = 1_000_000
"""Values that a median over a matrix is taken from: its error is then a thousandth of the spread."""


def running_median(series: Floats, width: int) -> Floats:
    """Return the median (n,) of the finite values within a window of odd `width` around each point."""
    half = width // 2
    padded = np.concatenate([np.full(half, np.nan), series, np.full(half, np.nan)])
    return median_of_finite(np.lib.stride_tricks.sliding_window_view(padded, width), 1)


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

ROWS_AT_ONCE = 256


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
        distance[live[first:last]] = median_of_finite(near[first - low : last - low] - middle, 1)
        inner = slice(max(first, 1), min(last, len(live) - 1))
        before, here, after = (near[inner.start - low + s : inner.stop - low + s] for s in (-1, 0, 1))
        each = here - (before + after) / 2
        bend[live[inner]] = median_of_finite(each, 1)
        known.append(np.isfinite(each).sum(axis=1))
    reach[live[[0, 1, -2, -1]]] = AT_THE_END
    return Departures(distance, bend, reach, max(1, int(np.median(np.concatenate(known)))))


def live_frames(work: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which frames (N,) of `work` (N, N) have a usable pair."""
    return np.concatenate([np.isfinite(work[rows]).any(axis=1) for rows in row_slabs(len(work), ROWS_AT_ONCE)])


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
    padded = np.concatenate([np.full(reach, -np.inf), np.nan_to_num(series, nan=-np.inf), np.full(reach, -np.inf)])
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1))


SPIKE = 10.0
"""Standard deviations from its neighbours at which a pair is a spike."""

SPIKE_SHARE = 0.25
"""Smallest distance of a spike from its neighbours, as a share of the matrix's spread: what bends is no spike."""

MEDIAN_OF_FOUR = 1.14
"""Standard deviation of a value minus the median of four others, in units of theirs."""

SECOND_DIFFERENCE = np.sqrt(1.5)
"""The same for a value minus the mean of two."""

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
    found = [np.argwhere(np.abs(distance, out=distance) > limit) + first for first, distance in _distances(work)]
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
    """Return the largest value of a matrix with noise if many pairs share it and few the next one, else None."""
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
    clipped = shared[highest] >= max(SATURATED, SATURATED_RATIO * shared[below])
    return highest if clipped and sigma_of(work) > 0.0 else None


def _largest_two(values: NDArray[Any]) -> dict[float, int]:
    """The largest value of an array (n,) and the next smaller one, and how often each occurs."""
    counts: dict[float, int] = {}
    while values.size and len(counts) < 2:
        largest = values.max()
        rest = values[values < largest]
        counts[float(largest)] = values.size - rest.size
        values = rest
    return counts


SIZE_QUANTILES = (0.01, 0.99)
"""What lies between these is the spread of a matrix: outliers do not reach it."""


@dataclass(frozen=True)
class Touched:
    """What one repair masked of one angle, and why.

    `frames` count from 1 in the file; `runs` are pairs as (i, first j, last j), i < j, also frames from 1, and
    `pairs` is how many they are. Pairs with a masked frame are not listed again.
    """

    reason: str
    frames: tuple[int, ...] = ()
    runs: tuple[tuple[int, int, int], ...] = ()
    pairs: int = 0


def screened(c2: NDArray[Any], screening: Screening, name: str, first: int) -> tuple[Masks, tuple[Touched, ...]]:
    """Return what of a symmetric matrix (N, N) is masked, and what of that is repair; frames count from `first`.

    With repair disabled this is `clean.masks`, and nothing is recorded.
    """
    if screening.repair == "disabled":
        return clean.masks(c2, screening, name, first), ()
    masks = clean.masks(c2, replace(screening, non_finite="mask"), name, first)
    touched = list(_without_a_value(c2, masks, screening, first))
    steps = [_empty_pairs]
    if screening.repair == "aggressive":
        steps += [_hot, _impossible, _saturated, _outliers]
    for step in steps:
        frames, pairs, reason = step(c2, masks)
        masks, record = _masked(masks, frames, pairs, reason, first)
        touched += [record] if record is not None else []
    return masks, tuple(touched)


def _and_usable(pairs: Flags, masks: Masks) -> Flags:
    """Pairs (N, N) themselves, without those that are not usable and the diagonal."""
    pairs[masks.dead, :] = False
    pairs[:, masks.dead] = False
    np.fill_diagonal(pairs, False)
    if masks.pair_ok is not None:
        pairs &= masks.pair_ok
    return pairs


def work_of(c2: NDArray[Any], masks: Masks) -> NDArray[Any]:
    """Return a copy of a matrix (N, N), NaN where a pair is not usable and on the diagonal."""
    return clean.blanked(c2.copy(), masks)


def size_of(work: NDArray[Any]) -> float:
    """Return the spread of the finite values of a matrix between its low and its high ones."""
    step = max(1, work.size // MOST_SAMPLED)
    step += step > 1 and len(work) % step == 0  # Or only some columns would be looked at.
    sample = work.reshape(-1)[::step]
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return 0.0
    low, high = np.quantile(sample, SIZE_QUANTILES)
    return float(high - low)


_Step = tuple[Flags | None, Flags | None, str]


def _without_a_value(c2: NDArray[Any], masks: Masks, screening: Screening, first: int) -> Iterator[Touched]:
    """Frames and pairs that would not be masked without repair, and hold NaN or infinities."""
    dead = masks.dead & ~clean.dead_frames(c2, screening, first)
    dead[dead] = [not np.isfinite(c2[frame]).all() for frame in np.flatnonzero(dead)]
    pairs = None if masks.pair_ok is None else ~masks.pair_ok
    record = _record(np.flatnonzero(dead), pairs, "no finite value", first)
    if record is not None:
        yield record


def _empty_pairs(c2: NDArray[Any], masks: Masks) -> _Step:
    return None, _and_usable(c2 == 0, masks), "exactly zero among live frames: never filled in"


def _hot(c2: NDArray[Any], masks: Masks) -> _Step:
    work = work_of(c2, masks)
    hot = hot_frames(departures(work), size_of(work), sigma_of(work))
    return hot, None, "hot frame: its level is far from its neighbours'"


def _impossible(c2: NDArray[Any], masks: Masks) -> _Step:
    with np.errstate(invalid="ignore"):
        return None, _and_usable(c2 < 0, masks), "negative: no correlation of intensities is"


def _saturated(c2: NDArray[Any], masks: Masks) -> _Step:
    work = work_of(c2, masks)
    value = saturated_value(work)
    return None, None if value is None else work == value, "saturated: many pairs share the largest value"


def _outliers(c2: NDArray[Any], masks: Masks) -> _Step:
    work = work_of(c2, masks)
    pairs = spikes(work, sigma_of(work), size_of(work))
    found = np.zeros(c2.shape, dtype=bool)
    found[pairs[:, 0], pairs[:, 1]] = found[pairs[:, 1], pairs[:, 0]] = True
    return None, found, "spike: far from its neighbours at the same lag"


def _masked(
    masks: Masks, frames: Flags | None, pairs: Flags | None, reason: str, first: int
) -> tuple[Masks, Touched | None]:
    """Masks without these frames (N,) and pairs (N, N) too, and the record of it (None when there are none)."""
    new = np.zeros(0, dtype=np.intp) if frames is None else np.flatnonzero(frames & ~masks.dead)
    record = _record(new, pairs, reason, first)
    if record is None:
        return masks, None
    dead, pair_ok = masks.dead.copy(), masks.pair_ok
    dead[new] = True
    if pairs is not None:
        pair_ok = ~pairs if pair_ok is None else pair_ok & ~pairs
    return Masks(dead, pair_ok), record


def _record(frames: NDArray[np.intp], pairs: Flags | None, reason: str, first: int) -> Touched | None:
    runs = () if pairs is None else tuple(_runs(pairs, first))
    if not (frames.size or runs):
        return None
    count = sum(last - begin + 1 for _, begin, last in runs)
    return Touched(reason, tuple((frames + first).tolist()), runs, count)


def _runs(pairs: Flags, first: int) -> Iterator[tuple[int, int, int]]:
    """Rows of pairs as runs of columns, above the diagonal."""
    for i in range(len(pairs)):
        later = pairs[i, i + 1 :]
        if not later.any():
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[0], later.view(np.int8), [0]]))) + (i + 1 + first)
        for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            yield i + first, begin, end - 1
