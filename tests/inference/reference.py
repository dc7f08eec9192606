"""Least squares on raw pairs with SciPy, contrast and offset as explicit parameters: shares no code with the fit."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares

from tests.inference.fitting import Case


@dataclass(frozen=True)
class Reference:
    """Estimate and covariance over (free physics, contrast…, offset…), and χ² of noise 1σ."""

    values: np.ndarray
    covariance: np.ndarray
    chi_squared: float
    pairs: int


def pairs_of(case: Case) -> tuple[np.ndarray, ...]:
    """First and second time (s), angle index, data and given σ (NaN where none) of every usable pair."""
    measurement, found = case.measurement, []
    times = measurement.axis.all_times()
    for k in range(len(measurement.phi)):
        matrix = measurement.angles(k)
        i, j = np.triu_indices(len(times), 1)
        usable = matrix.frame_ok[i] & matrix.frame_ok[j]
        i, j = i[usable], j[usable]
        sigma = np.full(i.size, np.nan) if matrix.sigma is None else matrix.sigma[i, j]
        found.append((times[i], times[j], np.full(i.size, k), matrix.c2[i, j].astype(float), sigma))
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def reference_fit(
    case: Case, *, shared: bool = False, sigma: np.ndarray | float | None = None, bounded: bool = False
) -> Reference:
    """Levenberg-Marquardt (or bounded trust region) from the truth; sigma one number, per angle, or the data's own.

    `shared` fits one contrast and one offset for all angles.
    """
    t1, t2, angle, data, own = pairs_of(case)
    noise = own if sigma is None else np.broadcast_to(sigma, len(case.measurement.phi))[angle]
    phi = case.measurement.phi[angle]
    free = list(case.coordinates.free)
    fixed = case.truth.copy()
    for k, value in case.coordinates.fixed:
        fixed[k] = value
    levels = 1 if shared else len(case.measurement.phi)
    which = np.zeros_like(angle) if shared else angle
    scale = np.concatenate([np.maximum(np.abs(case.truth[free]), 1e-3), np.ones(2 * levels)])

    def residual(z: jax.Array) -> jax.Array:
        x = z * scale
        theta = jnp.asarray(fixed).at[jnp.asarray(free)].set(x[: len(free)])
        contrast, offset = x[len(free) : len(free) + levels], x[len(free) + levels :]
        return (offset[which] + contrast[which] * case.model.shape(theta, t1, t2, phi) - data) / noise

    run, slope = jax.jit(residual), jax.jit(jax.jacfwd(residual))
    lower, upper = np.full(scale.size, -np.inf), np.full(scale.size, np.inf)
    start = np.concatenate([case.truth[free], np.full(levels, 0.5), np.ones(levels)]) / scale
    if bounded:
        lower[: len(free)], upper[: len(free)] = case.limits.lower[free], case.limits.upper[free]
        lower, upper = lower / scale, upper / scale
        start = np.clip(start, lower + 1e-9, upper - 1e-9)
    found = least_squares(
        lambda z: np.asarray(run(jnp.asarray(z))),
        start,
        jac=lambda z: np.asarray(slope(jnp.asarray(z))),
        method="trf",
        bounds=(lower, upper),
        xtol=1e-13,
        ftol=1e-14,
        gtol=1e-11,
        max_nfev=300,
    )
    covariance = np.linalg.inv(found.jac.T @ found.jac) * np.outer(scale, scale)
    return Reference(found.x * scale, covariance, 2.0 * float(found.cost), data.size)
