"""`hpcxpcs fit old.yaml`: configurations of the published programs, run as they are, recover the truth."""

import json
import re
from pathlib import Path

import pytest
import yaml

import hpcxpcs
from hpcxpcs.cli import main
from hpcxpcs.config import load_config
from hpcxpcs.data.simulate import noise_spec
from hpcxpcs.errors import OldConfigurationWarning
from tests.cli.fitting import QUICK, fit, parameters, read_json

OLD = Path(__file__).parents[1] / "config" / "dialects"
TWO = {
    **{"D0_ref": 4e3, "D0_sample": 3e4, "v0": 900.0, "f0": 0.45, "phi0": 3.0},
    **dict.fromkeys(("alpha_ref", "D_offset_ref", "alpha_sample", "D_offset_sample", "beta", "v_offset"), 0.0),
    **dict.fromkeys(("f1", "f2", "f3"), 0.0),
}
SHEARED = {
    **{"D0": 1.5e4, "alpha": -0.4, "D_offset": 100.0, "gamma_dot_t0": 0.01, "beta": -0.3},
    **{"gamma_dot_t_offset": 0.0, "phi0": -2.0},
}
PUBLISHED = {
    "homodyne_static": {
        "model": "static",
        "parameters": {"D0": 1.5e4, "alpha": -0.4, "D_offset": 100.0},
        "phi": (-5.0, 0.0, 5.0, 90.0),
    },
    "homodyne_laminar": {
        "model": "laminar_flow",
        "parameters": SHEARED,
        "phi": (-8.0, 0.0, 8.0, 86.0, 90.0),
    },
    "homodyne_master": {
        "model": "laminar_flow",
        "parameters": SHEARED,
        "phi": (-8.0, 0.0, 8.0, 86.0, 90.0),
    },
    "heterodyne_flat": {"model": "two_component", "parameters": TWO, "phi": (-60.0, 0.0, 45.0, 90.0)},
    "heterodyne_grouped": {"model": "two_component", "parameters": TWO, "phi": (-60.0, 0.0, 45.0, 90.0)},
}


def published(folder, name, *, kind="yaml", dt=0.1, frames=60):
    """The old configuration beside data of its own formulas; only file, time step and frames are filled in."""
    setting = PUBLISHED[name]
    hpcxpcs.simulate(
        hpcxpcs.SimulationSpec(
            setting["model"],
            output=folder / "measured.hdf",
            parameters=setting["parameters"],
            phi=setting["phi"],
            frames=frames,
            dt=dt,
            contrast=0.3,
            seed=11,
            noise=noise_spec("iid", sd=0.003, frame_sd=None, photons=None, pixels=None),
            shear_law="homodyne-2" if setting["model"] == "laminar_flow" else "couette",
            integrator="trapezoid",
            heterodyne="heterodyne-2" if setting["model"] == "two_component" else "physical",
        )
    )
    text = (OLD / f"{name}.yaml").read_text("utf-8")
    settings = yaml.safe_load(text)
    data = settings["experimental_data"]
    data.update({key: "measured.hdf" for key in ("file_path", "data_file_name") if key in data})
    data.update({"data_folder_path": "./"} if "data_folder_path" in data else {})
    for section, key in (("analyzer_parameters", "end_frame"), ("temporal", "time_length")):
        if section in settings:
            settings[section].update({"dt": dt, key: frames})
    path = folder / f"old.{kind}"
    as_yaml = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    path.write_text(as_yaml if kind == "yaml" else json.dumps(settings), "utf-8")
    return path


@pytest.mark.parametrize("kind", ["yaml", "json"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_given_a_published_configuration_when_fitted_as_it_is_then_the_truth_lies_within_the_errors(
    name, kind, tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    old = published(tmp_path, name, kind=kind)
    told = fit(capfd, old, tmp_path / "run", *QUICK, options=("--method", "nlsq"))
    assert told.code == 0, told.err + told.out
    warned = [line for line in told.err.splitlines() if "warning" in line]
    assert len(warned) == 1
    assert re.search(rf"old\.{kind} is a configuration of {name.split('_')[0]}, read with \d+ changes", warned[0])
    assert f"`hpcxpcs config migrate {old}`" in warned[0]
    found = parameters(tmp_path / "run")
    for key, value in PUBLISHED[name]["parameters"].items():
        one = found[key]
        if one["fixed"]:
            assert one["value"] == value, key
        else:
            error = max(one["uncertainty"], one["robust_uncertainty"] or 0.0)
            assert abs(one["value"] - value) < 4 * error, (key, one)
            assert 0 < error < 0.05 * (one["bounds"][1] - one["bounds"][0]), (key, one)


@pytest.mark.timeout(600)
def test_given_the_example_of_homodynes_document_when_fitted_as_it_stands_then_the_truth_lies_within_the_errors(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    truth = {**SHEARED, "D0": 3e3, "gamma_dot_t0": 1e-3}
    hpcxpcs.simulate(
        hpcxpcs.SimulationSpec(
            "laminar_flow",
            output=tmp_path / "data" / "experiment.hdf5",
            format="legacy",
            parameters=truth,
            phi=(-60.0, 0.0, 45.0, 86.0, 120.0),
            frames=40,
            q=0.0123,
            extra_q=1,
            contrast=0.3,
            seed=11,
            noise=noise_spec("iid", sd=0.003, frame_sd=None, photons=None, pixels=None),
            shear_law="homodyne-2",
            integrator="trapezoid",
        )
    )
    text = (OLD / "homodyne_document.yaml").read_text("utf-8")
    old = tmp_path / "homodyne.yaml"
    old.write_text(text.replace("/path/to/data", str(tmp_path / "data")), "utf-8")
    told = fit(capfd, old, tmp_path / "run", *QUICK, "optimization.nlsq.multi_start=2")
    assert told.code == 0, told.err + told.out
    assert "4 angles × 40 frames, q = 0.0123" in told.out  # 120 degrees are outside of the range
    found = parameters(tmp_path / "run")
    for key, value in truth.items():
        error = max(found[key]["uncertainty"], found[key]["robust_uncertainty"] or 0.0)
        assert abs(found[key]["value"] - value) < 4 * error, (key, found[key])


def test_given_angles_to_leave_out_when_an_old_file_is_fitted_then_they_are_not_in_the_fit(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    old = published(tmp_path, "heterodyne_flat", frames=30)
    settings = yaml.safe_load(old.read_text("utf-8"))
    settings["phi_filtering"] = {"exclude_angles": [45.0], "tolerance": 3.0}
    settings["optimization"]["nlsq"]["analysis_mode"] = "static_ref"
    settings["logging"] = {"level": "INFO", "file": "heterodyne.log"}
    old.write_text(yaml.safe_dump(settings, allow_unicode=True), "utf-8")
    told = fit(capfd, old, tmp_path / "run", *QUICK, options=("--method", "nlsq"))
    assert "3 angles × 30 frames" in told.out, told.err
    assert "45°" not in told.out


@pytest.mark.parametrize("place", ["cache.npz", "cache.npz/inside"])
def test_given_a_cache_that_is_a_file_when_fitted_then_it_is_said_before_anything_is_read(
    place, tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cache.npz").touch()
    old = published(tmp_path, "homodyne_static", frames=20)
    cache = f"runtime.data_cache={tmp_path / place}"
    told = fit(capfd, old, tmp_path / "run", cache, options=("--method", "nlsq"))
    assert told.code == 2
    assert f"runtime.data_cache: {tmp_path}/cache.npz is a file; name a folder" in told.err
    assert main(["cache", "list", str(_with_cache(tmp_path, tmp_path / place))]) == 2


def _with_cache(folder, place):
    path = folder / "ours.yaml"
    path.write_text(
        "analysis_mode: static\nexperimental_data: {file_path: measured.hdf}\n"
        "analyzer_parameters: {scattering: {wavevector_q: 0.0054}}\n"
        f"runtime: {{data_cache: '{place}'}}\n"
    )
    return path


def test_given_old_stages_judgement_and_a_held_parameter_when_fitted_then_the_run_did_them_and_says_so(
    tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    old = published(tmp_path, "homodyne_static")
    settings = yaml.safe_load(old.read_text("utf-8"))
    settings["preprocessing"] = {"enabled": True, "stages": {"normalize_data": {"method": "mean"}}}
    settings["quality_control"] = {"enabled": True, "validation_level": "basic"}
    settings["initial_parameters"]["fixed_parameters"] = {"D_offset": 100.0}
    old.write_text(yaml.safe_dump(settings, allow_unicode=True), "utf-8")
    told = fit(capfd, old, tmp_path / "run", *QUICK, options=("--method", "nlsq"))
    assert told.code == 0, told.err + told.out
    results = tmp_path / "run" / "results"
    stages = read_json(results / "provenance.json")["data"]["preprocessing"]
    assert [stage["stage"] for stage in stages] == ["normalization", "standardise", "validate"]
    judged = read_json(results / "quality.json")
    assert (judged["level"], judged["auto_repair"]) == ("basic", "conservative")
    held = parameters(tmp_path / "run")["D_offset"]
    assert held["fixed"] and held["value"] == 100.0


def test_given_an_old_configuration_when_it_is_checked_then_the_model_and_one_warning_are_shown(capfd):
    assert main(["config", "check", str(OLD / "homodyne_laminar.yaml")]) == 0
    shown = capfd.readouterr()
    assert "laminar_flow" in shown.out
    assert shown.err.count("warning") == 1
    assert shown.err.count("\n") == 1


def test_given_a_rank_other_than_the_first_when_an_old_file_is_read_then_it_says_nothing(capfd, monkeypatch):
    monkeypatch.setenv("PMI_RANK", "3")
    assert main(["config", "check", str(OLD / "homodyne_static.yaml")]) == 0
    assert capfd.readouterr().err == ""


def test_given_an_old_configuration_when_migrated_then_the_new_file_is_the_same_analysis(capfd, tmp_path):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_bytes((OLD / "homodyne_master.yaml").read_bytes())
    assert main(["config", "migrate", str(old), "-o", str(new)]) == 0
    table = capfd.readouterr().out
    assert re.search(r"phi_filtering\.target_ranges .* replaced by data_filtering\.phi_ranges", table)
    assert re.search(r"homodyne: \d+ kept, \d+ renamed, \d+ replaced by, \d+ dropped", table)
    with pytest.warns(OldConfigurationWarning):
        direct = load_config(old)
    assert load_config(new).fingerprint() == direct.fingerprint()
    assert "# phi_filtering.target_ranges (line" in new.read_text("utf-8")
    assert main(["config", "migrate", str(new)]) == 2
    assert "is no configuration of homodyne or heterodyne" in capfd.readouterr().err


def test_given_a_new_folder_when_migrated_then_the_data_file_stays_the_same(capfd, tmp_path):
    old, new = tmp_path / "old.yaml", tmp_path / "elsewhere" / "new.yaml"
    new.parent.mkdir()
    old.write_bytes((OLD / "heterodyne_grouped.yaml").read_bytes())
    assert main(["config", "migrate", str(old), "-o", str(new)]) == 0
    with pytest.warns(OldConfigurationWarning):
        direct = load_config(old)
    assert load_config(new).data_file.resolve() == direct.data_file.resolve()


def test_given_what_changes_the_answer_when_migrated_then_it_takes_an_accept(capfd, tmp_path):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    text = (OLD / "homodyne_laminar.yaml").read_text("utf-8")
    old.write_text(text.replace("loss: soft_l1", "loss: cauchy"), "utf-8")
    line = 1 + old.read_text("utf-8").splitlines().index("    loss: cauchy")
    for command in (["fit"], ["submit"], ["config", "check"], ["config", "migrate"]):
        assert main([*command, str(old)]) == 2, command
        said = capfd.readouterr().err
        assert f'old.yaml:{line}: optimization.nlsq.loss: "cauchy" has no counterpart' in said, command
        assert "--accept" in said
    assert main(["config", "migrate", str(old), "-o", str(new)]) == 2
    assert not new.exists()
    assert main(["config", "migrate", str(old), "-o", str(new), "--accept"]) == 0
    assert "CHANGES THE ANSWER" in capfd.readouterr().out
    assert load_config(new).analysis_mode == "laminar_flow"


@pytest.mark.parametrize("dialect", ["homodyne", "heterodyne"])
def test_given_no_file_when_the_keys_are_asked_for_then_the_whole_table_is_shown(dialect, capfd):
    assert main(["config", "migrate", "--keys", dialect]) == 0
    assert "parameter_space.bounds" in capfd.readouterr().out


def test_given_an_old_configuration_when_submitted_then_it_can_be_sampled(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = published(tmp_path, "homodyne_laminar", frames=30)
    assert main(["submit", str(old), "--dry-run", "--method", "cmc", "--scheduler", "slurm"]) == 0
    shown = capfd.readouterr()
    assert "#SBATCH" in shown.out
    assert "is a configuration of homodyne" in shown.err


def test_given_a_file_without_a_mark_when_migrated_as_homodynes_then_its_formula_is_named(tmp_path, capfd):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(
        "analysis_mode: laminar_flow\nexperimental_data: {file_path: a.hdf}\n"
        "analyzer_parameters: {dt: 0.1, scattering: {wavevector_q: 0.0054}}\n"
    )
    assert main(["config", "migrate", str(old), "-o", str(new)]) == 2
    assert main(["config", "migrate", str(old), "-o", str(new), "--from", "homodyne"]) == 0
    assert load_config(new).conventions.shear_law == "homodyne-2"
