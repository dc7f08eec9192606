"""Fit coordinates: a rate's value and log-slope at mid-window, and how much of it is the power law.

A rate A·t^p + B on a finite window is determined, in this order, by R = A·t_ref^p + B, by its log-slope
s = p·A·t_ref^p/R, and only weakly by y = ln(A·t_ref^p/R) = ln(1 − w), w = B/R the offset's share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hpcxpcs.arrays import Floats
from hpcxpcs.physics.model import Model, RateTerm

SMALLEST_SHARE = 0.02
"""A start whose negative offset leaves less than this share of its power law is lifted to it."""

SMALLEST_RATE = 1.0e-100
"""Stands for a rate that is switched off; its square, in derivatives of ratios, is still a number."""


@jax.tree_util.register_pytree_node_class
@dataclass(frozen=True)
class Coordinates:
    """Maps free physical parameters to fit coordinates u (f,) and back; an argument of compiled functions.

    `fixed` holds (index, value) of parameters that do not vary, of which the indices are compiled in; t_ref is in s.
    """

    model: Model
    t_ref: float
    fixed: tuple[tuple[int, float], ...]

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[int, ...]]:
        """Numbers that compiled functions take as arguments, and the indices that they do not."""
        return (self.model, self.t_ref, *(value for _, value in self.fixed)), tuple(index for index, _ in self.fixed)

    @classmethod
    def tree_unflatten(cls, held: tuple[int, ...], numbers: Sequence[Any]) -> Coordinates:
        """The coordinates that tree_flatten took apart."""
        model, t_ref, *values = numbers
        return cls(model, t_ref, tuple(zip(held, values, strict=True)))

    @property
    def free(self) -> tuple[int, ...]:
        """Indices of the free parameters, in canonical order; coordinate k belongs to free[k]."""
        held = dict(self.fixed)
        return tuple(i for i in range(len(self.model.parameter_names)) if i not in held)

    @property
    def shares(self) -> tuple[int, ...]:
        """Places of the coordinates that are log-shares of the power law in a rate."""
        place = {index: k for k, index in enumerate(self.free)}
        both = [rate for rate in self._transformed() if rate.amplitude in place and rate.offset in place]
        return tuple(place[rate.offset] for rate in both)

    def to_physical(self, u: Array) -> Array:
        """All physical parameters (p,) from coordinates u (f,)."""
        place = {index: k for k, index in enumerate(self.free)}
        theta: list[Array | float] = [0.0] * len(self.model.parameter_names)
        for index, value in self.fixed:
            theta[index] = value
        for index, k in place.items():
            theta[index] = u[k]
        for rate in self._transformed():
            free = {index: u[k] for index, k in place.items()}
            for index, physical in _rate_from(rate, free, theta, self.t_ref).items():
                theta[index] = physical
        return jnp.stack([jnp.asarray(value, dtype=jnp.float64) for value in theta])

    def from_physical(self, theta: Floats) -> Floats:
        """Coordinates u (f,) of physical parameters (p,); amplitudes and rates at t_ref must be positive."""
        values = {index: float(theta[index]) for index in self.free}
        for rate in self._transformed():
            values |= _coordinates_of(rate, set(self.free), theta, self.t_ref)
        return np.array([values[index] for index in self.free])

    def _transformed(self) -> tuple[RateTerm, ...]:
        return tuple(rate for rate in self.model.rates if rate.nonnegative)


def _rate_from(rate: RateTerm, u: Mapping[int, Array], theta: list[Array | float], t_ref: float) -> dict[int, Array]:
    """Physical values of the free members of one rate."""
    has_a, has_p, has_b = (index in u for index in (rate.amplitude, rate.exponent, rate.offset))
    log_t = jnp.log(t_ref)
    found: dict[int, Array] = {}
    if has_a and has_b:
        value, log_share = jnp.exp(u[rate.amplitude]), u[rate.offset]
        exponent = u[rate.exponent] * jnp.exp(-log_share) if has_p else theta[rate.exponent]
        found[rate.amplitude] = value * jnp.exp(log_share - exponent * log_t)
        found[rate.offset] = -value * jnp.expm1(log_share)
        if has_p:
            found[rate.exponent] = jnp.asarray(exponent)
    elif has_a:
        found[rate.amplitude] = jnp.exp(u[rate.amplitude] - theta[rate.exponent] * log_t)
    return found


def _coordinates_of(rate: RateTerm, free: set[int], theta: Floats, t_ref: float) -> dict[int, float]:
    """Coordinates of the free members of one rate, keyed by parameter index."""
    amplitude, exponent, offset = (float(theta[i]) for i in (rate.amplitude, rate.exponent, rate.offset))
    power = amplitude * t_ref**exponent
    found: dict[int, float] = {}
    if rate.amplitude in free and rate.offset in free:
        # A start with a negative rate has no coordinates: lift it to the nearest that has.
        value = max(power + offset, SMALLEST_SHARE * power)
        found[rate.amplitude] = float(np.log(value))
        found[rate.offset] = float(np.log(power / value))
        if rate.exponent in free:
            found[rate.exponent] = exponent * power / value
    elif rate.amplitude in free:
        found[rate.amplitude] = float(np.log(power))
    return found


def reference_time(first: float, last: float) -> float:
    """Geometric middle (s) of the data's time range: where value and slope of a rate are least correlated."""
    return float(np.sqrt(first * last))


@jax.jit
def lowest_rates(model: Model, theta: Array, first: float, last: float) -> Array:
    """Smallest value of each non-negative rate on [first, last] s, relative to its value at mid-window.

    A power law plus a constant is monotone, so the ends decide.
    """
    times = jnp.stack([jnp.asarray(t) for t in (first, jnp.sqrt(first * last), last)])
    found = []
    for rate in model.rates:
        if rate.nonnegative:
            values = theta[rate.amplitude] * times ** theta[rate.exponent] + theta[rate.offset]
            found.append(jnp.minimum(values[0], values[2]) / jnp.maximum(jnp.abs(values[1]), SMALLEST_RATE))
    return jnp.stack(found) if found else jnp.zeros(0)


@jax.jit
def lowest_rate(model: Model, theta: Array, first: float, last: float) -> Array:
    """The smallest of lowest_rates; +inf for a model without non-negative rates."""
    return jnp.min(lowest_rates(model, theta, first, last), initial=jnp.inf)


@jax.jit
def physical_sets(coordinates: Coordinates, us: Array, first: float, last: float) -> tuple[Array, Array]:
    """Physical parameters (k, p) of coordinates us (k, f), and their lowest_rate (k,)."""
    thetas = jax.vmap(coordinates.to_physical)(us)
    return thetas, jax.vmap(lambda theta: lowest_rate(coordinates.model, theta, first, last))(thetas)
