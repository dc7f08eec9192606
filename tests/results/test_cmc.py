"""The posterior's files hold what they promise, under the names they promise."""

import io
from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.answer.posterior import marginals
from hpcxpcs.files.json_safe import dumps
from hpcxpcs.results.cmc import (
    diagnostics_record,
    posterior_analysis_record,
    posterior_files,
    posterior_parameters_record,
    samples_archive,
)
from hpcxpcs.results.comparison import at_mean, drawn_curves
from tests.results.sample import NAMES, PHI, strictly_parsed
from tests.results.sample_posterior import (
    CHAINS,
    SAMPLED,
    SAMPLES,
    rejected,
    sample_posterior,
    sampled_answer,
)


@pytest.fixture(scope="module")
def answer():
    return sampled_answer()


def plain(record):
    return strictly_parsed(dumps(record))


def test_given_a_posterior_then_it_has_five_files(answer):
    files = posterior_files(answer, answer.posterior)
    assert list(files) == [
        "parameters.json",
        "analysis_results_cmc.json",
        "diagnostics.json",
        "samples.npz",
        "inference_data.nc",
    ]
    assert all(len(content) > 1000 for content in files.values())
    heads = [strictly_parsed(content.decode()) for content in list(files.values())[:3]]
    assert {(one["schema_version"], one["method"], one["route"], one["verdict"]) for one in heads} == {
        (1, "cmc", "consensus", "certified")
    }


def test_given_a_posterior_then_each_parameter_has_its_numbers_unit_and_bounds(answer):
    record = plain(posterior_parameters_record(answer, answer.posterior))
    d0 = record["parameters"]["D0"]
    flat = answer.posterior.draws[..., 0]
    assert list(record["parameters"]) == list(SAMPLED)
    assert d0["mean"] == pytest.approx(flat.mean())
    assert d0["std"] == pytest.approx(flat.std(ddof=1))
    assert d0["hdi"][0] < d0["median"] < d0["hdi"][1]
    assert (d0["hdi_probability"], d0["unit"], d0["bounds"]) == (0.95, "Å²/s^(1+alpha)", [100.0, 1e5])
    assert {"r_hat", "ess_bulk", "ess_tail", "mcse_mean", "contraction"} <= set(d0)
    assert record["parameters"]["noise_scale"]["bounds"] is None


def test_given_a_parameter_that_was_not_sampled_then_it_is_listed_with_its_value(answer):
    posterior = answer.posterior
    without = replace(posterior, names=posterior.names[1:], units=posterior.units[1:], draws=posterior.draws[..., 1:])
    summary = replace(
        posterior.summary,
        **{name: getattr(posterior.summary, name)[1:] for name in vars(posterior.summary) if name != "hdi_probability"},
    )
    record = plain(posterior_parameters_record(answer, replace(without, summary=summary)))
    assert record["fixed_parameters"] == {"D0": {"value": answer.fit.values[0], "unit": "Å²/s^(1+alpha)"}}
    assert "D0" not in record["parameters"]


def test_given_a_posterior_then_every_angle_has_contrast_and_offset(answer):
    per_angle = plain(posterior_parameters_record(answer, answer.posterior))["scaling"]["per_angle"]
    assert [row["phi"] for row in per_angle] == list(PHI)
    assert per_angle[2]["contrast"]["mean"] == pytest.approx(0.27, abs=1e-3)
    low, high = per_angle[0]["offset"]["hdi"]
    assert 0.003 < high - low < 0.005


def test_given_numbers_that_are_not_finite_then_the_files_are_still_strict_json(answer):
    broken = replace(answer.posterior.summary, r_hat=np.full(len(SAMPLED), np.nan), z=np.full(len(SAMPLED), np.inf))
    posterior = replace(answer.posterior, summary=broken)
    record = plain(posterior_parameters_record(answer, posterior))
    assert record["parameters"]["D0"]["r_hat"] is None
    quality = plain(posterior_analysis_record(answer, posterior))
    assert quality["comparison_to_nlsq"]["D0"]["z"] == "Infinity"
    assert quality["sampling_quality"]["quality_flag"] == "poor"


def test_given_a_posterior_then_sampling_quality_data_and_point_fit_stand_side_by_side(answer):
    record = plain(posterior_analysis_record(answer, answer.posterior))
    assert record["sampling_quality"]["convergence_status"] == "converged"
    assert record["sampling_quality"]["quality_flag"] == "good"
    assert record["dataset_info"]["n_angles"] == 3
    summary = record["sampling_summary"]
    assert (summary["n_samples"], summary["n_warmup"], summary["n_chains"]) == (SAMPLES, 500, CHAINS)
    assert (summary["execution_time"], summary["gradient_evaluations"]) == (42.5, 56000)
    assert record["comparison_to_nlsq"]["D0"]["width_ratio"] == pytest.approx(1.0, abs=0.15)
    assert record["comparison_to_nlsq"]["noise_scale"]["width_ratio"] is None
    assert record["initial_values"]["alpha"] == answer.fit.values[1]
    strongest = record["correlations"]["strongest"][0]
    assert {strongest["first"], strongest["second"]} == {"D0", "alpha"}


def test_given_a_rejected_posterior_then_every_file_says_so(answer):
    posterior = sample_posterior(answer.fit, **rejected())
    quality = plain(posterior_analysis_record(answer, posterior))["sampling_quality"]
    assert (quality["convergence_status"], quality["quality_flag"]) == ("not_converged", "poor")
    assert quality["warnings"] == [
        "shard 2 was left out",
        "R-hat of beta is 1.31, the threshold 1.05: the chains disagree: look at the trace plot",
    ]
    assert quality["recommendations"] == ["sample all data at once with method exact"]
    diagnostics = plain(diagnostics_record(answer, posterior))
    converged = {row["name"]: row["converged"] for row in diagnostics["convergence"]["per_parameter_diagnostics"]}
    assert [name for name, good in converged.items() if not good] == ["beta"]
    assert diagnostics["certificate"]["verdict"] == "rejected"


def test_given_shards_then_the_diagnostics_name_those_left_out_and_why(answer):
    record = plain(diagnostics_record(answer, answer.posterior))
    shards = record["cmc_specific"]
    assert (shards["num_shards"], shards["accepted"], shards["rejected"]) == (4, [0, 1, 3], [2])
    assert shards["shard_summary"][2]["reasons"] == ["R-hat 1.31 of beta"]
    assert set(shards["shard_summary"][0]["mean"]) == set(SAMPLED)
    assert set(record["heterogeneity"]["per_parameter"]["D0"]) == {"cochran_q", "p_value", "i_squared", "disagrees"}


def test_given_a_consensus_then_the_certificate_holds_weights_shifts_and_compression(answer):
    certificate = plain(diagnostics_record(answer, answer.posterior))["certificate"]
    assert (certificate["route"], certificate["k_hat"], certificate["k_hat_limit"]) == ("consensus", 0.21, 0.67)
    assert len(certificate["mean_shifts"]) == len(SAMPLED)
    assert (certificate["compression_error"], certificate["compression_within_tolerance"]) == (0.012, True)


def test_given_exact_chains_then_nothing_is_said_about_weights_or_shards(answer):
    record = plain(diagnostics_record(answer, sample_posterior(answer.fit, route="exact")))
    assert record["certificate"]["checked"] is False
    assert "k_hat" not in record["certificate"]
    assert record["heterogeneity"] is None
    assert record["cmc_specific"]["num_shards"] == 0
    assert record["convergence"]["r_hat_of"] == "chains"


def test_given_the_sampler_then_its_efficiency_is_counted_from_real_chains(answer):
    record = plain(diagnostics_record(answer, answer.posterior))["sampling_efficiency"]
    assert (record["of"], record["divergences"], record["divergence_rate"]) == ("shard 1", 1, 0.001)
    assert record["num_steps"]["max"] == 15
    assert record["tree_depth"]["max"] == 4


def test_given_draws_then_the_archive_has_the_public_names_shapes_and_no_objects(answer):
    with np.load(io.BytesIO(samples_archive(answer.posterior, "laminar_flow")), allow_pickle=False) as archive:
        arrays = dict(archive)
    count = len(SAMPLED)
    assert {name: arrays[name].shape for name in arrays} == {
        "posterior_samples": (CHAINS, SAMPLES, count),
        "param_names": (count,),
        "units": (count,),
        **dict.fromkeys(("r_hat", "ess_bulk", "ess_tail"), (count,)),
        **dict.fromkeys(("contrast", "offset"), (CHAINS, SAMPLES, 3)),
        "log_posterior": (CHAINS, SAMPLES),
        **dict.fromkeys(("divergences", "n_phi", "n_chains", "n_samples", "seed"), (1,)),
        **dict.fromkeys(("analysis_mode", "route", "verdict"), (1,)),
        "schema_version": (2,),
    }
    assert arrays["posterior_samples"] == pytest.approx(answer.posterior.draws, rel=0, abs=0)
    assert arrays["param_names"].tolist() == list(SAMPLED)
    assert (arrays["divergences"][0], arrays["schema_version"].tolist()) == (1, [1, 0])


def test_given_skewed_draws_then_the_interval_is_the_narrowest_one():
    draws = np.random.default_rng(1).exponential(size=(4, 5000, 1))
    low, high = marginals(draws, 0.95).hdi[0]
    assert low < 0.01
    assert high == pytest.approx(-np.log(0.05), rel=0.05)


def test_given_sampled_parameters_then_curves_keep_the_others_at_the_fit(answer):
    posterior = replace(
        answer.posterior,
        names=("alpha",),
        draws=answer.posterior.draws[..., 1:2],
        summary=replace(answer.posterior.summary, mean=np.array([-0.5])),
    )
    curve = at_mean(answer.fit, posterior)
    assert curve.values[list(NAMES).index("alpha")] == -0.5
    assert np.array_equal(np.delete(curve.values, 1), np.delete(answer.fit.values, 1))
    curves = drawn_curves(answer.fit, posterior, 7)
    assert len(curves) == 7
    assert curves[0].values[1] == posterior.draws[0, 0, 0]
    assert curves[-1].contrast == pytest.approx(posterior.contrast[-1, -1])
