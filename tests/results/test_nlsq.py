"""The point fit's files have the names, keys and values that other programs rely on."""

import io
import math

import numpy as np
import pytest

from hpcxpcs.files.json_safe import dumps
from hpcxpcs.results.nlsq import (
    analysis_record,
    convergence_record,
    covariance_archive,
    parameters_record,
    point_fit_files,
)
from tests.results.sample import NAMES, PHI, SIGMA, TRUTH, sample_data, sample_fit, strictly_parsed


@pytest.fixture(scope="module")
def data():
    return sample_data()


def written(record):
    return strictly_parsed(dumps(record))


def test_given_a_fit_then_parameters_json_holds_the_answer(data):
    record = written(parameters_record(sample_fit(), data))
    assert record["schema_version"] == 1
    assert record["analysis_mode"] == "laminar_flow"
    assert record["conventions"] == {"shear_law": "couette", "integrator": "exact"}
    assert record["convergence_status"] == "converged"
    assert list(record["parameters"]) == list(NAMES)
    assert record["parameters"]["D0"] == {
        "value": TRUTH[0] * 1.004,
        "uncertainty": 120.0,
        "robust_uncertainty": 168.0,
        "unit": "Å²/s^(1+alpha)",
        "bounds": [100.0, 1e5],
        "bounds_from": ["data", "configuration"],
        "at_bound": False,
        "fixed": False,
    }


def test_given_a_fit_then_every_angle_has_its_own_contrast_offset_and_noise(data):
    record = written(parameters_record(sample_fit(), data))
    angle = record["scaling"]["per_angle"][2]
    assert angle == {
        "phi": 45.0,
        "contrast": pytest.approx(0.27),
        "contrast_uncertainty": 0.002,
        "contrast_robust_uncertainty": 0.003,
        "offset": pytest.approx(1.004),
        "offset_uncertainty": 0.001,
        "offset_robust_uncertainty": 0.0015,
    }
    assert record["sigma"]["source"] == "compression residual"
    assert [(noise["phi"], noise["sigma"]) for noise in record["sigma"]["per_angle"]] == [(p, SIGMA) for p in PHI]


def test_given_a_fixed_and_a_stuck_parameter_then_their_uncertainties_are_null(data):
    fit = sample_fit(
        uncertainty=np.array([math.nan, math.nan, 1, 1, 1, 1, 1.0]),
        robust_uncertainty=None,
        free=np.arange(7) != 0,
        at_bound=np.arange(7) == 1,
        upper=np.full(7, math.inf),
    )
    parameters = written(parameters_record(fit, data))["parameters"]
    assert (parameters["D0"]["uncertainty"], parameters["D0"]["fixed"]) == (None, True)
    assert (parameters["alpha"]["uncertainty"], parameters["alpha"]["at_bound"]) == (None, True)
    assert parameters["beta"]["robust_uncertainty"] is None
    assert parameters["beta"]["bounds"][1] == "Infinity"


def test_given_a_fit_then_the_analysis_says_how_good_it_is_and_what_was_fitted(data):
    record = written(analysis_record(sample_fit(), data))
    assert record["method"] == "nlsq"
    assert record["fit_quality"]["quality_flag"] == "good"
    assert "0.9-1.1" in record["fit_quality"]["quality_rule"]
    assert record["fit_quality"]["degrees_of_freedom"] == 3 * 741 - 13
    assert record["dataset_info"] == {
        "n_angles": 3,
        "n_time_points": 40,
        "total_data_points": 3 * 741,
        "data_points_per_angle": [741, 741, 741],
        "phi_angles": list(PHI),
        "q_value": 0.0054,
        "time_unit": "s",
        "dt": 0.1,
        "frames": [1, 40],
    }
    summary = record["optimization_summary"]
    assert (summary["convergence_status"], summary["iterations"], summary["execution_time"]) == (
        "converged",
        17,
        0.8,
    )
    counts = {key: summary[key] for key in ("multi_start", "n_screened", "n_starts", "n_minima")}
    assert counts == {"multi_start": 1, "n_screened": 256, "n_starts": 2, "n_minima": 1}
    assert record["correlations"]["names"] == list(NAMES)
    assert np.diag(record["correlations"]["matrix"]) == pytest.approx(1.0)


def test_given_a_troubled_fit_then_the_convergence_file_tells_all_of_it():
    fit = sample_fit(status="converged_with_recovery", recovery_actions=("wider trust region",), flags=("a flag",))
    record = written(convergence_record(fit))
    assert record["convergence"]["status"] == "converged_with_recovery"
    assert record["convergence"]["final_chi_squared"] == fit.chi_squared
    assert record["recovery_actions"] == ["wider trust region"]
    assert "a flag" in record["quality_warnings"]
    assert record["quality_validation_passed"] is False
    assert record["starts"][1]["status"] == "max_iterations"
    assert record["starts"][1]["values"]["D0"] == 3 * TRUTH[0]
    assert record["compression"]["error"] == 0.012
    assert record["compression"]["within_tolerance"] is True
    assert record["condition_number"] == 3.1e4
    assert record["device_info"]["platform"] == "cpu"
    assert record["device_info"]["double_precision"] is True


def test_given_a_fit_then_the_covariance_archive_opens_without_pickle():
    fit = sample_fit()
    with np.load(io.BytesIO(covariance_archive(fit)), allow_pickle=False) as archive:
        assert archive["names"].tolist() == list(fit.covariance_names)
        assert np.array_equal(archive["covariance"], fit.covariance)
        assert np.array_equal(archive["robust_covariance"], fit.robust_covariance)
        assert np.diag(archive["correlation"]) == pytest.approx(1.0)


def test_given_no_robust_covariance_then_the_archive_has_none():
    with np.load(io.BytesIO(covariance_archive(sample_fit(robust_covariance=None)))) as archive:
        assert sorted(archive) == ["correlation", "covariance", "names"]


def test_given_a_point_fit_then_it_has_four_files(data):
    assert list(point_fit_files(sample_fit(), data)) == [
        "parameters.json",
        "analysis_results_nlsq.json",
        "convergence_metrics.json",
        "covariance.npz",
    ]
