"""`hpcxpcs compare`: the model that made the data wins, and what cannot be compared is refused with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcxpcs
from hpcxpcs.cli import main
from hpcxpcs.data.simulate import NoiseSpec
from tests.cli.fitting import QUICK, read_json
from tests.cli.test_posterior_commands import call, settings
from tests.made_once import made_once

TRUTH = {
    "static": {"D0": 1.2e4, "alpha": -0.4, "D_offset": 0.0},
    "laminar_flow": {
        **{"D0": 1.2e4, "alpha": -0.4, "D_offset": 0.0},
        **{"gamma_dot_t0": 9e-4, "beta": -0.3, "gamma_dot_t_offset": 0.0, "phi0": -4.0},
    },
}
FIXED = {
    "static": "initial_parameters.fixed_parameters={D_offset: 0.0}",
    "laminar_flow": "initial_parameters.fixed_parameters={D_offset: 0.0, gamma_dot_t_offset: 0.0, beta: -0.3}",
}


def make(folder: Path) -> None:
    """Files of both models, each fitted with both, and once more with a given σ: folders DATA-MODEL and given-MODEL."""
    for truth in TRUTH:
        file = folder / f"{truth}.hdf"
        hpcxpcs.simulate(
            hpcxpcs.SimulationSpec(
                truth,
                parameters=TRUTH[truth],
                output=file,
                angles=6,
                frames=60,
                contrast=0.3,
                noise=NoiseSpec("iid", sd=0.02),
                seed=2,
            )
        )
        for model in TRUTH:
            fitted(file, folder / f"{truth}-{model}", model)
    for model in TRUTH:
        fitted(folder / "static.hdf", folder / f"given-{model}", model, "noise.sigma=0.02")


def fitted(file: Path, run: Path, model: str, *overrides: str) -> None:
    config = run.with_suffix(".yaml")
    config.write_text(
        f"analysis_mode: {model}\nexperimental_data: {{file_path: {file}}}\n"
        "analyzer_parameters: {scattering: {wavevector_q: 0.0054}}\nruntime: {workers: 1}\n"
    )
    own = settings(*QUICK, FIXED[model], *overrides)
    assert main(["fit", str(config), "--run", str(run), "--method", "importance", *own]) in (0, 3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "compared", make)


def ranking(capture: pytest.CaptureFixture[str], *folders: Path) -> dict[str, Any]:
    code, out, err = call(capture, "compare", *folders, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_given_a_sheared_sample_then_the_model_with_shear_wins_by_far(runs, capsys):
    found = ranking(capsys, runs / "laminar_flow-static", runs / "laminar_flow-laminar_flow")["runs"]
    assert [one["model"] for one in found] == ["laminar_flow", "static"]
    assert found[1]["difference"] < -100.0 and found[0]["probability"] == pytest.approx(1.0)


def test_given_a_sample_at_rest_then_the_model_without_shear_wins_and_the_priors_are_told(runs, capsys):
    folders = runs / "static-laminar_flow", runs / "static-static"
    best, other = ranking(capsys, *folders)["runs"]
    assert best["model"] == "static" and other["difference"] < -3.0 * other["difference_error"]
    assert best["probability"] + other["probability"] == pytest.approx(1.0)
    assert other["probability"] == pytest.approx(1.0 / (1.0 + np.exp(-other["difference"])))
    code, out, _ = call(capsys, "compare", *folders)
    assert code == 0 and "to the best" in out and "gamma_dot_t0" in out and "equal prior odds" in out


def test_given_an_estimated_noise_then_the_difference_is_that_of_one_noise_for_both(runs, capsys):
    estimated = ranking(capsys, runs / "static-laminar_flow", runs / "static-static")["runs"][1]
    given = ranking(capsys, runs / "given-laminar_flow", runs / "given-static")["runs"][1]
    assert estimated["model"] == given["model"] == "laminar_flow"
    assert estimated["difference"] == pytest.approx(given["difference"], abs=0.25)


def changed(runs: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of static-static whose evidence was changed."""
    shutil.copytree(runs / "static-static", folder)
    path = folder / "results" / "cmc" / "diagnostics.json"
    record = read_json(path)
    change(record["evidence"])
    path.write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("data_fingerprint", "other", "other data"),
        ("frames", [5, 50], "other frames"),
        ("phi", [0.0], "other angles"),
        ("noise_model", "speckle", "another model of the noise (noise.model)"),
        ("noise_scale", "fixed", "noise.scale"),
        ("scaling", "averaged", "scaling.mode"),
    ],
)
def test_given_runs_of_another_likelihood_then_they_are_refused_with_the_reason(
    key, value, words, runs, tmp_path, capsys
):
    def change(found: dict[str, Any]) -> None:
        found["basis"][key] = value

    code, _, err = call(capsys, "compare", runs / "static-static", changed(runs, tmp_path / "run", change))
    assert code == 2 and "cannot be compared" in err and words in err and str(tmp_path / "run") in err


def test_given_a_noise_so_different_that_the_best_fit_would_be_another_then_it_has_to_be_given(runs, tmp_path, capsys):
    def change(found: dict[str, Any]) -> None:
        basis, wider = found["basis"], 1.1
        basis["sigma"][0] *= wider
        # as likely with the one as with the other σ: −N ln σ − R/2σ² is the same
        basis["chi_squared"][0] = 2.0 * basis["pairs"][0] * np.log(wider) / (wider**2 - 1.0)

    code, _, err = call(capsys, "compare", runs / "static-static", changed(runs, tmp_path / "run", change))
    assert code == 2 and "nats open" in err and "noise.sigma=NUMBER" in err


def test_given_a_run_without_evidence_then_its_reason_is_told(runs, tmp_path, capsys):
    def change(found: dict[str, Any]) -> None:
        found.update(log_evidence=None, words="none: the posterior was rejected")

    code, _, err = call(capsys, "compare", runs / "static-static", changed(runs, tmp_path / "run", change))
    assert code == 1 and "none: the posterior was rejected" in err


def test_given_a_folder_without_a_posterior_then_it_is_named(runs, tmp_path, capsys):
    code, _, err = call(capsys, "compare", runs / "static-static", tmp_path)
    assert code == 1 and str(tmp_path) in err and "holds no finished posterior" in err


def test_given_noise_that_pairs_share_then_the_comparison_warns_and_ends_with_3(runs, tmp_path, capsys):
    copy = changed(runs, tmp_path / "run", lambda found: None)
    path = copy / "results" / "cmc" / "analysis_results_cmc.json"
    record = read_json(path)
    record["sampling_quality"]["widening"]["D0"] = 2.0
    path.write_text(json.dumps(record))
    code, out, _ = call(capsys, "compare", copy, runs / "static-laminar_flow")
    assert code == 3 and "careful  pairs share noise" in out


def test_given_one_run_then_a_second_one_is_asked_for(runs, capsys):
    code, _, err = call(capsys, "compare", runs / "static-static", runs / "static-static")
    assert code == 2 and "two runs" in err
