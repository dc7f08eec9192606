"""Shards that contradict the others: who is named, and how often nobody should be."""

from __future__ import annotations

import numpy as np

from hpcxpcs.inference.contradiction import outlying


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
