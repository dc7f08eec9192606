"""`hpcxpcs fit`, `status`, `gather`, `resume` on a posterior, as their user calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hpcxpcs.cli import main
from tests.cli.fitting import QUICK, read_json, simulated

SHORT = (
    "optimization.cmc.per_shard_mcmc={num_warmup: 150, num_samples: 200, num_chains: 2}",
    "optimization.cmc.validation={min_ess: 50, max_r_hat: 1.1}",
    "optimization.cmc.sharding.num_shards=2",
    "runtime.workers=1",
)


def call(capture: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `hpcxpcs ARGUMENTS` in this process."""
    capture.readouterr()
    code = main([str(argument) for argument in arguments])
    return code, *capture.readouterr()


def settings(*overrides: str) -> list[str]:
    """Overrides as options."""
    return [part for override in overrides for part in ("--set", override)]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated file with its configuration."""
    return simulated(tmp_path_factory.mktemp("measured"), frames=60)


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a complete run."""
    run = tmp_path_factory.mktemp("runs") / "flow"
    fit = ("fit", config, "--run", run, "--method", "cmc", *settings(*QUICK, *SHORT))
    assert main([str(argument) for argument in fit]) == 0
    return run


def drawn(run: Path) -> np.ndarray:
    """The posterior's draws."""
    with np.load(run / "results" / "cmc" / "samples.npz") as samples:
        return samples["posterior_samples"]


def test_given_a_complete_run_then_both_methods_have_left_their_numbers(finished: Path) -> None:
    assert read_json(finished / "results" / "cmc" / "parameters.json")["verdict"] in ("certified", "corrected", "exact")
    assert read_json(finished / "results" / "nlsq" / "parameters.json")["parameters"]["D0"]["value"] > 0.0


def test_given_a_complete_run_then_the_truth_lies_within_its_posterior(finished: Path) -> None:
    found = read_json(finished / "results" / "cmc" / "parameters.json")["parameters"]
    truth = {"D0": 12000.0, "alpha": -0.4, "D_offset": 500.0}
    for name, value in truth.items():
        assert abs(found[name]["mean"] - value) < 4.0 * found[name]["std"], name


def test_given_a_complete_run_when_fitted_again_then_it_says_so_and_leaves_everything(
    finished: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = drawn(finished)
    fit = ("fit", config, "--run", finished, "--method", "cmc", *settings(*QUICK, *SHORT))
    code, out, _ = call(capsys, *fit)
    assert code == 0 and "complete" in out and "--fresh" in out
    np.testing.assert_array_equal(drawn(finished), before)


def test_given_a_complete_run_when_resumed_then_it_says_so(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "resume", finished)
    assert code == 0 and "nothing is left to do" in out


def test_given_a_complete_run_then_status_says_that_all_is_done(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "status", finished, "--json")
    counts = json.loads(out)["counts"]
    assert code == 0 and counts["shard"] == {"done": 2, "running": 0, "waiting": 0, "failed": 0}


def test_given_a_complete_run_when_gathered_again_then_the_draws_are_the_same(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = drawn(finished)
    code, out, _ = call(capsys, "gather", finished)
    assert code == 0 and "verdict" in out
    np.testing.assert_array_equal(drawn(finished), before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("optimization.cmc.per_shard_mcmc.seed=7", "seed was 42, is 7"),
        ("scaling.mode=averaged", 'scaling.mode was "auto", is "averaged"'),
        ("analyzer_parameters.end_frame=50", "end_frame"),
    ],
)
def test_given_another_configuration_when_continued_then_the_first_difference_is_named(
    change: str, words: str, finished: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ("fit", config, "--run", finished, "--method", "cmc", *settings(*QUICK, *SHORT, change))
    code, _, err = call(capsys, *fit)
    assert code == 2 and words in err and "--fresh" in err and "--run" in err


def test_given_a_run_that_lacks_a_shard_when_gathered_then_it_is_named_with_the_remedy(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "flow"
    fit = ("fit", config, "--run", run, "--method", "cmc", "--time-limit", "0", *settings(*QUICK, *SHORT))
    code, _, err = call(capsys, *fit)
    assert code == 75 and "run the same command again" in err
    code, _, err = call(capsys, "gather", run)
    assert code == 1 and "hpcxpcs resume" in err and "prepare-00000" in err


def test_given_a_folder_without_a_run_then_every_command_says_how_to_start_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("status", "resume", "gather", "work"):
        code, _, err = call(capsys, command, tmp_path)
        assert code == 1 and "holds no run" in err and "hpcxpcs fit" in err, command


def test_given_a_run_that_is_not_prepared_when_worked_on_then_its_shards_are_sampled_and_resume_gathers_them(
    finished: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "flow"
    begun = ("fit", config, "--run", run, "--method", "cmc", "--time-limit", "0", *settings(*QUICK, *SHORT))
    assert call(capsys, *begun)[0] == 75
    # a process of its own: a worker takes its cores before JAX is there
    worker = subprocess.run([sys.executable, "-m", "hpcxpcs", "work", run], capture_output=True, text=True, check=True)
    assert "2 of 2 tasks are done" in worker.stdout and "scouting" in worker.stderr
    assert call(capsys, "resume", run)[0] == 0
    np.testing.assert_array_equal(drawn(run), drawn(finished))
