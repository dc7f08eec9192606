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
from numpy.typing import NDArray

from hpcxpcs.arrays import Floats
from hpcxpcs.likelihood.products import columns
from hpcxpcs.likelihood.raw import TILE, RawPairs, RawTiles
from hpcxpcs.physics.model import Model


@partial(jax.jit, static_argnums=1)
def _tile_scores(
    model: Model,
    widths: tuple[int, int],
    tiles: RawTiles,
    theta: Array,
    tangents: Array,
    scaling: Array,
    sigma: Array,
    roots: tuple[Array, Array],
) -> tuple[Array, ...]:
    """Of the scores of one angle's tiles: row sums (B, m, R), column sums (B, m, Q) and Σ s sᵀ (m, m).

    Of its residuals: sums and numbers of pairs in squares of the smaller width (B, 2, R/width, Q/width), and the
    squared differences (2, 2) of means over the larger, times the `roots` (B, R) and (B, Q) of both frames' brightness.
    """
    width, fine = widths

    def accumulate(
        total: tuple[Array, Array], tile: tuple[Array, Array, Array, Array, Array, Array]
    ) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        rows, cols, data, weights, root_rows, root_cols = tile
        basis = columns(model, theta, tangents, rows[:, None], cols[None, :], tiles.phi[0])
        residual = data - scaling[0] * basis[0] - scaling[1]
        scores = basis * (weights * residual / sigma**2)
        flat = scores.reshape(scores.shape[0], -1)
        used = (weights > 0.0).astype(residual.dtype)
        residual = residual * used
        shape = (2, rows.shape[0] // fine, fine, cols.shape[0] // fine, fine)
        blocks = jnp.stack([residual, used]).reshape(shape).sum(axis=(2, 4))
        alike = residual * root_rows[:, None] * root_cols[None, :]
        found = total[0] + flat @ flat.T, total[1] + _squared_differences(alike, used, width)
        return found, (scores.sum(axis=2), scores.sum(axis=1), blocks)

    size = 2 + tangents.shape[1]
    start = jnp.zeros((size, size)), jnp.zeros((2, 2))
    per_tile = (tiles.row_times, tiles.column_times, tiles.data[0], tiles.weights[0], *roots)
    (squares, differences), (by_row, by_column, blocks) = jax.lax.scan(accumulate, start, per_tile)
    # The columns are [f, 1, ∂f…]; the directions are [contrast·∂f…, f, 1].
    order = jnp.concatenate([jnp.arange(2, size), jnp.arange(2)])
    factor = jnp.concatenate([jnp.full(size - 2, scaling[0]), jnp.ones(2)])
    return (
        by_row[:, order] * factor[:, None],
        by_column[:, order] * factor[:, None],
        squares[order][:, order] * jnp.outer(factor, factor),
        blocks,
        differences,
    )


def _squared_differences(residual: Array, used: Array, width: int) -> Array:
    """Σ and number of squared differences of neighbours, (2, 2): of means over `width` along the other direction, and
    along both directions at once."""
    both = residual[1:, 1:] - residual[1:, :-1] - residual[:-1, 1:] + residual[:-1, :-1]
    all_four = used[1:, 1:] * used[1:, :-1] * used[:-1, 1:] * used[:-1, :-1]
    total, count = jnp.zeros(()), jnp.zeros(())
    for values, there in ((residual, used), (residual.T, used.T)):
        mean = values.reshape(values.shape[0], -1, width).mean(axis=2)
        whole = there.reshape(values.shape[0], -1, width).min(axis=2)
        neighbours = whole[1:] * whole[:-1]
        total = total + jnp.sum(neighbours * (mean[1:] - mean[:-1]) ** 2)
        count = count + jnp.sum(neighbours)
    return jnp.array([[total, count], [jnp.sum(all_four * both**2), jnp.sum(all_four)]])


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


@dataclass(frozen=True)
class Residuals:
    """What a fit leaves over at every angle, summed up.

    `blocks` (n_phi, 2, M, M) has the sums of residuals over squares of `fine` frames, and their numbers, on and above
    the diagonal; `differences` (n_phi, 2, 2) Σ and number of squared differences of neighbouring residuals, each times
    the roots of its frames' brightness: along one direction, of means over `width` along the other, and along both.
    `frames` (n_phi, N) says which have any pair.
    """

    width: int
    fine: int
    blocks: Floats
    differences: Floats
    frames: NDArray[np.bool_]

    def in_squares(self, angle: int, width: int) -> Floats:
        """Sums of residuals of an angle, and their numbers, over squares of so many frames, a multiple of `fine`."""
        by = width // self.fine
        found = self.blocks[angle]
        size = -(-found.shape[1] // by)
        more = size * by - found.shape[1]
        padded = np.pad(found, [(0, 0), (0, more), (0, more)])
        return np.asarray(padded.reshape(2, size, by, size, by).sum(axis=(2, 4)))


def clustered_scores(
    raw: RawPairs,
    model: Model,
    theta: Array,
    tangents: Array,
    per_angle: Floats,
    sigma: Floats,
    widths: tuple[int, int] = (1, 1),
    brightness: Floats | None = None,
) -> tuple[ClusteredScores, Residuals]:
    """Scores and residuals of every angle at theta (p,), tangents (p, k), per_angle (n_phi, 2), noise (n_phi,).

    `per_angle` has contrast and offset, `widths` those of the residuals, of which the second divides the first;
    `brightness` (n_phi, N) is that of frames, where it is known.
    """
    width, fine = widths
    roots = np.ones((len(per_angle), raw.axis.count + TILE))
    if brightness is not None:
        roots[:, : brightness.shape[1]] = np.sqrt(brightness)

    def found(index: int, tiles: RawTiles) -> tuple[Array, ...]:
        level, noise = jnp.asarray(per_angle[index]), jnp.asarray(sigma[index])
        begins = ((_first_frames(raw, times), times.shape[1]) for times in (tiles.row_times, tiles.column_times))
        of_tiles = tuple(jnp.asarray(roots[index, first[:, None] + np.arange(side)]) for first, side in begins)
        scores = _tile_scores(model, widths, tiles, theta, tangents, level, noise, of_tiles)
        return tiles.row_times, tiles.column_times, *scores

    by_frame, squares, blocks, differences = [], [], [], []
    for parts in raw.by_angle(found):
        clusters = np.zeros((raw.axis.count + TILE, 2 + tangents.shape[1]))
        total, change = np.zeros((clusters.shape[1],) * 2), np.zeros((2, 2))
        sums = np.zeros((2, *2 * [-(-clusters.shape[0] // fine)]))
        for row_times, column_times, by_row, by_column, square, block, difference in parts:
            first_row, first_column = _first_frames(raw, row_times), _first_frames(raw, column_times)
            _add_to_frames(clusters, first_row, by_row)
            _add_to_frames(clusters, first_column, by_column)
            _add_to_blocks(sums, first_row // fine, first_column // fine, np.asarray(block))
            total += np.asarray(square)
            change += np.asarray(difference)
        by_frame.append(clusters[: raw.axis.count])
        squares.append(total)
        last = -(-raw.axis.count // fine)
        blocks.append(sums[:, :last, :last])
        differences.append(change)
    scores = ClusteredScores(np.stack(by_frame), np.stack(squares))
    used = np.any(scores.by_frame != 0.0, axis=2)
    return scores, Residuals(width, fine, np.stack(blocks), np.stack(differences), used)


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
    lifts = lifted(n_physics, design)
    size = lifts.shape[1]
    summed, total = np.zeros((scores.by_frame.shape[1], size)), np.zeros((size, size))
    for lift, by_frame, square in zip(lifts, scores.by_frame, scores.squares, strict=True):
        summed += by_frame @ lift.T
        own = np.zeros_like(square) if together else by_frame.T @ by_frame
        total += lift @ (own - square) @ lift.T
    return total + summed.T @ summed if together else total


def lifted(n_physics: int, design: Floats) -> Floats:
    """Maps (n_phi, n_physics + k, n_physics + 2) from the directions of an angle to (physics, coefficients)."""
    n_phi, _, extra = design.shape
    lifts = np.zeros((n_phi, n_physics + extra, n_physics + 2))
    lifts[:, :n_physics, :n_physics] = np.eye(n_physics)
    lifts[:, n_physics:, n_physics:] = design.swapaxes(1, 2)
    return lifts


def _first_frames(raw: RawPairs, times: Array) -> NDArray[np.int64]:
    """The first frame of tiles with the given times (B, side).

    A tile covers `side` consecutive frames from a multiple of `side` on; its first time, which may have been moved
    off t = 0, tells which.
    """
    side = times.shape[1]
    first = np.rint((np.asarray(times[:, 0]) - raw.axis.start) / raw.axis.step).astype(np.int64)
    return first // side * side


def _add_to_frames(clusters: Floats, first: NDArray[np.int64], sums: Array) -> None:
    """Add per-tile sums (B, m, side) to the frames that begin at first (B,); padding carries zeros."""
    for begin, block in zip(first, np.swapaxes(np.asarray(sums), 1, 2), strict=True):
        clusters[begin : begin + len(block)] += block


def _add_to_blocks(total: Floats, rows: NDArray[np.int64], cols: NDArray[np.int64], blocks: Floats) -> None:
    """Add the blocks of tiles (B, 2, r, c) whose first ones are at rows and cols (B,)."""
    for row, col, block in zip(rows, cols, blocks, strict=True):
        total[:, row : row + block.shape[1], col : col + block.shape[2]] += block
