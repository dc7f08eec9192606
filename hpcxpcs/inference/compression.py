"""Compression with error control: cells fit the candidate minima, the raw pairs judge the result."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hpcxpcs.arrays import Floats
from hpcxpcs.data.matrices import chosen
from hpcxpcs.inference.coordinates import lowest_rate
from hpcxpcs.inference.measurement import Measurement
from hpcxpcs.inference.objective import Objective
from hpcxpcs.inference.recovery import finite_difference_expansion
from hpcxpcs.inference.trust_region import finite, whitening
from hpcxpcs.likelihood.cells import Partition, adapt_cells
from hpcxpcs.likelihood.compress import compress
from hpcxpcs.likelihood.gaussian import Normal, marginal_log_likelihood
from hpcxpcs.likelihood.moments import Moments
from hpcxpcs.likelihood.products import Products, no_tangents
from hpcxpcs.physics.model import Model

ALLOWANCE = 10.0
"""Interpolation error norm (in sd) allowed per nat of tolerance before the check: the error is nearly orthogonal to
everything a cell can represent, so the log-likelihood sees about a tenth of the norm (bench/moments.py)."""

ANGLES_EXAMINED = 6
"""Angles at which the cells are adapted; the others lie between them."""

CHECK_PAIRS = 1_500_000
"""Raw pairs used to check the compression; the report states how many were."""

DEEPEST = 20.0
"""Points with ½χ² farther above the estimate's are not part of the posterior: the Laplace cloud is pulled in."""

CHECK_DRAWS = 9
"""Random draws from the Laplace approximation at which raw and compressed likelihood are compared."""


@dataclass(frozen=True)
class CompressionCheck:
    """Difference in log-likelihood (nats) between raw pairs and moments, relative to the estimate itself."""

    spread: float
    largest: float
    points: int
    pairs: int


def adapted(measurement: Measurement, model: Model, thetas: Floats, strength: Floats, error: float) -> Partition:
    """Cells for parameter sets thetas (k, p); strength (n_phi,) is (contrast/σ)² of each angle."""
    n_phi = len(measurement.phi)
    order = np.argsort(measurement.phi)
    examined = order[np.unique(np.linspace(0, n_phi - 1, min(n_phi, ANGLES_EXAMINED)).round().astype(int))]
    share = strength[examined] * strength.sum() / strength[examined].sum()
    return adapt_cells(model, thetas, measurement.phi[examined], share, measurement.axis, error=error)


def compressed(measurement: Measurement, partition: Partition) -> Moments:
    """Moments of all pairs on the cells of a partition."""
    return compress(measurement.angles, measurement.phi, partition.cells, measurement.axis)


def posterior_cloud(
    objective: Objective, u: Floats, normal: Normal, draws: int, seed: int, *, axes: bool = True
) -> Floats:
    """Parameter sets (k, p): the estimate, random Laplace draws, and 2–4 sd along the axes of the Hessian if asked.

    Where the derivatives are no numbers the cost is asked instead; where it is none either, there is the estimate.
    """
    if not finite(normal):
        normal = finite_difference_expansion(objective, u)
    if not finite(normal):
        return np.asarray(objective.theta(u))[None]
    transform, size = whitening(normal), u.size
    steps = [np.zeros((1, size)), np.random.default_rng(seed).standard_normal((draws, size))]
    if axes:
        lengths = (2.0 + 2.0 * np.arange(size) / max(1, size - 1)) * np.where(np.arange(size) % 2 == 0, 1.0, -1.0)
        steps.append(np.diag(lengths))
    highest = float(normal.cost) + DEEPEST
    return np.array([_inside(objective, u, transform @ step, highest) for step in np.concatenate(steps)])


def _inside(objective: Objective, u: Floats, step: Floats, highest: float) -> Floats:
    """u + step in physical parameters, shortened until rates are non-negative and the cost is below `highest`."""
    limits = objective.limits
    for _ in range(12):
        theta = objective.theta(u + step)
        lowest = lowest_rate(objective.coordinates.model, theta, limits.first, limits.last)
        if float(lowest) > -1e-9 and objective.cost(u + step) < highest:
            return np.asarray(theta)
        step = 0.5 * step
    return np.asarray(objective.theta(u))


_marginals = jax.jit(jax.vmap(marginal_log_likelihood, in_axes=(None, 0, None, None)))


def checked_angles(pairs: Floats, limit: int = CHECK_PAIRS) -> np.ndarray:
    """Angles compared with their raw pairs: all of them, or as many as hold `limit` pairs, spread evenly."""
    count = int(np.clip(limit // max(1.0, float(pairs.mean())), 1, pairs.size))
    return np.unique(((np.arange(count) + 0.5) * pairs.size / count).astype(int))


def _exchanged(compressed_leaf: Array, raw_leaf: Array, angles: np.ndarray) -> Array:
    """The products of a leaf (k, n_phi, …) with those of some angles taken from the raw pairs."""
    mixed = np.array(compressed_leaf)
    mixed[:, angles] = raw_leaf
    return jnp.asarray(mixed)


def check_compression(
    measurement: Measurement, objective: Objective, moments: Moments, thetas: Floats
) -> CompressionCheck:
    """Compare moments with the raw pairs at parameter sets thetas (k, p), the first being the estimate.

    When only some angles are compared, their error is scaled up as if all angles erred with the same sign.
    """
    model, points = objective.coordinates.model, jnp.asarray(thetas)
    examined = checked_angles(moments.pairs)
    some = chosen(measurement.angles, examined.tolist())
    raw = replace(measurement.raw, angles=some, phi=measurement.phi[examined]).products_many(model, points)
    nothing = no_tangents(points[0])
    packed = [moments.products(model, theta, nothing) for theta in points]
    stacked = Products(*(jnp.asarray(np.stack(leaf)) for leaf in zip(*packed, strict=True)))
    mixed = Products(*(_exchanged(mine, its, examined) for mine, its in zip(stacked, raw, strict=True)))
    pairs = jnp.asarray(moments.pairs)

    def values(products: Products) -> Array:
        return _marginals(objective.scaling, products, objective.sigma, pairs)

    difference = np.asarray(values(stacked) - values(mixed)) * len(moments.pairs) / len(examined)
    relative = difference - difference[0]
    compared = int(moments.pairs[examined].sum())
    return CompressionCheck(float(np.std(relative)), float(np.abs(relative).max()), len(thetas), compared)
