"""Least squares of all bins of a file as one compiled program.

Levenberg–Marquardt in the coordinates of `models` (Marquardt, J. SIAM 11:431, 1963): each step solves (JᵀJ + λ diag
JᵀJ) s = Jᵀr, is taken where χ² falls, and λ follows. Starts come from a grid over the decay's own coordinates, at each
of whose points contrast and baseline are linear least squares; the best STARTS of them are followed in all bins at
once. The covariance of the coordinates is (JᵀJ)⁻¹ at the best end.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.stats import norm

from hpcxpcs.g2.models import BASELINE, CONTRAST, EXPONENTS, Scale, Shape, curve, decay, physical

STARTS = 3
"""Starts that are followed in every bin: the best of a grid is enough for one decay; two may trade places."""

GRID_TAU = 24
"""Relaxation times of the grid: about three in each of eight decades, closer together than a decay is wide."""

GRID_EXPONENTS = (0.5, 1.0, 1.7)
GRID_RATIOS = (4.0, 30.0, 300.0)
GRID_SHARES = (0.3, 0.7)

MOST_STEPS = 100
"""Steps after which a bin counts as not converged; usual ones take 5 to 15, a double decay up to 60."""

SETTLED = 1e-9
"""Relative fall of χ² in a step that was taken, below which the minimum is reached."""

FARTHEST = 6.0
"""Coordinates are kept within so many prior deviations, where Φ still differs from 0 and 1 in double precision."""


class Bins(NamedTuple):
    """What is fitted, a bin per row: g2 (B, n), 0 where there is none, and its weights.

    Weights are 1/error (B, n), 0 where there is no value, or whitening matrices (B, n, n) where errors are correlated.
    """

    g2: Array
    weights: Array


class Prior(NamedTuple):
    """Mean and deviation (B, p) of the coordinates."""

    mean: Array
    deviation: Array


class Minimum(NamedTuple):
    """The end of every bin's best start: coordinates (B, p), χ² (B,), JᵀJ (B, p, p), whether it is a minimum (B,)."""

    x: Array
    chi_squared: Array
    information: Array
    converged: Array


def whitened(weights: Array, values: Array) -> Array:
    """Values (n,) in units of their errors, given weights (n,) or a whitening matrix (n, n)."""
    return weights * values if weights.ndim == 1 else weights @ values


def misfit(shape: Shape, scale: Scale, tau: Array, one: Bins, x: Array) -> Array:
    """Residuals (n,) of one bin in units of their errors."""
    return whitened(one.weights, one.g2 - curve(shape, scale, physical(shape, scale, x), tau))


@partial(jax.jit, static_argnums=0)
def from_grid(shape: Shape, scale: Scale, tau: Array, bins: Bins) -> Minimum:
    """The least squares of all bins; the fields of `scale` may have one entry per bin."""
    starts = jax.vmap(lambda own, one: _starts(shape, own, tau, one), in_axes=(_by_bin(scale), 0))(scale, bins)
    flat = Prior(jnp.zeros(starts.shape[::2]), jnp.full(starts.shape[::2], jnp.inf))
    return _best(shape, scale, tau, bins, flat, starts)


@partial(jax.jit, static_argnums=0)
def from_point(shape: Shape, scale: Scale, tau: Array, bins: Bins, prior: Prior, x: Array) -> Minimum:
    """The highest posterior density of all bins, from x (B, p); information and χ² are with the prior."""
    return _best(shape, scale, tau, bins, prior, x[:, None])


def _by_bin(scale: Scale) -> Scale:
    """Which fields of a scale have one entry per bin."""
    return Scale(*(0 if jnp.ndim(field) else None for field in scale))  # type: ignore[arg-type]


def _best(shape: Shape, scale: Scale, tau: Array, bins: Bins, prior: Prior, starts: Array) -> Minimum:
    def follow(own: Scale, one: Bins, prior: Prior, x: Array) -> Minimum:
        return _descend(shape, own, tau, one, prior, x)

    every = jax.vmap(jax.vmap(follow, in_axes=(None, None, None, 0)), in_axes=(_by_bin(scale), 0, 0, 0))
    ends = every(scale, bins, prior, starts)
    chosen = jnp.argmin(jnp.where(jnp.isfinite(ends.chi_squared), ends.chi_squared, jnp.inf), axis=1)
    return jax.tree.map(lambda leaf: jax.vmap(lambda rows, k: rows[k])(leaf, chosen), ends)


def _descend(shape: Shape, scale: Scale, tau: Array, one: Bins, prior: Prior, start: Array) -> Minimum:
    def residuals(x: Array) -> Array:
        return jnp.concatenate([misfit(shape, scale, tau, one, x), (x - prior.mean) / prior.deviation])

    def at(x: Array) -> tuple[Array, Array, Array]:
        """χ², JᵀJ and Jᵀr."""
        r, push = jax.linearize(residuals, x)
        jacobian = jax.vmap(push)(jnp.eye(x.size))
        return r @ r, jacobian @ jacobian.T, jacobian @ r

    def step(carry: Any) -> Any:
        x, cost, information, gradient, damping, count, done = carry
        diagonal = jnp.diag(information)
        damped = information + jnp.diag(damping * diagonal + 1e-12 * (1.0 + diagonal.max()))
        ahead = jnp.clip(x - solve_small(damped, gradient), -FARTHEST, FARTHEST)
        found = at(ahead)
        better = found[0] <= cost
        settled = better & (cost - found[0] <= SETTLED * (1.0 + cost))
        kept = [jnp.where(better, new, old) for new, old in zip((ahead, *found), carry[:4], strict=True)]
        damping = jnp.where(better, jnp.maximum(damping / 5.0, 1e-12), damping * 4.0)
        return (*kept, damping, count + 1, done | settled | (damping > 1e12))

    first = (start, *at(start), jnp.asarray(1e-3), jnp.asarray(0), jnp.asarray(False))
    end = jax.lax.while_loop(lambda carry: ~carry[-1] & (carry[-2] < MOST_STEPS), step, first)
    return Minimum(end[0], end[1], end[2], end[-1] & jnp.isfinite(end[1]))


def solve_small(matrix: Array, right: Array) -> Array:
    """Solution (p,) of a positive definite system by elimination written out: p is at most 6, and lanes are many."""
    size = right.shape[0]
    rows = [[matrix[i, j] for j in range(size)] for i in range(size)]
    b = [right[i] for i in range(size)]
    for k in range(size):
        for i in range(k + 1, size):
            factor = rows[i][k] / rows[k][k]
            rows[i] = [rows[i][j] - factor * rows[k][j] if j > k else rows[i][j] for j in range(size)]
            b[i] = b[i] - factor * b[k]
    for k in reversed(range(size)):
        for j in range(k + 1, size):
            b[k] = b[k] - rows[k][j] * b[j]
        b[k] = b[k] / rows[k][k]
    return jnp.stack(b)


def _options(shape: Shape) -> list[tuple[float, ...]]:
    """Values in (0, 1) of the decay's coordinates but the first, in units of their range; ratios are set later."""
    if shape.form == "single":
        return [()]
    if shape.form == "stretched":
        low, high = EXPONENTS
        return [((value - low) / (high - low),) for value in GRID_EXPONENTS]
    return list(product(GRID_RATIOS, GRID_SHARES))


def _starts(shape: Shape, scale: Scale, tau: Array, one: Bins) -> Array:
    """The best places (STARTS, p) of the grid for one bin."""
    span = scale.high - scale.low
    first = jnp.linspace(jnp.log(tau).min(), jnp.log(tau).max(), GRID_TAU)
    places = jnp.asarray((first - scale.low) / span)

    def tried(place: Array, option: tuple[float, ...]) -> tuple[Array, Array]:
        shares = [jnp.asarray(value) for value in option]
        if len(shares) == 2:
            shares[0] = jnp.clip(jnp.log(shares[0]) / span, 0.01, 0.99)
        inner = norm.ppf(jnp.stack([place, *shares]))
        return _linear(shape, scale, tau, one, inner)

    ends = [jax.vmap(partial(tried, option=option))(places) for option in _options(shape)]
    best = [(jnp.min(cost), x[jnp.argmin(cost)]) for cost, x in ends]
    costs, x = jnp.stack([cost for cost, _ in best]), jnp.stack([place for _, place in best])
    return x[jnp.argsort(costs)[: min(STARTS, len(best))]]


def _linear(shape: Shape, scale: Scale, tau: Array, one: Bins, inner: Array) -> tuple[Array, Array]:
    """χ² and coordinates (p,) at one place of the grid, with contrast and baseline by linear least squares."""
    blank = jnp.concatenate([inner, jnp.zeros(len(shape.coordinates) - len(inner))])
    named = dict(zip(shape.parameters, physical(shape, scale, blank), strict=True))
    weights = one.weights if one.weights.ndim == 1 else jnp.sqrt(jnp.sum(one.weights**2, axis=0))
    falling, level, y = weights * decay(shape, named, tau), weights, weights * one.g2
    aa, ab, bb = falling @ falling, falling @ level, level @ level
    if shape.baseline == "fixed" or shape.holds_contrast:
        base = (
            scale.baseline if shape.baseline == "fixed" else (level @ y - scale.contrast * ab) / jnp.maximum(bb, 1e-30)
        )
        contrast = scale.contrast if shape.holds_contrast else (falling @ y - base * ab) / jnp.maximum(aa, 1e-30)
    else:
        determinant = jnp.maximum(aa * bb - ab**2, 1e-12 * aa * bb + 1e-300)
        contrast = (bb * (falling @ y) - ab * (level @ y)) / determinant
        base = (aa * (level @ y) - ab * (falling @ y)) / determinant
    contrast = jnp.clip(contrast, 1e-3, 100.0)
    values = {
        "contrast": jnp.log(contrast / CONTRAST[0]) / CONTRAST[1],
        "baseline": jnp.clip((base - BASELINE[0]) / BASELINE[1], -5.0, 5.0),
        "drift": jnp.asarray(0.0),
    }
    rest = [values[name] for name in shape.coordinates[len(inner) :]]
    cost = jnp.sum((y - base * level - contrast * falling) ** 2)
    return cost, jnp.concatenate([inner, jnp.stack(rest)]) if rest else inner


def flat_chi_squared(shape: Shape, scale: Scale, bins: Bins) -> np.ndarray:
    """χ² (B,) of a level without decay: of the best one, or of the one that is held."""

    def of_one(one: Bins) -> Array:
        level, y = whitened(one.weights, jnp.ones_like(one.g2)), whitened(one.weights, one.g2)
        best = scale.baseline if shape.baseline == "fixed" else (level @ y) / jnp.maximum(level @ level, 1e-300)
        return jnp.sum((y - best * level) ** 2)

    return np.asarray(jax.jit(jax.vmap(of_one))(bins))
