"""Millions of points reduced to what a picture can show: pixels, curves over lag, counts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hpcxpcs.data.clean import averaged
from hpcxpcs.results.comparison import Block
from hpcxpcs.results.heat_maps import PIXELS

EPOCHS = 3
"""Lag curves are drawn for pairs that start in the first, second and last third of the measurement."""
RESIDUAL_EDGES = np.linspace(-6.0, 6.0, 121)
"""Bins of the residual histogram in units of σ; what lies outside is counted in the first and last."""
DISTANCES = (1, 2, 4, 8, 16, 32)
"""Distances in frames at which residuals that share a frame are compared."""


@dataclass(frozen=True)
class LagCurves:
    """Sums over the pairs of one angle with lag 0…N-1 frames (columns) that start in one epoch (rows)."""

    count: np.ndarray
    data: np.ndarray
    fit: np.ndarray
    normalized: np.ndarray


@dataclass(frozen=True)
class AngleSummary:
    """One angle, small: maps (pixels,pixels) of data, fit and residual/σ, and sums for curves and counts.

    `neighbours` holds, per distance of DISTANCES, the sum of products of residual/σ and their number, (d,2).
    """

    angle: int
    data: np.ndarray
    fit: np.ndarray
    residual: np.ndarray
    frames_per_pixel: int
    lags: LagCurves
    histogram: np.ndarray
    neighbours: np.ndarray


@dataclass
class AngleReduction:
    """Takes one angle's blocks of rows and sums them up."""

    angle: int
    n_frames: int
    _maps: dict[str, np.ndarray] = field(init=False)
    _counts: dict[str, np.ndarray] = field(init=False)
    _lags: np.ndarray = field(init=False)
    _histogram: np.ndarray = field(init=False)
    _neighbours: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        """Start from zero."""
        self.frames_per_pixel = -(-self.n_frames // PIXELS)
        pixels = -(-self.n_frames // self.frames_per_pixel)
        names = ("data", "fit", "residual")
        self._maps = {name: np.zeros((pixels, pixels)) for name in names}
        self._counts = {name: np.zeros((pixels, pixels)) for name in names}
        self._lags = np.zeros((4, EPOCHS * self.n_frames))
        self._histogram = np.zeros(len(RESIDUAL_EDGES) - 1, dtype=np.int64)
        self._neighbours = np.zeros((len(DISTANCES), 2))

    def add(self, block: Block) -> None:
        """Add rows of the angle's matrices."""
        residual = np.where(block.good, block.normalized, np.nan)
        for name, values in (("data", block.c2), ("fit", block.scaled), ("residual", residual)):
            self._add_pixels(name, block.start, values)
        self._add_neighbours(np.where(block.good, block.normalized, 0.0), block.good)
        rows, columns = np.nonzero(np.triu(block.good, block.start + 1))
        normalized = block.normalized[rows, columns]
        frame = rows + block.start
        place = columns - frame + self.n_frames * np.minimum(frame * EPOCHS // self.n_frames, EPOCHS - 1)
        weights = (None, block.c2[rows, columns], block.scaled[rows, columns], normalized)
        for total, weight in zip(self._lags, weights, strict=True):
            total += np.bincount(place, weight, self._lags.shape[1])
        self._histogram += residual_counts(normalized)

    def summary(self) -> AngleSummary:
        """What the blocks add up to."""
        with np.errstate(invalid="ignore"):
            maps = {name: total / self._counts[name] for name, total in self._maps.items()}
        count, data, fit, normalized = self._lags.reshape(4, EPOCHS, self.n_frames)
        return AngleSummary(
            angle=self.angle,
            frames_per_pixel=self.frames_per_pixel,
            lags=LagCurves(count, data, fit, normalized),
            histogram=self._histogram,
            neighbours=self._neighbours,
            **maps,
        )

    def _add_pixels(self, name: str, start: int, values: np.ndarray) -> None:
        known = np.isfinite(values)
        self._sum_pixels(self._maps[name], start, np.where(known, values, 0.0))
        self._sum_pixels(self._counts[name], start, known.astype(float))

    def _sum_pixels(self, total: np.ndarray, start: int, values: np.ndarray) -> None:
        size = self.frames_per_pixel
        first = start // size
        rows = np.maximum(np.arange(first, -(-(start + len(values)) // size)) * size - start, 0)
        narrow = np.add.reduceat(values, np.arange(0, self.n_frames, size), axis=1)
        total[first : first + len(rows)] += np.add.reduceat(narrow, rows, axis=0)

    def _add_neighbours(self, residual: np.ndarray, good: np.ndarray) -> None:
        for total, distance in zip(self._neighbours, DISTANCES, strict=True):
            if distance < self.n_frames:
                total[0] += np.einsum("ij,ij->", residual[:, :-distance], residual[:, distance:])
                total[1] += np.count_nonzero(good[:, :-distance] & good[:, distance:])


def residual_counts(normalized: np.ndarray) -> np.ndarray:
    """Histogram of residual/σ in RESIDUAL_EDGES; larger ones are counted in the outermost bins."""
    low, high, bins = RESIDUAL_EDGES[0], RESIDUAL_EDGES[-1], len(RESIDUAL_EDGES) - 1
    place = np.clip((normalized - low) * (bins / (high - low)), 0, bins - 1).astype(np.intp)
    return np.bincount(place, minlength=bins)


def mean_by_lag(total: np.ndarray, count: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Means of grouped lags: `groups` (N,) is the group of each lag, -1 to leave it out; NaN if empty."""
    inside = groups >= 0
    sums = np.bincount(groups[inside], total[inside])
    counts = np.bincount(groups[inside], count[inside])
    with np.errstate(invalid="ignore"):
        means: np.ndarray = sums / counts
    return means


def lag_groups(n_frames: int, per_decade: int = 12) -> np.ndarray:
    """Group numbers (N,) of lags 0…N-1: single lags, then equal steps on a logarithmic axis; lag 0 is out."""
    lags = np.arange(1, max(2, n_frames))
    steps = np.floor(np.log10(lags) * per_decade).astype(int)
    return np.concatenate([[-1], np.unique(steps, return_inverse=True)[1]])[:n_frames]


def thinned(values: np.ndarray, pixels: int) -> np.ndarray:
    """A map (n,n) averaged to at most so many pixels, NaN where a pixel has nothing."""
    return averaged(values, -(-len(values) // pixels))
