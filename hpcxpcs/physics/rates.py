"""Power-law rates r(t) = A·t^p + B and their integrals over time.

Times are in seconds; A has the unit of the rate times s^(−p), B the unit of the rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

type Scalar = Array | float

_LARGEST_EXPONENT = 300.0
"""exp() arguments are kept below this, so that products with A and second derivatives stay finite."""

_DIVERGED = -1.0e100
"""Stands for an integral from 0 that diverges (t = 0, p <= -1): no correlation survives it, yet it is finite."""

_SERIES_BELOW = 0.25
"""|z| below which expm1(z)/z and its derivatives are their series: the first of the terms left out is 0.25^12/13!
there, 1e-17 of the sum, where the closed form of the derivative loses digits as 1/z."""

_LONG = 64
"""Times from which on their integrals are kept for all pairs: for fewer there is nothing to gain."""

_EXPONENTIAL_SERIES = tuple(1.0 / math.factorial(k + 1) for k in range(12))
_EXPONENTIAL_SLOPES = tuple((k + 1) / math.factorial(k + 2) for k in range(12))


@dataclass(frozen=True)
class RateTerm:
    """One rate of a model: the indices into theta of its amplitude, exponent and offset."""

    name: str
    amplitude: int
    exponent: int
    offset: int
    nonnegative: bool


@partial(jax.tree_util.register_dataclass, data_fields=["start", "step"], meta_fields=["count"])
@dataclass(frozen=True)
class TimeGrid:
    """Uniform frame times start + step·k, k = 0..count−1, in seconds; their number is compiled in."""

    start: float
    step: float
    count: int

    def times(self) -> Array:
        """All frame times, shape (count,), in seconds."""
        return self.start + self.step * jnp.arange(self.count)


@jax.custom_jvp
def _exponential_slope(z: Array) -> Array:
    """expm1(z)/z with value and derivatives accurate through z = 0."""
    small, near, far = _near_and_far(z)
    return jnp.where(small, _polynomial(near, _EXPONENTIAL_SERIES), jnp.expm1(far) / far)


@_exponential_slope.defjvp
def _exponential_slope_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Value and slope (e^z − value)/z from one exponential; left alone, XLA computes one for every later use."""
    (z,), (change,) = primals, tangents
    small, near, far = _near_and_far(z)
    above = jnp.expm1(far)
    ratio = above / far
    slope = jnp.where(small, _polynomial(near, _EXPONENTIAL_SLOPES), (above + 1.0 - ratio) / far)
    value = jnp.where(small, _polynomial(near, _EXPONENTIAL_SERIES), ratio)
    value, slope = jax.lax.optimization_barrier((value, jnp.where(z < _LARGEST_EXPONENT, slope, 0.0)))
    return value, slope * change


def _near_and_far(z: Array) -> tuple[Array, Array, Array]:
    """Whether the series is used, and arguments for it and for the closed form, harmless where the other is used."""
    small = jnp.abs(z) < _SERIES_BELOW
    return small, jnp.where(small, z, 0.0), jnp.where(small, 1.0, jnp.minimum(z, _LARGEST_EXPONENT))


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Σ c_k x^k."""
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total


def power_integral(t: ArrayLike, p: ArrayLike) -> Array:
    """h(t; p) = (t^(1+p) − 1)/(1+p), the integral of s^p from 1 to t seconds; ln t at p = −1.

    t and p broadcast. At t = 0 it is −1/(1+p); where the integral diverges there (p <= −1) it is a large
    finite negative number with zero gradient.
    """
    time, power = jnp.asarray(t, jnp.float64), 1.0 + jnp.asarray(p, jnp.float64)
    positive = time > 0.0
    log_time = jnp.log(jnp.where(positive, time, 1.0))
    integral = log_time * _exponential_slope(power * log_time)
    converges = power > 1.0 / abs(_DIVERGED)
    at_zero = jnp.where(converges, -1.0 / jnp.where(converges, power, 1.0), _DIVERGED)
    return jnp.where(positive, integral, at_zero)


def power(t: ArrayLike, p: ArrayLike) -> Array:
    """t^p for t >= 0 s with finite gradients at any exponent; t and p broadcast."""
    time, exponent = jnp.asarray(t, jnp.float64), jnp.asarray(p, jnp.float64)
    positive = time > 0.0
    log_power = exponent * jnp.log(jnp.where(positive, time, 1.0))
    value = jnp.exp(jnp.minimum(log_power, _LARGEST_EXPONENT))
    largest = math.exp(_LARGEST_EXPONENT)
    at_zero = jnp.where(exponent > 0.0, 0.0, jnp.where(exponent < 0.0, largest, 1.0))
    return jnp.where(positive, value, at_zero)


def rate(t: ArrayLike, amplitude: Scalar, exponent: Scalar, offset: Scalar) -> Array:
    """r(t) = amplitude·t^exponent + offset; all arguments broadcast."""
    return amplitude * power(t, exponent) + offset


def rate_integral(t: ArrayLike, amplitude: Scalar, exponent: Scalar, offset: Scalar) -> Array:
    """R(t) with R(t2) − R(t1) = integral of the rate from t1 to t2 seconds; all arguments broadcast.

    Of long rows and columns of times it is kept: XLA would compute it again for every pair of them (five times slower).
    """
    found = amplitude * power_integral(t, exponent) + offset * jnp.asarray(t, jnp.float64)
    is_line = found.ndim == 2 and min(found.shape) == 1 and found.size > _LONG
    return jax.lax.optimization_barrier(found) if is_line else found


def cumulative_trapezoid(samples: Array, step: float) -> Array:
    """Running trapezoid sum of samples (count,) spaced by step seconds; starts at 0, shape (count,)."""
    areas = 0.5 * step * (samples[1:] + samples[:-1])
    return jnp.concatenate([jnp.zeros(1, samples.dtype), jnp.cumsum(areas)])


def on_grid(values: Array, grid: TimeGrid, t: Array) -> Array:
    """Pick values (count,) at the grid frames nearest to t seconds (shape of t); NaN outside the grid."""
    index = jnp.round((t - grid.start) / grid.step).astype(jnp.int64)
    # Negative indices would wrap around: send them out of range instead.
    index = jnp.where(index < 0, grid.count, index)
    return values.at[index].get(mode="fill", fill_value=jnp.nan)
