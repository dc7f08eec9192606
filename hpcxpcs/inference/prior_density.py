"""Log prior densities of the free parameters, up to constants, for the sampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from hpcxpcs.config.resolve import ResolvedParameter

POSITIVE = frozenset({"lognormal", "half_normal", "exponential"})
"""Kinds of priors that have no mass below zero."""

CLOSEST = 1.0e-12
"""A beta prior is evaluated this share of its range away from its ends at least, where it may be infinite."""


@partial(
    jax.tree_util.register_dataclass, data_fields=["values", "lower", "upper"], meta_fields=["index", "kind"]
)
@dataclass(frozen=True)
class PriorTerm:
    """Prior of the parameter theta[index]: its kind, the values that kind has, and the bounds it is cut at."""

    index: int
    kind: str
    values: dict[str, float]
    lower: float
    upper: float


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
            density = _LOG_DENSITIES[term.kind]
            total = total + density(theta[term.index], term.values, term.lower, term.upper)
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
