"""Cells: a partition of all frame pairs into boxes in (start frame, lag) on which the correlation is smooth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcxpcs.likelihood.interpolation import Floats, nodes_for

ORDER = 6
"""Interpolation nodes per direction and cell; fewer where a cell has fewer frames or lags."""


@dataclass(frozen=True)
class Cell:
    """Pairs (i, i + lag) with first <= i < stop, lag_first <= lag < lag_stop and i + lag inside the window."""

    first: int
    stop: int
    lag_first: int
    lag_stop: int

    def pair_count(self, n_frames: int) -> int:
        """Number of frame pairs in the cell; a corner of the box may lie beyond the last frame."""
        rows = np.arange(self.first, self.stop)
        lags = np.minimum(self.lag_stop, n_frames - rows) - self.lag_first
        return int(np.maximum(lags, 0).sum())

    def clipped(self, n_frames: int) -> Cell | None:
        """The bounding box of the cell's pairs, or None when it holds none."""
        stop = min(self.stop, n_frames - self.lag_first)
        lag_stop = min(self.lag_stop, n_frames - self.first)
        if stop <= self.first or lag_stop <= self.lag_first:
            return None
        return Cell(self.first, stop, self.lag_first, lag_stop)

    def split_frames(self) -> tuple[Cell, Cell]:
        """Two cells, cut at the geometric mean of the start frames (counted from 1)."""
        cut = _middle(self.first + 1, self.stop + 1) - 1
        return Cell(self.first, cut, self.lag_first, self.lag_stop), Cell(
            cut, self.stop, self.lag_first, self.lag_stop
        )

    def split_lags(self) -> tuple[Cell, Cell]:
        """Two cells, cut at the geometric mean of the lags."""
        cut = _middle(self.lag_first, self.lag_stop)
        return Cell(self.first, self.stop, self.lag_first, cut), Cell(
            self.first, self.stop, cut, self.lag_stop
        )


def _middle(low: int, high: int) -> int:
    """Integer nearest the geometric mean of low and high, strictly between them."""
    return min(max(round(float(np.sqrt(low * high))), low + 1), high - 1)


@dataclass(frozen=True)
class TimeAxis:
    """The frame times t_k = start + k·step (s), k = 0 … count − 1; frames with t = 0 are never used."""

    start: float
    step: float
    count: int

    @property
    def first_usable(self) -> int:
        """Index of the first frame with t > 0."""
        return 0 if self.start > 0 else 1

    def times(self, frames: np.ndarray) -> Floats:
        """Times (s) of frame indices."""
        return self.start + self.step * np.asarray(frames, dtype=np.float64)

    def all_times(self) -> Floats:
        """Times (s) of all frames, shape (count,)."""
        return self.times(np.arange(self.count))

    @property
    def end(self) -> float:
        """Time (s) of the last frame."""
        return self.start + self.step * (self.count - 1)

    def root(self) -> Cell:
        """The cell that holds every usable pair."""
        first = self.first_usable
        return Cell(first, self.count - 1, 1, self.count - first)


def cell_nodes(cell: Cell, axis: TimeAxis, order: int = ORDER) -> tuple[Floats, Floats]:
    """Node start times and node lags (s) of a cell: Chebyshev points, or all points where they are few."""
    starts = axis.times(np.arange(cell.first, cell.stop))
    lags = axis.step * np.arange(cell.lag_first, cell.lag_stop, dtype=np.float64)
    return nodes_for(starts, order), nodes_for(lags, order)


def geometric_cells(axis: TimeAxis, ratio: float = 1.6) -> tuple[Cell, ...]:
    """A model-free partition: boxes whose start times and lags span a factor `ratio`, single ones at the beginning."""
    done: list[Cell] = []
    pending = [axis.root()]
    while pending:
        cell = pending.pop()
        wide_lags = cell.lag_stop - 1 > ratio * cell.lag_first and cell.lag_stop - cell.lag_first > 1
        wide_frames = cell.stop - 1 > ratio * max(cell.first, 1) and cell.stop - cell.first > ORDER
        if wide_lags:
            halves = cell.split_lags()
        elif wide_frames:
            halves = cell.split_frames()
        else:
            done.append(cell)
            continue
        pending.extend(c for half in halves if (c := half.clipped(axis.count)) is not None)
    return tuple(sorted(done, key=lambda c: (c.lag_first, c.first)))
