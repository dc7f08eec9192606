"""Repair by masking: what is damaged is left out and recorded, pair by pair; no value is ever put in its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data import clean
from hpcxpcs.data.clean import Masks, Screening
from hpcxpcs.data.quality.frames import departures, hot_frames
from hpcxpcs.data.quality.pairs import saturated_value, sigma_of, spikes
from hpcxpcs.data.quality.robust import MOST_SAMPLED

Bools = NDArray[np.bool_]

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


def screened(
    c2: NDArray[Any], screening: Screening, name: str, first: int
) -> tuple[Masks, tuple[Touched, ...]]:
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


def _and_usable(pairs: Bools, masks: Masks) -> Bools:
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


Step = tuple[Bools | None, Bools | None, str]


def _without_a_value(c2: NDArray[Any], masks: Masks, screening: Screening, first: int) -> Iterator[Touched]:
    """Frames and pairs that would not be masked without repair, and hold NaN or infinities."""
    dead = masks.dead.copy()
    if screening.dead_frames == "auto":
        dead &= ~clean.silent_frames(c2)
    elif screening.dead_frames != "none":
        dead[[frame - first for frame in screening.dead_frames if 0 <= frame - first < len(dead)]] = False
    dead[dead] = [not np.isfinite(c2[frame]).all() for frame in np.flatnonzero(dead)]
    pairs = None if masks.pair_ok is None else ~masks.pair_ok
    record = _record(np.flatnonzero(dead), pairs, "no finite value", first)
    if record is not None:
        yield record


def _empty_pairs(c2: NDArray[Any], masks: Masks) -> Step:
    return None, _and_usable(c2 == 0, masks), "exactly zero among live frames: never filled in"


def _hot(c2: NDArray[Any], masks: Masks) -> Step:
    work = work_of(c2, masks)
    hot = hot_frames(departures(work), size_of(work), sigma_of(work))
    return hot, None, "hot frame: its level is far from its neighbours'"


def _impossible(c2: NDArray[Any], masks: Masks) -> Step:
    with np.errstate(invalid="ignore"):
        return None, _and_usable(c2 < 0, masks), "negative: no correlation of intensities is"


def _saturated(c2: NDArray[Any], masks: Masks) -> Step:
    work = work_of(c2, masks)
    value = saturated_value(work)
    if value is not None and not sigma_of(work) > 0.0:
        value = None
    return None, None if value is None else work == value, "saturated: many pairs share the largest value"


def _outliers(c2: NDArray[Any], masks: Masks) -> Step:
    work = work_of(c2, masks)
    pairs = spikes(work, sigma_of(work), size_of(work))
    found = np.zeros(c2.shape, dtype=bool)
    found[pairs[:, 0], pairs[:, 1]] = found[pairs[:, 1], pairs[:, 0]] = True
    return None, found, "spike: far from its neighbours at the same lag"


def _masked(
    masks: Masks, frames: Bools | None, pairs: Bools | None, reason: str, first: int
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


def _record(frames: NDArray[np.intp], pairs: Bools | None, reason: str, first: int) -> Touched | None:
    runs = () if pairs is None else tuple(_runs(pairs, first))
    if not (frames.size or runs):
        return None
    count = sum(last - begin + 1 for _, begin, last in runs)
    return Touched(reason, tuple((frames + first).tolist()), runs, count)


def _runs(pairs: Bools, first: int) -> Iterator[tuple[int, int, int]]:
    """Rows of pairs as runs of columns, above the diagonal."""
    for i in range(len(pairs)):
        later = pairs[i, i + 1 :]
        if not later.any():
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[0], later.view(np.int8), [0]]))) + (i + 1 + first)
        for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            yield i + first, begin, end - 1
