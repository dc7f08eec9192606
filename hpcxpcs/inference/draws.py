"""From whitened draws to physical ones: parameters, noise scale, contrast and offset; and to shared noise.

Draws under a likelihood with inverse information C are too narrow where the score's covariance J is larger than the
information: estimates scatter by the sandwich R = C J C (Huber 1967; White 1982). With C = W Wᵀ the linear map
A = W (W⁻¹ R W⁻ᵀ)^½ W⁻¹ turns the one into the other, A C Aᵀ = R, and draws moved by it about their mean cover as the
sandwich does (Ribatet, Cooley & Davison, Statist. Sinica 22, 813, 2012; Shaby, J. Comput. Graph. Stat. 23, 601, 2014).
It acts on the sampling coordinates and the coefficients of the scaling together, so that bounds are kept and contrast
and offset move along; C and R are those of the point fit. No direction becomes narrower than the likelihood has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.linalg import block_diag

from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.thresholds import SERIOUS_INFLATION
from hpcxpcs.arrays import Floats
from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.inference.noise import SEEN
from hpcxpcs.inference.target import Space, Target, parameters_at, physical_values

UNDETERMINED = 1e-10
"""Directions whose variance is smaller than this share of the largest, with unit variances, are fixed combinations."""

PRIOR_DRAWS = 4096
"""Evenly spaced quantiles from which a prior's standard deviation is computed."""


@dataclass(frozen=True)
class PhysicalDraws:
    """Draws z (n, d) and what they are: `values` (n, m) of the names, all parameters theta (n, p), and the scaling.

    The names are the free parameters, then the noise scale if it is sampled; contrast and offset are (n, n_phi),
    coefficients (n, k). `widening` (m,) says how many times each sd grew when draws were moved to the scatter that
    shared noise causes.
    """

    z: Floats
    values: Floats
    theta: Floats
    contrast: Floats
    offset: Floats
    coefficients: Floats
    widening: Floats


def names_of(space: Space) -> tuple[str, ...]:
    """The free parameters in canonical order, then noise_scale if it is sampled."""
    coordinates = space.support.coordinates
    names = [coordinates.model.parameter_names[index] for index in coordinates.free]
    return (*names, *(["noise_scale"] if space.samples_noise else []))


def physical_draws(space: Space, target: Target, z: Floats, seed: Sequence[int]) -> PhysicalDraws:
    """Describe draws z (n, d) of a target, with one draw of the scaling for each."""
    numbers = np.random.default_rng(seed).standard_normal((len(z), target.scaling.precision.size))
    found = physical_values(space, target, jnp.asarray(z), jnp.asarray(numbers))
    return _physical(space, target, z, *map(np.asarray, found))


def _physical(
    space: Space, target: Target, z: Floats, theta: Floats, scale: Floats, coefficients: Floats
) -> PhysicalDraws:
    """Draws z of all parameters (n, p), the noise scale (n,) and the scaling's coefficients (n, k) by name."""
    scaling = target.scaling
    coordinates = space.support.coordinates
    columns = [theta[:, list(coordinates.free)]]
    if space.samples_noise:
        columns.append(scale[:, None])
    design, base = np.asarray(scaling.design), np.asarray(scaling.base)
    levels = base + np.einsum("aik,nk->nai", design, coefficients)
    values, unmoved = np.concatenate(columns, axis=1), np.ones(len(names_of(space)))
    return PhysicalDraws(z, values, theta, levels[:, :, 0], levels[:, :, 1], coefficients, unmoved)


def widened(space: Space, target: Target, found: PhysicalDraws, point: PointFit) -> PhysicalDraws:
    """Draws of a target as wide as the robust errors of the point fit ask for."""
    if not _shares_noise(point):
        return found
    size = len(space.support.coordinates.free)
    origin, transform = np.asarray(target.origin), np.asarray(target.transform)
    x = origin + found.z @ transform.T
    joint = np.concatenate([x[:, :size], found.coefficients], axis=1)
    centre = joint.mean(axis=0)
    report = _reported(space, target, np.append(centre[:size], x[:, size:].mean(axis=0)))
    step = np.linalg.pinv(report) @ _widening(space, point) @ report
    moved = centre + (joint - centre) @ step.T
    x[:, :size] = moved[:, :size]
    z = (x - origin) @ np.linalg.inv(transform).T
    theta, scale = (np.asarray(each) for each in parameters_at(space, target, jnp.asarray(z)))
    wider = _physical(space, target, z, theta, scale, moved[:, size:])
    return replace(wider, widening=wider.values.std(axis=0) / found.values.std(axis=0))


def _shares_noise(point: PointFit) -> bool:
    """Whether robust errors of a point fit differ from its model-based ones by more than chance."""
    if point.robust_covariance is None:
        return False
    parts = point.noise
    if parts is not None:
        return parts.model == "speckle" or parts.errors_from != "speckle" or parts.seen >= SEEN
    ratio = np.diag(point.robust_covariance) / np.diag(point.covariance)
    return bool(np.any(ratio > SERIOUS_INFLATION**2))


def _reported(space: Space, target: Target, x: Floats) -> Floats:
    """Slopes of the free parameters, then contrast and offset of every angle, along (x without noise scale, k)."""
    free = jnp.asarray(space.support.coordinates.free, dtype=int)
    size = free.size

    def physics(own: Array) -> Array:
        return space.support.to_physical(own, target.softness)[0][free]

    slopes = np.asarray(jax.jacfwd(physics)(jnp.asarray(x[:size])))
    design = np.asarray(target.scaling.design)
    return np.asarray(block_diag(slopes, np.concatenate([design[:, 0], design[:, 1]])))


def _widening(space: Space, point: PointFit) -> Floats:
    """A over (free parameters, contrast, offset): 1 for those of which the point fit has no error."""
    coordinates, robust = space.support.coordinates, point.robust_covariance
    assert robust is not None
    names = [coordinates.model.parameter_names[index] for index in coordinates.free]
    names += [name for name in point.covariance_names if "[" in name]
    sd = np.sqrt(np.diag(point.covariance))
    usable = np.isfinite(sd) & (sd > 0.0) & np.isfinite(np.diag(robust))
    chosen = [k for k, name in enumerate(point.covariance_names) if usable[k] and name in names]
    places = [names.index(point.covariance_names[k]) for k in chosen]
    sd, pairs = sd[chosen], np.ix_(chosen, chosen)
    values, vectors = np.linalg.eigh(point.covariance[pairs] / np.outer(sd, sd))
    kept = values > UNDETERMINED * values[-1]
    root, back = vectors[:, kept] * np.sqrt(values[kept]), (vectors[:, kept] / np.sqrt(values[kept])).T
    ratio, directions = np.linalg.eigh(back @ (robust[pairs] / np.outer(sd, sd)) @ back.T)
    grown = (directions * (np.sqrt(np.maximum(ratio, 1.0)) - 1.0)) @ directions.T
    whole = np.eye(len(names))
    whole[np.ix_(places, places)] += sd[:, None] * (root @ grown @ back) / sd
    return whole


def prior_std(parameters: Sequence[ResolvedParameter], samples_noise: bool) -> Floats:
    """Standard deviations of the free parameters' priors; infinite for the scale-free noise scale."""
    shares = (np.arange(PRIOR_DRAWS) + 0.5) / PRIOR_DRAWS
    found = [float(np.std(p.prior.quantile(shares, p.lower, p.upper))) for p in parameters if p.fixed is None]
    return np.array([*found, *([np.inf] if samples_noise else [])])
