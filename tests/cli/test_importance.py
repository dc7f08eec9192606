"""A posterior from weighed independent draws, as its user calls it: whole, repeatable, honest where it does not do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray

from hpcxpcs.cli import main
from hpcxpcs.pipeline import gather
from tests.cli.fitting import QUICK, read_json, simulated
from tests.cli.test_posterior_commands import call, drawn, settings

ONE = ("runtime.workers=1",)
CHAINS = "optimization.cmc.per_shard_mcmc={num_warmup: 100, num_samples: 100, num_chains: 2}"
LENIENT = "optimization.cmc.validation={min_ess: 50, max_r_hat: 1.2}"
HOPELESS = ("optimization.cmc.certificate.draws=500", CHAINS, LENIENT, *ONE)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated file with its configuration."""
    return simulated(tmp_path_factory.mktemp("measured"), frames=60)


def command(config: Path, run: Path, *overrides: str) -> list[object]:
    return ["fit", config, "--run", run, "--method", "importance", *settings(*overrides)]


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a complete run, with pictures and report."""
    run = tmp_path_factory.mktemp("runs") / "flow"
    assert main([str(part) for part in command(config, run, "output.fitted_data=false", *ONE)]) == 0
    return run


def test_given_a_complete_run_then_its_files_say_what_was_done_and_have_no_r_hat(finished):
    cmc = finished / "results" / "cmc"
    answer, found = read_json(cmc / "parameters.json"), read_json(cmc / "diagnostics.json")
    assert (answer["method"], answer["route"], answer["verdict"]) == ("importance", "importance", "certified")
    assert "independent draws around the peak" in answer["words"]
    assert answer["convergence"]["all_converged"] and answer["convergence"]["max_r_hat"] is None
    assert all(one["r_hat"] is None and one["ess_bulk"] > 400 for one in answer["parameters"].values())
    assert found["sampling_efficiency"] is None and found["certificate"]["k_hat"] < 0.7
    assert found["evidence"]["log_evidence_error"] < 0.1
    summary = read_json(finished / "results" / "summary.json")
    assert summary["metrics"]["divergences"] is None and summary["posterior"]["log_evidence"] is not None
    with xarray.open_datatree(cmc / "inference_data.nc", engine="h5netcdf") as tree:
        assert "sampled" not in tree.children and list(tree["sample_stats"].data_vars) == ["lp"]
        assert tree["posterior"]["D0"].shape == (4, 1000)
    assert not any((finished / "results" / "plots" / f"{name}.png").exists() for name in ("trace", "rank", "energy"))
    report = (finished / "results" / "report.html").read_text()
    assert "independent draws around the peaks of the posterior were weighed with all data" in report
    assert "R-hat is not defined" in report and "ln Z" in report


def test_given_a_complete_run_then_status_work_and_resume_have_something_sensible_to_say(finished, capsys):
    code, out, _ = call(capsys, "status", finished)
    assert code == 0 and "prepare  1 in all: 1 done" in out and "results are in" in out
    code, out, _ = call(capsys, "resume", finished)
    assert code == 0 and "complete (certified" in out
    done = subprocess.run(
        [sys.executable, "-m", "hpcxpcs", "work", finished], capture_output=True, text=True, check=True
    )
    assert "has no tasks to share out" in done.stdout


def test_given_other_workers_a_stop_and_another_gathering_then_the_draws_are_the_same_bits(
    config, finished, tmp_path, capsys, monkeypatch
):
    run = tmp_path / "flow"
    assert call(capsys, *command(config, run, *QUICK, *ONE), "--time-limit", "0")[0] == 75
    assert "prepare  1 in all: 0 done, 1 waiting" in call(capsys, "status", run)[1]

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(gather, "weighed_draws", killed)
        assert call(capsys, *command(config, run, *QUICK, *ONE))[0] == 130
    assert "all tasks are done: 'hpcxpcs resume" in call(capsys, "status", run)[1]
    assert call(capsys, "resume", run, "--workers", "2")[0] == 0
    assert np.array_equal(drawn(run), drawn(finished))
    assert call(capsys, "gather", run)[0] == 0
    assert np.array_equal(drawn(run), drawn(finished))


def test_given_weights_that_cannot_be_trusted_then_all_data_are_sampled(config, tmp_path, capsys, monkeypatch):
    distrust(monkeypatch)
    code, out, err = call(capsys, *command(config, tmp_path / "run", *QUICK, *HOPELESS))
    assert code == 0, err
    told = read_json(tmp_path / "run" / "results" / "cmc" / "parameters.json")
    assert (told["route"], told["verdict"]) == ("exact", "exact") and "instead of weighed draws" in told["words"]
    assert "all data are sampled instead" in err and "R-hat" in out
    assert "exact    2 in all: 2 done" in call(capsys, "status", tmp_path / "run")[1]


def test_given_weights_that_cannot_be_trusted_and_no_wish_for_chains_then_it_is_rejected(
    config, tmp_path, capsys, monkeypatch
):
    distrust(monkeypatch)
    only = "optimization.cmc.certificate={draws: 500, on_reject: report}"
    code, out, _ = call(capsys, *command(config, tmp_path / "run", *QUICK, only, *ONE))
    assert code == 3 and "Rejected" in out
    told = read_json(tmp_path / "run" / "results" / "cmc" / "diagnostics.json")
    assert (told["route"], told["verdict"]) == ("importance", "rejected")
    assert told["evidence"]["log_evidence"] is None and "rejected" in told["evidence"]["words"]


def distrust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the weights of importance draws be judged by a limit that none can keep."""
    usual = gather.weighed_draws
    monkeypatch.setattr(gather, "weighed_draws", lambda likelihood, **how: usual(likelihood, **{**how, "limit": -9.0}))


def test_given_a_scheduler_then_one_job_is_all_that_is_handed_in(config, tmp_path, capsys):
    ask = ("--method", "importance", "--scheduler", "slurm", "--dry-run")
    code, out, _ = call(capsys, "submit", config, "--run", tmp_path / "run", *ask)
    assert code == 0 and "resume" in out and "--array" not in out


def test_given_a_status_as_json_then_a_plan_without_tasks_is_no_finished_run(config, tmp_path, capsys):
    run = tmp_path / "flow"
    assert call(capsys, *command(config, run, *QUICK, *ONE), "--time-limit", "0")[0] == 75
    found = json.loads(call(capsys, "status", run, "--json")[1])
    assert found["state"] == "waiting" and found["method"] == "importance"
