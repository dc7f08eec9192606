"""The numbers of one bin: two-time matrix, multi-tau g2 with its error, and means, from counts of its pixels."""

from __future__ import annotations

import itertools
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.arrays import Flags, Floats, Integers

Counts = NDArray[np.float32]
Smoothing = Literal["sqmap", "dqmap", "none"]
"""What a pixel's counts are divided by before pairs of frames are multiplied: the mean of its static bin in the same
frame, of its dynamic bin, or nothing."""

LAGS_PER_LEVEL = 4
"""Delays of a level of averaged frames, as the layout's files have them."""
PIXELS_AT_ONCE = 256
"""Pixels of which multi-tau products are made at once: averaged copies of their frames stay in the cache."""


def delays_of(frames: int) -> Integers:
    """Multi-tau delays in frames: 1…4, then 5, 6, 7, 8 times 2^k, while at least one pair of averages is left."""
    levels = [(1, lag) for lag in range(1, LAGS_PER_LEVEL + 1)]
    size = 1
    while frames // size > LAGS_PER_LEVEL + 1:
        levels += [(size, lag) for lag in range(LAGS_PER_LEVEL + 1, 2 * LAGS_PER_LEVEL + 1)]
        size *= 2
    return np.array([size * lag for size, lag in levels if lag < frames // size], dtype=np.int64)


def smooth(counts: Counts, static: Integers, smoothing: Smoothing) -> None:
    """Divide counts (N, P), in place, by the mean of their static bin (`static`, ascending, (P,)) in the same frame.

    A mean that is not positive is taken as 1. Differences between static bins are removed; structure inside of one
    raises C2 by its relative variance, and the contrast falls by about one over the pixels of a static bin, whose own
    speckles are in the mean. Simulated, contrast 0.1: 0.0995 with 100 pixels in each, 0.076 with 5.
    """
    edges = [0, len(static)] if smoothing == "dqmap" else [0, *(np.flatnonzero(np.diff(static)) + 1), len(static)]
    for begin, end in itertools.pairwise(edges) if smoothing != "none" else ():
        part = counts[:, begin:end]
        mean = part.mean(axis=1, dtype=np.float64)
        part /= np.where(mean > 0.0, mean, 1.0)[:, None].astype(np.float32)


def two_time(counts: Counts) -> NDArray[np.float32]:
    """C2(t1, t2) = P Σ I(t1) I(t2) / (Σ I(t1) Σ I(t2)) (N, N) over the P pixels of counts (N, P), which are changed.

    Counts are scaled by sqrt(P) / ΣI first, so that one symmetric product is all of it and no further matrix is needed.
    A frame whose sum is not positive is dead: its row and column are 0. (Same numbers as
    data.simulate.normalised_correlation.)
    """
    sums = counts.sum(axis=1, dtype=np.float64)
    scale = np.where(sums > 0.0, np.sqrt(counts.shape[1]) / np.where(sums > 0.0, sums, 1.0), 0.0)
    counts *= scale[:, None].astype(np.float32)
    return np.asarray(counts @ counts.T)


class Decay(NamedTuple):
    """g2 and its standard error at some delays (n,); both 0 where no pair of frames, or no photon, tells it."""

    g2: Floats
    error: Floats


def multi_tau(counts: Counts, static: Integers, delays: Integers, alive: Flags) -> Decay:
    """g2 of a bin from counts (N, P) of its pixels, sorted by static bin; frames not `alive` (N,) are left out.

    For a delay in averages of 2^k frames, with ⟨⟩ over pairs of them: G2 = ⟨I(t) I(t+τ)⟩, IP = ⟨I(t)⟩, IF = ⟨I(t+τ)⟩ of
    every pixel; g2 = mean over pixels of their static bin's Σ G2 · n / (Σ IP · Σ IF), n being its pixels (symmetric
    normalisation, Schätzel, Quantum Opt. 2, 287, 1990; larger static bins count more). Its error is that of a mean
    over pixels of the linearised ratio, G2/(IP IF) - g2 (IP_p/IP + IF_p/IF); pixels that share a speckle are taken
    as independent, so that it is a lower limit.
    """
    past, future, products = (np.zeros((len(delays), counts.shape[1])) for _ in range(3))
    for begin in range(0, counts.shape[1], PIXELS_AT_ONCE):
        part = slice(begin, begin + PIXELS_AT_ONCE)
        _moments(counts[:, part], delays, alive, (products[:, part], past[:, part], future[:, part]))
    found = [_ratio(*one, static) for one in zip(products, past, future, strict=True)]
    g2, error = (np.array(values, dtype=np.float64) for values in zip(*found, strict=True))
    return Decay(g2, error)


def _ratio(products: Floats, past: Floats, future: Floats, static: Integers) -> tuple[float, float]:
    """g2 and its error at one delay, from the moments of every pixel (P,)."""
    _, first, of, size = np.unique(static, return_index=True, return_inverse=True, return_counts=True)
    totals = [np.add.reduceat(one, first) for one in (products, past, future)]
    seen = (totals[1] > 0.0) & (totals[2] > 0.0)
    pixels = int(size[seen].sum())
    if pixels < 2 or totals[0].sum() <= 0.0:
        return 0.0, 0.0
    mean_past, mean_future = (np.where(seen, one / size, 1.0) for one in totals[1:])
    ratio = np.where(seen, totals[0] / size / (mean_past * mean_future), 0.0)
    g2 = float((ratio * size).sum() / pixels)
    one = products / (mean_past * mean_future)[of]
    one -= ratio[of] * (past / mean_past[of] + future / mean_future[of] - 2.0)
    return g2, float(np.linalg.norm((one - g2)[seen[of]])) / pixels


def _moments(counts: Counts, delays: Integers, alive: Flags, out: tuple[Floats, Floats, Floats]) -> None:
    """Fill G2, IP, IF (n_delays, P) of counts (N, P); averages in which a frame is missing are left out."""
    level, kept, size = counts * alive[:, None], alive.astype(np.float32), 1
    for k, delay in enumerate(delays):
        while delay // size > 2 * LAGS_PER_LEVEL:
            even = len(kept) // 2 * 2
            kept = kept[0:even:2] * kept[1:even:2]
            level = (level[0:even:2] + level[1:even:2]) * (np.float32(0.5) * kept[:, None])
            size *= 2
        lag = int(delay) // size
        pairs = len(kept) - lag
        weight = kept[:pairs] * kept[lag:] if pairs > 0 else kept[:0]
        number = float(weight.sum())
        if number == 0.0:
            continue
        first, second = level[:pairs], level[lag:]
        out[0][k] = np.einsum("tp,tp->p", first, second) / number
        out[1][k], out[2][k] = weight @ first / number, weight @ second / number
