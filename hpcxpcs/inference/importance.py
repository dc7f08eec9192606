"""A posterior without chains: independent draws around the peaks, weighed with all data.

Draws come from normals with heavy tails at every known peak; mixtures fitted to the weighted draws follow, until the
weights are good enough or the tries are used up (see `hpcxpcs.inference.certificate`, which judges a consensus by the
same weights).
"""

from __future__ import annotations

import numpy as np

from hpcxpcs.answer.posterior import Certificate
from hpcxpcs.inference.certificate import Proposal, certify_proposal, log_posterior_of
from hpcxpcs.inference.peaks import log_masses, whitened
from hpcxpcs.inference.prepared import Prepared

SMALLEST_PART = 0.05
"""Share of the first draws that every peak gets at least: how much it holds is not known before it is weighed."""


def weighed_draws(prepared: Prepared, *, draws: int, limit: float | None, seed: int) -> Certificate:
    """Draws of the posterior of all data, in its whitened coordinates, with what says whether to trust them."""
    start, log_posterior = around_peaks(prepared), log_posterior_of(prepared)
    return certify_proposal(start, log_posterior, draws=draws, limit=limit, seed=seed, separate=True)


def around_peaks(prepared: Prepared) -> Proposal:
    """The normal approximations at all peaks, by the mass that each has there."""
    full, size = prepared.full, prepared.space.size
    parts = [(np.zeros(size), np.eye(size)), *(whitened(full, mode) for mode in prepared.peaks)]
    masses = log_masses(prepared.space, full, prepared.peaks)
    shares = np.maximum(np.exp(masses - masses.max()), SMALLEST_PART)
    factors = [np.linalg.cholesky(factor @ factor.T) for _, factor in parts]
    return Proposal(shares / shares.sum(), np.array([centre for centre, _ in parts]), np.array(factors))
