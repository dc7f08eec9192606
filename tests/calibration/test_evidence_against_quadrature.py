"""The evidence of the whole program's likelihood against quadrature over the raw pairs of two free parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_ndtr, logsumexp

from hpcxpcs.inference.certificate import certify_proposal, log_posterior_of, proposal_from
from hpcxpcs.inference.diagnostics import find_modes
from hpcxpcs.inference.draws import physical_draws
from hpcxpcs.inference.evidence import log_constant
from hpcxpcs.inference.importance import weighed_draws
from hpcxpcs.inference.prepared import Prepared
from hpcxpcs.inference.target import products_at
from hpcxpcs.likelihood.gaussian import marginal_log_likelihood
from tests.calibration.posteriors import SEED, fitted
from tests.calibration.raw_posterior import RawPosterior
from tests.calibration.test_posterior_at_bounds import CASE, AtBound, density

pytestmark = pytest.mark.slow

POINTS = 161
PRIOR_POINTS = 2001
CLOSE = 0.005
"""Nats that the quadrature may be off by."""

CHECKED = 16
"""Draws at which compressed and raw likelihood are compared, as a run does."""


@dataclass(frozen=True)
class Negative(AtBound):
    """The same measurement with a constant part that may be below zero as far as the rate is not."""

    def mapping(self, file: str = "simulated.hdf", **sections: Any) -> dict[str, Any]:
        found = super().mapping(file, **sections)
        bounds = [one if one["name"] != "D_offset" else {**one, "min": -1e5} for one in self.bounds]
        return {**found, "parameter_space": {"bounds": bounds}}


CASES = {
    "at a bound": CASE,
    "cut where the rate would be negative": Negative("static", 3, 60, 0.02, "individual", fixed={"alpha": -0.4}),
}


def true_evidence(case: AtBound, centre: np.ndarray, sd: np.ndarray) -> float:
    """ln Z by quadrature: every raw pair, priors normalised between bounds and where no rate is negative."""
    reference = case.reference(None)
    low = np.maximum(centre - 8.0 * sd, [1e2, -1e5])
    if type(case) is AtBound:
        low = np.maximum(low, [1e2, 0.0])
    high = centre + 11.0 * sd
    axes = [low[k] + (high[k] - low[k]) * (np.arange(POINTS) + 0.5) / POINTS for k in range(2)]
    points = jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2))
    logs = np.asarray(jax.jit(lambda all_: jax.lax.map(lambda one: density(reference, one), all_))(points))
    cell = np.prod((high - low) / POINTS)
    mass = log_prior_mass(reference)
    return float(logsumexp(logs[~np.isnan(logs)])) + float(np.log(cell)) + constants_of(reference) - mass


def constants_of(reference: RawPosterior) -> float:
    """What its marginal likelihood leaves out: ln 2π of every pair, contrast and offset."""
    return (len(reference.phi) - 0.5 * reference.data.size) * float(np.log(2.0 * np.pi))


def compression_constant(reference: RawPosterior, prepared: Prepared, z: np.ndarray) -> float:
    """ln of the mean of exp(raw − compressed) log-likelihood at draws z."""
    full = prepared.full
    apart = []
    for theta in physical_draws(prepared.space, full, z, (SEED, 3)).theta:
        x = jnp.append(reference.coordinates(theta), 0.0)
        raw = float(reference.marginal(x) - reference.log_prior(x)) + constants_of(reference)
        packed = products_at(prepared.space, full, jnp.asarray(theta))
        apart.append(raw - float(marginal_log_likelihood(full.scaling, packed, full.sigma, full.pairs)))
    return float(logsumexp(apart) - np.log(len(apart)))


def log_prior_mass(reference: RawPosterior) -> float:
    """ln of the prior probability inside the bounds of sets whose rate is nowhere negative, on a fine grid."""
    (_, values, low, high), (_, own, lowest, highest) = reference.known.priors[0], reference.known.priors[2]
    places = (np.arange(PRIOR_POINTS) + 0.5) / PRIOR_POINTS
    ends = np.log([low, high])
    logs = ends[0] + (ends[1] - ends[0]) * places
    heights = -0.5 * ((logs - np.log(values["median"])) / values["sigma"]) ** 2
    weights = np.exp(heights) * (ends[1] - ends[0]) / PRIOR_POINTS / (values["sigma"] * np.sqrt(2.0 * np.pi))
    reach = min(float(reference.times[0]) ** -0.4, float(reference.times[-1]) ** -0.4)
    cut = np.clip(-np.exp(logs) * reach, lowest, highest)
    upper, lower = log_ndtr((highest - own["mu"]) / own["sigma"]), log_ndtr((cut - own["mu"]) / own["sigma"])
    return float(np.log(np.sum(weights * (np.exp(upper) - np.exp(lower)))))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_given_two_free_parameters_then_the_evidence_is_that_of_quadrature_over_raw_pairs(case):
    fit = fitted(case.data(), case.config())
    prepared = fit.prepared(1)
    found = weighed_draws(prepared, draws=4000, limit=None, seed=SEED)
    assert found.word == "certified"
    theta = physical_draws(prepared.space, prepared.full, found.draws, (SEED, 4)).values[:, :2]
    truth = true_evidence(case, theta.mean(axis=0), theta.std(axis=0))
    constant, error = log_constant(prepared, found.draws)
    constant += compression_constant(case.reference(None), prepared, found.draws[:: len(found.draws) // CHECKED])
    assert abs(found.log_integral + constant - truth) < 4.0 * np.hypot(found.log_integral_error, error) + CLOSE
    again = certify_proposal(proposal_from(find_modes(found.draws, seed=1)), log_posterior_of(prepared), seed=2)
    assert again.log_integral == pytest.approx(found.log_integral, abs=5.0 * found.log_integral_error + 0.02)
