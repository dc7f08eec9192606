"""Proposals fitted to weighted draws: they must follow what a single normal cannot."""

from __future__ import annotations

import numpy as np
import pytest

from hpcxpcs.inference.certificate import certify, fit_mixture
from tests.inference.gaussians import combined_of

BEND = 0.6


def bent(x: np.ndarray) -> np.ndarray:
    """Log-density of a normal in six dimensions whose second coordinate bends along the first."""
    straight = x.copy()
    straight[:, 1] -= BEND * (x[:, 0] ** 2 - 1.0)
    return -0.5 * np.sum(straight**2, axis=1)


def bent_draws(count: int) -> np.ndarray:
    """Independent draws of it."""
    draws = np.random.default_rng(0).standard_normal((count, 6))
    draws[:, 1] += BEND * (draws[:, 0] ** 2 - 1.0)
    return draws


def fitted(draws: np.ndarray, weights: np.ndarray, ess: float):
    mean = weights @ draws
    covariance = (weights * (draws - mean).T) @ (draws - mean)
    return fit_mixture(draws, weights, mean, covariance, ess=ess, seed=1)


def test_given_normal_draws_then_one_component_describes_them():
    draws = np.random.default_rng(0).standard_normal((3000, 4))
    found = fitted(draws, np.full(3000, 1.0 / 3000), 3000.0)
    assert found.weights.size == 1
    np.testing.assert_allclose(found.means[0], draws.mean(axis=0), atol=0.1)


def test_given_bent_draws_then_several_components_follow_the_bend():
    draws = bent_draws(4000)
    found = fitted(draws, np.full(4000, 1.0 / 4000), 4000.0)
    assert found.weights.size > 1
    own = found.sample(np.random.default_rng(2), 20000)
    assert np.corrcoef(own[:, 0] ** 2, own[:, 1])[0, 1] > 0.2


def test_given_weights_then_the_weighted_posterior_is_fitted_and_not_the_draws():
    draws = 3.0 * np.random.default_rng(0).standard_normal((8000, 2))
    logs = -0.5 * np.sum((draws - 1.0) ** 2, axis=1) + np.sum(draws**2, axis=1) / 18.0
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    found = fitted(draws, weights, 1.0 / float(np.sum(weights**2)))
    mean = found.weights @ found.means
    np.testing.assert_allclose(mean, 1.0, atol=0.15)


def test_given_few_effective_draws_then_a_fit_is_still_a_proper_density():
    draws = np.random.default_rng(0).standard_normal((500, 6))
    weights = np.zeros(500)
    weights[:14] = 1.0 / 14.0
    found = fitted(draws, weights, 14.0)
    assert np.all(np.isfinite(found.log_density(draws)))
    assert np.all(np.linalg.eigvalsh(found.factors @ found.factors.swapaxes(1, 2)) > 0.01)


def test_the_same_draws_and_seed_give_the_same_proposal():
    draws = bent_draws(1000)
    one, again = (fitted(draws, np.full(1000, 1e-3), 1000.0) for _ in range(2))
    assert np.array_equal(one.means, again.means)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_given_a_bent_posterior_and_a_consensus_without_it_then_it_is_corrected(seed):
    consensus = 0.6 * np.random.default_rng(9).standard_normal((4000, 6))
    found = certify(combined_of(consensus), bent, seed=seed)
    assert found.word == "corrected"
    assert found.rounds[0].ess < 1200 < 1600 < found.ess
    spread = np.sqrt(np.array([1.0, 1.0 + 2.0 * BEND**2, 1.0, 1.0, 1.0, 1.0]))
    assert np.all(np.abs(found.draws.mean(axis=0)) < 4.0 * spread / np.sqrt(found.ess))
    np.testing.assert_allclose(found.draws.std(axis=0), spread, rtol=0.1)
