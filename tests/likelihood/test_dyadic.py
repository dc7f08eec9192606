"""Scores clustered by frame, against the double sum over all pairs of pairs that share a frame."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.data.simulate import NoiseSpec
from hpcxpcs.likelihood import raw as raw_module
from hpcxpcs.likelihood.cells import TimeAxis
from hpcxpcs.likelihood.dyadic import ClusteredScores, clustered_scores, disturbed_together, score_covariance
from hpcxpcs.pipeline.simulate import SimulationSpec, simulate_twotime
from tests.likelihood.measured import Case, measured, shape_of, slopes_of, usable_pairs

LEVEL = np.array([[0.14, 1.002], [0.16, 0.999]])


def scores_of(case: Case, k: int) -> dict[tuple[int, int], np.ndarray]:
    """Score of every usable pair along (D0, alpha, D_offset, contrast, offset)."""
    matrix, times = case.matrices[k], case.axis.all_times()
    contrast, offset = LEVEL[k]
    found = {}
    for i, j in usable_pairs(matrix):
        f = float(shape_of(case.model, case.theta, case.phi[k], times[i], times[j]))
        slopes = slopes_of(case.model, case.theta, case.phi[k], times[i], times[j])
        weight = 1.0 if matrix.sigma is None else matrix.sigma[i, j] ** -2.0
        residual = matrix.c2[i, j] - offset - contrast * f
        directions = np.array([*(contrast * np.array(slopes)), f, 1.0])
        found[i, j] = weight * residual / case.sigma[k] ** 2 * directions
    return found


def double_sum(scores: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
    """Σ s sᵀ over all ordered pairs of pairs that have at least one frame in common."""
    total = np.zeros((5, 5))
    for one, left in scores.items():
        for other, right in scores.items():
            if set(one) & set(other):
                total += np.outer(left, right)
    return total


def scores_clustered(case: Case, level: np.ndarray) -> ClusteredScores:
    return clustered_scores(case.raw, case.model, jnp.asarray(case.theta), jnp.eye(3), level, case.sigma)[0]


def each_alone(scores: ClusteredScores) -> np.ndarray:
    """B of every angle for (physics, contrast, offset) of that angle, (n_phi, 5, 5)."""
    single = (
        ClusteredScores(scores.by_frame[k : k + 1], scores.squares[k : k + 1]) for k in range(len(scores.squares))
    )
    return np.stack([score_covariance(one, 3, np.eye(2)[None], together=False) for one in single])


def covariance(case: Case) -> np.ndarray:
    return each_alone(scores_clustered(case, LEVEL[: len(case.phi)]))


def assert_is_the_double_sum(case: Case) -> None:
    found = covariance(case)
    for k, block in enumerate(found):
        wanted = double_sum(scores_of(case, k))
        scale = np.sqrt(np.diag(wanted))
        assert np.allclose(block / np.outer(scale, scale), wanted / np.outer(scale, scale), atol=1e-6)


@pytest.fixture(scope="module")
def tiny() -> Case:
    return measured("static", frames=13, phi=(-30.0, 40.0), noise=0.01)


def test_given_one_angle_then_it_is_the_sum_over_pairs_of_pairs_that_share_a_frame(tiny):
    assert_is_the_double_sum(replace(tiny, phi=tiny.phi[:1], matrices=tiny.matrices[:1], sigma=tiny.sigma[:1]))


def test_given_dead_frames_masked_pairs_and_errors_then_only_usable_pairs_count_with_their_weights(tiny):
    rng = np.random.default_rng(0)
    case = tiny.masked((1, 6), (12,)).changed(
        pair_ok=[rng.random((13, 13)) > 0.3, None], sigma=[None, 0.5 + rng.random((13, 13))]
    )
    assert_is_the_double_sum(replace(case, sigma=np.array([0.01, 1.3])))


def test_given_several_tiles_then_frames_are_recognised_across_them(tiny, monkeypatch):
    monkeypatch.setattr(raw_module, "TILE", 8)
    monkeypatch.setattr(raw_module, "BATCH", 2)
    assert_is_the_double_sum(measured("static", frames=19, phi=(-30.0, 40.0), noise=0.01).masked((3,), (18,)))


def test_given_a_window_that_starts_late_then_frames_are_still_recognised(tiny):
    shifted = replace(tiny, axis=TimeAxis(7.3, 1.0, 13))
    assert_is_the_double_sum(shifted.changed(frame_ok=[np.ones(13, dtype=bool)] * 2))


def inflation(noise: NoiseSpec) -> np.ndarray:
    """Clustered over unclustered variance of the score's (D0, contrast, offset) components, mean of angles."""
    spec = SimulationSpec(
        model="static",
        angles=12,
        frames=48,
        dt=1.0,
        noise=noise,
        dtype="float64",
        contrast_spread=0.0,
        offset_spread=0.0,
    )
    data = simulate_twotime(spec)
    case = measured("static", frames=48)
    case = replace(case, matrices=tuple(map(data.angle, range(12))), phi=data.phi, sigma=np.full(12, 0.01))
    level = np.tile([0.15, 1.0], (12, 1))
    found = each_alone(scores_clustered(case, level))
    single = case.raw.products(case.model, jnp.asarray(case.theta), jnp.eye(3)).gram / 0.01**2
    order = np.array([2, 3, 4, 0, 1])
    plain = np.einsum("aii->ai", np.asarray(single))[:, order] * np.array([0.15, 0.15, 0.15, 1.0, 1.0]) ** 2
    return (np.einsum("aii->ai", found) / plain).mean(axis=0)[[0, 3, 4]]


def test_given_independent_noise_then_clustering_agrees_with_the_information():
    assert np.all(np.abs(inflation(NoiseSpec(sd=0.01)) - 1.0) < 0.5)


def test_given_noise_of_whole_frames_then_clustering_shows_that_the_offset_is_far_less_certain():
    assert inflation(NoiseSpec(model="frame", sd=0.01, frame_sd=0.01))[2] > 10.0


def test_given_two_angles_with_the_same_noise_then_their_scores_add_before_they_are_squared(tiny):
    twins = replace(
        tiny, phi=np.repeat(tiny.phi[:1], 2), matrices=tiny.matrices[:1] * 2, sigma=np.repeat(tiny.sigma[:1], 2)
    )
    scores = scores_clustered(twins, np.repeat(LEVEL[:1], 2, axis=0))
    shared = score_covariance(scores, 3, np.tile(np.eye(2), (2, 1, 1)), together=True)
    alone = each_alone(scores)[0]
    np.testing.assert_allclose(shared, 4.0 * alone + 2.0 * scores.squares[0], rtol=1e-10)


def test_given_a_common_disturbance_of_the_frames_then_they_are_called_disturbed_together():
    rng = np.random.default_rng(0)
    by_frame = rng.standard_normal((6, 80, 5)) + rng.standard_normal((1, 80, 5))
    assert disturbed_together(ClusteredScores(by_frame, np.zeros((6, 5, 5))))


def test_given_angles_with_noise_of_their_own_then_they_are_not_called_disturbed_together(tiny):
    assert not disturbed_together(scores_clustered(tiny, LEVEL[: len(tiny.phi)]))
