"""Any laboratory: the default fit of what `simulate` writes converges inside its bounds, on the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from hpcxpcs.cli import main
from tests.cli.fitting import QUICK, fit, parameters, read_json, simulated
from tests.small_problem import small_problem

# Chance of a false alarm per parameter of 1e-5: the seeds are fixed, the margins honest.
FAR = float(norm.ppf(1.0 - 0.5e-5))

BROWNIAN = {"alpha": 0.0, "D_offset": 0.0}
LABORATORIES = {
    "colloids in milliseconds": ("static", {"D0": 1e8, **BROWNIAN}, {"dt": 1e-3, "q": 2e-3, "frames": 120}),
    "a gel in hours": ("static", {"D0": 1e-2, **BROWNIAN}, {"dt": 600.0, "q": 0.03, "frames": 120}),
    "an ageing gel": (
        "static", {"D0": 10.0, "alpha": -0.6, "D_offset": 0.0}, {"dt": 60.0, "q": 0.03, "frames": 120}
    ),
    "a placeholder for q": ("static", {"D0": 2.0, **BROWNIAN}, {"dt": 0.01, "q": 1.0, "frames": 120}),
    "microseconds": ("static", {"D0": 2e9, **BROWNIAN}, {"dt": 1e-6, "q": 0.01, "frames": 120}),
    "fast shear": (
        "laminar_flow",
        {"D0": 1e6, **BROWNIAN, "gamma_dot_t0": 0.2, "beta": 0.0, "gamma_dot_t_offset": 0.0, "phi0": 71.0},
        {"dt": 1e-3, "q": 4e-3, "frames": 120, "angles": 6},
    ),
    "slow shear": (
        "laminar_flow",
        {"D0": 0.5, **BROWNIAN, "gamma_dot_t0": 2e-6, "beta": 0.0, "gamma_dot_t_offset": 0.0, "phi0": 40.0},
        {"dt": 60.0, "q": 8e-3, "frames": 120, "angles": 6},
    ),
}  # fmt: skip


@pytest.mark.parametrize("laboratory", LABORATORIES)
def test_given_any_laboratory_then_the_default_fit_converges_off_every_bound_with_the_truth_in_its_errors(
    laboratory, tmp_path, capfd
):
    model, truth, spec = LABORATORIES[laboratory]
    config = simulated(tmp_path, model, parameters=truth, **{"angles": 3, **spec})
    done = fit(capfd, config, tmp_path / "run", *QUICK)
    assert done.code == 0, done.out + done.err
    record = read_json(tmp_path / "run" / "results" / "nlsq" / "parameters.json")
    assert record["convergence_status"].startswith("converged")
    for name, value in truth.items():
        found = record["parameters"][name]
        assert not found["at_bound"]
        if found["fixed"]:
            assert found["value"] == value == 0.0, f"{name} is held at {found['value']}"
        else:
            off = (found["value"] - value) / max(found["uncertainty"], found["robust_uncertainty"])
            assert abs(off) < FAR, f"{name} is off by {off:.1f} standard errors"


def test_given_two_components_of_another_laboratory_then_the_same_fit_in_other_units(tmp_path, capfd):
    # A thousandth of the clock: every rate is a thousand times faster, and all else is the same.
    held = "initial_parameters.fixed_parameters={D_offset_ref: 0, D_offset_sample: 0, v_offset: 0}"
    slower, faster = {}, {}
    for name, factor in (("slow", 1.0), ("fast", 1e-3)):
        amplitudes = {"D0_ref": (4.0e3, -0.3), "D0_sample": (2.0e4, -0.2), "v0": (1.0e3, -0.2)}
        truth = {key: value * factor ** (-1.0 - p) for key, (value, p) in amplitudes.items()}
        truth |= dict.fromkeys(("D_offset_ref", "D_offset_sample", "v_offset"), 0.0)
        truth |= {"f1": -0.02 / factor, "f2": factor}
        config = simulated(
            tmp_path, "two_component", name, parameters=truth, dt=0.1 * factor, angles=5, frames=60, seed=1
        )
        done = fit(capfd, config, tmp_path / name, *QUICK, held)
        found = parameters(tmp_path / name)
        (slower if factor == 1.0 else faster).update({"code": done.code, "found": found})
    assert slower["code"] == faster["code"]
    for name in ("alpha_ref", "alpha_sample", "beta", "f0", "f3", "phi0"):
        one, other = (run["found"][name] for run in (slower, faster))
        assert one["at_bound"] == other["at_bound"]
        assert (one["uncertainty"] is None) == (other["uncertainty"] is None)
        if one["uncertainty"] is not None:
            np.testing.assert_allclose(one["value"], other["value"], atol=0.05 * one["uncertainty"])


@pytest.fixture(scope="module")
def colloids(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colloids")
    return simulated(folder, parameters={"D0": 1e8, **BROWNIAN}, dt=1e-3, q=2e-3, frames=120)


def test_given_an_unknown_q_and_time_in_frames_then_rates_per_frame_with_units_that_say_so(colloids, tmp_path, capfd):
    known = fit(capfd, colloids, tmp_path / "known", *QUICK)
    unknown = fit(
        capfd,
        colloids,
        tmp_path / "unknown",
        *QUICK,
        "analyzer_parameters.scattering.wavevector_q=unknown",
        "analyzer_parameters.dt=frames",
    )
    assert known.code == unknown.code == 0
    one, other = parameters(tmp_path / "known"), parameters(tmp_path / "unknown")
    assert other["D0"]["unit"] == "1/frame^(1+alpha)" and other["D_offset"]["unit"] == "1/frame"
    alpha = other["alpha"]["value"]
    np.testing.assert_allclose(alpha, one["alpha"]["value"], atol=1e-3 * one["alpha"]["uncertainty"])
    expected = one["D0"]["value"] * 2e-3**2 * 1e-3 ** (1.0 + alpha)
    np.testing.assert_allclose(other["D0"]["value"], expected, rtol=1e-4)
    record = read_json(tmp_path / "unknown" / "results" / "nlsq" / "analysis_results_nlsq.json")["dataset_info"]
    assert record["q_value"] is None and record["time_unit"] == "frame"
    assert "1/frame" in unknown.out and "q unknown" in unknown.out and "truth" not in unknown.out


def test_given_an_unknown_q_and_several_in_the_file_then_refused_with_what_to_do(tmp_path, capfd):
    config = simulated(tmp_path, extra_q=1, frames=30)
    done = fit(capfd, config, tmp_path / "run", "analyzer_parameters.scattering.wavevector_q=unknown")
    assert done.code != 0 and "2 values of q" in done.err and "wavevector_q" in done.err


@pytest.mark.parametrize("command", [["config", "check"], ["inspect", "--config"]])
def test_given_the_data_then_the_bounds_that_follow_from_them_are_shown_and_without_them_their_origin(
    command, colloids, capfd
):
    assert main([*command, str(colloids)]) == 0
    shown = capfd.readouterr().out
    d0 = next(line for line in shown.splitlines() if line.startswith("D0 "))
    low, high = (float(word) for word in d0.split("from the data")[1].split("lognormal")[0].split("..."))
    assert low < 1e6 and high > 1e9
    assert "data scale   times 0.001 ... 0.119 s" in shown


def test_given_no_data_yet_then_the_check_says_that_bounds_will_come_from_them(colloids, tmp_path, capfd):
    config = tmp_path / "elsewhere.yaml"
    config.write_text(colloids.read_text())
    assert main(["config", "check", str(config)]) == 0
    shown = capfd.readouterr().out
    d0 = next(line for line in shown.splitlines() if line.startswith("D0 "))
    assert d0.count("from the data") == 3 and "the file is not there yet" in shown


def test_given_two_parameters_that_the_data_hardly_tell_apart_then_the_fit_without_one_is_shown(tmp_path, capfd):
    truth = {"D0": 1.2e4, "alpha": -0.4, "D_offset": 500.0}
    config = simulated(tmp_path, parameters=truth, frames=100, contrast=0.3)
    done = fit(capfd, config, tmp_path / "run", *QUICK)
    record = read_json(tmp_path / "run" / "results" / "nlsq" / "parameters.json")
    (other,) = record["alternatives"]
    assert other["held_at_zero"] == "D_offset" and abs(other["correlation"]) > 0.95
    assert "Without D_offset (initial_parameters.fixed_parameters: {D_offset: 0})" in done.out
    held = fit(capfd, config, tmp_path / "held", *QUICK, "initial_parameters.fixed_parameters={D_offset: 0}")
    assert held.code == 0
    alone = read_json(tmp_path / "held" / "results" / "nlsq" / "parameters.json")
    for name, found in other["parameters"].items():
        again = alone["parameters"][name]
        np.testing.assert_allclose(found["value"], again["value"], atol=0.02 * again["uncertainty"])
        np.testing.assert_allclose(found["uncertainty"], again["uncertainty"], rtol=0.05)
    np.testing.assert_allclose(other["chi_squared_change"], alone["chi_squared"] - record["chi_squared"], atol=0.1)


def test_given_bounds_of_a_file_of_the_homodyne_program_then_they_hold(colloids, tmp_path, capfd):
    bounded = "parameter_space.bounds=[{name: D0, min: 100, max: 1.0e5}]"
    done = fit(capfd, colloids, tmp_path / "run", *QUICK, bounded)
    record = read_json(tmp_path / "run" / "results" / "nlsq" / "parameters.json")["parameters"]["D0"]
    assert record["bounds"] == [100.0, 1e5] and record["bounds_from"] == ["configuration", "configuration"]
    assert "upper bound of D0 = 100000: nothing is seen below it" not in done.err


def test_given_a_rate_of_any_size_then_its_constant_part_is_bounded_by_it_and_the_posterior_has_these_bounds(
    tmp_path, capfd
):
    truth = {"D0": 1.2e4, "alpha": -0.4, "D_offset": 500.0}
    config = small_problem(tmp_path, 1)
    fit(capfd, config, tmp_path / "run")
    done = read_json(tmp_path / "run" / "results" / "nlsq" / "parameters.json")["parameters"]["D_offset"]
    last, dt = 5.9, 0.1
    rate = truth["D0"] * np.sqrt(dt * last) ** truth["alpha"] + truth["D_offset"]
    np.testing.assert_allclose(done["bounds"], [-10.0 * rate, 10.0 * rate], rtol=0.05)
    assert done["bounds_from"] == ["data", "data"]
    sampled = read_json(tmp_path / "run" / "results" / "cmc" / "parameters.json")["parameters"]["D_offset"]
    assert sampled["bounds"] == done["bounds"]
    np.testing.assert_allclose(sampled["prior_std"], 2.0 * rate, rtol=0.05)
