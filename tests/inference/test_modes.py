"""One peak or two: known mixtures, skewed peaks, and normal ones that must not be split."""

from __future__ import annotations

import numpy as np
import pytest

from hpcxpcs.inference.diagnostics import find_modes, log_normal
from tests.inference.gaussians import normal, random_normal


def two_peaks(distance: float, share: float = 0.3, *, dim: int = 3, count: int = 4000, seed: int = 0) -> np.ndarray:
    """Draws of two unit normals, the second `distance` along the first axis, then sheared and scaled."""
    rng = np.random.default_rng(seed)
    draws = rng.standard_normal((count, dim))
    draws[:, 0] += distance * (rng.uniform(size=count) < share)
    shear = np.tril(rng.standard_normal((dim, dim)), -1) + np.diag(np.geomspace(1e-3, 1e3, dim))
    return draws @ shear.T


@pytest.mark.parametrize("dim", [1, 2, 8])
def test_given_a_normal_posterior_then_it_has_one_peak_with_its_moments(dim):
    source = random_normal(np.random.default_rng(dim), dim)
    draws = source.draws(np.random.default_rng(1), 4000)
    found = find_modes(draws, seed=1)
    assert found.count == 1 and found.weights.tolist() == [1.0] and found.delta_bic < 0.0
    np.testing.assert_allclose(found.means[0], draws.mean(axis=0))
    np.testing.assert_allclose(found.covariances[0], np.atleast_2d(np.cov(draws, rowvar=False)))
    assert "one peak" in found.words


def test_given_two_separate_peaks_then_both_are_found_with_their_shares():
    found = find_modes(two_peaks(8.0), seed=1)
    order = np.argsort(found.weights)
    assert found.count == 2 and found.delta_bic > 100.0
    assert found.weights[order] == pytest.approx([0.3, 0.7], abs=0.02)
    heavy, light = found.weights[order[1]], found.weights[order[0]]
    assert f"two separate peaks, with {heavy:.0%} and {light:.0%}" in found.words


def test_the_mixture_is_given_in_the_coordinates_of_the_draws():
    rng = np.random.default_rng(2)
    left, right = (
        normal(np.array([0.0, 50.0]), np.diag([1e-4, 9.0])),
        normal(np.array([0.2, 50.0]), np.diag([1e-4, 1.0])),
    )
    found = find_modes(np.concatenate([left.draws(rng, 2000), right.draws(rng, 2000)]), seed=1)
    first, second = np.argsort(found.means[:, 0])
    np.testing.assert_allclose(found.means[[first, second]], [left.mean, right.mean], rtol=0.01, atol=0.01)
    np.testing.assert_allclose(np.diag(found.covariances[first]), [1e-4, 9.0], rtol=0.1)
    np.testing.assert_allclose(np.diag(found.covariances[second]), [1e-4, 1.0], rtol=0.1)


def test_given_a_rare_far_peak_then_it_is_found():
    found = find_modes(two_peaks(12.0, share=0.02), seed=1)
    assert found.count == 2 and found.weights.min() == pytest.approx(0.02, abs=0.01)


def test_given_a_skewed_peak_then_two_components_describe_it_but_it_stays_one():
    draws = np.random.default_rng(3).gamma(2.0, size=(4000, 2))
    found = find_modes(draws, seed=1)
    assert found.count == 1 and len(found.weights) == 2 and found.delta_bic > 10.0
    assert "not a normal distribution" in found.words


def test_given_two_peaks_that_touch_then_they_count_as_one():
    assert find_modes(two_peaks(2.0, share=0.5), seed=1).count == 1


def test_given_the_same_seed_then_the_same_answer():
    one, again = (find_modes(two_peaks(5.0), seed=7) for _ in range(2))
    assert np.array_equal(one.means, again.means) and one.delta_bic == again.delta_bic


def test_given_draws_worth_only_a_few_then_the_evidence_is_that_of_a_few():
    draws = two_peaks(3.0, share=0.5)
    assert find_modes(draws, seed=1).delta_bic > 10.0 > find_modes(draws, seed=1, ess=20.0).delta_bic


def test_given_hardly_more_draws_than_parameters_then_there_is_one_peak():
    draws = np.random.default_rng(0).standard_normal((12, 4))
    assert find_modes(draws, seed=1).count == 1


def test_the_log_density_of_a_normal_is_normalised():
    grid = np.stack(np.meshgrid(*[np.linspace(-12, 12, 241)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(log_normal(grid, np.array([0.5, -1.0]), np.array([[2.0, 0.7], [0.7, 1.0]])))
    assert density.sum() * 0.1**2 == pytest.approx(1.0, abs=1e-6)


def test_given_draws_that_never_moved_in_some_direction_then_it_is_said_that_peaks_cannot_be_told():
    draws = np.column_stack([np.random.default_rng(1).standard_normal(400), np.full(400, 2.0)])
    found = find_modes(draws, seed=1)
    assert found.count == 1 and "do not span all directions" in found.words
