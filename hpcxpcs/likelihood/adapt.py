"""Cells that fit the model: split where interpolation would show in the likelihood, coarse where nothing happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hpcxpcs.likelihood.cells import ORDER, Cell, TimeAxis, cell_nodes
from hpcxpcs.likelihood.interpolation import Floats, lagrange_matrix
from hpcxpcs.physics.model import Model

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
