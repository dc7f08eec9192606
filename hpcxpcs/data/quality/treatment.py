"""What preprocessing made of one matrix: values lost, signal moved, noise taken away, level of long lags."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.clean import Masks, blanked, pairs_of_rows, row_slabs
from hpcxpcs.data.preprocess import BASELINE_LAGS, Processing, processed
from hpcxpcs.data.quality.levels import Level, covers
from hpcxpcs.data.quality.pairs import sigma_of
from hpcxpcs.data.quality.repair import size_of
from hpcxpcs.data.quality.robust import Floats

TILES = 16
"""Tiles per side of a matrix whose means are compared before and after: their noise is small, a decay is not."""

FEWEST_PAIRS = 9
"""Tiles with fewer usable pairs are left out."""

NOISE_OF_TILES = 5.0
"""Standard deviations of a tile's mean that noise alone may move it by."""


@dataclass(frozen=True)
class Treated:
    """One angle after preprocessing, against itself before: `lost` pairs hold no finite number any more.

    `moved` is how far noise reduction moved the mean of some part of the matrix, as a share of its spread (0 when noise
    explains it), `noise_left` how much neighbouring pairs still differ, of before. `level_before` and `level_after`
    are means of the longest lags. None below level standard.
    """

    lost: int
    moved: float | None = None
    noise_left: float | None = None
    level_before: float | None = None
    level_after: float | None = None


def treated(
    c2: NDArray[Any], masks: Masks, processing: Processing, name: str, level: Level
) -> Treated | None:
    """Compare a symmetric matrix (N, N) with what the stages make of it; None when no stage changes it.

    Raises DataError when a stage cannot be done, as a fit would.
    """
    if not processing.settings():
        return None
    after = processed(c2, masks, processing, name, [])[0]
    lost = _lost(c2, after, masks)
    if not covers(level, "standard"):
        return Treated(lost)
    level_before, level_after = _level(c2, masks), _level(after, masks)
    if processing.noise_reduction == "none":
        return Treated(lost, 0.0, 1.0, level_before, level_after)
    reduced = _Usable.of(after, masks)
    del after
    plain = replace(processing, noise_reduction="none", validate=False)
    scaled = processed(c2, masks, plain, name, [])[0]
    # Where no other stage is on, that is the caller's matrix itself.
    unreduced = _Usable.of(scaled.copy() if np.shares_memory(scaled, c2) else scaled, masks)
    noise_left = reduced.noise / unreduced.noise if unreduced.noise > 0.0 else 1.0
    return Treated(lost, _moved(unreduced, reduced), noise_left, level_before, level_after)


def _lost(before: NDArray[Any], after: NDArray[Any], masks: Masks) -> int:
    """How many usable pairs hold a finite number in one matrix, and none in another."""
    count = 0
    for rows in row_slabs(len(before)):
        lost = np.isfinite(before[rows])
        lost &= ~np.isfinite(after[rows])
        lost &= pairs_of_rows(~masks.dead, masks, rows)
        count += int(np.count_nonzero(lost))
    return count


@dataclass(frozen=True)
class _Usable:
    """Of the usable pairs of one matrix: noise of one, spread of all, mean and number of those in each tile."""

    noise: float
    size: float
    means: Floats
    counts: Floats

    @classmethod
    def of(cls, c2: NDArray[Any], masks: Masks) -> _Usable:
        """Measure a matrix, which becomes NaN elsewhere."""
        work = blanked(c2, masks)
        return cls(sigma_of(work), size_of(work), *_tile_means(work))


def _moved(before: _Usable, after: _Usable) -> float:
    """The largest distance between the means of a tile before and after that noise does not explain."""
    if before.size <= 0.0:
        return 0.0
    distance = np.abs(after.means - before.means)
    # a pair and its mirror image are one draw of the noise
    of_noise = NOISE_OF_TILES * before.noise * np.sqrt(2.0 / np.maximum(before.counts, 1.0))
    beyond = np.isfinite(distance) & (distance > of_noise)
    return float(distance[beyond].max(initial=0.0)) / before.size


def _tile_means(work: NDArray[Any]) -> tuple[Floats, Floats]:
    """Mean and number of the finite values of each tile, NaN and 0 for tiles with too few."""
    n = len(work)
    edges = np.unique(np.linspace(0, n, TILES + 1).round().astype(int))
    total, count = np.zeros((2, len(edges) - 1, len(edges) - 1))
    for k, (first, last) in enumerate(pairwise(edges.tolist())):
        known = np.isfinite(work[first:last])
        filled = np.where(known, work[first:last], 0.0)
        total[k] = np.add.reduceat(filled.sum(axis=0, dtype=np.float64), edges[:-1])
        count[k] = np.add.reduceat(known.sum(axis=0), edges[:-1])
    enough = count >= FEWEST_PAIRS
    return np.where(enough, total / np.maximum(count, 1.0), np.nan), np.where(enough, count, 0.0)


def _level(c2: NDArray[Any], masks: Masks) -> float | None:
    """The mean of the usable pairs of the longest lags, None when there are none."""
    first, found = int(BASELINE_LAGS * (len(c2) - 1)) + 1, []
    for rows in row_slabs(len(c2)):
        late = pairs_of_rows(~masks.dead, masks, rows)
        late &= np.arange(len(c2))[None, :] >= np.arange(rows.start, rows.stop)[:, None] + first
        found.append(c2[rows][late])
    values = np.concatenate(found)
    values = values[np.isfinite(values)]
    return float(np.mean(values, dtype=np.float64)) if values.size else None
