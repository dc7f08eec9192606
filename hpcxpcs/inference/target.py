"""The log density that is sampled: a shard's or the full likelihood, its share of the prior, and its cavity.

The scaling is integrated out. Everything that differs between shards is an array, so that one compilation serves all.
Log priors are those of the free parameters, up to constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.inference.support import Support
from hpcxpcs.likelihood.gaussian import chi_squared_per_angle, coefficient_draw, marginal_log_likelihood
from hpcxpcs.likelihood.moments import MomentArrays
from hpcxpcs.likelihood.products import Products, no_tangents
from hpcxpcs.likelihood.scaling import Scaling

POSITIVE = frozenset({"lognormal", "half_normal", "exponential"})
"""Kinds of priors that have no mass below zero."""

CLOSEST = 1.0e-12
"""A beta prior is evaluated this share of its range away from its ends at least, where it may be infinite."""


@partial(jax.tree_util.register_dataclass, data_fields=["values", "lower", "upper"], meta_fields=["index", "kind"])
@dataclass(frozen=True)
class PriorTerm:
    """Prior of the parameter theta[index]: its kind, the values that kind has, and the bounds it is cut at."""

    index: int
    kind: str
    values: dict[str, float]
    lower: float
    upper: float

    def log_density(self, value: Array) -> Array:
        """Log density at values within the bounds, up to a constant."""
        return _LOG_DENSITIES[self.kind](value, self.values, self.lower, self.upper)


@partial(jax.tree_util.register_dataclass, data_fields=["terms"], meta_fields=[])
@dataclass(frozen=True)
class PriorTerms:
    """Priors of the free parameters, an argument of compiled functions."""

    terms: tuple[PriorTerm, ...]

    @classmethod
    def of(cls, parameters: Sequence[ResolvedParameter]) -> PriorTerms:
        """The priors of the parameters that vary."""
        return cls(
            tuple(
                PriorTerm(k, p.prior.kind, dict(p.prior.values), *supported(p))
                for k, p in enumerate(parameters)
                if p.fixed is None
            )
        )

    def log_density(self, theta: Array) -> Array:
        """Sum of the log densities at physical parameters theta (p,) within their bounds."""
        total = jnp.zeros(())
        for term in self.terms:
            total = total + term.log_density(theta[term.index])
        return total


def supported(parameter: ResolvedParameter) -> tuple[float, float]:
    """Bounds of a parameter, cut where its prior has no mass."""
    if parameter.fixed is None and parameter.prior.kind in POSITIVE:
        return max(parameter.lower, 0.0), parameter.upper
    return parameter.lower, parameter.upper


Values = Mapping[str, float]


def _uniform(x: Array, values: Values, lower: float, upper: float) -> Array:
    return jnp.zeros(())


def _normal(x: Array, values: Values, lower: float, upper: float) -> Array:
    return -0.5 * ((x - values["mu"]) / values["sigma"]) ** 2


def _lognormal(x: Array, values: Values, lower: float, upper: float) -> Array:
    logarithm = jnp.log(x)
    return -logarithm - 0.5 * ((logarithm - jnp.log(values["median"])) / values["sigma"]) ** 2


def _half_normal(x: Array, values: Values, lower: float, upper: float) -> Array:
    return -0.5 * (x / values["sigma"]) ** 2


def _exponential(x: Array, values: Values, lower: float, upper: float) -> Array:
    return -values["rate"] * x


def _beta_scaled(x: Array, values: Values, lower: float, upper: float) -> Array:
    share = jnp.clip((x - lower) / (upper - lower), CLOSEST, 1.0 - CLOSEST)
    return (values["a"] - 1.0) * jnp.log(share) + (values["b"] - 1.0) * jnp.log1p(-share)


_LOG_DENSITIES: Mapping[str, Callable[[Array, Values, float, float], Array]] = {
    "uniform": _uniform,
    "normal": _normal,
    "truncated_normal": _normal,
    "lognormal": _lognormal,
    "half_normal": _half_normal,
    "exponential": _exponential,
    "beta_scaled": _beta_scaled,
}


@partial(jax.tree_util.register_dataclass, data_fields=["support", "prior"], meta_fields=["samples_noise"])
@dataclass(frozen=True)
class Space:
    """Sampling coordinates x (d,): those of the support (f,), then the log of the noise scale if it is sampled.

    The noise scale has the scale-free prior 1/s.
    """

    support: Support
    prior: PriorTerms
    samples_noise: bool

    @property
    def size(self) -> int:
        """Number d of sampling coordinates."""
        return len(self.support.coordinates.free) + self.samples_noise

    def parameters(self, x: Array, softness: Array | None = None) -> tuple[Array, Array, Array]:
        """Physical parameters theta (p,), the noise scale, and log prior density of x (with the volume element)."""
        count = len(self.support.coordinates.free)
        theta, volume = self.support.to_physical(x[:count], softness)
        scale = jnp.exp(x[count]) if self.samples_noise else jnp.ones(())
        return theta, scale, volume + self.prior.log_density(theta)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "arrays",
        "scaling",
        "sigma",
        "pairs",
        "tempering",
        "precision",
        "shift",
        "origin",
        "transform",
        "softness",
    ],
    meta_fields=[],
)
@dataclass(frozen=True)
class Target:
    """What one sampling task explores, in whitened coordinates z: x = origin + transform z.

    `arrays`, `sigma` and `pairs` (n_phi,) are the likelihood; `tempering` is the power of the prior (of the
    parameters and of the scaling); the cavity exp(−½ wᵀ Λ w + bᵀ w) of w = (x − origin, coefficients of the scaling)
    (d + k,) stands for what this task does not see: `precision` Λ, `shift` b, zero for none. `softness` (f,) is that
    of the support: an array, so that other data of the same shape need no compilation.
    """

    arrays: MomentArrays
    scaling: Scaling
    sigma: Array
    pairs: Array
    tempering: Array
    precision: Array
    shift: Array
    origin: Array
    transform: Array
    softness: Array


def position(target: Target, z: Array) -> Array:
    """Sampling coordinates x (d,) of whitened coordinates z (d,)."""
    return target.origin + target.transform @ z


@jax.jit
def parameters_at(space: Space, target: Target, z: Array) -> tuple[Array, Array]:
    """Physical parameters (n, p) and noise scale (n,) of whitened coordinates z (n, d)."""
    return jax.vmap(lambda one: space.parameters(position(target, one), target.softness)[:2])(z)


def products_at(space: Space, target: Target, theta: Array) -> Products:
    """Inner products of the target's likelihood at physical parameters theta (p,)."""
    return target.arrays.products(space.support.coordinates.model, theta, no_tangents(theta))


def log_density(space: Space, target: Target, z: Array) -> Array:
    """Log density (nats, up to a constant) at whitened coordinates z (d,); −∞ where it is not a number."""
    step = target.transform @ z
    theta, scale, prior = space.parameters(target.origin + step, target.softness)
    value = marginal_log_likelihood(
        target.scaling,
        products_at(space, target, theta),
        target.sigma,
        target.pairs,
        scale,
        tempering=target.tempering,
        factor=_factor(target, step),
    )
    size = space.size
    cavity = target.shift[:size] @ step - 0.5 * step @ target.precision[:size, :size] @ step
    total = value + target.tempering * prior + cavity
    return jnp.where(jnp.isnan(total), -jnp.inf, total)


def _factor(target: Target, step: Array) -> tuple[Array, Array]:
    """The cavity's Gaussian over the coefficients for a given step (d,) from the origin."""
    size = step.shape[0]
    return target.precision[size:, size:], target.shift[size:] - target.precision[size:, :size] @ step


def joint_log_density(space: Space, target: Target, x: Array, coefficients: Array) -> Array:
    """Log density of sampling coordinates x (d,) and scaling coefficients (k,) together, without the cavity."""
    theta, scale, prior = space.parameters(x, target.softness)
    noise = target.sigma * scale
    per_angle = target.scaling.base + target.scaling.design @ coefficients
    chi_squared = jnp.sum(chi_squared_per_angle(products_at(space, target, theta), per_angle, noise))
    levels = 0.5 * jnp.sum(target.scaling.precision * coefficients**2)
    return -0.5 * chi_squared - jnp.sum(target.pairs * jnp.log(noise)) + target.tempering * (prior - levels)


@jax.jit
def log_densities(space: Space, target: Target, z: Array) -> Array:
    """Log densities (…,) at whitened coordinates z (…, d), one after the other (memory stays that of one)."""
    flat = z.reshape(-1, z.shape[-1])
    return jax.lax.map(lambda one: log_density(space, target, one), flat).reshape(z.shape[:-1])


def with_gradient(space: Space, target: Target, z: Array) -> tuple[Array, Array]:
    """Log densities (n,) and their gradients (n, d) at whitened coordinates z (n, d), compiled once for any n."""
    values, gradients = zip(*(_expanded(space, target, one) for one in z), strict=True)
    return jnp.stack(values), jnp.stack(gradients)


@jax.jit
def _expanded(space: Space, target: Target, z: Array) -> tuple[Array, Array]:
    return jax.value_and_grad(lambda one: log_density(space, target, one))(z)


def joint_gradients(space: Space, target: Target, w: Array) -> Array:
    """Gradients (n, d + k) of the joint log density at w = (x, coefficients) (n, d + k), compiled once for any n."""
    return jnp.stack([_joint_gradient(space, target, one) for one in w])


@jax.jit
def _joint_gradient(space: Space, target: Target, w: Array) -> Array:
    size = space.size
    return jax.grad(lambda one: joint_log_density(space, target, one[:size], one[size:]))(w)


@jax.jit
def physical_values(space: Space, target: Target, z: Array, normal: Array) -> tuple[Array, Array, Array]:
    """Physical parameters (n, p), noise scale (n,) and a draw of the scaling coefficients (n, k) per row of z (n, d).

    `normal` (n, k) holds standard normal numbers for the draws.
    """

    def describe(pair: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        one, numbers = pair
        step = target.transform @ one
        theta, scale, _ = space.parameters(target.origin + step, target.softness)
        coefficients = coefficient_draw(
            target.scaling,
            products_at(space, target, theta),
            target.sigma,
            scale,
            numbers,
            tempering=target.tempering,
            factor=_factor(target, step),
        )
        return theta, scale, coefficients

    return jax.lax.map(describe, (z, normal))
