"""Writing results: numbers first, whole; pictures after; nothing old in between."""

import datetime
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from hpcxpcs import __version__
from hpcxpcs.errors import OutputError
from hpcxpcs.results import fitted, plots
from hpcxpcs.results import write as writer
from hpcxpcs.results.write import write_numbers, write_pictures
from tests.results.sample import CONFIG, NAMES, sample_answer, sample_run, strictly_parsed

ROOT = Path(__file__).parents[2]
NUMBERS = {
    "nlsq/parameters.json",
    "nlsq/analysis_results_nlsq.json",
    "nlsq/convergence_metrics.json",
    "nlsq/covariance.npz",
    "summary.json",
    "provenance.json",
}
PICTURES = {
    f"plots/{name}.png"
    for name in (
        *("c2_phi_-12.5", "c2_phi_0.0", "c2_phi_45.0"),
        *("overview", "angle_scaling", "residual_checks"),
    )
}
EVERYTHING = NUMBERS | PICTURES | {"nlsq/fitted_data.npz", "report.html"}


@pytest.fixture(scope="module")
def answer():
    return sample_answer()


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def record(folder, name):
    return strictly_parsed((folder / name).read_text())


def test_given_an_answer_then_the_numbers_are_there_before_any_picture(answer, tmp_path):
    written = write_numbers(tmp_path / "results", answer)
    assert names(tmp_path / "results") == NUMBERS
    assert all(path.exists() for path in written.files)
    assert record(tmp_path / "results", "summary.json")["pictures"] == "pending"


def test_given_numbers_then_pictures_fitted_data_and_report_are_added(answer, tmp_path):
    told = []
    folder = tmp_path / "results"
    written = write_pictures(write_numbers(folder, answer), answer, on_progress=told.append)
    assert names(folder) == EVERYTHING
    assert written.report == folder / "report.html"
    assert (written.plots_failed, written.skipped) == ((), ())
    assert told[-2:] == ["file nlsq/fitted_data.npz", "report report.html"]
    assert "data:image/png" in written.report.read_text()


@pytest.mark.parametrize("name", ["plots", "report", "fitted_data"])
def test_given_an_output_that_is_switched_off_then_only_that_is_missing(answer, tmp_path, name):
    write_pictures(write_numbers(tmp_path / "r", answer), answer, **{name: False})
    missing = {"plots": PICTURES, "report": {"report.html"}, "fitted_data": {"nlsq/fitted_data.npz"}}[name]
    assert names(tmp_path / "r") == EVERYTHING - missing


def test_given_results_when_written_again_then_the_old_ones_are_gone(answer, tmp_path):
    folder = tmp_path / "results"
    write_pictures(write_numbers(folder, answer), answer, fitted_data=False)
    (folder / "plots" / "mine.png").write_text("old")
    write_numbers(folder, replace(answer, run=sample_run(exit_code=3)))
    assert names(folder) == NUMBERS
    assert record(folder, "summary.json")["exit_code"] == 3
    assert list(tmp_path.iterdir()) == [folder]


def test_given_an_answer_then_the_summary_has_verdict_headline_and_files(answer, tmp_path):
    write_pictures(write_numbers(tmp_path, answer), answer)
    summary = record(tmp_path, "summary.json")
    assert summary["schema_version"] == 1
    assert (summary["status"], summary["exit_code"], summary["exit_code_means"]) == (
        "converged",
        0,
        "converged",
    )
    assert "explains the data" in summary["verdict"]
    assert list(summary["parameters"]) == list(NAMES)
    assert summary["parameters"]["D0"]["uncertainty"] == 120.0
    assert summary["timings"] == {"read": 0.2, "fit": 0.8}
    assert 10**7 < summary["peak_memory_bytes"] < 10**11
    assert summary["warnings"] == []
    assert summary["report"] == "report.html"
    sizes = {item["path"]: item["bytes"] for item in summary["files"]}
    assert set(sizes) == names(tmp_path) - {"summary.json", "provenance.json"}
    assert all((tmp_path / name).stat().st_size == size for name, size in sizes.items())


def test_given_an_answer_then_its_provenance_can_be_checked(answer, tmp_path):
    started = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)
    answer = replace(answer, run=sample_run(started=started))
    write_pictures(write_numbers(tmp_path, answer), answer)
    provenance = record(tmp_path, "provenance.json")
    assert provenance["versions"]["hpcxpcs"] == __version__
    assert provenance["versions"]["jax"][0].isdigit()
    assert (provenance["config"], provenance["config_fingerprint"]) == (CONFIG, "0" * 64)
    assert provenance["data_fingerprint"] == answer.data.fingerprint()
    assert provenance["command"] == ["hpcxpcs", "fit", "flow.yaml"]
    assert provenance["start"] == "2024-05-01T12:00:00+00:00"
    assert provenance["end"].endswith("+00:00")
    assert provenance["cpu_count"] >= 1
    assert set(provenance["sha256"]) == names(tmp_path) - {"summary.json", "provenance.json"}
    for name, digest in provenance["sha256"].items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest


def test_given_no_start_on_record_then_it_follows_from_the_timings(answer, tmp_path):
    write_numbers(tmp_path, answer)
    provenance = record(tmp_path, "provenance.json")
    start, end = (datetime.datetime.fromisoformat(provenance[name]) for name in ("start", "end"))
    assert datetime.timedelta(seconds=1) <= end - start <= datetime.timedelta(seconds=20)


def test_given_a_failing_picture_then_no_number_is_lost_and_everyone_is_told(answer, tmp_path, monkeypatch):
    def failing(answer, summaries):
        raise RuntimeError("no ink")

    monkeypatch.setattr(plots, "overview", failing)
    written = write_pictures(write_numbers(tmp_path, answer), answer)
    assert names(tmp_path) == EVERYTHING - {"plots/overview.png"}
    summary = record(tmp_path, "summary.json")
    assert summary["plots_failed"] == [{"plot": "plots/overview.png", "error": "RuntimeError: no ink"}]
    assert summary["warnings"] == ["1 picture could not be made: see plots_failed"]
    assert "RuntimeError: no ink" in written.report.read_text()


def test_given_fitted_data_above_the_limit_then_the_summary_says_why_there_are_none(answer, tmp_path, monkeypatch):
    monkeypatch.setattr(
        writer, "reason_to_skip", lambda path, data, matrices: fitted.reason_to_skip(path, data, matrices, limit=10)
    )
    write_pictures(write_numbers(tmp_path, answer), answer, plots=False)
    skipped = record(tmp_path, "summary.json")["files_skipped"]
    assert skipped[0]["file"] == "nlsq/fitted_data.npz"
    assert "more than the limit" in skipped[0]["reason"]
    assert names(tmp_path) == NUMBERS | {"report.html"}


def test_given_a_disk_that_is_full_for_fitted_data_then_the_rest_is_written(answer, tmp_path, monkeypatch):
    def failing(path, answer, posterior):
        raise OutputError(f"{path}: {os.strerror(errno.ENOSPC)}")

    monkeypatch.setattr(writer, "write_fitted_data", failing)
    write_pictures(write_numbers(tmp_path, answer), answer, plots=False)
    assert "No space left" in record(tmp_path, "summary.json")["files_skipped"][0]["reason"]
    assert names(tmp_path) == NUMBERS | {"report.html"}


def test_given_a_folder_that_cannot_be_made_then_the_error_names_it(answer, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=str(tmp_path / "file" / "results")):
        write_numbers(tmp_path / "file" / "results", answer)


WRITE_AND_DIE = textwrap.dedent(
    """
    import os, signal, sys
    from dataclasses import replace
    from pathlib import Path
    from hpcxpcs.files import atomic
    from hpcxpcs.results.write import write_numbers, write_pictures
    from tests.results.sample import sample_answer, sample_run

    folder, last = Path(sys.argv[1]), sys.argv[2]

    def fault(step):
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)

    answer = replace(sample_answer(), run=sample_run(exit_code=3))
    atomic.reached = fault
    write_pictures(write_numbers(folder, answer), answer, plots=False, report=False)
    """
)


@pytest.mark.parametrize(
    ("step", "code", "files"),
    [
        ("renamed parameters.json", 0, NUMBERS),
        ("synced summary.json", 0, NUMBERS),
        ("swapped results", 3, NUMBERS),
        ("written fitted_data.npz", 3, NUMBERS),
    ],
)
def test_given_a_kill_while_results_are_replaced_then_a_whole_set_is_there(answer, tmp_path, step, code, files):
    folder = tmp_path / "results"
    write_numbers(folder, answer)
    child = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(folder), step], cwd=ROOT, check=False)
    assert child.returncode == -signal.SIGKILL
    assert {name for name in names(folder) if not any(part.startswith(".") for part in Path(name).parts)} == files
    assert record(folder, "summary.json")["exit_code"] == code
    known = json.loads((folder / "provenance.json").read_text())["sha256"]
    for name, digest in known.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
