"""What preprocessing made of one matrix: values lost, signal moved, noise taken away, level of long lags."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.clean import Masks
from hpcxpcs.data.preprocess import BASELINE_LAGS, Processing, processed
from hpcxpcs.data.quality.levels import Level, covers
from hpcxpcs.data.quality.pairs import sigma_of
from hpcxpcs.data.quality.repair import size_of, work_of
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
    before = work_of(c2, masks)
    after = work_of(processed(c2, masks, processing, name, [])[0], masks)
    lost = int(np.count_nonzero(np.isfinite(before) & ~np.isfinite(after))) // 2
    level_before = _level(before)
    del before
    if not covers(level, "standard"):
        return Treated(lost)
    moved, noise_left = 0.0, 1.0
    if processing.noise_reduction != "none":
        plain = replace(processing, noise_reduction="none", validate=False)
        scaled = work_of(processed(c2, masks, plain, name, [])[0], masks)
        noise = sigma_of(scaled)
        moved = _moved(scaled, after, noise)
        noise_left = sigma_of(after) / noise if noise > 0.0 else 1.0
    return Treated(lost, moved, noise_left, level_before, _level(after))


def _moved(before: NDArray[Any], after: NDArray[Any], noise: float) -> float:
    """The largest distance between the means of a tile before and after that noise does not explain."""
    size = size_of(before)
    if size <= 0.0:
        return 0.0
    (x, count), (y, _) = _tile_means(before), _tile_means(after)
    distance = np.abs(y - x)
    # a pair and its mirror image are one draw of the noise
    beyond = np.isfinite(distance) & (
        distance > NOISE_OF_TILES * noise * np.sqrt(2.0 / np.maximum(count, 1.0))
    )
    return float(distance[beyond].max(initial=0.0)) / size


def _tile_means(work: NDArray[Any]) -> tuple[Floats, Floats]:
    """Mean and number of the finite values of each tile, NaN and 0 for tiles with too few."""
    edges = np.unique(np.linspace(0, len(work), TILES + 1).round().astype(int))[:-1]
    known = np.isfinite(work)
    filled = np.where(known, work, 0.0).astype(np.float64)
    total, count = (
        np.add.reduceat(np.add.reduceat(values, edges, axis=0), edges, axis=1)
        for values in (filled, known.astype(np.float64))
    )
    enough = count >= FEWEST_PAIRS
    return np.where(enough, total / np.maximum(count, 1.0), np.nan), np.where(enough, count, 0.0)


def _level(work: NDArray[Any]) -> float | None:
    """The mean of the longest lags, None when none of them is usable."""
    first = int(BASELINE_LAGS * (len(work) - 1)) + 1
    values = np.concatenate([work[k, k + first :] for k in range(len(work) - first)])
    values = values[np.isfinite(values)]
    return float(np.mean(values, dtype=np.float64)) if values.size else None
