"""The section `preprocessing` in a fit: off it is as if it did not exist, on every output says so."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from hpcxpcs import results
from hpcxpcs.config import config_from_mapping, load_config
from hpcxpcs.config.sections import Preprocessing
from hpcxpcs.data.select import load as load_data
from hpcxpcs.errors import ConfigError
from hpcxpcs.pipeline.loading import known_truth
from hpcxpcs.results.cmc import (
    posterior_analysis_record,
    posterior_parameters_record,
    sample_arrays,
    samples_archive,
)
from hpcxpcs.results.inference_data import inference_data
from hpcxpcs.results.nlsq import stage_names
from tests.cli.fitting import fit, parameters, read_json
from tests.results.sample_posterior import sampled_answer

NORMALISED = ("preprocessing.normalization=baseline", "preprocessing.diagonal=statistical")


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """A fit of data that were divided by their baseline."""
    from hpcxpcs import fit as fitted

    folder = tmp_path_factory.mktemp("normalised")
    fitted(config, run=folder, overrides=("output.plots=false", *NORMALISED))
    return folder


def test_given_normalised_data_then_the_physics_is_the_same_and_the_baseline_one(run, reference):
    found = parameters(run)
    for name, item in found.items():
        close = abs(item["value"] - reference[name]["value"])
        assert close <= 0.05 * item["uncertainty"] + 1e-9 * abs(item["value"])


def test_given_normalised_data_then_the_true_contrast_and_offset_are_not_compared_with_theirs(config):
    plain, on = load_config(config), load_config(config, NORMALISED)
    assert {"contrast", "offset", "parameters"} <= set(known_truth(plain, load_data(plain)))
    known = set(known_truth(on, load_data(on)))
    assert "parameters" in known and not {"contrast", "offset"} & known


def test_given_a_stage_then_every_output_names_it(run):
    found = run / "results"
    for path in ("nlsq/parameters.json", "summary.json"):
        assert [stage["method"] for stage in read_json(found / path)["preprocessing"]] == [
            "statistical",
            "baseline",
        ]
    info = read_json(found / "nlsq" / "analysis_results_nlsq.json")["dataset_info"]
    assert info["preprocessing"][1]["parameters"] == {"lags_from": 0.75}
    data = read_json(found / "provenance.json")["data"]
    assert data["preprocessing"][1]["seconds"] > 0 and data["order"][-2:] == ["diagonal", "normalization"]
    assert any("normalised (baseline)" in words for words in read_json(found / "summary.json")["warnings"])
    page = (found / "report.html").read_text()
    assert "preprocessing: normalization" in page and "normalised (baseline)" in page
    with np.load(found / "nlsq" / "fitted_data.npz") as archive:
        assert archive["preprocessing"].tolist() == ["diagonal: statistical", "normalization: baseline"]


def test_given_a_posterior_then_its_records_name_the_stages_too_and_keys_are_documented():
    answer = sampled_answer(12)
    assert "preprocessing" not in posterior_parameters_record(answer, answer.posterior)
    provenance = {key: value for key, value in answer.data.provenance.items() if key != "preprocessing"}
    on = replace(answer.data, processing=Preprocessing(noise_reduction="median"), provenance=provenance)
    plain, answer = answer, replace(answer, data=on)
    names = ["noise_reduction: median"]
    with np.load(BytesIO(samples_archive(answer.posterior, "static", stage_names(on)))) as archive:
        assert archive["preprocessing"].tolist() == names
    assert "preprocessing" not in sample_arrays(plain.posterior, "static", stage_names(plain.data))
    assert json.loads(inference_data(answer, answer.posterior).attrs["preprocessing"]) == names
    assert "preprocessing" not in inference_data(plain, plain.posterior).attrs
    records = (
        posterior_parameters_record(answer, answer.posterior),
        posterior_analysis_record(answer, answer.posterior)["dataset_info"],
    )
    documented = re.findall(r"`(\w+)`", (Path(results.__file__).parent / "OUTPUTS.md").read_text())
    for record in records:
        (stage,) = record["preprocessing"]
        assert stage["method"] == "median" and set(stage) <= set(documented)


def test_given_the_defaults_then_no_output_mentions_preprocessing(config, reference, tmp_path, capfd):
    done = fit(capfd, config, tmp_path / "run", "output.plots=false", "output.report=false")
    assert done.code == 0 and parameters(tmp_path / "run") == reference
    found = tmp_path / "run" / "results"
    for path in ("nlsq/parameters.json", "nlsq/analysis_results_nlsq.json", "summary.json"):
        assert "preprocessing" not in (found / path).read_text()
    assert "preprocessing" not in read_json(found / "provenance.json")["data"]


def test_given_an_even_window_then_the_configuration_is_refused(config):
    with pytest.raises(ConfigError, match="window"):
        load_config(config, ("preprocessing.window=4",))


def test_given_a_stage_then_the_configuration_has_another_fingerprint(config):
    plain = load_config(config)
    changed = config_from_mapping({**plain.to_mapping(), "preprocessing": {"normalization": "mean"}})
    spelled = config_from_mapping({**plain.to_mapping(), "preprocessing": {"window": 3}})
    assert spelled.fingerprint() == plain.fingerprint() != changed.fingerprint()
