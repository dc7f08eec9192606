"""One scattering component: diffusion, and the dephasing by a linear shear profile across the gap."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from hpcxpcs.physics.rates import Scalar, TimeGrid, rate

SHEAR_LAWS = ("couette", "homodyne-2")

_PUBLISHED_RATE_FLOOR = 1e-10
"""Where the published package floors rates, which the conventions of its name repeat."""

_PUBLISHED_SHORTEST_TIME = 1e-8
"""The published package evaluates no time below dt/2 and so many seconds."""

_SERIES_BELOW = 0.25
"""|x| in radians below which sin(x)/x and its derivative are their series: the first of the terms left out is
0.25^12/13! there, 1e-17 of the sum."""

_SINC_SERIES = tuple((-1.0) ** k / math.factorial(2 * k + 1) for k in range(6))
_SINC_SLOPES = tuple((-1.0) ** k * 2 * k / math.factorial(2 * k + 1) for k in range(1, 7))


@jax.custom_jvp
def sinc(x: ArrayLike) -> Array:
    """sin(x)/x, x in radians, with value and derivatives accurate through x = 0."""
    x = jnp.asarray(x, jnp.float64)
    small = jnp.abs(x) < _SERIES_BELOW
    far = jnp.where(small, 1.0, x)
    return jnp.where(small, _even_polynomial(jnp.where(small, x, 0.0), _SINC_SERIES), jnp.sin(far) / far)


@sinc.defjvp
def _sinc_jvp(primals: tuple[ArrayLike], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Value and slope (cos x − value)/x from one sine and cosine; left alone, XLA computes them for every use."""
    x, change = jnp.asarray(primals[0], jnp.float64), tangents[0]
    small = jnp.abs(x) < _SERIES_BELOW
    near, far = jnp.where(small, x, 0.0), jnp.where(small, 1.0, x)
    ratio = jnp.sin(far) / far
    slope = jnp.where(small, near * _even_polynomial(near, _SINC_SLOPES), (jnp.cos(far) - ratio) / far)
    value = jnp.where(small, _even_polynomial(near, _SINC_SERIES), ratio)
    value, slope = jax.lax.optimization_barrier((value, slope))
    return value, slope * change


def _even_polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Σ c_k x^(2k)."""
    square, total = x**2, jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * square + coefficient
    return total


def diffusion_field(q: Scalar, transport: Array) -> Array:
    """Field correlation exp(−½ q² |∫J dt|); q in Å⁻¹, transport = ∫J dt in Å².

    J is the growth rate of the mean square displacement along q (2D for Brownian motion).
    """
    return jnp.exp(-0.5 * q**2 * jnp.abs(transport))


def shear_field(law: str, q: Scalar, gap: float, alignment: Array, strain: Array) -> Array:
    """Field correlation of a sheared gap; q in Å⁻¹, gap in Å, alignment = cos(φ0 − φ), strain = ∫γ̇ dt.

    couette: the average of exp(i q·v t) over a linear profile, sinc(½ q L cosΔφ ∫γ̇).
    homodyne-2: what the published package computes, sinc²(q L cosΔφ ∫γ̇ / 2π).
    """
    phase = q * gap * alignment * strain
    if law == "couette":
        return sinc(0.5 * phase)
    return sinc(phase / (2.0 * math.pi)) ** 2


def sampled_rate(grid: TimeGrid, amplitude: Scalar, exponent: Scalar, offset: Scalar, *, floored: bool) -> Array:
    """Rate on the frame grid (count,) as the published package samples it, for the trapezoid integrator.

    Times up to half a step are evaluated at half a step; with floored, rates are kept above 1e-10.
    """
    shortest = jnp.maximum(0.5 * grid.step, _PUBLISHED_SHORTEST_TIME)
    values = rate(jnp.maximum(grid.times(), shortest), amplitude, exponent, offset)
    return jnp.where(values > _PUBLISHED_RATE_FLOOR, values, _PUBLISHED_RATE_FLOOR) if floored else values
