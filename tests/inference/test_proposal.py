"""Proposals: draws and density belong together, and tails are heavier than a normal's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, multivariate_t, t

from hpcxpcs.answer.posterior import Modes
from hpcxpcs.inference.certificate import Proposal, proposal_at, proposal_from

COVARIANCE = np.array([[2.0, 0.6], [0.6, 0.5]])
MEAN = np.array([1.0, -3.0])


def two_components() -> Proposal:
    """A wide and a narrow component, well apart."""
    covariances = np.stack([COVARIANCE, 0.1 * np.eye(2)])
    means = np.stack([MEAN, MEAN + 8.0])
    return proposal_from(Modes(2, np.array([0.25, 0.75]), means, covariances, 50.0, ""))


def test_the_density_of_one_component_is_that_of_a_multivariate_t():
    x = np.random.default_rng(0).normal(0.0, 4.0, (50, 2))
    expected = multivariate_t(MEAN, COVARIANCE, df=7).logpdf(x)
    np.testing.assert_allclose(proposal_at(MEAN, COVARIANCE).log_density(x), expected)


@pytest.mark.parametrize("proposal", [proposal_at(MEAN, COVARIANCE), two_components()], ids=["one", "two"])
def test_draws_follow_the_density(proposal):
    x = proposal.sample(np.random.default_rng(1), 40000)
    broad = proposal_at(np.mean(proposal.means, axis=0), 30.0 * np.eye(2))
    weights = np.exp(broad.log_density(x) - proposal.log_density(x))
    assert np.mean(weights * (np.abs(x - MEAN).max(axis=1) < 1.0)) == pytest.approx(
        np.mean(np.abs(broad.sample(np.random.default_rng(2), 200000) - MEAN).max(axis=1) < 1.0), rel=0.08
    )


def test_every_marginal_of_the_draws_is_student_t():
    x = proposal_at(MEAN, COVARIANCE).sample(np.random.default_rng(3), 5000)
    assert kstest((x[:, 0] - 1.0) / np.sqrt(2.0), t(7).cdf).pvalue > 0.01


def test_components_get_their_share_of_draws():
    x = two_components().sample(np.random.default_rng(4), 20000)
    assert np.mean(x[:, 1] > 1.0) == pytest.approx(0.75, abs=0.02)


def test_given_one_parameter_then_density_and_draws_work():
    proposal = proposal_at(np.zeros(1), 4.0 * np.eye(1))
    assert proposal.sample(np.random.default_rng(0), 5).shape == (5, 1)
    np.testing.assert_allclose(proposal.log_density(np.array([[1.0]])), t(7, scale=2.0).logpdf(1.0))


def test_a_blend_is_the_mixture_of_both():
    one, other = proposal_at(MEAN, COVARIANCE), two_components()
    x = np.random.default_rng(5).normal(0.0, 4.0, (50, 2))
    expected = np.logaddexp(np.log(0.8) + one.log_density(x), np.log(0.2) + other.log_density(x))
    np.testing.assert_allclose(one.blended(other, 0.2).log_density(x), expected)


def test_given_the_same_seed_then_the_same_draws():
    one, again = (two_components().sample(np.random.default_rng(6), 100) for _ in range(2))
    assert np.array_equal(one, again)
