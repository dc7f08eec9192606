"""From whitened draws to physical ones: parameters, noise scale, contrast and offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.inference.target import Space, Target, described
from hpcxpcs.likelihood.interpolation import Floats

PRIOR_DRAWS = 4096
"""Evenly spaced quantiles from which a prior's standard deviation is computed."""


@dataclass(frozen=True)
class Physical:
    """Draws in physical values: `values` (n, m) of the names, all parameters theta (n, p), and the scaling.

    The names are the free parameters, then the noise scale if it is sampled; contrast and offset are (n, n_phi),
    coefficients (n, k).
    """

    values: Floats
    theta: Floats
    contrast: Floats
    offset: Floats
    coefficients: Floats


def names_of(space: Space) -> tuple[str, ...]:
    """The free parameters in canonical order, then noise_scale if it is sampled."""
    coordinates = space.support.coordinates
    names = [coordinates.model.parameter_names[index] for index in coordinates.free]
    return (*names, *(["noise_scale"] if space.samples_noise else []))


def physical_draws(space: Space, target: Target, z: Floats, seed: Sequence[int]) -> Physical:
    """Describe draws z (n, d) of a target, with one draw of the scaling for each."""
    scaling = target.scaling
    numbers = np.random.default_rng(seed).standard_normal((len(z), scaling.precision.size))
    theta, scale, coefficients = described(space, target, jnp.asarray(z), jnp.asarray(numbers))
    coordinates = space.support.coordinates
    parameters = np.asarray(theta)
    columns = [parameters[:, list(coordinates.free)]]
    if space.samples_noise:
        columns.append(np.asarray(scale)[:, None])
    design, base = np.asarray(scaling.design), np.asarray(scaling.base)
    levels = base + np.einsum("aik,nk->nai", design, np.asarray(coefficients))
    return Physical(
        np.concatenate(columns, axis=1),
        parameters,
        levels[:, :, 0],
        levels[:, :, 1],
        np.asarray(coefficients),
    )


def prior_std(parameters: Sequence[ResolvedParameter], samples_noise: bool) -> Floats:
    """Standard deviations of the free parameters' priors; infinite for the scale-free noise scale."""
    shares = (np.arange(PRIOR_DRAWS) + 0.5) / PRIOR_DRAWS
    found = [float(np.std(p.prior.quantile(shares, p.lower, p.upper))) for p in parameters if p.fixed is None]
    return np.array([*found, *([np.inf] if samples_noise else [])])
