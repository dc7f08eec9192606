"""The peak of the density, its curvature, and the cavities that stand for what a shard does not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.inference.laplace import SMALLEST_CAVITY, Anchor, anchor, curvature_of, find_mode, whitening_of
from hpcxpcs.inference.target import Target, log_densities, with_gradient
from tests.inference.fitting import simulated
from tests.inference.posteriors import Posed, dense_log_density, posed

SHARDS = 4


@pytest.fixture(scope="module")
def peak() -> Posed:
    return posed(simulated("static"), "hierarchical").peaked()


@pytest.fixture(scope="module")
def shards(peak) -> list[Target]:
    return peak.shards(SHARDS, tempering=jnp.zeros(()))


@pytest.fixture(scope="module")
def anchored(peak, shards) -> Anchor:
    return anchor(peak.space, peak.full, shards)


@pytest.fixture(scope="module")
def posterior(peak) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the full posterior in z."""
    return weighted_moments(peak, [peak.full])[0]


def weighted_moments(problem: Posed, targets: Sequence[Target]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Means (d,) and covariances (d, d) of targets in z, by importance sampling with common draws."""
    half = np.random.default_rng(1).standard_normal((2000, problem.space.size))
    z = 1.2 * np.concatenate([half, -half])
    found = []
    for target in targets:
        log_weight = np.asarray(log_densities(problem.space, target, jnp.asarray(z)))
        log_weight = log_weight + 0.5 * (z**2).sum(axis=1) / 1.44
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        mean = weight @ z
        found.append((mean, (weight[:, None] * (z - mean)).T @ (z - mean)))
    return found


def held(shards: Sequence[Target], found: Anchor) -> list[Target]:
    return [
        replace(shard, precision=jnp.asarray(precision), shift=jnp.asarray(shift))
        for shard, (precision, shift) in zip(shards, found.cavities, strict=True)
    ]


def whitened(matrix: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Eigenvalues of a precision matrix (d, d) in units of the inverse of a covariance (d, d)."""
    root = np.linalg.cholesky(covariance)
    return np.linalg.eigvalsh(root.T @ matrix @ root)


def test_given_a_quadratic_then_its_curvature_is_found_exactly():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((4, 4))
    matrix = matrix + matrix.T
    steps = np.array([1e-3, 1.0, 10.0, 0.1])
    found = curvature_of(lambda x: -(x - 1.0) @ matrix, rng.standard_normal(4), steps)
    np.testing.assert_allclose(found, matrix, rtol=1e-6, atol=1e-6)


def test_given_a_curvature_of_any_scale_then_whitening_makes_it_the_identity():
    root = np.diag([1e-6, 1.0, 1e5]) @ np.random.default_rng(2).standard_normal((3, 3))
    curvature = root @ root.T
    transform = whitening_of(curvature)
    np.testing.assert_allclose(transform.T @ curvature @ transform, np.eye(3), atol=1e-6)


@pytest.mark.parametrize("bad", [0.0, -3.0])
def test_given_flat_or_upward_directions_then_whitening_is_finite_and_leaves_the_others_alone(bad):
    transform = whitening_of(np.diag([4.0, bad, 25.0]))
    assert np.isfinite(transform).all()
    assert np.linalg.matrix_rank(transform / np.abs(transform).max(axis=1, keepdims=True)) == 3
    covariance = transform @ transform.T
    np.testing.assert_allclose([covariance[0, 0], covariance[2, 2]], [1.0 / 4.0, 1.0 / 25.0])


def test_given_the_mode_then_the_density_of_raw_pairs_is_level_and_of_unit_curvature_there(peak):
    origin, transform = np.asarray(peak.full.origin), np.asarray(peak.full.transform)
    here = dense_log_density(peak, origin)
    for k in range(peak.space.size):
        above, below = (dense_log_density(peak, origin + s * 0.2 * transform[:, k]) for s in (1.0, -1.0))
        assert (above - below) / 0.4 == pytest.approx(0.0, abs=0.03)
        assert (above + below - 2.0 * here) / 0.04 == pytest.approx(-1.0, abs=0.05)


def test_given_a_start_several_deviations_away_then_the_same_mode_is_found(peak):
    step = np.array([3.0, -2.0, 2.5, 3.0])
    away = replace(peak.full, origin=peak.full.origin + peak.full.transform @ step)
    found = find_mode(peak.space, away)
    off = np.linalg.solve(np.asarray(peak.full.transform), found.x - np.asarray(peak.full.origin))
    np.testing.assert_allclose(off, 0.0, atol=5e-3)
    np.testing.assert_allclose(
        whitened(found.curvature, np.asarray(peak.full.transform @ peak.full.transform.T)), 1.0, rtol=5e-3
    )


def test_given_coordinates_that_are_not_white_then_the_mode_is_found_in_them_too(peak):
    skewed = np.asarray(peak.full.transform) @ np.diag([8.0, 0.2, 3.0, 1.0])
    far = replace(peak.full, transform=jnp.asarray(skewed), origin=peak.full.origin + skewed @ np.full(4, 0.5))
    found = find_mode(peak.space, far)
    gradient = with_gradient(peak.space, replace(peak.full, origin=jnp.asarray(found.x)), jnp.zeros((1, 4)))[1]
    assert np.abs(np.asarray(gradient)).max() < 5e-3


def test_given_anchored_shards_then_each_has_nearly_the_full_posterior(peak, shards, anchored, posterior):
    mean, covariance = posterior
    for its_mean, its_covariance in weighted_moments(peak, held(shards, anchored)):
        assert np.abs(its_mean - mean).max() < 0.15
        np.testing.assert_allclose(whitened(np.linalg.inv(its_covariance), covariance), 1.0, atol=0.05)


def test_given_shards_then_each_alone_knows_much_less_than_all_together(anchored, posterior):
    for covariance in anchored.covariances:
        assert whitened(np.linalg.inv(covariance), posterior[1]).max() < 0.4


def test_given_the_anchor_then_its_gaussian_is_the_posterior(anchored, posterior):
    mean, covariance = posterior
    assert np.abs(anchored.mean - mean).max() < 0.15
    np.testing.assert_allclose(whitened(np.linalg.inv(anchored.covariance), covariance), 1.0, atol=0.08)


def test_given_what_each_shard_alone_says_then_together_it_is_what_all_data_say(peak, anchored):
    whole = anchor(peak.space, peak.full, [replace(peak.full, tempering=jnp.zeros(()))])
    precisions = np.linalg.inv(anchored.covariances)
    total = precisions.sum(axis=0)
    np.testing.assert_allclose(whitened(total, whole.covariances[0]), 1.0, atol=0.05)
    pooled = np.linalg.solve(total, np.einsum("kij,kj->i", precisions, anchored.estimates))
    # Each shard solves for a scaling of its own, which moves the estimates a little.
    np.testing.assert_allclose(pooled, whole.estimates[0], atol=0.5)
    for estimate, precision in zip(anchored.estimates, precisions, strict=True):
        assert 1e-3 < (estimate - pooled) @ precision @ (estimate - pooled) < 25.0


def test_given_a_constant_scaling_then_the_estimates_of_shards_pool_exactly(peak):
    problem = peak.scaled("constant")
    whole = replace(problem.full, arrays=problem.condensed(problem.moments)[0], tempering=jnp.zeros(()))
    found = anchor(problem.space, whole, problem.shards(SHARDS))
    precisions = np.linalg.inv(found.covariances)
    np.testing.assert_allclose(precisions.sum(axis=0), np.linalg.inv(found.covariance), rtol=1e-4, atol=1e-4)
    pooled = found.covariance @ np.einsum("kij,kj->i", precisions, found.estimates)
    np.testing.assert_allclose(pooled, found.mean, atol=1e-3)
    size = problem.space.size
    assert all(precision.shape == (size, size) and shift.shape == (size,) for precision, shift in found.cavities)


def test_given_a_shard_then_the_cavity_is_what_the_anchor_has_beyond_it(peak, shards, anchored):
    for precision, _ in anchored.cavities:
        assert np.linalg.eigvalsh(precision)[0] > 0.0
    alone = anchor(peak.space, peak.full, shards[:1]).cavities[0]
    np.testing.assert_allclose(alone[0], anchored.cavities[0][0])
    np.testing.assert_allclose(alone[1], anchored.cavities[0][1])
    # Cavities sum to K − 1 times all data and K times the prior.
    flat = np.zeros_like(anchored.cavities[0][0])
    nothing = [replace(peak.full, arrays=jax.tree.map(jnp.zeros_like, peak.full.arrays), pairs=jnp.zeros(3))]
    whole = anchor(peak.space, peak.full, nothing).cavities[0][0]
    total = sum((precision for precision, _ in anchored.cavities), flat)
    scale = 1.0 / np.sqrt(np.diag(whole))
    difference = (total - (SHARDS - 1) * whole) * np.outer(scale, scale)
    assert np.abs(difference).max() < 1.01
    assert np.linalg.eigvalsh(difference)[0] > -1e-3


def test_given_a_shard_that_sees_everything_then_its_cavity_keeps_a_little_everywhere(peak):
    whole = replace(peak.full, tempering=jnp.zeros(()))
    nothing = replace(whole, arrays=jax.tree.map(jnp.zeros_like, whole.arrays), pairs=jnp.zeros(3))
    (weak, _), (everything, _) = anchor(peak.space, peak.full, [whole, nothing]).cavities
    transform = whitening_of(everything)
    np.testing.assert_allclose(np.linalg.eigvalsh(transform.T @ weak @ transform)[:3], SMALLEST_CAVITY, rtol=1e-3)
