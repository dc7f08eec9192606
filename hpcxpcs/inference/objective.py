"""The cost that the point fit minimises: ½χ² with the scaling solved, plus soft walls where parameters may not go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from numpy.typing import NDArray

from hpcxpcs.arrays import Floats
from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.inference.coordinates import Coordinates, lowest_rates
from hpcxpcs.inference.measurement import Demand, always_wanted
from hpcxpcs.likelihood.gaussian import Normal, profile, profiled
from hpcxpcs.likelihood.products import Products, Source, no_tangents
from hpcxpcs.likelihood.scaling import Scaling

WALL = 300.0
"""Stiffness of the walls: a parameter beyond its bound by 1/300 of the bounds' width costs ½ (1 sd)."""

RIDGE = 0.3
"""Weight of a search on the log-share of the power law in each rate: ½ for a factor of 28 either way. Where a rate does
not change with time, nothing else keeps its two parts from growing against each other without end."""

LOWEST = 1.0e-6
"""Share of its lower bound down to which an amplitude counts by its logarithm; below, which zero is, linearly."""


@dataclass(frozen=True)
class Limits:
    """Bounds (p,) of the physical parameters and the data's first and last time (s), where rates must be ≥ 0.

    `logarithmic` (p,) marks amplitudes with a positive lower bound: their bounds lie decades apart, and distances to
    them are measured in logarithms.
    """

    lower: Floats
    upper: Floats
    first: float
    last: float
    logarithmic: NDArray[np.bool_]

    @classmethod
    def of(cls, parameters: Sequence[ResolvedParameter], first: float, last: float) -> Limits:
        """The bounds of parameters on a time range (s)."""
        return cls(
            np.array([p.lower for p in parameters]),
            np.array([p.upper for p in parameters]),
            first,
            last,
            np.array([p.parameter.kind == "amplitude" and p.lower > 0.0 for p in parameters]),
        )

    def place(self, theta: ArrayLike) -> Floats:
        """Where each value of theta (p,) lies: 0 at its lower bound, 1 at its upper one."""
        return np.asarray(_place(self.lower, self.upper, self.logarithmic, jnp.asarray(theta)))


def _place(lower: ArrayLike, upper: ArrayLike, logarithmic: ArrayLike, theta: Array) -> Array:
    """Position between the bounds, 0 … 1 inside; of amplitudes by the logarithm, continued linearly towards zero."""
    low, high, by_logarithm = jnp.asarray(lower), jnp.asarray(upper), jnp.asarray(logarithmic)
    unit = jnp.where(by_logarithm, low, 1.0)
    ratio, span = theta / unit, jnp.where(by_logarithm, high / unit, jnp.e)
    logarithm = jnp.log(jnp.maximum(ratio, LOWEST)) + jnp.minimum(ratio / LOWEST - 1.0, 0.0)
    return jnp.where(by_logarithm, logarithm / jnp.log(span), (theta - low) / (high - low))


@jax.jit
def linearised(coordinates: Coordinates, u: Array) -> tuple[Array, Array]:
    """Physical parameters (p,) at coordinates u (f,), and their slopes (p, f)."""
    return coordinates.to_physical(u), jax.jacfwd(coordinates.to_physical)(u)


@jax.jit
def _walls(
    coordinates: Coordinates,
    bounds: tuple[Array, Array, Array],
    first: float,
    last: float,
    ridge: Array,
    u: Array,
) -> tuple[Array, Array]:
    """Excess over the walls and on the ridge, and its derivative along the coordinates."""
    shares = jnp.asarray(coordinates.shares, dtype=int)

    def excess(v: Array) -> Array:
        theta = coordinates.to_physical(v)
        place = _place(*bounds, theta)
        beyond = jnp.maximum(place - 1.0, 0.0) + jnp.minimum(place, 0.0)
        negative = jnp.minimum(lowest_rates(coordinates.model, theta, first, last), 0.0)
        # A logarithm far outside keeps the slope finite when a trial step lands orders of magnitude away.
        both = jnp.concatenate([beyond, negative])
        walls = WALL * jnp.sign(both) * jnp.log1p(jnp.abs(both))
        return jnp.concatenate([walls, ridge * v[shares]])

    return excess(u), jax.jacfwd(excess)(u)


@jax.jit
def _walled(scaling: Scaling, products: Products, sigma: Array, excess: Array, slope: Array) -> Normal:
    normal = profile(scaling, products, sigma)
    return normal._replace(
        cost=normal.cost + 0.5 * excess @ excess,
        gradient=normal.gradient + slope.T @ excess,
        information=normal.information + slope.T @ slope,
    )


@dataclass(frozen=True)
class Objective:
    """Cost over fit coordinates of one source of inner products at fixed noise sigma (n_phi,)."""

    coordinates: Coordinates
    source: Source
    scaling: Scaling
    sigma: Array
    limits: Limits
    still_wanted: Demand = always_wanted
    ridge: float = 0.0

    def products(self, u: Floats, tangents: bool = False) -> Products:
        """Inner products at coordinates u (f,), with derivatives along the coordinates if asked."""
        self.still_wanted()
        theta, slopes = linearised(self.coordinates, jnp.asarray(u))
        model = self.coordinates.model
        return self.source.products(model, theta, slopes if tangents else no_tangents(theta))

    def expand(self, u: Floats) -> Normal:
        """Cost, gradient (f,) and Gauss-Newton information (f, f) at coordinates u (f,)."""
        return _walled(self.scaling, self.products(u, tangents=True), self.sigma, *self.wall(u))

    def cost(self, u: Floats) -> float:
        """½χ² with scaling prior, walls and ridge at coordinates u (f,)."""
        excess = np.asarray(self.wall(u)[0])
        return float(profiled(self.scaling, self.products(u), self.sigma).cost) + 0.5 * float(excess @ excess)

    def wall(self, u: Floats) -> tuple[Array, Array]:
        """Excess over the walls (rows,) and its slope (rows, f)."""
        limits = self.limits
        bounds = (jnp.asarray(limits.lower), jnp.asarray(limits.upper), jnp.asarray(limits.logarithmic))
        return _walls(self.coordinates, bounds, limits.first, limits.last, jnp.asarray(self.ridge), jnp.asarray(u))

    def theta(self, u: Floats) -> Array:
        """Physical parameters (p,) at coordinates u (f,)."""
        return linearised(self.coordinates, jnp.asarray(u))[0]

    def with_scaling(self, scaling: Scaling) -> Objective:
        """The same objective with another scaling subspace."""
        return replace(self, scaling=scaling)
