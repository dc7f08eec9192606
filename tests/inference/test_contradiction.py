"""Shards that contradict the others: who is named, and how often nobody should be."""

from __future__ import annotations

import numpy as np

from hpcxpcs.inference.consensus import (
    contradiction_words,
    counted_less,
    outlying,
    too_few_to_compare,
    weights_of,
)


def test_given_two_outliers_then_one_does_not_hide_the_other():
    rng = np.random.default_rng(5)
    estimates = rng.standard_normal((10, 3))
    estimates[2] += 40.0
    estimates[6] += 12.0
    assert [one.position for one in outlying(estimates, np.stack([np.eye(3)] * 10))] == [2, 6]


def test_given_a_narrow_shard_that_is_off_then_it_and_not_the_others_is_named():
    estimates = np.random.default_rng(6).standard_normal((8, 2))
    estimates[3] = 15.0
    covariances = np.stack([np.eye(2)] * 8)
    covariances[3] *= 0.01
    assert [one.position for one in outlying(estimates, covariances)] == [3]


def test_given_two_shards_that_disagree_then_neither_is_called_the_outlier():
    assert outlying(np.array([[0.0], [100.0]]), np.ones((2, 1, 1))) == ()


def test_given_agreeing_shards_then_an_outlier_is_named_about_as_often_as_promised():
    rng = np.random.default_rng(8)
    covariances = np.stack([np.eye(2)] * 6)
    named = sum(bool(outlying(rng.standard_normal((6, 2)), covariances)) for _ in range(1000))
    assert named <= 25


def shifted(offset: float, count: int = 4, dim: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Estimates (K, d) and covariances of shards, the third of which is off by `offset` of its standard deviations."""
    rng = np.random.default_rng(2)
    covariances = np.stack([np.diag([1.0, 0.04, 9.0])[:dim, :dim]] * count)
    estimates = np.einsum("kij,kj->ki", np.sqrt(covariances), rng.standard_normal((count, dim)))
    estimates[2] += offset * np.sqrt(np.diag(covariances[2]))
    return estimates, covariances


def test_given_a_shard_far_off_then_its_weight_makes_its_distance_what_chance_has_on_average():
    estimates, covariances = shifted(8.0)
    found = outlying(estimates, covariances)
    weights = weights_of(found, 4)
    assert [one.position for one in found] == [2] and np.all(weights[[0, 1, 3]] == 1.0)
    assert 0.0 < weights[2] < 0.1
    rest = [0, 1, 3]
    offset = estimates[2] - estimates[rest].mean(axis=0)
    squared = offset @ np.linalg.solve(covariances[2] + covariances[0] / 3.0, offset)
    np.testing.assert_allclose(weights[2], 3.0 / squared, rtol=1e-12)


def test_given_shards_farther_and_farther_off_then_they_pull_less_and_less():
    pulls = []
    for offset in (10.0, 30.0, 100.0):
        estimates, covariances = shifted(offset)
        weights = weights_of(outlying(estimates, covariances), 4)
        precisions = weights[:, None, None] * np.linalg.inv(covariances)
        mean = np.linalg.solve(precisions.sum(axis=0), np.einsum("kij,kj->i", precisions, estimates))
        apart = mean - estimates[[0, 1, 3]].mean(axis=0)
        pulls.append(np.linalg.norm(apart / np.sqrt(np.diag(covariances[0]))))
    assert pulls[0] > 2.0 * pulls[1] > 4.0 * pulls[2]


def test_what_is_said_names_the_shard_its_distance_its_weight_and_the_remedy():
    found = outlying(*shifted(8.0))
    (robust,), (plain,) = contradiction_words(found, 4, robust=True), contradiction_words(found, 4, robust=False)
    assert robust.startswith("shard 2 contradicts the others") and f"weight {found[0].weight:.2g}" in robust
    assert "certificate" in robust and "in full" in plain and "combination.method: robust" in plain
    assert counted_less(weights_of(found, 4)) == f"shard 2 with weight {found[0].weight:.2g}"
    assert contradiction_words((), 4, robust=True) == () and counted_less(np.ones(4)) == ""


def test_given_half_of_the_shards_against_the_other_half_then_it_is_said_that_nobody_can_tell():
    estimates, covariances = shifted(0.0)
    estimates[2:] += 50.0
    words = contradiction_words(outlying(estimates, covariances), 4, robust=True)
    assert len(words) == 3 and "cannot tell" in words[-1]


def test_given_too_few_shards_to_compare_then_robust_says_that_it_can_do_nothing():
    assert "3 shards or more" in too_few_to_compare(2) and "at once" in too_few_to_compare(1)
    assert too_few_to_compare(3) == ""
