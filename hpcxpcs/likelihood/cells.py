"""Cells: a partition of all frame pairs into boxes in (start frame, lag) on which the correlation is smooth.

Those that fit a model are split where interpolation would show in the likelihood, and coarse where nothing happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hpcxpcs.arrays import Floats
from hpcxpcs.physics.model import Model


def chebyshev_nodes(low: float, high: float, count: int) -> Floats:
    """Chebyshev points of the first kind of ln(x) on [low, high], as values of x (ascending)."""
    angle = (2.0 * np.arange(count)[::-1] + 1.0) * np.pi / (2.0 * count)
    centre, half = 0.5 * (np.log(high) + np.log(low)), 0.5 * (np.log(high) - np.log(low))
    return np.exp(centre + half * np.cos(angle))


def nodes_for(points: Floats, order: int) -> Floats:
    """Interpolation nodes for ascending `points` (> 0): the points themselves where there are no more than `order`."""
    if points.size <= order:
        return points.copy()
    return chebyshev_nodes(float(points[0]), float(points[-1]), order)


def lagrange_matrix(points: Floats, nodes: Floats) -> Floats:
    """Matrix L (points, nodes) with f(points) ≈ L f(nodes): Lagrange interpolation in ln(x), barycentric form."""
    x, z = np.log(points)[:, None], np.log(nodes)[None, :]
    if nodes.size == 1:
        return np.ones((points.size, 1))
    scale = 4.0 / (z.max() - z.min())
    spread = (z.T - z) * scale
    np.fill_diagonal(spread, 1.0)
    weights = 1.0 / spread.prod(axis=1)
    distance = (x - z) * scale
    hit_row, hit_node = np.nonzero(distance == 0.0)
    distance[hit_row, hit_node] = 1.0
    terms = weights[None, :] / distance
    matrix = terms / terms.sum(axis=1, keepdims=True)
    matrix[hit_row] = 0.0
    matrix[hit_row, hit_node] = 1.0
    return matrix


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
        return Cell(self.first, cut, self.lag_first, self.lag_stop), Cell(cut, self.stop, self.lag_first, self.lag_stop)

    def split_lags(self) -> tuple[Cell, Cell]:
        """Two cells, cut at the geometric mean of the lags."""
        cut = _middle(self.lag_first, self.lag_stop)
        return Cell(self.first, self.stop, self.lag_first, cut), Cell(self.first, self.stop, cut, self.lag_stop)


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


PROBES = ORDER + 1
"""Frames and lags per cell at which interpolation is compared with the model."""

BATCH = 64
"""Cells examined per call: one array shape, one compilation."""

MOST_NODES = 60_000
"""Nodes per angle beyond which compression no longer pays."""


@dataclass(frozen=True)
class Partition:
    """Cells with the estimated squared norm of the interpolation error, Σ (contrast·e/σ)² over all pairs and angles."""

    cells: tuple[Cell, ...]
    error: float
    nodes: int
    resolved: bool


@dataclass(frozen=True)
class _Probe:
    """Nodes and probe points of one cell along one direction, padded; matrix (PROBES, ORDER) interpolates."""

    nodes: Floats
    points: Floats
    matrix: Floats
    valid: Floats


def _probe(points: Floats, nodes: Floats) -> _Probe:
    chosen = np.unique(np.linspace(0, points.size - 1, PROBES).round().astype(int))
    picked = points[chosen]
    matrix = np.zeros((PROBES, ORDER))
    matrix[: picked.size, : nodes.size] = lagrange_matrix(picked, nodes)
    padded_nodes, padded_points = np.full(ORDER, nodes[0]), np.full(PROBES, picked[0])
    padded_nodes[: nodes.size], padded_points[: picked.size] = nodes, picked
    valid = np.zeros(PROBES)
    valid[: picked.size] = 1.0
    return _Probe(padded_nodes, padded_points, matrix, valid)


@jax.jit
def _errors(model: Model, thetas: Array, phi: Array, frames: Array, lags: Array, matrices: Array) -> Array:
    """Squared errors (3, theta, phi, C, P, P): both directions interpolated, frames only, lags only.

    frames, lags (C, ORDER + PROBES): nodes first; matrices (2, C, P, ORDER).
    """
    t1 = frames[:, :, None]
    t2 = t1 + lags[:, None, :]

    def shape(theta: Array) -> Array:
        return model.shape(theta, t1, t2, phi[:, None, None, None])

    f = jax.vmap(shape)(thetas)
    start, lag = matrices
    nodes = f[..., :ORDER, :ORDER]
    exact = f[..., ORDER:, ORDER:]
    both = jnp.einsum("cpi,tacij,cqj->tacpq", start, nodes, lag)
    frames_only = jnp.einsum("cpi,taciq->tacpq", start, f[..., :ORDER, ORDER:])
    lags_only = jnp.einsum("tacpj,cqj->tacpq", f[..., ORDER:, :ORDER], lag)
    return jnp.stack([both - exact, frames_only - exact, lags_only - exact]) ** 2


def cell_errors(
    model: Model, thetas: Floats, phi: Floats, weight: Floats, axis: TimeAxis, cells: Sequence[Cell]
) -> Floats:
    """Squared error norms (3, cells): total, from interpolating start frames, from interpolating lags.

    The worst of the parameter sets thetas (k, p) counts; weight (n_phi,) is (contrast/σ)² per angle.
    """
    found = []
    for start in range(0, len(cells), BATCH):
        batch = list(cells[start : start + BATCH])
        found.append(_batch_errors(model, thetas, phi, weight, axis, batch))
    return np.concatenate(found, axis=1)


def _batch_errors(
    model: Model, thetas: Floats, phi: Floats, weight: Floats, axis: TimeAxis, cells: list[Cell]
) -> Floats:
    padded = cells + [cells[0]] * (BATCH - len(cells))
    starts, lags, valid, counts = [], [], [], []
    for cell in padded:
        frames = np.arange(cell.first, cell.stop)
        spans = axis.step * np.arange(cell.lag_first, cell.lag_stop, dtype=np.float64)
        start_nodes, lag_nodes = cell_nodes(cell, axis)
        start, lag = _probe(axis.times(frames), start_nodes), _probe(spans, lag_nodes)
        inside = start.points[:, None] + lag.points[None, :] <= axis.end + 0.5 * axis.step
        starts.append(start)
        lags.append(lag)
        valid.append(np.outer(start.valid, lag.valid) * inside)
        counts.append(cell.pair_count(axis.count))
    squared = _errors(
        model,
        jnp.asarray(thetas),
        jnp.asarray(phi),
        jnp.asarray([np.concatenate([s.nodes, s.points]) for s in starts]),
        jnp.asarray([np.concatenate([s.nodes, s.points]) for s in lags]),
        jnp.asarray([[s.matrix for s in starts], [s.matrix for s in lags]]),
    )
    mask = np.asarray(valid)
    mean = np.einsum("etacpq,cpq->etac", np.asarray(squared), mask) / np.maximum(mask.sum(axis=(1, 2)), 1.0)
    norms = np.einsum("etac,a->etc", mean, weight).max(axis=1) * np.asarray(counts)
    return norms[:, : len(cells)]


def adapt_cells(
    model: Model,
    thetas: Floats,
    phi: Floats,
    weight: Floats,
    axis: TimeAxis,
    *,
    error: float,
    start: Sequence[Cell] | None = None,
) -> Partition:
    """Split cells until the interpolation error of the shapes at thetas (k, p) is below `error` in norm.

    `weight` (n_phi,) is (contrast/σ)² per angle, so that the norm is in units of the noise. Each cell is cut in
    the direction that errs more. `resolved` is False when MOST_NODES did not suffice.
    """
    pending = list(start) if start is not None else [axis.root()]
    kept: list[tuple[Cell, float]] = []
    while pending:
        norms = cell_errors(model, thetas, phi, weight, axis, pending)
        kept.extend((cell, float(total)) for cell, total in zip(pending, norms[0], strict=True))
        by_direction = dict(zip(pending, norms[1:].T, strict=True)) if pending else {}
        keep, split = _worst(kept, error**2)
        nodes = sum(_node_count(cell) for cell, _ in kept)
        if not split or nodes > MOST_NODES:
            break
        fresh = {cell for cell, _ in split} - set(by_direction)
        if fresh:
            again = cell_errors(model, thetas, phi, weight, axis, sorted(fresh, key=_place))
            by_direction |= dict(zip(sorted(fresh, key=_place), again[1:].T, strict=True))
        pending = [c for cell, _ in split for c in _halves(cell, by_direction[cell], axis.count)]
        kept = keep
    cells = tuple(sorted((cell for cell, _ in kept), key=_place))
    total = float(np.sqrt(sum(value for _, value in kept)))
    return Partition(cells, total, sum(map(_node_count, cells)), total <= error)


def _place(cell: Cell) -> tuple[int, int]:
    return cell.lag_first, cell.first


def _node_count(cell: Cell) -> int:
    return min(ORDER, cell.stop - cell.first) * min(ORDER, cell.lag_stop - cell.lag_first)


def _worst(
    cells: list[tuple[Cell, float]], allowed: float
) -> tuple[list[tuple[Cell, float]], list[tuple[Cell, float]]]:
    """Split the list into cells to keep and cells to cut: the smallest errors that fill half the allowance stay."""
    if sum(value for _, value in cells) <= allowed:
        return cells, []
    ranked = sorted(cells, key=lambda item: item[1])
    running = np.cumsum([value for _, value in ranked])
    stay = int(np.searchsorted(running, 0.5 * allowed, side="right"))
    cut = [item for item in ranked[stay:] if _node_count(item[0]) < _box(item[0])]
    return ranked[:stay] + [item for item in ranked[stay:] if item not in cut], cut


def _box(cell: Cell) -> int:
    return (cell.stop - cell.first) * (cell.lag_stop - cell.lag_first)


def _halves(cell: Cell, by_direction: Floats, n_frames: int) -> list[Cell]:
    """The two halves of a cell, cut across the direction with the larger interpolation error."""
    along_frames = cell.stop - cell.first > ORDER
    along_lags = cell.lag_stop - cell.lag_first > ORDER
    if along_frames and along_lags:
        along_lags = by_direction[1] > by_direction[0]
    halves = cell.split_lags() if along_lags else cell.split_frames()
    return [c for half in halves if (c := half.clipped(n_frames)) is not None]
