"""Condensation: the few points per angle that decide the shape everywhere within a posterior.

Moments hold thousands of nodes so that any shape near the data's can be represented. Inside one posterior the shapes
span far fewer dimensions (p parameters, mildly curved), so a basis from sample shapes and as many well-placed points
(discrete empirical interpolation, points by pivoted QR: Drmač & Gugercin 2016) replace the nodes. The cost of
a gradient then depends on the number of parameters, not on the number of frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.linalg import qr

from hpcxpcs.likelihood.interpolation import Floats
from hpcxpcs.likelihood.moments import CellGroup, MomentArrays, Moments
from hpcxpcs.physics.model import Model

POINT_GRID = 8
"""The number of points per angle is rounded up to a multiple of this, so that few array shapes occur."""


@dataclass(frozen=True)
class Condensed:
    """Arrays over `points` points per angle; `error` is the largest norm (in sd) left out of a sample shape."""

    arrays: MomentArrays
    points: int
    error: float


@partial(jax.jit, static_argnums=0)
def _shapes(model: Model, thetas: Array, t1: Array, t2: Array, phi: Array) -> Array:
    return jax.vmap(lambda theta: model.shape(theta, t1, t2, phi))(thetas)


@dataclass(frozen=True)
class _Basis:
    """Points of one angle (node indices, (r,)) and the map from the shape there to the shape at all nodes (n, r)."""

    points: np.ndarray
    spread: Floats
    error: float


def condense(
    moments: Moments, model: Model, thetas: Floats, strength: Floats, *, tolerance: float = 0.01
) -> Condensed:
    """Replace the nodes by points chosen for the shapes of parameter sets thetas (s, p).

    `strength` (n_phi,) is (contrast/σ)² per angle; a sample shape may lose at most `tolerance` standard deviations.
    The sets should spread a little wider than the posterior, and number well above (p + 1)(p + 2)/2.
    """
    groups = moments.arrays.groups
    members = moments.arrays.phi.shape[1]
    place = np.asarray(moments.arrays.place)
    angles = np.asarray(moments.arrays.phi).ravel()[place]
    t1 = np.concatenate([np.asarray(g.t1).ravel() for g in groups])
    t2 = np.concatenate([np.asarray(g.t2).ravel() for g in groups])
    bases, grams, datas = [], [], []
    for index, angle in enumerate(angles):
        mask, member = divmod(int(place[index]), members)
        weight = np.concatenate([np.diagonal(np.asarray(g.gram[mask]), axis1=1, axis2=2).ravel() for g in groups])
        shapes = np.asarray(_shapes(model, jnp.asarray(thetas), jnp.asarray(t1), jnp.asarray(t2), jnp.asarray(angle)))
        basis = _empirical_basis(shapes, np.sqrt(weight * strength[index]), tolerance)
        bases.append(basis)
        grams.append(_condensed_gram(groups, mask, basis.spread))
        datas.append(_condensed_data(groups, mask, member, basis.spread))
    return _packed(bases, grams, datas, (t1, t2), angles, moments.arrays.power)


def _empirical_basis(shapes: Floats, weight: Floats, tolerance: float) -> _Basis:
    """Basis and points for sample shapes (s, n) at nodes with weights (n,), leaving out about `tolerance` at most.

    The constant and the mean shape are kept exactly; of the deviations, which are a few sd at most, the leading
    directions (so that squaring them in a Gram matrix costs no precision).
    """
    used = np.flatnonzero(weight > 0.0)
    scale, sampled = weight[used], shapes[:, used]
    kept = np.linalg.qr((np.stack([np.ones(used.size), sampled.mean(axis=0)]) * scale).T)[0].T
    deviation = (sampled - sampled.mean(axis=0)) * scale
    deviation -= (deviation @ kept.T) @ kept
    values, vectors = np.linalg.eigh(deviation @ deviation.T)
    tail = np.sqrt(np.cumsum(np.clip(values, 0.0, None)))
    leading = tail > tolerance
    directions = (vectors[:, leading] / np.sqrt(values[leading])).T @ deviation
    rows = np.concatenate([kept, directions])
    rank = rows.shape[0]
    chosen = qr(rows, mode="r", pivoting=True, check_finite=False)[1][:rank]
    weighted = np.linalg.solve(rows[:, chosen], rows).T
    spread = np.zeros((shapes.shape[1], rank))
    spread[used] = weighted * scale[chosen] / scale[:, None]
    lost = (shapes - shapes[:, used[chosen]] @ spread.T) * weight
    return _Basis(used[chosen], spread, float(np.sqrt((lost**2).sum(axis=1)).max()))


def _pieces(groups: Sequence[CellGroup], spread: Floats) -> list[Floats]:
    """The rows of a map from points to nodes, cut into the groups: (C, M, r) each."""
    found, start = [], 0
    for group in groups:
        cells, nodes = group.t1.shape[-2:]
        found.append(spread[start : start + cells * nodes].reshape(cells, nodes, -1))
        start += cells * nodes
    return found


def _condensed_gram(groups: Sequence[CellGroup], mask: int, spread: Floats) -> Floats:
    total = np.zeros((spread.shape[1],) * 2)
    for group, piece in zip(groups, _pieces(groups, spread), strict=True):
        weighted = np.asarray(group.gram[mask]) @ piece
        total += np.tensordot(piece, weighted, axes=([0, 1], [0, 1]))
    return total


def _condensed_data(groups: Sequence[CellGroup], mask: int, member: int, spread: Floats) -> Floats:
    pieces = zip(groups, _pieces(groups, spread), strict=True)
    parts = [np.tensordot(np.asarray(g.data[mask, member]), piece, axes=([0, 1], [0, 1])) for g, piece in pieces]
    return np.sum(parts, axis=0)


def _packed(
    bases: list[_Basis],
    grams: list[Floats],
    datas: list[Floats],
    times: tuple[Floats, Floats],
    angles: Floats,
    power: Array,
) -> Condensed:
    """One padded array for all angles; padding repeats a point with zero weight."""
    largest = max(basis.points.size for basis in bases)
    size = -(-largest // POINT_GRID) * POINT_GRID
    n_phi = len(bases)
    t1, t2 = np.ones((2, n_phi, 1, 1, size))
    gram, data = np.zeros((n_phi, 1, size, size)), np.zeros((n_phi, 1, 1, size))
    for k, basis in enumerate(bases):
        count = basis.points.size
        for target, source in zip((t1, t2), times, strict=True):
            target[k] = source[basis.points[0]]
            target[k, 0, 0, :count] = source[basis.points]
        gram[k, 0, :count, :count] = grams[k]
        data[k, 0, 0, :count] = datas[k]
    group = CellGroup(*map(jnp.asarray, (t1, t2, gram, data)))
    arrays = MomentArrays((group,), jnp.asarray(angles[:, None]), jnp.arange(n_phi), power)
    return Condensed(arrays, largest, max(basis.error for basis in bases))
