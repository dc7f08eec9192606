"""Cochran's Q and I² on estimates whose true scatter is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from hpcxpcs.inference.consensus import heterogeneity

NAMES = ("D0", "alpha")


def estimates(scatter: float = 0.0, *, count: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Estimates (K,2) with correlated errors (K,2,2), the first parameter truly scattering by `scatter` errors."""
    rng = np.random.default_rng(seed)
    roots = rng.standard_normal((count, 5, 2))
    covariances = np.einsum("kni,knj->kij", roots, roots)
    noise = np.einsum("kij,kj->ki", np.linalg.cholesky(covariances), rng.standard_normal((count, 2)))
    noise[:, 0] += scatter * np.sqrt(covariances[:, 0, 0]) * rng.standard_normal(count)
    return noise + np.array([5.0, -1.0]), covariances


def test_q_and_i_squared_of_a_case_computed_by_hand():
    found = heterogeneity(("x",), np.array([[0.0], [2.0], [4.0]]), np.array([1.0, 1.0, 1.0]).reshape(3, 1, 1))
    assert found.q == pytest.approx([8.0]) and found.joint_q == pytest.approx(8.0) and found.joint_freedom == 2
    assert found.i_squared == pytest.approx([0.75])
    assert found.probability == pytest.approx([np.exp(-4.0)])


def test_given_shards_that_differ_by_chance_only_then_probabilities_are_uniform():
    found = [heterogeneity(NAMES, *estimates(seed=seed)) for seed in range(400)]
    assert kstest([one.probability[0] for one in found], "uniform").pvalue > 0.01
    assert kstest([one.joint_probability for one in found], "uniform").pvalue > 0.01
    assert sum(bool(one.disagreeing) for one in found) <= 12


def test_given_shards_that_agree_then_the_words_say_so():
    found = heterogeneity(NAMES, *estimates())
    assert found.disagreeing == () and "the 16 shards agree within their errors" in found.words


def test_given_a_parameter_that_differs_between_shards_then_it_alone_is_named():
    found = heterogeneity(NAMES, *estimates(4.0))
    assert found.disagreeing == ("D0",) and found.i_squared[0] > 0.8
    assert "D0 (I² = " in found.words and "very strong" in found.words and "alpha" not in found.words


def test_given_scatter_of_three_errors_then_i_squared_is_its_share():
    found = [heterogeneity(NAMES, *estimates(3.0, count=200, seed=seed)) for seed in range(5)]
    assert np.mean([one.i_squared[0] for one in found]) == pytest.approx(0.9, abs=0.03)


def test_given_a_combination_that_differs_then_the_joint_test_sees_what_each_parameter_hides():
    covariance = np.array([[1.0, 0.999], [0.999, 1.0]])
    values = np.array([[0.3, -0.3], [-0.3, 0.3], [0.0, 0.0], [0.2, -0.2]])
    found = heterogeneity(NAMES, values, np.stack([covariance] * 4))
    assert found.disagreeing == () and found.joint_probability < 1e-6
    assert "combination of parameters" in found.words


def test_given_one_shard_then_there_is_nothing_to_compare():
    found = heterogeneity(NAMES, np.array([[1.0, 2.0]]), np.eye(2)[None])
    assert found.probability.tolist() == [1.0, 1.0] and found.i_squared.tolist() == [0.0, 0.0]
    assert found.joint_probability == 1.0 and "nothing to compare" in found.words


def test_given_identical_estimates_then_i_squared_is_zero():
    found = heterogeneity(NAMES, np.ones((4, 2)), np.stack([np.eye(2)] * 4))
    assert found.i_squared.tolist() == [0.0, 0.0] and found.joint_probability == 1.0
