"""One contrast for all bins of a file: the global fit, bin by bin.

Given the contrast, bins do not know of each other. Its logarithm u is therefore found by Newton steps on the profile
χ², whose slope is g = Σ s·r and whose curvature is H = Σ s·(1 − J(JᵀJ)⁻¹Jᵀ)·s, with s the change of a bin's residuals
r with u and J that with its own coordinates (variable projection: Golub & Pereyra, SIAM J. Numer. Anal. 10:413, 1973).
What all others say of u is for one bin a normal distribution of precision H − H_b and mean u + g_b/(H − H_b): added to
the bin's own JᵀJ it gives the covariance of the joint fit, and as a prior it gives the chains of that bin the same
knowledge.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hpcxpcs.arrays import Flags
from hpcxpcs.g2.least_squares import Bins, Minimum, Prior, from_grid, from_point, misfit
from hpcxpcs.g2.models import Scale, Shape, physical

STEPS = 15
CLOSE = 0.01
"""Newton steps, and the standard deviations of u within which they end."""


def with_shared_contrast(
    shape: Shape, scale: Scale, tau: Array, bins: Bins, used: Flags, free: Minimum
) -> tuple[Minimum, Prior]:
    """The minimum of all bins under one contrast, in the coordinates of `shape`, and the prior of each bin's chains.

    `free` is the fit with a contrast for each bin, `used` (B,) are the bins that decide on the common one.
    """
    held, place = replace(shape, holds_contrast=True), shape.coordinates.index("contrast")
    others = np.delete(np.arange(len(shape.coordinates)), place)
    precision = 1.0 / np.asarray(jnp.linalg.inv(free.information))[used, place, place]
    u = float(np.average(np.asarray(free.x)[used, place], weights=np.clip(precision, 1e-6, None)))
    local = free.x[:, others]
    flat = Prior(jnp.zeros_like(local), jnp.full_like(local, jnp.inf))
    for step in range(STEPS):
        contrast = _contrast_at(shape, scale, u)
        at = scale._replace(contrast=jnp.full(len(local), contrast))
        found = from_grid(held, at, tau, bins) if step == 0 else from_point(held, at, tau, bins, flat, local)
        local = found.x
        x = jnp.insert(local, place, u, axis=1)
        slopes, own, information = (np.asarray(leaf) for leaf in _profile(shape, place, scale, tau, bins, x))
        g, h = float(slopes[used].sum()), float(own[used].sum())
        if abs(g) <= CLOSE * np.sqrt(h):
            break
        u -= float(np.clip(g / h, -1.0, 1.0))
    rest = np.maximum(h - np.where(used, own, 0.0), 1e-6 * h)
    information = information.copy()
    information[:, place, place] += rest
    mean, deviation = np.zeros(x.shape), np.ones(x.shape)
    precision = rest + 1.0  # the others, and the prior that every contrast has
    mean[:, place] = (rest * u + np.where(used, slopes, 0.0)) / precision
    deviation[:, place] = 1.0 / np.sqrt(precision)
    end = Minimum(x, found.chi_squared, jnp.asarray(information), found.converged)
    return end, Prior(jnp.asarray(mean), jnp.asarray(deviation))


def _contrast_at(shape: Shape, scale: Scale, u: float) -> Array:
    x = jnp.zeros(len(shape.coordinates)).at[shape.coordinates.index("contrast")].set(u)
    return physical(shape, scale, x)[shape.parameters.index("contrast")]


@partial(jax.jit, static_argnums=(0, 1))
def _profile(shape: Shape, place: int, scale: Scale, tau: Array, bins: Bins, x: Array) -> tuple[Array, Array, Array]:
    """g (B,), H (B,) and the whole JᵀJ (B, p, p) of each bin."""
    inner = jnp.asarray([k for k in range(x.shape[1]) if k != place], dtype=int)

    def of_one(one: Bins, x: Array) -> tuple[Array, Array, Array]:
        def residuals(x: Array) -> Array:
            return misfit(shape, scale, tau, one, x)

        r, jacobian = residuals(x), jax.jacfwd(residuals)(x)
        s, own = jacobian[:, place], jacobian[:, inner]
        square = own.T @ own
        square = square + 1e-12 * jnp.trace(square) * jnp.eye(len(inner))
        across = own.T @ s
        return s @ r, jnp.maximum(s @ s - across @ jnp.linalg.solve(square, across), 0.0), jacobian.T @ jacobian

    return jax.vmap(of_one)(bins, x)
