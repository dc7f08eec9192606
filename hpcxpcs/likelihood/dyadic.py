"""Scores of frame pairs clustered by frame: the ingredient of error bars that survive frame-correlated noise.

Pairs that share a frame share that frame's normalisation noise. With s_ij the score of pair (i, j) and g_i the sum
over all pairs that contain frame i, B = Σ_i g_i g_iᵀ − Σ_{i<j} s_ij s_ijᵀ estimates the covariance of the total score
under such dyadic dependence (Cameron & Miller 2014; Aronow, Samii & Assenova 2015). Angles are different
pixels, so a frame is a cluster at each angle, unless the data show that frames are disturbed at all angles at once
(beam, detector): then a frame is one cluster for all angles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hpcxpcs.likelihood.interpolation import Floats
from hpcxpcs.likelihood.products import columns
from hpcxpcs.likelihood.raw import TILE, RawPairs, RawTiles
from hpcxpcs.physics.model import Model


@partial(jax.jit, static_argnums=0)
def _tile_scores(
    model: Model, tiles: RawTiles, theta: Array, tangents: Array, scaling: Array, sigma: Array
) -> tuple[Array, Array, Array]:
    """Row sums (B, m, R), column sums (B, m, Q) and Σ s sᵀ (m, m) of the scores of one angle's tiles."""

    def accumulate(
        total: Array, tile: tuple[Array, Array, Array, Array]
    ) -> tuple[Array, tuple[Array, Array]]:
        rows, cols, data, weights = tile
        basis = columns(model, theta, tangents, rows[:, None], cols[None, :], tiles.phi[0])
        residual = data - scaling[0] * basis[0] - scaling[1]
        scores = basis * (weights * residual / sigma**2)
        flat = scores.reshape(scores.shape[0], -1)
        return total + flat @ flat.T, (scores.sum(axis=2), scores.sum(axis=1))

    size = 2 + tangents.shape[1]
    start = jnp.zeros((size, size))
    per_tile = (tiles.row_times, tiles.column_times, tiles.data[0], tiles.weights[0])
    squares, (by_row, by_column) = jax.lax.scan(accumulate, start, per_tile)
    # The columns are [f, 1, ∂f…]; the directions are [contrast·∂f…, f, 1].
    order = jnp.concatenate([jnp.arange(2, size), jnp.arange(2)])
    factor = jnp.concatenate([jnp.full(size - 2, scaling[0]), jnp.ones(2)])
    return (
        by_row[:, order] * factor[:, None],
        by_column[:, order] * factor[:, None],
        squares[order][:, order] * jnp.outer(factor, factor),
    )


TOGETHER = 4.0
"""Standard deviations by which frames must agree between angles to count as disturbed together."""


@dataclass(frozen=True)
class ClusteredScores:
    """Scores of the directions (tangents…, contrast, offset) of every angle.

    `by_frame` (n_phi, N, m) sums the scores of all pairs that contain a frame; `squares` (n_phi, m, m) is
    Σ s sᵀ over pairs.
    """

    by_frame: Floats
    squares: Floats


def clustered_scores(
    raw: RawPairs, model: Model, theta: Array, tangents: Array, per_angle: Floats, sigma: Floats
) -> ClusteredScores:
    """Scores of every angle at theta (p,), tangents (p, k), (contrast, offset) per_angle (n_phi, 2), noise (n_phi,)."""

    def found(index: int, tiles: RawTiles) -> tuple[Array, ...]:
        level, noise = jnp.asarray(per_angle[index]), jnp.asarray(sigma[index])
        scores = _tile_scores(model, tiles, theta, tangents, level, noise)
        return tiles.row_times, tiles.column_times, *scores

    by_frame, squares = [], []
    for parts in raw.by_angle(found):
        clusters = np.zeros((raw.axis.count + TILE, 2 + tangents.shape[1]))
        total = np.zeros((clusters.shape[1],) * 2)
        for row_times, column_times, by_row, by_column, square in parts:
            _add_to_frames(clusters, raw, row_times, by_row)
            _add_to_frames(clusters, raw, column_times, by_column)
            total += np.asarray(square)
        by_frame.append(clusters[: raw.axis.count])
        squares.append(total)
    return ClusteredScores(np.stack(by_frame), np.stack(squares))


def disturbed_together(scores: ClusteredScores) -> bool:
    """Whether the frames' offset scores agree between angles beyond TOGETHER standard deviations of chance."""
    offsets = scores.by_frame[:, :, -1]
    n_phi = len(offsets)
    frames = np.count_nonzero(np.any(offsets != 0.0, axis=0))
    length = np.sqrt(np.sum(offsets**2, axis=1, keepdims=True))
    if n_phi < 2 or frames < 2 or not np.all(length > 0.0):
        return False
    own = offsets / length
    agreement = 0.5 * (np.sum(own.sum(axis=0) ** 2) - n_phi)
    return bool(agreement > TOGETHER * np.sqrt(0.5 * n_phi * (n_phi - 1) / frames))


def score_covariance(scores: ClusteredScores, n_physics: int, design: Floats, *, together: bool) -> Floats:
    """B over (physics, coefficients), for a design (n_phi, 2, k) from coefficients to contrast and offset.

    With `together` a frame is one cluster for all angles, else one for each.
    """
    size = n_physics + design.shape[2]
    summed, total = np.zeros((scores.by_frame.shape[1], size)), np.zeros((size, size))
    for angle, (by_frame, square) in enumerate(zip(scores.by_frame, scores.squares, strict=True)):
        lift = np.zeros((size, n_physics + 2))
        lift[:n_physics, :n_physics] = np.eye(n_physics)
        lift[n_physics:, n_physics:] = design[angle].T
        summed += by_frame @ lift.T
        own = np.zeros_like(square) if together else by_frame.T @ by_frame
        total += lift @ (own - square) @ lift.T
    return total + summed.T @ summed if together else total


def _add_to_frames(clusters: Floats, raw: RawPairs, times: Array, sums: Array) -> None:
    """Add per-tile sums (B, m, side) to the frames with the given times (B, side); padding carries zeros.

    A tile covers `side` consecutive frames from a multiple of `side` on; its first time, which may have been moved
    off t = 0, tells which.
    """
    side = times.shape[1]
    first = np.rint((np.asarray(times[:, 0]) - raw.axis.start) / raw.axis.step).astype(int)
    for begin, block in zip(first // side * side, np.swapaxes(np.asarray(sums), 1, 2), strict=True):
        clusters[begin : begin + side] += block
