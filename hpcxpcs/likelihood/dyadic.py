"""Scores of frame pairs clustered by frame: the ingredient of error bars that survive frame-correlated noise.

Pairs that share a frame share that frame's normalisation noise. With s_ij the score of pair (i, j) and g_i the sum
over all pairs that contain frame i, B = Σ_i g_i g_iᵀ − Σ_{i<j} s_ij s_ijᵀ estimates the covariance of the total score
under such dyadic dependence (Cameron & Miller 2014; Aronow, Samii & Assenova 2015). Frames of different angles
belong to different pixels and count as different clusters.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hpcxpcs.likelihood.interpolation import Floats
from hpcxpcs.likelihood.products import columns
from hpcxpcs.likelihood.raw import RawPairs, RawTiles, each_angle
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
        directions = jnp.concatenate([scaling[0] * basis[2:], basis[:2]])
        scores = directions * (weights * residual / sigma**2)
        flat = scores.reshape(scores.shape[0], -1)
        return total + flat @ flat.T, (scores.sum(axis=2), scores.sum(axis=1))

    size = 2 + tangents.shape[1]
    start = jnp.zeros((size, size))
    per_tile = (tiles.row_times, tiles.column_times, tiles.data[0], tiles.weights[0])
    squares, (by_row, by_column) = jax.lax.scan(accumulate, start, per_tile)
    return by_row, by_column, squares


def score_covariance(
    raw: RawPairs, model: Model, theta: Array, tangents: Array, per_angle: Floats, sigma: Floats
) -> Floats:
    """B of every angle, shape (n_phi, m, m), for the directions (tangents…, contrast, offset) of that angle.

    theta (p,), tangents (p, k); per_angle (n_phi, 2) holds contrast and offset, sigma (n_phi,) the noise.
    """

    def angle(index: int) -> Floats:
        clusters = np.zeros((raw.axis.count + 1, 2 + tangents.shape[1]))
        total = np.zeros((clusters.shape[1],) * 2)
        level, noise = jnp.asarray(per_angle[index]), jnp.asarray(sigma[index])
        for tiles in raw.tiles(index):
            by_row, by_column, squares = _tile_scores(model, tiles, theta, tangents, level, noise)
            _add_to_frames(clusters, raw, tiles.row_times, by_row)
            _add_to_frames(clusters, raw, tiles.column_times, by_column)
            total -= np.asarray(squares)
        return total + clusters.T @ clusters

    return np.stack(each_angle(angle, len(raw.phi)))


def _add_to_frames(clusters: Floats, raw: RawPairs, times: Array, sums: Array) -> None:
    """Add per-tile sums (B, m, side) to the frames with the given times (B, side); padding carries zeros."""
    frame = np.rint((np.asarray(times) - raw.axis.start) / raw.axis.step).astype(int)
    frame = np.clip(frame, 0, raw.axis.count)
    np.add.at(clusters, frame, np.swapaxes(np.asarray(sums), 1, 2))
