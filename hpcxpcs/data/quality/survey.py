"""Everything quality control knows of one angle: numbers measured on its matrix, as stored, as treated, as fitted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.arrays import Floats
from hpcxpcs.config.sections import Preprocessing
from hpcxpcs.data import clean
from hpcxpcs.data.clean import Masks, blanked, pair_values, row_slabs
from hpcxpcs.data.preprocess import BASELINE_LAGS, changes_of_fit, processed
from hpcxpcs.data.quality.outliers import (
    Touched,
    departures,
    gaps,
    hot_frames,
    live_frames,
    saturated_value,
    screened,
    shared_noise,
    sigma_of,
    size_of,
    spikes,
    work_of,
)
from hpcxpcs.data.quality.signal import Signal, signal_of
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import DataError

Level = Literal["none", "basic", "standard", "comprehensive"]
"""How much is looked at: nothing; integrity of the numbers; also the signal; also what angles and frames share."""

Stage = Literal["raw", "filtered", "preprocessed", "final"]
"""As stored; as selected; after preprocessing; as fitted."""

LEVELS: tuple[Level, ...] = ("none", "basic", "standard", "comprehensive")
STAGES: tuple[Stage, ...] = ("raw", "filtered", "preprocessed", "final")

PASS, WARN, EXCELLENT = 50.0, 70.0, 85.0
"""Scores from which data can be used, are good, and are excellent; below the first they are poor."""


def grade(score: float) -> str:
    """Return what a score (0 to 100) means in one word."""
    if score >= EXCELLENT:
        return "excellent"
    if score >= WARN:
        return "good"
    return "usable" if score >= PASS else "poor"


def covers(level: Level, needed: Level) -> bool:
    """Tell whether a level includes what begins at another one."""
    return LEVELS.index(level) >= LEVELS.index(needed)


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


def treated(c2: NDArray[Any], masks: Masks, processing: Preprocessing, name: str, level: Level) -> Treated | None:
    """Compare a symmetric matrix (N, N) with what the stages make of it; None when no stage changes it.

    Raises DataError when a stage cannot be done, as a fit would.
    """
    if not changes_of_fit(processing):
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
    plain = processing.model_copy(update={"noise_reduction": "none", "validate_result": False})
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
        lost &= masks.usable(rows)
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
    late = int(BASELINE_LAGS * (len(c2) - 1))
    values = np.concatenate([c2[rows][masks.usable(rows, late)] for rows in row_slabs(len(c2))])
    values = values[np.isfinite(values)]
    return float(np.mean(values, dtype=np.float64)) if values.size else None


TILE = 256
"""Side of the square tiles that are compared with their mirror images."""


def triangles_apart(stored: NDArray[Any]) -> tuple[float, float]:
    """Return the largest difference of the triangles of a matrix (N, N) as stored, and the root of the mean square.

    A half has nothing to compare: 0.
    """
    if clean.stored_half(stored) != "full":
        return 0.0, 0.0
    total, count, largest = 0.0, 0, 0.0
    for rows, columns in clean.upper_tiles(len(stored), TILE):
        with np.errstate(invalid="ignore"):
            difference = stored[rows, columns].astype(np.float64) - stored[columns, rows].T
        if rows == columns:
            difference = difference[np.triu_indices(len(difference), 1)]
        difference = difference[np.isfinite(difference)]
        total, count = total + float(np.dot(difference, difference)), count + difference.size
        largest = max(largest, float(np.abs(difference, out=difference).max(initial=0.0)))
    return largest, float(np.sqrt(total / count)) if count else 0.0


Matrix = NDArray[np.floating]

ALL_NEGATIVE = 0.25
"""Share of negative pairs from which they are the level of the data, not exceptions."""


@dataclass(frozen=True)
class Integrity:
    """Counts on a matrix as stored, of pairs i < j and frames (from 1 in the file).

    `asymmetry` is the root mean square difference of the triangles, as a share of the matrix's spread; 0 for rounding.
    """

    pairs: int
    non_finite: int
    empty: int
    negative: int
    saturated: int
    dead_frames: tuple[int, ...]
    constant: bool
    asymmetry: float


@dataclass(frozen=True)
class Shown:
    """What the final data of an angle show: noise per pair and per frame, signal, odd frames (from 1) and pairs.

    `shot_noise` is what the diagonal stands above the plateau, 1 / photons per pixel and frame.
    """

    sigma: float
    shared_noise: float
    signal: Signal | None
    hot_frames: tuple[int, ...]
    gaps: tuple[int, ...]
    spikes: int
    shot_noise: float


@dataclass(frozen=True)
class Survey:
    """One angle: `phi` in degrees, integrity, share of pairs that enter a fit, what they show, what was repaired.

    `refused` is why a fit would not take it; then nothing is shown. `treated` is what preprocessing did to it.
    """

    phi: float
    integrity: Integrity
    usable_frames: int
    usable_pairs: int
    shown: Shown | None
    touched: tuple[Touched, ...]
    refused: str | None
    treated: Treated | None = None


def survey(data: TwoTime, k: int, level: Level) -> Survey:
    """Read angle k of a record once and measure what a level asks for.

    In memory are one matrix, one copy of it, and which of its pairs are masked; everything else is made slab by slab.
    """
    c2 = data.matrices.c2(k)
    phi, first = float(data.phi[k]), data.frames[0]
    name = f"phi = {phi:g}"
    apart = triangles_apart(c2) if covers(level, "standard") else (0.0, 0.0)
    c2, _ = clean.symmetric(c2)
    integrity = _integrity(c2, apart, first)
    try:
        masks, touched = screened(c2, data.screening, name, first)
    except DataError as error:
        return Survey(phi, integrity, 0, 0, None, (), str(error))
    screened_out = masks
    masks = Masks(masks.dead | (data.t == 0.0), masks.pair_ok)
    frames, pairs = int(np.count_nonzero(~masks.dead)), _finite_pairs(c2, masks)
    try:
        clean.check_variation(c2, ~masks.dead, masks, name)
        made = treated(c2, screened_out, data.processing, name, level)
    except DataError as error:
        return Survey(phi, integrity, frames, pairs, None, touched, str(error))
    shown = None
    if covers(level, "standard"):
        diagonal = c2.diagonal().copy()
        shown = _shown(_counted_once(clean.blanked(c2, masks), integrity), diagonal, first, level)
    return Survey(phi, integrity, frames, pairs, shown, touched, None, made)


def _counted_once(work: Matrix, integrity: Integrity) -> Matrix:
    """Leave out, in place, what integrity has counted and no signal contains: or one damage would hide another."""
    lowest = 0.0 if integrity.negative < ALL_NEGATIVE * integrity.pairs else -np.inf
    for rows in clean.row_slabs(len(work)):
        slab = work[rows]
        slab[slab == 0.0] = np.nan
        slab[slab < lowest] = np.nan
    return work


def _finite_pairs(c2: Matrix, masks: Masks) -> int:
    """How many usable pairs of a symmetric matrix hold a number."""
    return sum(int(np.count_nonzero(np.isfinite(c2[rows]) & masks.usable(rows))) for rows in clean.row_slabs(len(c2)))


def _integrity(c2: Matrix, apart: tuple[float, float], first: int) -> Integrity:
    dead = clean.silent_frames(c2)
    n, found = len(c2), pair_values(c2, ~dead)
    ends = np.array([[found.smallest, found.largest]], dtype=c2.dtype)
    rounding = clean.rounding(ends) if found.finite else 0.0
    work = work_of(c2, Masks(dead, None))
    largest, root_mean_square = apart
    size = size_of(work) if largest > rounding else 0.0
    value = saturated_value(work)
    return Integrity(
        pairs=n * (n - 1) // 2,
        non_finite=found.pairs - found.finite,
        empty=found.zero,
        negative=found.negative,
        saturated=0 if value is None else _holding(work, value),
        dead_frames=tuple((np.flatnonzero(dead) + first).tolist()),
        constant=found.finite > 0 and found.largest - found.smallest <= rounding,
        asymmetry=root_mean_square / size if size > 0.0 else 0.0,
    )


def _holding(work: Matrix, value: float) -> int:
    """How many pairs of a symmetric matrix hold a value."""
    return sum(int(np.count_nonzero(work[rows] == value)) for rows in clean.row_slabs(len(work))) // 2


def _shown(work: Matrix, diagonal: NDArray[Any], first: int, level: Level) -> Shown:
    """What the usable pairs and the stored diagonal (N,) show; hot frames are left out of what follows them."""
    sigma, size = sigma_of(work), size_of(work)
    hot = hot_frames(departures(work), size, sigma)
    if hot.any():
        work[hot, :] = np.nan
        work[:, hot] = np.nan
    shared = shared_noise(departures(work), sigma)
    live = np.flatnonzero(live_frames(work))
    measured = slice(live[0], live[-1] + 1) if live.size else slice(None)
    signal = signal_of(work[measured, measured], sigma, shared)
    outliers = spikes(work, sigma, size)
    deep = covers(level, "comprehensive")
    found = gaps(work, signal.contrast) if deep and signal is not None else ()
    diagonal = diagonal[live_frames(work) & np.isfinite(diagonal)]
    spike = float(np.mean(diagonal, dtype=np.float64)) - signal.plateau if signal and diagonal.size else 0.0
    return Shown(
        sigma=sigma,
        shared_noise=shared,
        signal=signal,
        hot_frames=tuple((np.flatnonzero(hot) + first).tolist()),
        gaps=tuple(frame + first for frame in found),
        spikes=len(outliers),
        shot_noise=spike,
    )
