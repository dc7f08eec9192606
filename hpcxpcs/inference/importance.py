"""A posterior without chains: independent draws around the peaks, weighed with all data.

Draws come from normals with heavy tails at every known peak; mixtures fitted to the weighted draws follow, until the
weights are good enough or the tries are used up (see `hpcxpcs.inference.certificate`, which judges a consensus by the
same weights).
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from hpcxpcs.answer.posterior import Certificate
from hpcxpcs.inference.certificate import Proposal, certify_proposal, log_posterior_of
from hpcxpcs.inference.laplace import matched
from hpcxpcs.inference.peaks import log_masses, whitened
from hpcxpcs.inference.prepared import Prepared

SMALLEST_PART = 0.05
"""Share of the first draws that every peak gets at least: how much it holds is not known before it is weighed."""


def weighed_draws(prepared: Prepared, *, draws: int, limit: float | None, seed: int) -> Certificate:
    """Draws of the posterior of all data, in its whitened coordinates, with what says whether to trust them."""
    start, log_posterior = around_peaks(prepared), log_posterior_of(prepared)
    return certify_proposal(start, log_posterior, draws=draws, limit=limit, seed=seed, separate=True)


MOMENT_DRAWS = 4000
"""Draws that the moments of an anchor rest on: a standard deviation is then known to 1 or 2 %."""


def with_matched_anchor(prepared: Prepared, seed: int) -> Prepared:
    """Shards that know each other by the posterior's mean and covariance instead of its curvature at the peak.

    They stay as they are where the draws from which these moments come cannot be trusted.
    """
    picture = prepared.picture
    if picture is None or not prepared.anchored:
        return prepared
    found = weighed_draws(prepared, draws=MOMENT_DRAWS, limit=None, seed=seed)
    if found.word not in ("certified", "thin"):
        return prepared
    covariance = np.cov(found.draws, rowvar=False).reshape(2 * [prepared.space.size])
    moved = matched(prepared.space, prepared.full, picture, found.draws.mean(axis=0), covariance)
    shards = [
        replace(shard, precision=jnp.asarray(precision), shift=jnp.asarray(shift))
        for shard, (precision, shift) in zip(prepared.shards, moved.cavities, strict=True)
    ]
    return replace(prepared, picture=moved, shards=tuple(shards))


def around_peaks(prepared: Prepared) -> Proposal:
    """The normal approximations at all peaks, by the mass that each has there."""
    full, size = prepared.full, prepared.space.size
    parts = [(np.zeros(size), np.eye(size)), *(whitened(full, mode) for mode in prepared.peaks)]
    masses = log_masses(prepared.space, full, prepared.peaks)
    shares = np.maximum(np.exp(masses - masses.max()), SMALLEST_PART)
    factors = [np.linalg.cholesky(factor @ factor.T) for _, factor in parts]
    return Proposal(shares / shares.sum(), np.array([centre for centre, _ in parts]), np.array(factors))
