"""Shapes of multi-tau g2 = baseline + contrast·f(τ), and how relaxation times depend on q."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from hpcxpcs.physics.rates import Scalar, power


def single(tau: ArrayLike, tau_c: ArrayLike) -> Array:
    """exp(−2τ/τc); τ and τc in s, broadcast."""
    return jnp.exp(-2.0 * jnp.asarray(tau, jnp.float64) / tau_c)


def stretched(tau: ArrayLike, tau_c: ArrayLike, b: ArrayLike) -> Array:
    """exp(−2(τ/τc)^b); τ and τc in s; b < 1 stretches the decay, b > 1 compresses it."""
    return jnp.exp(-2.0 * power(jnp.asarray(tau, jnp.float64) / tau_c, b))


def double(tau: ArrayLike, tau_fast: ArrayLike, tau_slow: ArrayLike, fraction: Scalar) -> Array:
    """fraction·exp(−2τ/τ_fast) + (1 − fraction)·exp(−2τ/τ_slow), times in s; see ordered_times."""
    return fraction * single(tau, tau_fast) + (1.0 - fraction) * single(tau, tau_slow)


def ordered_times(tau_a: ArrayLike, tau_b: ArrayLike, fraction: ArrayLike) -> tuple[Array, Array, Array]:
    """(τ_fast, τ_slow, fraction of the fast) of two relaxations in any order; fraction belongs to tau_a.

    Swapping the two is an exact symmetry of double, so that fits are bimodal unless they are ordered.
    """
    first, second = jnp.asarray(tau_a, jnp.float64), jnp.asarray(tau_b, jnp.float64)
    share = jnp.where(first <= second, fraction, 1.0 - jnp.asarray(fraction, jnp.float64))
    return jnp.minimum(first, second), jnp.maximum(first, second), share


def power_law(q: ArrayLike, tau0: Scalar, n: ArrayLike) -> Array:
    """Relaxation time τ(q) = τ0·q^(−n) in s, q in Å⁻¹ (n = 2 for diffusion, 1 for ballistic motion)."""
    return tau0 * power(q, -jnp.asarray(n, jnp.float64))
