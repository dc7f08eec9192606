"""The posterior's mode and curvature: where sampling starts, how it is whitened, and what shards tell each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from hpcxpcs.arrays import Floats
from hpcxpcs.errors import PosteriorError
from hpcxpcs.inference.target import Space, Target, joint_gradients, products_at, with_gradient
from hpcxpcs.likelihood.gaussian import profiled

STEP = 1.0e-3
"""Step of the central differences of gradients, in standard deviations."""

FLATTEST = 1.0e-8
"""Smallest curvature kept in whitening, relative to the largest after scaling to unit diagonal."""

SMALLEST_CAVITY = 0.05
"""A cavity keeps at least this share of the anchor's curvature in every direction."""


@dataclass(frozen=True)
class Mode:
    """Where the log density peaks: x (d,), its curvature −∂²log p (d, d), and a matrix that whitens it."""

    x: Floats
    curvature: Floats
    transform: Floats


def curvature_of(gradients: Callable[[Floats], Floats], centre: Floats, steps: Floats) -> Floats:
    """−∂²/∂v² (n, n) at a centre (n,) from central differences of gradients((m, n)) over steps (n,)."""
    shifts = np.diag(STEP * steps)
    above, below = gradients(centre + shifts), gradients(centre - shifts)
    curvature = (below - above) / (2.0 * STEP * steps[:, None])
    return 0.5 * (curvature + curvature.T)


def find_mode(space: Space, target: Target) -> Mode:
    """Climb from the target's origin to the nearest peak; steps are measured in the target's whitened coordinates."""

    def at(z: Floats) -> tuple[Floats, Floats]:
        values, gradients = with_gradient(space, target, jnp.asarray(np.atleast_2d(z)))
        return -np.asarray(values), -np.asarray(gradients)

    def cost(z: Floats) -> tuple[float, Floats]:
        value, gradient = at(z)
        usable = np.isfinite(value[0]) and np.all(np.isfinite(gradient[0]))
        return (float(value[0]), gradient[0]) if usable else (1e300, np.zeros(z.size))

    found = minimize(cost, np.zeros(space.size), jac=True, method="BFGS", options={"gtol": 1e-4, "maxiter": 200})
    rough = curvature_of(lambda z: -at(z)[1], found.x, np.ones(space.size))
    if not np.all(np.isfinite(rough)):
        raise PosteriorError(
            "the posterior has no peak near the point fit: climbing from there led to where its curvature is no "
            "number. Look at the point fit first (--method nlsq): fix what it does not determine, or give bounds or "
            "priors"
        )
    peak = found.x - whitening_of(rough) @ whitening_of(rough).T @ cost(found.x)[1]
    best = peak if cost(peak)[0] <= found.fun else found.x
    transform = np.asarray(target.transform)
    back = np.linalg.inv(transform)
    curvature = back.T @ curvature_of(lambda z: -at(z)[1], best, np.ones(space.size)) @ back
    return Mode(np.asarray(target.origin) + transform @ best, curvature, whitening_of(curvature))


def whitening_of(curvature: Floats) -> Floats:
    """Matrix W (d, d) with Wᵀ C W = 1, flat or upward directions floored."""
    scale = 1.0 / np.sqrt(np.clip(np.abs(np.diag(curvature)), 1e-300, None))
    values, vectors = np.linalg.eigh(curvature * np.outer(scale, scale))
    return scale[:, None] * vectors / np.sqrt(np.maximum(values, FLATTEST * max(values[-1], 1e-300)))


@dataclass(frozen=True)
class Anchor:
    """Gaussian picture of the full posterior around x (d,) and coefficients (k,), and each shard's part in it.

    `mean` and `covariance` are of the whitened coordinates z (d,); `cavities` are (Λ, b) per shard as Target takes
    them; `estimates` (K, d) and `covariances` (K, d, d), also in z, are what each shard alone says (one Newton step,
    or its own mode after `climbed`), whatever its weight in the full posterior. `matched` are mean and covariance that
    are the posterior's own, not from its curvature at the peak.
    """

    mean: Floats
    covariance: Floats
    cavities: tuple[tuple[Floats, Floats], ...]
    estimates: Floats
    covariances: Floats
    matched: bool = False


def _joint_expansion(space: Space, target: Target, centre: Floats, steps: Floats) -> tuple[Floats, Floats]:
    """Gradient and −∂² of the joint log density at a centre (d + k,)."""

    def gradients(w: Floats) -> Floats:
        return np.asarray(joint_gradients(space, target, jnp.asarray(w)))

    return gradients(centre[None])[0], curvature_of(gradients, centre, steps)


def _joint_centre(space: Space, full: Target) -> tuple[Floats, Floats]:
    """The full target's origin with the coefficients there (d + k,), and steps for derivatives around them."""
    x = full.origin
    theta, scale, _ = space.parameters(x, full.softness)
    solution = profiled(full.scaling, products_at(space, full, theta), full.sigma * scale).solution
    spread = np.abs(np.asarray(full.transform)).max(axis=1)
    known = 1.0 / np.sqrt(np.clip(np.diag(np.asarray(solution.information)), 1e-300, None))
    return np.concatenate([np.asarray(x), np.asarray(solution.coefficients)]), np.concatenate([spread, known])


def anchor(space: Space, full: Target, shards: Sequence[Target], weights: Floats | None = None) -> Anchor:
    """Expand full posterior and shard likelihoods at the full target's origin (its mode).

    The full posterior holds the likelihood of shard k to the power `weights`[k]; the shards hold it as it is.
    """
    powers = np.ones(len(shards)) if weights is None else weights
    centre, steps = _joint_centre(space, full)
    slope, curvature = _joint_expansion(space, full, centre, steps)
    own = [_joint_expansion(space, replace(t, tempering=jnp.zeros(())), centre, steps) for t in shards]
    cavities, estimates, covariances = [], [], []
    offset = np.concatenate([np.zeros(space.size), centre[space.size :]])
    for weight, (its_slope, its_curvature) in zip(powers, own, strict=True):
        precision = _kept(curvature - weight * its_curvature, curvature)
        cavities.append((precision, slope - weight * its_slope + precision @ offset))
        estimate, covariance = _alone(its_slope, its_curvature, curvature, space.size)
        estimates.append(estimate)
        covariances.append(covariance)
    mean, covariance = _alone(slope, curvature, curvature, space.size)
    inverse = np.linalg.inv(np.asarray(full.transform))
    return Anchor(
        inverse @ mean,
        inverse @ covariance @ inverse.T,
        tuple(cavities),
        np.array(estimates) @ inverse.T,
        inverse @ np.array(covariances) @ inverse.T,
    )


def matched(space: Space, full: Target, found: Anchor, mean: Floats, covariance: Floats) -> Anchor:
    """The picture moved and stretched so that the full posterior has this mean (d,) and covariance (d, d) in z.

    Of a skewed posterior the curvature at the peak gives another width than draws have, and shards that know each other
    by it end as far off. w → A w + c with A = L L₀⁻¹ (L, L₀ the Cholesky factors of the covariance wanted and of that
    at the peak) makes the one normal of the other; coefficients follow by their conditional mean, l → l + B (Δx). A
    product of normals stays that product when all are moved alike, so every cavity is still the whole without its
    shard: −½ wᵀΛw + bᵀw becomes Λ' = A⁻ᵀΛA⁻¹, b' = A⁻ᵀ(b + ΛA⁻¹c). This is the moment matching of expectation
    propagation (Minka, UAI 2001), done once and for the whole.
    """
    size, transform = space.size, np.asarray(full.transform)
    centre, steps = _joint_centre(space, full)
    _, curvature = _joint_expansion(space, full, centre, steps)
    along = -np.linalg.solve(curvature[size:, size:], curvature[size:, :size])
    stretch = np.linalg.cholesky(covariance) @ np.linalg.inv(np.linalg.cholesky(found.covariance))
    on_x = transform @ stretch @ np.linalg.inv(transform)
    move_x = transform @ (mean - stretch @ found.mean)
    joint = np.eye(centre.size)
    joint[:size, :size] = on_x
    joint[size:, :size] = along @ (on_x - np.eye(size))
    move = np.concatenate([move_x, along @ move_x])
    back = np.linalg.inv(joint)
    cavities = []
    for precision, shift in found.cavities:
        moved = back.T @ precision @ back
        cavities.append((0.5 * (moved + moved.T), back.T @ (shift + precision @ back @ move)))
    return replace(found, mean=mean, covariance=covariance, cavities=tuple(cavities), matched=True)


def climbed(space: Space, full: Target, shards: Sequence[Target], found: Anchor) -> Anchor:
    """The picture with what each shard says at its own mode, under its share of the prior.

    One Newton step is right for shards that agree. From the mode of shards that do not it can end anywhere: what they
    disagree about has widened the noise that each of them is expanded with.
    """
    share, back = jnp.asarray(1.0 / len(shards)), np.linalg.inv(np.asarray(full.transform))
    modes = [find_mode(space, replace(shard, tempering=share)) for shard in shards]
    axes = [back @ mode.transform for mode in modes]
    return replace(
        found,
        estimates=np.array([back @ (mode.x - np.asarray(full.origin)) for mode in modes]),
        covariances=np.array([each @ each.T for each in axes]),
    )


def _kept(precision: Floats, whole: Floats) -> Floats:
    """The nearest cavity that keeps some of the anchor's curvature in every direction."""
    transform = whitening_of(whole)
    values, vectors = np.linalg.eigh(transform.T @ precision @ transform)
    if values[0] >= SMALLEST_CAVITY:
        return precision
    back = np.linalg.inv(transform)
    lifted = (vectors * np.maximum(values, SMALLEST_CAVITY)) @ vectors.T
    return back.T @ lifted @ back


def _alone(slope: Floats, curvature: Floats, whole: Floats, size: int) -> tuple[Floats, Floats]:
    """Newton step and covariance of the first `size` coordinates with the others profiled out.

    Where there is next to no curvature, compared with the whole, there is no step and a very wide covariance.
    """
    transform = whitening_of(whole)
    values, vectors = np.linalg.eigh(transform.T @ curvature @ transform)
    axes = (transform @ vectors)[:size]
    step = np.where(values > FLATTEST, 1.0 / np.maximum(values, FLATTEST), 0.0)
    covariance = (axes / np.maximum(values, FLATTEST)) @ axes.T
    return axes @ (step * ((transform @ vectors).T @ slope)), covariance
