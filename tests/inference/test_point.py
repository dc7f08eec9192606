"""What a point fit says about data that are good, bad, ambiguous, or of another kind than the model."""

from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.data.simulate import NoiseSpec
from hpcxpcs.errors import DataError
from hpcxpcs.inference.objective import Objective
from hpcxpcs.likelihood.moments import Moments
from tests.inference.fitting import SHEAR, deviations, fit, simulated
from tests.inference.reference import reference_fit

EXPAND = Objective.expand


def test_raw_pairs_and_moments_give_the_same_answer():
    case = simulated("static", seed=8)
    moments = fit(case, scaling="individual", noise=0.003, compression_tolerance=0.005)
    raw = fit(case, scaling="individual", noise=0.003, compression_tolerance=1e-12)
    assert moments.compression.provider == "moments" and raw.compression.provider == "raw"
    assert raw.compression.rounds > moments.compression.rounds
    np.testing.assert_array_less(np.abs(raw.values - moments.values), 0.02 * raw.uncertainty)
    np.testing.assert_allclose(raw.covariance, moments.covariance, rtol=0.02, atol=1e-12)
    assert raw.chi_squared == pytest.approx(moments.chi_squared, rel=1e-5)


def test_a_tighter_tolerance_costs_nodes_and_keeps_its_promise():
    case = simulated("laminar_flow", seed=8, parameters=SHEAR)
    loose, tight = (fit(case, compression_tolerance=tolerance) for tolerance in (0.5, 0.01))
    assert loose.compression.error <= 0.5 and tight.compression.error <= 0.01
    assert tight.compression.nodes > loose.compression.nodes
    assert tight.compression.checked_points >= 16 and tight.compression.checked_pairs == tight.pairs.sum()


CONVENTIONS = {
    "exact": {},
    "trapezoid": {"integrator": "trapezoid"},
    "published": {"integrator": "trapezoid", "shear_law": "homodyne-2"},
}


@pytest.mark.parametrize("conventions", CONVENTIONS.values(), ids=CONVENTIONS)
def test_data_of_every_convention_are_recovered_with_that_convention(conventions):
    # The published law counts the strain in other units of phase; a slower flow keeps its phase below 1 per frame.
    case = simulated("laminar_flow", seed=3, frames=48, parameters=SHEAR, **conventions)
    found = fit(case)
    assert found.status == "converged"
    assert np.all(np.abs(deviations(case, found)) < 4.0)
    assert found.conventions["integrator"] == conventions.get("integrator", "exact")
    assert found.conventions["shear_law"] == conventions.get("shear_law", "couette")
    assert found.compression.provider == ("raw" if "integrator" in conventions else "moments")


def test_the_trapezoid_fit_of_raw_pairs_is_the_reference_fit():
    case = simulated("static", seed=3, frames=48, integrator="trapezoid")
    found = fit(case, scaling="individual", noise=0.003, sample_noise_scale=False)
    reference = reference_fit(case, sigma=0.003)
    sd = np.sqrt(np.diag(reference.covariance))[:3]
    np.testing.assert_array_less(np.abs(found.values - reference.values[:3]), 0.02 * sd)
    np.testing.assert_allclose(found.uncertainty, sd, rtol=0.01)


def test_given_two_transports_then_the_sample_is_the_faster_one():
    case = simulated("static_both", seed=1, frames=60, dt=0.3, sd=0.0003)
    swapped = case.told(
        start={
            "D0_ref": 2.0e4, "alpha_ref": -0.2, "D_offset_ref": 2.0e3,
            "D0_sample": 4.0e3, "alpha_sample": -0.3, "D_offset_sample": 200.0,
        }
    )  # fmt: skip
    for found in (fit(case, multi_start=8), fit(swapped, multi_start=8)):
        assert found.ok
        assert np.all(np.abs(deviations(case, found)) < 4.0)
        assert found.values[3] > found.values[0]
        assert found.exchange.decided_by == "order" and abs(found.exchange.difference) < 0.1


def test_given_all_fourteen_parameters_free_then_the_fraction_that_cannot_be_told_is_named():
    case = simulated("two_component", seed=1, frames=100, angles=6, sd=0.001)
    # The start is given: what is asked is not whether the search finds the minimum but what is said about it.
    found = fit(case.told(start=dict(zip(case.model.parameter_names, case.truth, strict=True))), multi_start=1)
    assert found.status == "failed" and not found.ok
    assert "do not determine f0 with" in found.message and "f2:" in found.message
    lost = {name for name, error in zip(found.names, found.uncertainty, strict=True) if np.isnan(error)}
    # With f1 near 0 the direction turns a little towards f1, whose error bar is then withheld too.
    assert {"f0", "f2"} <= lost <= {"f0", "f1", "f2"}
    assert found.robust_covariance is None
    assert np.all(np.abs(deviations(case, found)[3:9]) < 4.0)
    # f0 and f2 trade places exactly: the data see the fraction that they make together.
    value = dict(zip(found.names, found.values, strict=True))
    seen = value["f0"] * np.exp(-value["f1"] * value["f2"]) + value["f3"]
    assert seen == pytest.approx(0.4 * np.exp(0.02) + 0.2, abs=0.02)


def test_given_pure_noise_then_nothing_looks_like_an_answer():
    case = simulated("static", seed=2, contrast=1e-9, sd=0.01)
    found = fit(case)
    weak = [flag for flag in found.flags if "no signal" in flag or "hardly determined" in flag]
    assert weak or not found.ok
    assert any("no signal" in flag for flag in found.flags)
    assert found.reduced_chi_squared == pytest.approx(1.0, abs=0.06)


def test_given_no_noise_then_the_truth_is_found_and_errors_are_tiny():
    case = simulated("static", seed=2, noise=NoiseSpec("iid", sd=0.0))
    found = fit(case)
    np.testing.assert_allclose(found.values, case.truth, rtol=1e-3)
    np.testing.assert_array_less(found.uncertainty, 1e-2 * np.abs(case.truth))
    assert np.all(np.isfinite(found.uncertainty)) and np.isfinite(found.reduced_chi_squared)


def test_given_sheared_data_and_a_model_without_shear_then_the_misfit_is_flagged():
    case = simulated("laminar_flow", seed=4, parameters=SHEAR)
    other = simulated("static", seed=4)
    found = fit(type(case)(case.measurement, other.model, other.parameters, other.truth, case.spec))
    assert found.reduced_chi_squared > 1.5
    assert any("leaves structure in the residuals" in flag for flag in found.flags)


def test_given_the_right_model_then_no_misfit_is_flagged():
    found = fit(simulated("laminar_flow", seed=4, parameters=SHEAR))
    assert not any("structure" in flag for flag in found.flags)


def test_given_contrasts_that_differ_then_averaged_scaling_is_rejected_in_words():
    found = fit(simulated("static", seed=4), scaling="averaged")
    assert any("do not share one contrast and offset" in flag for flag in found.flags)


def test_given_one_angle_and_a_free_flow_direction_then_the_fit_is_refused():
    case = simulated("laminar_flow", angles=1, frames=20, parameters=SHEAR)
    with pytest.raises(DataError, match="one angle"):
        fit(case)


def test_given_no_shear_then_the_rest_of_the_flow_model_is_static():
    case = simulated("static", seed=4)
    flow = simulated("laminar_flow", frames=10, parameters=SHEAR)
    fixed = {"gamma_dot_t0": 0.0, "beta": 0.0, "gamma_dot_t_offset": 0.0, "phi0": 0.0}
    flow = flow.told(fixed=fixed)
    still = type(case)(case.measurement, flow.model, flow.parameters, flow.truth, case.spec)
    found, plain = fit(still), fit(case)
    np.testing.assert_array_less(np.abs(found.values[:3] - plain.values), 0.05 * plain.uncertainty)
    assert found.values[3:].tolist() == [0.0] * 4


def test_given_frame_noise_then_the_inflation_is_flagged_and_robust_errors_are_larger():
    case = simulated("static", seed=4, noise=NoiseSpec("frame", sd=0.002, frame_sd=0.003))
    found = fit(case, scaling="individual")
    assert np.all(found.robust_uncertainty > 1.5 * found.uncertainty)
    assert np.all(found.scaling.robust_offset_uncertainty > 1.5 * found.scaling.offset_uncertainty)
    assert any("quote the robust ones" in flag for flag in found.flags)


def test_given_frames_disturbed_at_all_angles_at_once_then_robust_errors_hold_the_truth():
    case = simulated("static", angles=8, seed=4, sd=0.002, fixed={"alpha": -0.4, "D_offset": 500.0})
    away = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        frame = 1.0 + 0.003 * rng.standard_normal(case.measurement.axis.count)
        matrices = [replace(m, c2=m.c2 * np.outer(frame, frame)) for m in map(case.measurement.angles, range(8))]
        glitched = replace(case, measurement=replace(case.measurement, angles=matrices.__getitem__))
        found = fit(glitched, scaling="individual")
        away.append((found.values[0] - case.truth[0]) / found.robust_uncertainty[0])
    assert np.sqrt(np.mean(np.square(away))) < 1.8


def test_given_robust_errors_are_not_asked_for_then_there_are_none():
    found = fit(simulated("static", seed=4), robust=False)
    assert found.robust_covariance is None and found.robust_uncertainty is None
    assert found.scaling.robust_contrast_uncertainty is None


def test_the_parts_of_the_answer_agree_with_each_other():
    found = fit(simulated("laminar_flow", seed=4, parameters=SHEAR))
    count, n_phi = 7, len(found.scaling.contrast)
    sd = np.sqrt(np.diag(found.covariance))
    np.testing.assert_allclose(sd[:count], found.uncertainty)
    np.testing.assert_allclose(sd[count:], [*found.scaling.contrast_uncertainty, *found.scaling.offset_uncertainty])
    assert len(found.covariance_names) == count + 2 * n_phi
    assert found.chi_squared == pytest.approx(found.chi_squared_per_angle.sum())
    assert found.reduced_chi_squared == pytest.approx(found.chi_squared / found.degrees_of_freedom)
    assert max(found.gradient_balance.values()) < 0.02
    assert found.condition_number > 1.0 and found.seconds > 0.0 and found.iterations >= 1


def without_numbers(self, u):
    """An expansion as a Jacobian of NaN gives it; the cost is a number."""
    normal = EXPAND(self, u)
    return normal._replace(gradient=normal.gradient * np.nan, information=normal.information * np.nan)


def test_given_a_jacobian_of_nan_while_minimising_then_differences_find_the_same_minimum_and_it_is_on_record(
    monkeypatch,
):
    case = simulated("static", seed=4, frames=40)
    usual = fit(case)
    monkeypatch.setattr(Objective, "expand", without_numbers)
    found = fit(case)
    assert usual.status == "converged" and found.status == "converged_with_recovery"
    assert "restarted with finite-difference gradients" in found.recovery_actions
    np.testing.assert_array_less(np.abs(found.values - usual.values), 0.01 * usual.uncertainty)
    np.testing.assert_allclose(found.uncertainty, usual.uncertainty, rtol=0.01)


def test_given_a_jacobian_of_nan_where_the_fit_ends_then_it_has_no_error_bars_and_has_not_converged(monkeypatch):
    products = Moments.products

    def no_slopes(self, model, theta, tangents):
        found = products(self, model, theta, tangents)
        gram = found.gram.at[:, 2:].set(np.nan).at[:, :, 2:].set(np.nan)
        return found._replace(gram=gram, data=found.data.at[:, 2:].set(np.nan))

    monkeypatch.setattr(Moments, "products", no_slopes)
    found = fit(simulated("static", seed=4, frames=40))
    assert found.status == "failed" and "no error bars" in found.message
    assert np.all(np.isnan(found.uncertainty)) and np.all(np.isfinite(found.values))
