"""Writing a posterior beside the point fit: numbers first and whole, pictures after."""

import hashlib
from dataclasses import replace

import pytest

from hpcxpcs.results import fitted, posterior_plots
from hpcxpcs.results import write as writer
from hpcxpcs.results.write import write_numbers, write_pictures
from tests.results.sample import sample_answer, sample_run, strictly_parsed
from tests.results.sample_posterior import SAMPLED, rejected, sampled_answer
from tests.results.test_write import NUMBERS as FIT_NUMBERS
from tests.results.test_write import names

NUMBERS = FIT_NUMBERS | {
    f"cmc/{name}"
    for name in (
        *("parameters.json", "analysis_results_cmc.json", "diagnostics.json"),
        *("samples.npz", "inference_data.nc"),
    )
}


@pytest.fixture(scope="module")
def answer():
    return sampled_answer(20)


def record(folder, name):
    return strictly_parsed((folder / name).read_text())


def test_given_a_posterior_then_its_numbers_are_there_before_any_picture(answer, tmp_path):
    written = write_numbers(tmp_path / "results", answer)
    assert names(tmp_path / "results") == NUMBERS
    assert all(path.exists() for path in written.files)


def test_given_numbers_then_bands_pictures_and_report_are_added(answer, tmp_path):
    told = []
    folder = tmp_path / "results"
    written = write_pictures(write_numbers(folder, answer), answer, on_progress=told.append)
    assert (written.plots_failed, written.skipped) == ((), ())
    assert names(folder) >= NUMBERS | {"cmc/fitted_data.npz", "nlsq/fitted_data.npz", "plots/forest.png", "report.html"}
    assert told[-3:] == ["file nlsq/fitted_data.npz", "file cmc/fitted_data.npz", "report report.html"]
    digests = record(folder, "provenance.json")["sha256"]
    for name in ("cmc/samples.npz", "cmc/fitted_data.npz", "cmc/inference_data.nc"):
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digests[name]


def test_given_a_point_fit_after_a_posterior_then_no_old_posterior_is_left(answer, tmp_path):
    write_numbers(tmp_path / "results", answer)
    write_numbers(tmp_path / "results", sample_answer(20))
    assert names(tmp_path / "results") == FIT_NUMBERS
    assert record(tmp_path / "results", "summary.json")["posterior"] is None


def test_given_a_posterior_then_the_summary_has_its_verdict_and_headline(answer, tmp_path):
    write_numbers(tmp_path, answer)
    summary = record(tmp_path, "summary.json")
    assert (summary["method"], summary["quality_flag"]) == ("cmc", "good")
    assert summary["verdict"].startswith("Certified")
    assert list(summary["posterior"]["parameters"]) == list(SAMPLED)
    assert summary["posterior"]["parameters"]["D0"]["mean"] == pytest.approx(answer.posterior.draws[..., 0].mean())
    sampling = record(tmp_path, "provenance.json")["sampling"]
    assert (sampling["seed"], sampling["chains"], sampling["settings"]["warmup"]) == (42, 4, 500)


def test_given_a_rejected_posterior_then_the_summary_warns_first_of_it(answer, tmp_path):
    doubtful = replace(sampled_answer(20, **rejected()), run=sample_run(exit_code=3))
    write_numbers(tmp_path, doubtful)
    summary = record(tmp_path, "summary.json")
    assert (summary["exit_code"], summary["quality_flag"]) == (3, "poor")
    assert summary["warnings"][0] == "shard 2 was left out"
    assert summary["posterior"]["recommendations"] == ["sample all data at once with method exact"]


def test_given_a_failing_picture_then_no_number_is_lost(answer, tmp_path, monkeypatch):
    def failing(found):
        raise RuntimeError("no ink")

    monkeypatch.setattr(posterior_plots, "energy", failing)
    written = write_pictures(write_numbers(tmp_path, answer), answer, fitted_data=False)
    assert names(tmp_path) >= NUMBERS | {"plots/trace.png", "report.html"}
    assert [item.what for item in written.plots_failed] == ["plots/energy.png"]
    assert "RuntimeError: no ink" in written.report.read_text()


def test_given_bands_above_the_limit_then_the_summary_says_why_there_are_none(answer, tmp_path, monkeypatch):
    size = 6 * 3 * 20**2 * 4
    monkeypatch.setattr(
        writer, "reason_to_skip", lambda path, data, matrices: fitted.reason_to_skip(path, data, matrices, size)
    )
    write_pictures(write_numbers(tmp_path, answer), answer, plots=False, report=False)
    skipped = record(tmp_path, "summary.json")["files_skipped"]
    assert [item["file"] for item in skipped] == ["cmc/fitted_data.npz"]
    assert names(tmp_path) == NUMBERS | {"nlsq/fitted_data.npz"}
