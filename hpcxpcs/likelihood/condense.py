"""Condensation: the few points per angle that decide the shape everywhere within a posterior.

Moments hold thousands of nodes so that any shape near the data's can be represented. Inside one posterior the shapes
span far fewer dimensions (p parameters, mildly curved), so a basis from sample shapes and as many well-placed points
(discrete empirical interpolation, points by pivoted QR: Drmač & Gugercin 2016) replace the nodes. The cost of
a gradient then depends on the number of parameters, not on the number of frames. The points are chosen once, for the
moments of all pairs; moments of any part of the pairs over the same cells condense to the same points, and add.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.linalg import qr

from hpcxpcs.arrays import Floats
from hpcxpcs.likelihood.cells import Cell, TimeAxis
from hpcxpcs.likelihood.moments import CellGroup, MomentArrays, Moments
from hpcxpcs.physics.model import Model

POINT_GRID = 8
"""The number of points per angle is rounded up to a multiple of this, so that few array shapes occur."""

_PLAIN = ("phi", "place", "power")


@dataclass(frozen=True)
class Condensed:
    """Arrays over `points` points per angle; `error` is the largest norm (in sd) left out of a sample shape."""

    arrays: MomentArrays
    points: int
    error: float


@dataclass(frozen=True)
class Condensation:
    """Where to condense moments over `cells`, and how: t1, t2 (n_phi, P) in s; spread (n_phi, nodes, P).

    The spread maps a shape at the points to the shape at all nodes. P is `points`, the most that an angle needs,
    rounded up; further columns are zero. phi (n_phi,) in degrees; `error` as in `Condensed`.
    """

    cells: tuple[Cell, ...]
    axis: TimeAxis
    phi: Floats
    t1: Floats
    t2: Floats
    spread: Floats
    points: int
    error: float

    def apply(self, moments: Moments) -> MomentArrays:
        """Condensed arrays of moments over the same cells; their shapes depend on nothing else."""
        if moments.cells != self.cells or moments.axis != self.axis:
            raise ValueError("moments over other cells than those chosen for cannot be condensed")
        place = np.asarray(moments.arrays.place)
        classes, members = np.divmod(place, moments.arrays.phi.shape[1])
        groups = [(np.asarray(g.gram), np.asarray(g.data)) for g in moments.arrays.groups]
        n_phi, _, size = self.spread.shape
        gram, data = np.zeros((n_phi, 1, size, size)), np.zeros((n_phi, 1, 1, size))
        for angle, (mask, member) in enumerate(zip(classes, members, strict=True)):
            start = 0
            for grams, datas in groups:
                shape = grams.shape[1:3]
                piece = self.spread[angle, start : start + shape[0] * shape[1]].reshape(*shape, size)
                start += shape[0] * shape[1]
                gram[angle, 0] += np.tensordot(piece, grams[mask] @ piece, axes=([0, 1], [0, 1]))
                data[angle, 0, 0] += np.tensordot(datas[mask, member], piece, axes=([0, 1], [0, 1]))
        times = (times[:, None, None] for times in (self.t1, self.t2))
        group = CellGroup(*map(jnp.asarray, (*times, gram, data)))
        power = jnp.asarray(moments.arrays.power)
        return MomentArrays((group,), jnp.asarray(self.phi[:, None]), jnp.arange(n_phi), power)


@jax.jit
def _shapes(model: Model, thetas: Array, t1: Array, t2: Array, phi: Array) -> Array:
    return jax.vmap(lambda theta: model.shape(theta, t1, t2, phi))(thetas)


@dataclass(frozen=True)
class _Basis:
    """Points of one angle (node indices, (r,)) and the map from the shape there to the shape at all nodes (n, r)."""

    points: np.ndarray
    spread: Floats
    error: float


def condensation(
    moments: Moments, model: Model, thetas: Floats, strength: Floats, tolerance: float = 0.01
) -> Condensation:
    """Choose the points that replace the nodes for the shapes of parameter sets thetas (s, p).

    `strength` (n_phi,) is (contrast/σ)² per angle; a sample shape may lose at most `tolerance` standard deviations.
    The sets should spread a little wider than the posterior, and number well above (p + 1)(p + 2)/2. Moments without
    cells have few points already, and keep them.
    """
    groups = moments.arrays.groups
    if not moments.cells:
        return _kept(moments)
    place = np.asarray(moments.arrays.place)
    phi = np.asarray(moments.arrays.phi).ravel()[place]
    t1 = np.concatenate([np.asarray(g.t1).ravel() for g in groups])
    t2 = np.concatenate([np.asarray(g.t2).ravel() for g in groups])
    diagonals = [np.diagonal(np.asarray(g.gram), axis1=2, axis2=3) for g in groups]
    weights = np.concatenate([d.reshape(len(d), -1) for d in diagonals], axis=1)
    bases = []
    for index, angle in enumerate(phi):
        weight = weights[place[index] // moments.arrays.phi.shape[1]]
        shapes = _shapes(model, jnp.asarray(thetas), jnp.asarray(t1), jnp.asarray(t2), jnp.asarray(angle))
        bases.append(_empirical_basis(np.asarray(shapes), np.sqrt(weight * strength[index]), tolerance))
    largest = max(basis.points.size for basis in bases)
    size = -(-largest // POINT_GRID) * POINT_GRID
    points, spread = np.zeros((len(phi), size), dtype=np.int64), np.zeros((len(phi), t1.size, size))
    for k, basis in enumerate(bases):
        points[k] = basis.points[0]
        points[k, : basis.points.size] = basis.points
        spread[k, :, : basis.points.size] = basis.spread
    error = max(basis.error for basis in bases)
    return Condensation(moments.cells, moments.axis, phi, t1[points], t2[points], spread, largest, error)


def _kept(moments: Moments) -> Condensation:
    """The points of moments that are condensed already."""
    (group,) = moments.arrays.groups
    t1, t2 = (np.asarray(times).reshape(len(moments.pairs), -1) for times in (group.t1, group.t2))
    n_phi, size = t1.shape
    spread = np.broadcast_to(np.eye(size), (n_phi, size, size))
    phi = np.asarray(moments.arrays.phi).ravel()
    return Condensation((), moments.axis, phi, t1, t2, spread, moments.node_count, 0.0)


def condense(moments: Moments, model: Model, thetas: Floats, strength: Floats, *, tolerance: float = 0.01) -> Condensed:
    """Moments condensed to points chosen for their own pairs; the arguments are those of `condensation`."""
    chosen = condensation(moments, model, thetas, strength, tolerance)
    return Condensed(chosen.apply(moments), chosen.points, chosen.error)


def moments_to_arrays(arrays: MomentArrays) -> dict[str, np.ndarray]:
    """Plain arrays by name, group k under "groups/k/", to be stored; `moments_from_arrays` is the way back."""
    found = {name: np.asarray(getattr(arrays, name)) for name in _PLAIN}
    for index, group in enumerate(arrays.groups):
        for entry in fields(CellGroup):
            found[f"groups/{index}/{entry.name}"] = np.asarray(getattr(group, entry.name))
    return found


def moments_from_arrays(stored: Mapping[str, np.ndarray]) -> MomentArrays:
    """The arrays that `moments_to_arrays` gave; names that it does not use are ignored."""
    groups: list[CellGroup] = []
    while f"groups/{len(groups)}/t1" in stored:
        entries = {e.name: jnp.asarray(stored[f"groups/{len(groups)}/{e.name}"]) for e in fields(CellGroup)}
        groups.append(CellGroup(**entries))
    return MomentArrays(tuple(groups), **{name: jnp.asarray(stored[name]) for name in _PLAIN})


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
