"""Doubtful input: an answer that is right within its errors, or one that carries its flag wherever a reader looks."""

import numpy as np
import pytest

from tests.cli.fitting import QUICK, fit, parameters, read_json, simulated
from tests.cli.spoiled import SECOND, N, changed, close, pairs_at, recorded, refused, with_sigma


@pytest.mark.parametrize(("dtype", "within"), [("f2", 0.2), ("f4", 1e-3), ("f8", 1e-3), (">f4", 1e-3)])
def test_every_floating_type_of_matrices_gives_the_same_answer(dtype, within, copy, reference, tmp_path, capfd):
    changed(lambda c2, k: c2.astype(dtype))(copy.with_suffix(".hdf"))
    assert fit(capfd, copy, tmp_path / "run", *QUICK).code == 0
    assert close(parameters(tmp_path / "run"), reference, within)


def test_integer_matrices_give_the_same_rates_and_a_flag_that_the_contrast_is_not_physical(
    copy, reference, tmp_path, capfd
):
    changed(lambda c2, k: np.round(1e4 * c2).astype("i4"))(copy.with_suffix(".hdf"))
    outcome = fit(capfd, copy, tmp_path / "run", *QUICK)
    assert outcome.code == 3 and "contrast above 1" in outcome.out
    assert close(parameters(tmp_path / "run"), reference, 0.05)


def test_masked_pairs_and_frames_change_the_answer_by_less_than_its_errors(copy, reference, tmp_path, capfd):
    def spoil(c2, number):
        c2 = pairs_at(np.nan, (3, 9), (0, 30), (17, 18))(c2, number)
        c2[12, :] = c2[:, 12] = np.inf
        return c2

    changed(spoil)(copy.with_suffix(".hdf"))
    outcome = fit(capfd, copy, tmp_path / "run", *QUICK, "data_filtering.non_finite=mask")
    assert outcome.code == 0
    assert "dead frames are masked: 13" in outcome.out
    assert close(parameters(tmp_path / "run"), reference, 1.0)


def test_an_angle_without_a_finite_number_is_refused_even_when_masking(copy, tmp_path, capfd):
    changed(lambda c2, k: c2 * np.nan, SECOND)(copy.with_suffix(".hdf"))
    outcome = fit(capfd, copy, tmp_path / "run", "data_filtering.non_finite=mask")
    refused(outcome, 1, "phi = 0", "no pair of the 40 frames holds a number other than 0", "data_filtering.phi_ranges")
    left = fit(capfd, copy, tmp_path / "run", "data_filtering.phi_range={min: 60, max: -60}", *QUICK)
    assert left.code == 0 and "2 angles" in left.out


def test_dead_frames_are_found_and_change_the_answer_by_less_than_its_errors(reference, tmp_path, capfd):
    config = simulated(tmp_path, dead_frames=(5, 17))
    outcome = fit(capfd, config, tmp_path / "run", *QUICK)
    assert outcome.code == 0 and "dead frames are masked: 5, 17" in outcome.out
    assert close(parameters(tmp_path / "run"), reference, 2.0)


@pytest.mark.parametrize(
    "window",
    [
        ("start_frame=11", "time_origin=file"),
        ("end_frame=30",),
        ("start_frame=5", "end_frame=38", "time_origin=file"),
    ],
    ids=" ".join,
)
def test_a_window_of_frames_on_the_clock_of_the_file_recovers_the_truth(window, config, tmp_path, capfd):
    known = "initial_parameters.fixed_parameters={D_offset: 500}"
    overrides = [f"analyzer_parameters.{setting}" for setting in window]
    assert fit(capfd, config, tmp_path / "run", *QUICK, known, *overrides).code == 0
    found = parameters(tmp_path / "run")
    for name, truth in {"D0": 1.2e4, "alpha": -0.4}.items():
        assert abs(found[name]["value"] - truth) < 4 * found[name]["uncertainty"]


def test_the_truth_is_not_shown_beside_parameters_of_another_clock(config, tmp_path, capfd):
    late = ("analyzer_parameters.start_frame=11", "initial_parameters.fixed_parameters={alpha: 0}")
    outcome = fit(capfd, config, tmp_path / "run", *QUICK, *late)
    rows = {line.split()[0]: line for line in outcome.out.splitlines() if line.split()[:1]}
    assert "12000 " not in rows["D0"] and not rows["D0"].endswith("σ")
    assert rows["contrast"].endswith("σ")


def test_a_sigma_dataset_is_used_pair_by_pair(copy, reference, tmp_path, capfd):
    with_sigma(np.full((N, N), 0.01))(copy.with_suffix(".hdf"))
    assert fit(capfd, copy, tmp_path / "run", *QUICK, "noise.sigma=/sigma").code == 0
    record = read_json(tmp_path / "run" / "results" / "nlsq" / "parameters.json")
    assert record["sigma"]["source"] == "file"
    assert close(record["parameters"], reference, 0.3)


def test_a_fit_that_ends_at_a_bound_is_written_and_flagged_wherever_a_reader_looks(config, tmp_path, capfd):
    run = tmp_path / "run"
    outcome = fit(capfd, config, run, "parameter_space.bounds=[{name: D0, min: 100, max: 5000}]", "output.plots=false")
    assert outcome.code == 3
    assert "careful  at_bounds" in outcome.out and "D0" in outcome.out and "at bound" in outcome.out
    record = read_json(run / "results" / "nlsq" / "parameters.json")
    assert record["convergence_status"] == "at_bounds"
    assert record["parameters"]["D0"]["at_bound"] and record["parameters"]["D0"]["value"] == 5000
    assert record["parameters"]["D0"]["uncertainty"] is None
    code, warnings, status = recorded(run)
    assert (code, status) == (3, "at_bounds") and "D0" in warnings
    page = (run / "results" / "report.html").read_text("utf-8")
    assert "at_bounds" in page and "exit code 3" in page and "at bound" in page


@pytest.mark.parametrize("seed", range(4))
def test_pure_noise_is_never_reported_as_a_result(seed, copy, tmp_path, capfd):
    rng = np.random.default_rng(seed)
    noise = changed(lambda c2, k: np.triu(1.0 + 0.01 * rng.standard_normal((N, N))).astype("f4"))
    noise(copy.with_suffix(".hdf"))
    outcome = fit(capfd, copy, tmp_path / "run", *QUICK)
    assert outcome.code == 3
    assert "no angle shows a contrast above 5 standard errors" in outcome.out
    code, warnings, _ = recorded(tmp_path / "run")
    assert code == 3 and "there may be no signal to fit" in warnings
    assert read_json(tmp_path / "run" / "results" / "summary.json")["quality_flag"] == "poor"


def test_inverted_data_are_never_reported_as_a_result(copy, tmp_path, capfd):
    changed(lambda c2, k: 2.0 - c2)(copy.with_suffix(".hdf"))
    outcome = fit(capfd, copy, tmp_path / "run", *QUICK)
    assert outcome.code == 3 and "contrast below 0" in outcome.out


def test_a_fit_that_runs_out_of_iterations_says_so(config, tmp_path, capfd):
    outcome = fit(capfd, config, tmp_path / "run", *QUICK, "optimization.nlsq.max_iterations=1")
    assert outcome.code == 3 and "optimization.nlsq.max_iterations" in outcome.out
    assert recorded(tmp_path / "run")[2] == "max_iterations"


def test_one_angle_is_enough_for_diffusion(config, reference, tmp_path, capfd):
    outcome = fit(capfd, config, tmp_path / "run", *QUICK, "data_filtering.phi_range={min: -5, max: 5}")
    assert outcome.code == 0 and "1 angle" in outcome.out
    assert close(parameters(tmp_path / "run"), reference, 3.0)


def test_the_wrong_model_is_flagged(tmp_path, capfd):
    config = simulated(tmp_path, "laminar_flow", frames=60)
    changes = ("analysis_mode=static", "parameter_space.bounds=[]", "initial_parameters={}")
    outcome = fit(capfd, config, tmp_path / "run", *QUICK, *changes)
    assert "the model leaves structure in the residuals" in outcome.out
    assert "model does not describe the data" in outcome.out or outcome.code == 3
