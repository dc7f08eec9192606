"""Noise that pairs share through their speckles: its parts, and error bars that allow for it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.answer.fit import NoiseParts
from hpcxpcs.data.simulate import NoiseSpec
from hpcxpcs.inference.noise import Estimate, speckle_score_covariance, width_of_blocks
from hpcxpcs.likelihood.dyadic import Residuals, clustered_scores, lifted
from tests.inference.fitting import Case, fit, simulated

SLOW = {"D0": 4.0e3, "alpha": 0.0, "D_offset": 0.0}
"""Decays within 25 of 100 frames of 0.1 s."""


def speckles(seed: int, **spec) -> Case:
    """A measurement made of photons, whose diffusion is Brownian."""
    noise = NoiseSpec("photon", photons=5.0, pixels=1000, **spec)
    return simulated(
        "static",
        frames=100,
        seed=seed,
        noise=noise,
        contrast=0.15,
        offset_spread=0.0,
        parameters=SLOW,
        fixed={"D_offset": 0.0},
    )


def test_given_the_three_parts_then_the_covariance_of_the_scores_is_the_sum_over_all_pairs_of_pairs():
    case = simulated("static", angles=2, frames=16, seed=1)
    level, sigma = np.array([[0.5, 1.0], [0.4, 1.01]]), np.array([0.01, 0.02])
    estimate = Estimate(case.truth, (0, 1, 2), level, sigma)
    residuals = residuals_of(case, estimate, 1)
    parts = parts_of([1e-4, 2e-4], [3e-5, 1e-5], [5e-6, 8e-6])
    design = np.zeros((2, 2, 4))
    for angle, place in itertools.product(range(2), range(2)):
        design[angle, place, 2 * place + angle] = 1.0
    lifts = lifted(3, design)
    found = speckle_score_covariance(case.measurement, case.model, estimate, residuals, parts, lifts)
    expected = np.zeros((7, 7))
    for angle in range(2):
        own = summed_over_pairs_of_pairs(case, angle, level, sigma, parts)
        expected += lifts[angle] @ own @ lifts[angle].T
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def residuals_of(case: Case, estimate: Estimate, width: int) -> Residuals:
    at = (jnp.asarray(estimate.theta), estimate.tangents, estimate.per_angle, estimate.sigma)
    return clustered_scores(case.measurement.raw, case.model, *at, (width, 1))[1]


def parts_of(white: list[float], shared: list[float], smooth: list[float]) -> NoiseParts:
    nothing = np.full(len(white), np.nan)
    amplitudes = map(np.array, (white, shared, smooth))
    return NoiseParts(*amplitudes, 1.0, 1.0, 0.0, nothing, nothing, np.array(white))


def summed_over_pairs_of_pairs(case: Case, angle: int, level, sigma, parts: NoiseParts) -> np.ndarray:
    """The covariance of one angle's score from that of every two pairs, element by element."""
    frames = np.arange(case.measurement.axis.first_usable, case.measurement.axis.count)
    t = case.measurement.axis.times(frames)
    phi = case.measurement.phi[angle]

    def shape(theta):
        return case.model.shape(theta, jnp.asarray(t)[:, None], jnp.asarray(t)[None, :], phi)

    f, slopes = np.asarray(shape(jnp.asarray(case.truth))), np.asarray(jax.jacfwd(shape)(jnp.asarray(case.truth)))
    total = np.zeros((5, 5))
    pairs = list(itertools.combinations(range(len(frames)), 2))
    scores = {(i, j): np.array([*(level[angle, 0] * slopes[i, j]), f[i, j], 1.0]) / sigma[angle] ** 2 for i, j in pairs}
    same = np.eye(len(frames))
    white, shared, smooth = parts.white[angle], parts.shared[angle], parts.smooth[angle]
    for (a, b), (c, d) in itertools.product(pairs, pairs):
        covariance = sum(
            white * same[a, x] * same[b, y]
            + shared * (same[a, x] * f[b, y] + f[a, x] * same[b, y])
            + smooth * f[a, x] * f[b, y]
            for x, y in ((c, d), (d, c))
        )
        total += covariance * np.outer(scores[a, b], scores[c, d])
    return total


def test_given_squares_of_frames_then_the_covariance_is_nearly_that_of_single_frames():
    case = speckles(0)
    estimate = Estimate(case.truth, (0, 1, 2), np.tile([0.15, 1.0], (3, 1)), np.full(3, 0.005))
    parts = parts_of([1e-5] * 3, [1e-5] * 3, [1e-5] * 3)
    width = width_of_blocks(case.measurement, case.model, case.truth)
    assert width > 1
    lifts = lifted(3, np.tile(np.eye(2), (3, 1, 1)))
    found = []
    for frames in (1, width):
        residuals = residuals_of(case, estimate, frames)
        covariance = speckle_score_covariance(case.measurement, case.model, estimate, residuals, parts, lifts)
        found.append(np.diag(covariance))
    np.testing.assert_allclose(found[1], found[0], rtol=0.05)


@pytest.mark.parametrize("size", [0.0, 2.0])
def test_given_speckles_then_photons_and_pixels_are_found_and_robust_errors_hold_the_truth(size):
    away, ratios, photons, pixels, smooth = [], [], [], [], []
    for seed in range(12):
        case = speckles(seed, speckle_size=size)
        found = fit(case, scaling="individual", multi_start=2, noise_model="independent")
        assert found.noise.errors_from == "speckle"
        away.append((found.values[:2] - case.truth[:2]) / found.robust_uncertainty[:2])
        ratios.append(found.robust_uncertainty[:2] / found.uncertainty[:2])
        photons += [*found.noise.photons]
        pixels += [*found.noise.pixels]
        smooth.append(found.noise.measured_ratio)
    # 24 deviations, which are correlated in twos: their mean square is known to a third.
    assert 0.5 < np.sqrt(np.mean(np.square(away))) < 1.5
    assert np.median(ratios) > 5.0
    assert np.median(photons) == pytest.approx(5.0, rel=0.05)
    assert np.median(pixels) == pytest.approx(1000.0, rel=0.1)
    assert (np.median(smooth) > 1.5) == (size > 1.0)


def test_given_speckles_then_misfit_is_not_what_chi_squared_speaks_of():
    found = fit(speckles(3), scaling="individual", multi_start=2, noise_model="independent")
    assert found.noise.expected_chi_squared > 1.1
    assert not any("leaves structure" in flag for flag in found.flags)
    assert any("share the noise of their speckles" in flag for flag in found.flags)


def test_given_noise_of_single_pairs_then_robust_errors_are_those_of_independent_noise():
    found = fit(simulated("static", frames=100, seed=4), scaling="individual")
    np.testing.assert_allclose(found.robust_uncertainty, found.uncertainty, rtol=0.1)
    assert found.noise.expected_chi_squared == pytest.approx(1.0, abs=0.05)


def test_given_a_beam_that_flickers_then_errors_come_from_frames():
    noise = NoiseSpec("frame", sd=0.001, frame_sd=0.003)
    case = simulated("static", frames=150, angles=5, seed=4, noise=noise, parameters=SLOW, fixed={"D_offset": 0.0})
    found = fit(case, scaling="individual", multi_start=2)
    assert found.noise.errors_from == "frames" and not found.noise.like_speckle
    assert any("correlated along frames" in flag for flag in found.flags)


def test_given_noise_that_is_smooth_over_every_angle_then_errors_come_from_the_scatter_between_angles():
    alone, robust = [], []
    for seed in range(8):
        case = simulated("static", frames=40, angles=12, seed=seed, fixed={"D_offset": 0.0})
        rng = np.random.default_rng(seed)
        along = np.cos(np.pi * np.outer(np.arange(3), np.linspace(0.0, 1.0, 40)))
        smooth = [along.T @ (part + part.T) @ along for part in 0.003 * rng.standard_normal((12, 3, 3))]
        clean = case.measurement.angles
        angles = [replace(clean(k), c2=clean(k).c2 + smooth[k]) for k in range(12)]
        found = fit(replace(case, measurement=replace(case.measurement, angles=angles.__getitem__)), multi_start=1)
        assert found.noise.errors_from == "angles"
        assert any("differ" in line or "whole angles" in line for line in found.flags)
        away = found.values[:2] - case.truth[:2]
        alone.append(away / found.uncertainty[:2])
        robust.append(away / found.robust_uncertainty[:2])
    # Sixteen deviations, correlated in twos: their mean square is known to a third.
    assert np.sqrt(np.mean(np.square(alone))) > 3.0
    assert 0.6 < np.sqrt(np.mean(np.square(robust))) < 1.5
