"""`hpcxpcs fit` as it is called: what it prints, what it leaves behind, and what it leaves alone."""

import hashlib
import os
import pty
import subprocess
import sys
from contextlib import suppress
from html.parser import HTMLParser

import numpy as np
import pytest

import hpcxpcs
from hpcxpcs.cli import main
from tests.cli.fitting import QUICK, Outcome, content, fit, parameters, read_json, simulated

FILES = {
    "summary.json",
    "provenance.json",
    "report.html",
    *(f"nlsq/{name}.json" for name in ("parameters", "analysis_results_nlsq", "convergence_metrics")),
    *(f"nlsq/{name}.npz" for name in ("covariance", "fitted_data")),
    *(f"plots/{name}.png" for name in ("overview", "residual_checks", "angle_scaling")),
    *(f"plots/c2_phi_{phi}.png" for phi in ("-120.0", "0.0", "120.0")),
}
KEYS = {
    "nlsq/parameters.json": {
        *("schema_version", "analysis_mode", "conventions", "convergence_status", "chi_squared"),
        *("reduced_chi_squared", "parameters", "scaling", "sigma", "noise_scale", "data_scale", "alternatives"),
    },
    "nlsq/analysis_results_nlsq.json": {
        *("schema_version", "fit_quality", "dataset_info", "optimization_summary", "correlations"),
    },
    "nlsq/convergence_metrics.json": {
        *("schema_version", "convergence", "recovery_actions", "quality_flag", "quality_warnings"),
        *("quality_validation_passed", "device_info", "compression", "starts"),
    },
    "summary.json": {
        *("schema_version", "status", "verdict", "exit_code", "parameters", "timings", "files", "warnings"),
        *("peak_memory_bytes", "plots_failed", "files_skipped", "report"),
        *("run_id", "metrics", "phases", "processes", "messages"),
    },
    "provenance.json": {
        *("schema_version", "versions", "config", "config_fingerprint", "data", "data_fingerprint", "host"),
        *("command", "start", "end", "sha256", "cpu_count", "timings", "phases"),
    },
}
PARAMETER_KEYS = {"value", "uncertainty", "robust_uncertainty", "unit", "bounds", "bounds_from", "at_bound", "fixed"}
NAMES = ("D0", "alpha", "D_offset")


def started(folder, *arguments, **settings):
    """Run `python -m hpcxpcs` in `folder` as a process of its own, not on a terminal."""
    command = [sys.executable, "-m", "hpcxpcs", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, **settings)
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A simulated file with its configuration."""
    return simulated(tmp_path_factory.mktemp("measured"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working directory of the finished run."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def finished(config, folder):
    """One run with everything that is written by default."""
    return started(folder, "fit", config, "--method", "nlsq")


@pytest.fixture(scope="module")
def results(finished, folder):
    """The folder of its results."""
    return folder / "runs" / "flow" / "results"


def test_a_fit_that_converges_ends_with_exit_code_0_and_the_answer_beside_the_truth(finished, results):
    assert finished.code == 0, finished.err
    rows = {line.split()[0]: line for line in finished.out.splitlines() if line.split()[:1]}
    for name, truth in {"D0": "12000", "alpha": "-0.4", "D_offset": "500"}.items():
        assert "±" in rows[name] and f" {truth} " in rows[name] and rows[name].endswith("σ")
    assert "converged" in rows["verdict"]
    assert rows["numbers"].split()[1] == "runs/flow/results/nlsq/parameters.json"
    assert rows["report"].split()[1] == "runs/flow/results/report.html"
    assert (results / "report.html").is_file()


def test_the_answer_goes_to_stdout_and_progress_to_stderr_as_plain_lines(finished):
    assert all(line.startswith("hpcxpcs: [") for line in finished.err.splitlines())
    assert "reading flow.hdf" in finished.err
    assert "hpcxpcs: [" not in finished.out
    assert "\x1b" not in finished.out + finished.err and "\r" not in finished.out + finished.err


def test_every_documented_file_is_there_and_no_other(results):
    assert {str(path) for path in content(results)} == FILES


def test_nothing_but_the_run_folder_is_written(finished, folder, config):
    assert [path.name for path in folder.iterdir()] == ["runs"]
    assert sorted(p.name for p in config.parent.iterdir()) == ["flow.hdf", "flow.hdf.truth.json", "flow.yaml"]
    written = {str(path.relative_to(folder)) for path in (folder / "runs").glob("*/*")}
    assert written == {"runs/flow/claims", "runs/flow/logs", "runs/flow/results"}


@pytest.mark.parametrize("name", KEYS)
def test_every_json_file_is_strict_and_has_its_documented_keys(results, name):
    assert KEYS[name] <= set(read_json(results / name))


def test_parameters_hold_value_errors_unit_and_bounds_and_scaling_by_angle(results):
    record = read_json(results / "nlsq" / "parameters.json")
    assert record["convergence_status"] == "converged" and record["analysis_mode"] == "static"
    assert tuple(record["parameters"]) == NAMES
    for entry in record["parameters"].values():
        assert set(entry) == PARAMETER_KEYS
        assert entry["bounds"][0] < entry["value"] < entry["bounds"][1]
        assert entry["uncertainty"] > 0 and entry["robust_uncertainty"] > 0 and not entry["at_bound"]
    angles = record["scaling"]["per_angle"]
    assert [angle["phi"] for angle in angles] == [-120.0, 0.0, 120.0]
    assert all(0.2 < angle["contrast"] < 0.4 and angle["offset_uncertainty"] > 0 for angle in angles)


def test_the_answer_is_the_truth_within_its_errors(results):
    truth = {"D0": 1.2e4, "alpha": -0.4, "D_offset": 500.0}
    for name, entry in read_json(results / "nlsq" / "parameters.json")["parameters"].items():
        assert abs(entry["value"] - truth[name]) < 4 * entry["uncertainty"]


def test_the_covariance_belongs_to_the_quoted_errors(results):
    quoted = read_json(results / "nlsq" / "parameters.json")["parameters"]
    with np.load(results / "nlsq" / "covariance.npz", allow_pickle=False) as archive:
        names, matrix, robust = (archive[key] for key in ("names", "covariance", "robust_covariance"))
    scaling = [f"{kind}[{k}]" for kind in ("contrast", "offset") for k in range(3)]
    assert names.tolist() == [*NAMES, *scaling]
    for k, name in enumerate(NAMES):
        assert np.isclose(np.sqrt(matrix[k, k]), quoted[name]["uncertainty"], rtol=1e-12)
        assert np.isclose(np.sqrt(robust[k, k]), quoted[name]["robust_uncertainty"], rtol=1e-12)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_fitted_data_hold_data_theory_and_residuals_of_every_angle(results):
    sigma = read_json(results / "nlsq" / "parameters.json")["sigma"]["per_angle"]
    with np.load(results / "nlsq" / "fitted_data.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    stacks = ("c2_exp", "c2_theoretical_raw", "c2_theoretical_scaled", "residuals", "residuals_normalized")
    assert {name: arrays[name].shape for name in stacks} == dict.fromkeys(stacks, (3, 40, 40))
    assert arrays["phi_angles"].tolist() == [-120.0, 0.0, 120.0]
    assert arrays["q"] == 0.0054 and np.allclose(arrays["t1"], 0.1 * np.arange(40))
    contrast, offset = arrays["per_angle_scaling"].T[:, :, None, None]
    theory = offset + contrast * arrays["c2_theoretical_raw"]
    assert np.allclose(arrays["c2_theoretical_scaled"], theory, atol=1e-6)
    residuals = arrays["c2_exp"] - arrays["c2_theoretical_scaled"]
    assert np.allclose(arrays["residuals"], residuals, atol=1e-6, equal_nan=True)
    noise = np.array([angle["sigma"] for angle in sigma])[:, None, None]
    assert np.allclose(arrays["residuals_normalized"], residuals / noise, atol=1e-3, equal_nan=True)


def test_the_summary_lists_every_file_and_the_provenance_its_hash(results):
    listed = {entry["path"]: entry["bytes"] for entry in read_json(results / "summary.json")["files"]}
    records = {"summary.json", "provenance.json"}
    assert listed == {name: (results / name).stat().st_size for name in FILES - records}
    hashes = read_json(results / "provenance.json")["sha256"]
    assert hashes == {name: hashlib.sha256((results / name).read_bytes()).hexdigest() for name in listed}


class References(HTMLParser):
    """Collects everything that a browser would fetch, and the text."""

    def __init__(self):
        super().__init__()
        self.fetched, self.tags, self.words = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        loading = ("src", "href", "srcset", "data", "action", "poster", "background")
        self.fetched += [value for name, value in attributes if name in loading]
        self.words += [value for name, value in attributes if name == "style"]

    def handle_data(self, data):
        self.words.append(data)


def test_the_report_is_one_page_that_needs_no_network(results):
    page = References()
    page.feed((results / "report.html").read_text("utf-8"))
    assert len(page.fetched) == page.tags.count("img") == 6
    assert all(address.startswith("data:image/png;base64,") for address in page.fetched)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    text = " ".join(page.words)
    assert "@import" not in text and "url(" not in text
    assert all(name in text for name in (*NAMES, "contrast", "converged", "couette"))


def test_a_second_run_replaces_the_first_and_never_mixes(config, tmp_path, capfd):
    assert fit(capfd, config, tmp_path / "run", "output.fitted_data=false", "output.report=false").code == 0
    (tmp_path / "run" / "results" / "left_over.txt").write_text("of another time")
    assert (tmp_path / "run" / "results" / "plots" / "overview.png").is_file()
    assert fit(capfd, config, tmp_path / "run", *QUICK).code == 0
    numbers = {name for name in FILES if name.endswith(".json")} | {"nlsq/covariance.npz"}
    assert {str(path) for path in content(tmp_path / "run" / "results")} == numbers
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"claims", "logs", "results"}


def test_replacing_the_results_of_another_configuration_is_announced(config, tmp_path, capfd):
    assert fit(capfd, config, tmp_path / "run", *QUICK).code == 0
    again = fit(capfd, config, tmp_path / "run", *QUICK)
    other = fit(capfd, config, tmp_path / "run", *QUICK, "analyzer_parameters.end_frame=40")
    assert "another configuration" not in again.err
    assert "holds results of another configuration" in other.err


def test_a_fit_that_fails_leaves_the_old_results_whole(config, tmp_path, capfd):
    assert fit(capfd, config, tmp_path / "run", *QUICK).code == 0
    before = content(tmp_path / "run")
    for mistake, code in (("analyzer_parameters.end_frame=4000", 1), ("scaling.mode=none", 2)):
        assert fit(capfd, config, tmp_path / "run", *QUICK, mistake).code == code
        assert content(tmp_path / "run") == before


def test_set_overrides_single_keys_of_the_file(config, tmp_path, capfd):
    changes = (
        "scaling.mode=individual",
        "analyzer_parameters.end_frame=30",
        "data_filtering.dead_frames=[7]",
    )
    outcome = fit(capfd, config, tmp_path / "run", *QUICK, *changes)
    assert outcome.code == 0 and "scaling individual" in outcome.out and "30 frames" in outcome.out
    results = tmp_path / "run" / "results"
    settings = read_json(results / "provenance.json")["config"]
    assert settings["scaling"]["mode"] == "individual" and settings["analyzer_parameters"]["end_frame"] == 30
    assert read_json(results / "nlsq" / "parameters.json")["scaling"]["mode"] == "individual"
    pairs = read_json(results / "nlsq" / "analysis_results_nlsq.json")["dataset_info"]["total_data_points"]
    assert pairs == 3 * 28 * 27 / 2


def test_notes_on_the_data_are_shown_with_the_answer(config, tmp_path, capfd):
    changes = ("analyzer_parameters.dt=0.05", "output.plots=false", "output.fitted_data=false")
    outcome = fit(capfd, config, tmp_path / "run", *changes)
    assert "note     warning: analyzer_parameters.dt = 0.05 s is used, but the file says 0.1 s" in outcome.out
    page = (tmp_path / "run" / "results" / "report.html").read_text("utf-8")
    assert "but the file says 0.1 s" in page


def test_without_run_the_results_go_to_the_output_directory_under_the_name_of_the_configuration(
    config, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    settings = [part for key in (*QUICK, "output.directory=here/and/there") for part in ("--set", key)]
    assert main(["fit", str(config), *settings]) == 0
    assert (tmp_path / "here" / "and" / "there" / "flow" / "results" / "summary.json").is_file()


@pytest.fixture(scope="module")
def shown(config, tmp_path_factory):
    """A run whose stderr is a terminal, in an environment without a usable home: Outcome, and its folder."""
    folder = tmp_path_factory.mktemp("bare")
    ours, theirs = pty.openpty()
    options = [part for override in QUICK for part in ("--set", override)]
    command = [sys.executable, "-m", "hpcxpcs", "fit", str(config), *options]
    bare = {"HOME": "/dev/null", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=folder, env=bare, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        progress = b""
        with suppress(OSError):  # the terminal hangs up when the process ends
            while part := os.read(ours, 4096):
                progress += part
        answer = process.stdout.read()
    os.close(ours)
    return Outcome(process.returncode, answer.decode(), progress.decode()), folder


def test_on_a_terminal_progress_is_one_live_line_that_is_cleared_before_the_answer(shown):
    outcome, _ = shown
    lines = outcome.err.split("\r\x1b[K")
    assert "reading flow.hdf" in lines and lines[-1] == ""
    assert [line for line in lines if "\n" in line and "warning" not in line] == []
    assert "\x1b" not in outcome.out and "verdict" in outcome.out


def test_without_a_usable_home_a_fit_warns_that_nothing_is_cached_and_goes_on(shown):
    outcome, folder = shown
    assert outcome.code == 0, outcome.err
    warned = [line for line in outcome.err.split("\r\x1b[K") if "\n" in line]
    assert len(warned) == 1
    assert warned[0].startswith("hpcxpcs: warning: compiled code cannot be kept in /dev/null/")
    assert "runtime.compilation_cache_dir" in warned[0]
    assert [path.name for path in folder.iterdir()] == ["runs"]


def test_a_cache_folder_that_was_asked_for_and_cannot_be_is_an_error(config, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    outcome = fit(capfd, config, tmp_path / "run", f"runtime.compilation_cache_dir={tmp_path}/file/cache")
    assert outcome.code == 1
    assert "compilation_cache_dir" in outcome.err and f"{tmp_path}/file/cache" in outcome.err
    assert not (tmp_path / "run").exists()


def test_python_callers_get_data_answer_and_truth(config, tmp_path):
    data = hpcxpcs.load(config)
    assert data.phi.tolist() == [-120.0, 0.0, 120.0] and data.n_frames == 40 and data.dt == 0.1
    found = hpcxpcs.fit(config, run=tmp_path, overrides=QUICK)
    assert found.ok and found.exit_code == 0 and found.point.names == NAMES
    assert found.truth["parameters"]["D0"] == 1.2e4
    assert {name: entry["value"] for name, entry in parameters(tmp_path).items()} == dict(
        zip(NAMES, found.point.values.tolist(), strict=True)
    )


def test_python_callers_and_the_command_get_the_same_numbers(results, config, tmp_path):
    found = hpcxpcs.fit(str(config), run=tmp_path, overrides=QUICK)
    printed = read_json(results / "nlsq" / "parameters.json")["parameters"]
    for k, name in enumerate(NAMES):
        assert np.isclose(found.point.values[k], printed[name]["value"], rtol=1e-9)


def test_a_mapping_is_a_configuration_too(config, tmp_path):
    settings = {
        "analysis_mode": "static",
        "experimental_data": {"file_path": str(config.with_suffix(".hdf"))},
        "analyzer_parameters": {"scattering": {"wavevector_q": 0.0054}},
        "optimization": {"method": "nlsq"},
        "output": {"plots": False, "report": False, "fitted_data": False, "directory": str(tmp_path)},
    }
    assert hpcxpcs.fit(settings).ok
    assert (tmp_path / "run" / "results" / "summary.json").is_file()
