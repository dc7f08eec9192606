"""Two scattering components, a reference and a sample that moves relative to it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from hpcxpcs.physics.rates import Scalar, TimeGrid, power, rate_integral

CONVENTIONS = ("physical", "heterodyne-2")

# Reduced modes vary the transports only; these are the other eight parameters of the full model, in its order
# (v0, beta, v_offset, f0, f1, f2, f3, phi0): no motion, equal and constant amplitudes.
REDUCED_CONSTANTS = (0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0)

_REFERENCE, _SAMPLE = slice(0, 3), slice(3, 6)
_F0, _F1, _F3 = 9, 10, 12
_REDUCED_SIZE = 6
# Beyond this any f0 of note is clipped to 1 anyway; second derivatives by an f0 of 0 stay finite below it.
_LARGEST_EXPONENT = 100.0
_GATE_SHARPNESS = 50.0
_PUBLISHED_SHORTEST_TIME = 1e-10


def _clip_hard(x: Array) -> Array:
    """Clip to [0, 1], keeping the inner derivative at the two ends (a fraction may start at a bound)."""
    return jnp.where(x < 0.0, 0.0, jnp.where(x > 1.0, 1.0, x))


def _clip_soft(x: Array) -> Array:
    """The published clip: two softplus gates; biased by ln 2 / 50 at both ends."""
    lower = jax.nn.softplus(_GATE_SHARPNESS * x) / _GATE_SHARPNESS
    return 1.0 - jax.nn.softplus(_GATE_SHARPNESS * (1.0 - lower)) / _GATE_SHARPNESS


def sample_fraction(
    t: ArrayLike, f0: Scalar, f1: Scalar, f2: Scalar, f3: Scalar, *, convention: str
) -> Array:
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


def sampled_rate(
    grid: TimeGrid, amplitude: Scalar, exponent: Scalar, offset: Scalar, *, floored: bool
) -> Array:
    """Rate on the frame grid (count,) as the published package samples it, for the trapezoid integrator.

    The power law counts as 0 at t = 0 whatever its exponent; with floored, the rate is kept at or above 0.
    """
    times = grid.times()
    law = jnp.where(times == 0.0, 0.0, power(jnp.maximum(times, _PUBLISHED_SHORTEST_TIME), exponent))
    values = amplitude * law + offset
    return jnp.where(values > 0.0, values, 0.0) if floored else values


def _transported(theta: Array, component: slice, start: ArrayLike, end: ArrayLike) -> Array:
    amplitude, exponent, offset = theta[component]
    return rate_integral(end, amplitude, exponent, offset) - rate_integral(start, amplitude, exponent, offset)


def swapped(theta: ArrayLike) -> Array:
    """Exchange the components of two_component (14,) or static_both (6,) parameters with a constant fraction.

    The two transports trade places and the fraction x = f0 + f3 (f1 = 0) becomes 1 − x. Only the sum is
    identified: f3 is kept as far as the new sum allows. Exact for 0 <= x <= 1.
    """
    full = jnp.asarray(theta, jnp.float64)
    exchanged = jnp.concatenate([full[_SAMPLE], full[_REFERENCE], full[6:]])
    if full.size == _REDUCED_SIZE:
        return exchanged
    remainder = 1.0 - _clip_hard(full[_F0] + full[_F3])
    constant = jnp.minimum(full[_F3], remainder)
    return exchanged.at[_F0].set(remainder - constant).at[_F3].set(constant)


def ordered(theta: ArrayLike, start: ArrayLike, end: ArrayLike) -> Array:
    """Name the components of two_component (14,) or static_both (6,) so that the sample is the faster one.

    Swapping the components is an exact symmetry when the fraction is constant (f1 = 0), which makes
    posteriors bimodal. The faster component has the larger integral of J from start to end (seconds).
    Parameters with a varying fraction are returned as they are.
    """
    full = jnp.asarray(theta, jnp.float64)
    reference_faster = _transported(full, _REFERENCE, start, end) > _transported(full, _SAMPLE, start, end)
    constant_fraction = full.size == _REDUCED_SIZE or full[_F1] == 0.0
    return jnp.where(constant_fraction & reference_faster, swapped(full), full)
