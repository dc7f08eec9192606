"""The evidence against what is known: normal models, priors alone, and directions that come back after a turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from hpcxpcs.inference.certificate import certify_proposal, proposal_at
from hpcxpcs.inference.evidence import log_constant
from hpcxpcs.inference.prepared import Prepared
from hpcxpcs.inference.psis import smooth
from hpcxpcs.inference.target import PriorTerm, log_densities
from tests.inference.fitting import simulated
from tests.inference.posteriors import Posed, posed

TOLERANCE = 4.0
"""Standard errors between an estimate and the truth."""


def test_given_a_linear_model_with_normal_noise_and_prior_then_its_known_evidence_is_found():
    rng = np.random.default_rng(2)
    design, prior, sigma = rng.standard_normal((40, 3)), np.diag([0.5, 1.0, 4.0]), 0.3
    data = design @ rng.multivariate_normal(np.zeros(3), prior) + sigma * rng.standard_normal(40)
    truth = stats.multivariate_normal(np.zeros(40), sigma**2 * np.eye(40) + design @ prior @ design.T).logpdf(data)

    def log_posterior(x: np.ndarray) -> np.ndarray:
        fit = stats.norm(0.0, sigma).logpdf(data - x @ design.T).sum(axis=1)
        return fit + stats.multivariate_normal(np.zeros(3), prior).logpdf(x)

    precision = np.linalg.inv(prior) + design.T @ design / sigma**2
    mean = np.linalg.solve(precision, design.T @ data / sigma**2)
    found = certify_proposal(proposal_at(mean + 0.02, np.linalg.inv(precision)), log_posterior, seed=1)
    assert found.word == "certified" and found.log_integral_error < 0.03
    assert abs(found.log_integral - truth) < TOLERANCE * found.log_integral_error


def test_the_error_of_the_evidence_is_its_scatter_over_seeds():
    def log_posterior(x: np.ndarray) -> np.ndarray:
        return np.asarray(stats.norm.logpdf(x[:, 0]))

    start = proposal_at(np.full(1, 0.4), 1.5 * np.eye(1))
    found = [certify_proposal(start, log_posterior, draws=600, seed=seed) for seed in range(40)]
    values = np.array([one.log_integral for one in found])
    errors = np.array([one.log_integral_error for one in found])
    assert np.sqrt(np.mean(values**2)) == pytest.approx(errors.mean(), rel=0.35)


def test_given_log_ratios_then_their_mean_is_the_logarithm_of_the_integral():
    found = smooth(np.full(100, -3.0))
    assert found.log_mean == pytest.approx(-3.0) and found.log_mean_error == 0.0


def alone(problem: Posed) -> Prepared:
    """A problem as the whole likelihood of one shard."""
    one = np.ones(1)
    return Prepared(problem.space, problem.full, problem.full, (problem.full,), None, False, one, (), 0, 0.0)


def without_data(**bounds: dict[str, Any]) -> Prepared:
    """The prior of a rate alone, its exponent known: bounds and priors by name of the parameter."""
    told = [{"name": name, **entry} for name, entry in bounds.items()]
    truth = {"D0": 1e4, "alpha": -0.3, "D_offset": 500.0}
    held = {"alpha": -0.3}
    case = simulated("static", frames=30, angles=1, parameters=truth, fixed=held).told(fixed=held, bounds=told)
    problem = posed(case, "constant", samples_noise=False)
    nothing = jax.tree_util.tree_map(jnp.zeros_like, problem.full.arrays)
    wide = jnp.asarray(np.eye(problem.space.size))
    return alone(replace(problem, full=replace(problem.full, arrays=nothing, pairs=jnp.zeros(1), transform=wide)))


NORMAL = {"type": "truncated_normal", "mu": 0.0, "sigma": 4e3}
PRIORS = {
    "uniform": {"type": "uniform"},
    "normal, cut on both sides": {"type": "truncated_normal", "mu": 9e3, "sigma": 5e3},
    "lognormal": {"type": "lognormal", "median": 8e3, "sigma": 0.7},
    "half normal": {"type": "half_normal", "sigma": 1e4},
    "exponential": {"type": "exponential", "rate": 1e-4},
    "beta": {"type": "beta_scaled", "a": 2.0, "b": 3.0},
}


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_given_no_data_then_the_evidence_is_that_of_a_normalised_prior_whatever_bounds_and_rates_cut_off(prior):
    prepared = without_data(
        D0={"min": 2e3, "max": 3e4, "prior": prior}, D_offset={"min": -8e3, "max": 1e4, "prior": NORMAL}
    )
    value, error = integral(prepared)
    constant, _ = log_constant(prepared, np.zeros((10, 2)))
    assert abs(value + constant) < TOLERANCE * error + 0.005


def integral(prepared: Prepared) -> tuple[float, float]:
    """ln ∫ exp(log density) dz and its error, from many draws of a wide proposal."""
    rng, count = np.random.default_rng(0), 60_000
    z = 6.0 * rng.standard_t(3.0, (count, 2))
    log_q = stats.t(3.0, scale=6.0).logpdf(z).sum(axis=1)
    ratios = np.exp(np.asarray(log_densities(prepared.space, prepared.full, jnp.asarray(z))) - log_q)
    return float(np.log(ratios.mean())), float(ratios.std() / ratios.mean() / np.sqrt(count))


@pytest.mark.parametrize(
    ("lower", "upper", "phi0", "copies"),
    [(-135.0, 135.0, -4.0, 1.0), (-135.0, 135.0, -80.0, 2.0), (-10.0, 10.0, 2.0, 1.0), (-360.0, 360.0, 10.0, 4.0)],
)
def test_given_a_direction_that_comes_back_inside_its_bounds_then_every_copy_of_it_counts(lower, upper, phi0, copies):
    prepared = alone(posed(simulated("laminar_flow")))
    place = prepared.space.support.coordinates.model.parameter_names.index("phi0")
    terms = tuple(term for term in prepared.space.prior.terms if term.index != place)
    with_bounds = (*terms, PriorTerm(place, "uniform", {}, lower, upper))
    space = replace(prepared.space, prior=replace(prepared.space.prior, terms=with_bounds))
    support = replace(
        space.support,
        lower=tuple(lower if k == place else end for k, end in enumerate(space.support.lower)),
        upper=tuple(upper if k == place else end for k, end in enumerate(space.support.upper)),
    )
    origin = np.asarray(prepared.full.origin).copy()
    origin[prepared.space.support.coordinates.free.index(place)] = phi0
    full = replace(prepared.full, origin=jnp.asarray(origin))
    there = replace(prepared, space=replace(space, support=support), full=full)
    z = 0.1 * np.random.default_rng(0).standard_normal((50, space.size))
    alone_there = replace(there, space=replace(there.space, prior=replace(space.prior, terms=terms)))
    difference = log_constant(there, z)[0] - log_constant(alone_there, z)[0]
    assert difference == pytest.approx(np.log(copies) - np.log(upper - lower), abs=1e-6)
