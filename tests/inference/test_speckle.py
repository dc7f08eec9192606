"""The fit that weighs pairs by the speckles they share: honest, more precise, and used where it may be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.data.quality.photons import Counted
from hpcxpcs.data.simulate import NoiseSpec
from hpcxpcs.inference.noise import squares_width
from hpcxpcs.likelihood.cells import TimeAxis
from tests.inference.fitting import Case, fit, parameters_for, scale_of, simulated

SLOW = {"D0": 4.0e3, "alpha": 0.0, "D_offset": 0.0}
"""Decays within 40 frames of 0.1 s."""


def speckles(seed: int, photons: float = 5.0, frames: int = 100, **noise) -> Case:
    """A measurement made of photons, whose diffusion is Brownian."""
    return simulated(
        "static",
        frames=frames,
        seed=seed,
        noise=NoiseSpec("photon", photons=photons, pixels=1000, **noise),
        contrast=0.15,
        offset_spread=0.0,
        parameters=SLOW,
        fixed={"D_offset": 0.0},
    )


def weighed(case: Case, **settings):
    return fit(case, scaling="individual", multi_start=2, **settings)


@pytest.mark.parametrize("size", [0.0, 2.0], ids=["white pixels", "speckles of two pixels"])
def test_error_bars_hold_the_truth_and_are_smaller_than_those_without_weights(size):
    away, gains, alone = [], [], []
    for seed in range(100, 112):
        case = speckles(seed, speckle_size=size)
        found = weighed(case)
        assert found.ok and found.noise.model == "speckle"
        away.append((found.values - case.truth)[:2] / found.robust_uncertainty[:2])
        gains.append(found.noise.alone_robust[:2] / found.robust_uncertainty[:2])
        alone.append(found.noise.alone[:2] / found.robust_uncertainty[:2])
    # 24 deviations, which are correlated in twos: their mean square is known to a third.
    assert 0.5 < np.sqrt(np.mean(np.square(away))) < 1.5
    assert np.min(np.median(gains, axis=0)) > 1.3
    assert np.max(np.median(alone, axis=0)) < 0.5


def test_what_is_left_over_is_white_and_chi_squared_is_that_of_the_weighed_residuals():
    found = weighed(speckles(5))
    np.testing.assert_allclose(found.noise.levels, 1.0, atol=0.2)
    assert found.reduced_chi_squared == pytest.approx(1.0, abs=0.1)
    strength, level, count = found.noise.spectrum
    assert strength.size > 2 and np.all(np.diff(strength) > 0.0)
    assert np.all(np.abs(level - 1.0) < 0.1 + 5.0 * np.sqrt(2.0 / count))
    assert found.noise.expected_chi_squared == 1.0
    assert found.compression.provider == "squares"
    assert found.compression.error < found.compression.tolerance
    assert not found.flags


def test_dead_frames_take_only_their_own_pairs_from_it():
    case = speckles(6)
    angles = [case.measurement.angles(k) for k in range(3)]

    def without(k: int):
        alive = angles[k].frame_ok.copy()
        alive[[20, 21, 50]] = False
        return replace(angles[k], frame_ok=alive)

    found = weighed(replace(case, measurement=replace(case.measurement, angles=without)))
    assert found.noise.model == "speckle"
    np.testing.assert_array_equal(found.pairs, 96 * 95 / 2)
    assert np.all(np.abs((found.values - case.truth)[:2]) < 4.0 * found.robust_uncertainty[:2])


def test_masked_pairs_are_left_out_and_the_rest_is_weighed_as_before():
    case = speckles(6)
    angles = [case.measurement.angles(k) for k in range(3)]
    masked = np.random.default_rng(0).random((100, 100)) < 0.01
    masked |= masked.T

    def spoiled(k: int):
        return replace(angles[k], c2=np.where(masked, 9.0, angles[k].c2), pair_ok=~masked)

    found = weighed(replace(case, measurement=replace(case.measurement, angles=spoiled)))
    whole = weighed(case)
    assert found.noise.model == "speckle"
    np.testing.assert_array_equal(found.pairs, 99 * 98 / 2 - np.count_nonzero(np.triu(masked[1:, 1:], 1)))
    assert np.all(np.abs(found.values - whole.values)[:2] < 0.5 * whole.uncertainty[:2])


def test_a_component_of_a_flow_is_found_within_its_error():
    flow = {**SLOW, "gamma_dot_t0": 1.5e-4, "beta": 0.0, "gamma_dot_t_offset": 0.0, "phi0": 10.0}
    case = simulated(
        "laminar_flow",
        angles=6,
        frames=80,
        seed=2,
        noise=NoiseSpec("photon", photons=5.0, pixels=1000),
        contrast=0.15,
        offset_spread=0.0,
        parameters=flow,
        fixed={"D_offset": 0.0, "beta": 0.0, "gamma_dot_t_offset": 0.0},
    )
    found = weighed(case)
    free = found.free
    assert found.ok and found.noise.model == "speckle"
    assert np.all(np.abs(found.values - case.truth)[free] < 4.0 * found.robust_uncertainty[free])
    assert np.median((found.noise.alone_robust / found.robust_uncertainty)[free]) > 1.3


def test_photons_and_pixels_that_are_given_count_instead_of_those_measured():
    found = weighed(speckles(7), photons=5.0, pixels=1000.0)
    measured = weighed(speckles(7))
    assert found.noise.photons_from == "configuration" and measured.noise.photons_from == "diagonal"
    np.testing.assert_array_equal(found.noise.photons, 5.0)
    np.testing.assert_array_equal(found.noise.pixels, 1000.0)
    np.testing.assert_allclose(found.uncertainty[:2], measured.uncertainty[:2], rtol=0.15)


def test_a_diagonal_that_was_replaced_by_its_neighbours_tells_nothing_of_photons():
    case = speckles(8)
    angles = [case.measurement.angles(k) for k in range(3)]

    def repaired(k: int):
        c2 = angles[k].c2.copy()
        np.fill_diagonal(c2, np.append(np.diagonal(c2, 1), c2[-2, -1]))
        return replace(angles[k], c2=c2)

    found = weighed(replace(case, measurement=replace(case.measurement, angles=repaired)))
    assert found.noise.photons_from == "noise"
    assert np.median(found.noise.photons) == pytest.approx(5.0, rel=0.2)
    np.testing.assert_array_equal(found.values, weighed(case).values)


def test_independent_noise_is_fitted_as_before():
    case = simulated("static", frames=100, seed=4)
    auto, asked = (fit(case, scaling="individual", noise_model=model) for model in ("auto", "independent"))
    assert auto.noise.model == "independent"
    np.testing.assert_array_equal(auto.values, asked.values)
    np.testing.assert_array_equal(auto.covariance, asked.covariance)


def test_noise_that_speckles_do_not_make_is_not_weighed_and_the_reason_is_told():
    noise = NoiseSpec("frame", sd=0.001, frame_sd=0.003)
    fixed = {"D_offset": 0.0}
    case = simulated("static", frames=150, angles=5, seed=4, noise=noise, parameters=SLOW, fixed=fixed)
    for model in ("auto", "speckle"):
        found = weighed(case, noise_model=model)
        assert found.noise.model == "independent"
        assert "not the noise of speckles" in found.noise.why


def test_squares_are_as_narrow_as_their_number_allows():
    assert squares_width(TimeAxis(0.0, 0.1, 150), 5) == 1
    assert squares_width(TimeAxis(0.0, 0.1, 1001), 23) == 4
    assert squares_width(TimeAxis(0.0, 0.1, 1001), 1) == 2
    assert squares_width(TimeAxis(0.0, 0.1, 8000), 3) == 16


def test_the_misfit_of_a_wrong_model_is_not_taken_for_speckles():
    flow = simulated("laminar_flow", angles=3, frames=60, seed=0, contrast=0.3)
    still = simulated("static", angles=3, frames=60)
    wrong = replace(flow, model=still.model, parameters=still.parameters)
    found = fit(wrong, scaling="individual")
    assert found.noise.model == "independent" and found.noise.why
    assert any("leaves structure" in flag for flag in found.flags)


def test_speckles_are_weighed_when_asked_for_although_no_robust_errors_are():
    found = weighed(speckles(5), noise_model="speckle", robust=False)
    assert found.noise.model == "speckle" and found.robust_uncertainty is None
    np.testing.assert_array_equal(found.values, weighed(speckles(5)).values)


def test_frames_of_different_brightness_are_weighed_by_it():
    levels, pixels, photons = [], [], []
    for seed in range(300, 304):
        case = speckles(seed, photons=0.5, frames=150, photon_drift=1.6)
        bright = case.spec.noise.photons_of(150)
        drift = np.tile(bright * np.mean(1.0 / bright), (3, 1))
        counts = Counted(np.full(3, 0.5), np.full(3, 1000.0), drift)
        found = weighed(replace(case, measurement=replace(case.measurement, counted=counts)))
        assert found.noise.model == "speckle"
        levels.append(found.noise.levels)
        pixels += [*found.noise.pixels]
        photons += [*found.noise.photons]
    # Twelve angles, of which each knows its shared noise to a quarter; elements together know theirs to a hundredth.
    np.testing.assert_allclose(np.mean(levels, axis=0)[1:], 1.0, atol=0.06)
    assert np.median(pixels) == pytest.approx(1000.0, rel=0.1)
    assert np.median(photons) == pytest.approx(1.0 / np.mean(1.0 / bright[1:]), rel=0.05)


def test_a_constant_part_that_only_errors_of_independent_noise_tell_from_its_rate_is_held_at_0():
    case = speckles(3, photons=50.0, frames=150)
    case = replace(case, parameters=parameters_for("static", scale=scale_of(case.spec)))
    assert weighed(case, noise_model="independent").rested == ()
    found = weighed(case)
    assert (found.noise.model, found.rested) == ("speckle", ("D_offset",))
    assert np.all(np.abs(found.values[:2] - case.truth[:2]) < 3.5 * found.robust_uncertainty[:2])
