"""Two scattering components, a reference and a sample that moves relative to it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from hpcxpcs.physics.rates import Scalar, TimeGrid, power

CONVENTIONS = ("physical", "heterodyne-2")

REDUCED_CONSTANTS = (0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0)
"""Reduced modes vary the transports only; these are the other eight parameters of the full model, in its order (v0,
beta, v_offset, f0, f1, f2, f3, phi0): no motion, equal and constant amplitudes."""

_REFERENCE, _SAMPLE = slice(0, 3), slice(3, 6)
_F0, _F1, _F3 = 9, 10, 12
_REDUCED_SIZE = 6

_LARGEST_EXPONENT = 100.0
"""Beyond this any f0 of note is clipped to 1 anyway; second derivatives by an f0 of 0 stay finite below it."""

_GATE_SHARPNESS = 50.0
"""That of the published soft clip, which the convention of its name repeats."""

_PUBLISHED_SHORTEST_TIME = 1e-10
"""The published package evaluates no time below so many seconds, but for t = 0."""

_SLOWEST = 1e-300
"""Rates below this count as this: their logarithm decides which component is the faster one."""


def _clip_hard(x: Array) -> Array:
    """Clip to [0, 1], keeping the inner derivative at the two ends (a fraction may start at a bound)."""
    return jnp.where(x < 0.0, 0.0, jnp.where(x > 1.0, 1.0, x))


def _clip_soft(x: Array) -> Array:
    """The published clip: two softplus gates; biased by ln 2 / 50 at both ends."""
    lower = jax.nn.softplus(_GATE_SHARPNESS * x) / _GATE_SHARPNESS
    return 1.0 - jax.nn.softplus(_GATE_SHARPNESS * (1.0 - lower)) / _GATE_SHARPNESS


def sample_fraction(t: ArrayLike, f0: Scalar, f1: Scalar, f2: Scalar, f3: Scalar, *, convention: str) -> Array:
    """Amplitude fraction of the sample, clip01(f0·exp(f1·(t − f2)) + f3); t, f2 in s, f1 in 1/s."""
    exponent = jnp.clip(f1 * (jnp.asarray(t, jnp.float64) - f2), -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    fraction = f0 * jnp.exp(exponent) + f3
    return _clip_hard(fraction) if convention == "physical" else _clip_soft(fraction)


def unit_amplitudes(fraction: Array) -> tuple[Array, Array]:
    """Amplitudes (reference, sample) of unit total intensity for a sample fraction in [0, 1]."""
    reference = 1.0 - fraction
    norm = jnp.sqrt(fraction**2 + reference**2)
    return reference / norm, fraction / norm


def flow_alignment(phi_degrees: ArrayLike, phi0_degrees: Scalar, *, convention: str) -> Array:
    """Cosine between q and the velocity: cos(φ − φ0), or cos(φ + φ0) as the published package has it."""
    sign = -1.0 if convention == "physical" else 1.0
    return jnp.cos(jnp.deg2rad(jnp.asarray(phi_degrees, jnp.float64) + sign * phi0_degrees))


def sampled_rate(grid: TimeGrid, amplitude: Scalar, exponent: Scalar, offset: Scalar, *, floored: bool) -> Array:
    """Rate on the frame grid (count,) as the published package samples it, for the trapezoid integrator.

    The power law counts as 0 at t = 0 whatever its exponent; with floored, the rate is kept at or above 0.
    """
    times = grid.times()
    law = jnp.where(times == 0.0, 0.0, power(jnp.maximum(times, _PUBLISHED_SHORTEST_TIME), exponent))
    values = amplitude * law + offset
    return jnp.where(values > 0.0, values, 0.0) if floored else values


def swapped(theta: ArrayLike) -> Array:
    """Exchange the names of the two components in two_component (14,) or static_both (6,) parameters: same shape f.

    The two transports trade places and the fraction x(t) becomes 1 − x(t). With a constant fraction x = f0 + f3
    (f1 = 0) only the sum is identified, and f3 is kept as far as the new sum allows; a varying fraction needs −f0
    and 1 − f3, of which the first lies outside bounds that keep f0 positive. Exact, for clipped fractions too.
    """
    full = jnp.asarray(theta, jnp.float64)
    exchanged = jnp.concatenate([full[_SAMPLE], full[_REFERENCE], full[6:]])
    if full.size == _REDUCED_SIZE:
        return exchanged
    remainder = 1.0 - _clip_hard(full[_F0] + full[_F3])
    constant = jnp.minimum(full[_F3], remainder)
    still = full[_F1] == 0.0
    f0 = jnp.where(still, remainder - constant, -full[_F0])
    return exchanged.at[_F0].set(f0).at[_F3].set(jnp.where(still, constant, 1.0 - full[_F3]))


def sample_lead(theta: ArrayLike, t: Scalar) -> Array:
    """ln of the sample's transport over the reference's at t (s), from two_component or static_both parameters.

    Its sign says which component is the faster one. Transports at or below zero count as the smallest number.
    """
    full = jnp.asarray(theta, jnp.float64)
    reference, sample = (
        jnp.log(jnp.maximum(full[k] * power(jnp.asarray(t), full[k + 1]) + full[k + 2], _SLOWEST))
        for k in (_REFERENCE.start, _SAMPLE.start)
    )
    return sample - reference
