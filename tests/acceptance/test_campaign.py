"""A campaign: every item is a single fit, whoever does it, and whatever happens on the way."""

from __future__ import annotations

import csv
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import hpcxpcs
from hpcxpcs.errors import ConfigError
from tests.acceptance.jobs import PROGRAM, Job, Jobs, draws, hooked, ranks
from tests.cli.fitting import QUICK, read_json, simulated

SAMPLING = {
    "method": "nlsq",
    "cmc": {
        "sharding": {"num_shards": 4},
        "per_shard_mcmc": {"num_warmup": 60, "num_samples": 60, "num_chains": 2},
        "validation": {"max_r_hat": 1.2, "min_ess": 50},
        "certificate": {"on_reject": "report"},
    },
}

TIMES = {"seconds"}
"""Columns of the table that no two runs have alike."""


def written(folder: Path, **campaign: Any) -> Path:
    """The configuration of a campaign over the files of `folder`; workers are two."""
    path = folder / "campaign.yaml"
    settings = {
        "analysis_mode": "static",
        "campaign": {"files": "A_T{temperature:g}K_r{repeat:d}.hdf", "group_by": ["temperature"], **campaign},
        "analyzer_parameters": {"scattering": {"wavevector_q": 0.0054}},
        "optimization": SAMPLING,
        "runtime": {"workers": 2, "ranks_per_machine": 3},
        "output": {"plots": False, "report": False, "fitted_data": False},
    }
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two temperatures with two repeats, and a file that is none."""
    folder = tmp_path_factory.mktemp("campaign")
    for temperature in (290, 300):
        for repeat in (1, 2):
            simulated(folder, name=f"A_T{temperature}K_r{repeat}", seed=temperature + repeat)
    (folder / "A_T310K_r1.hdf").write_text("spoiled")
    written(folder)
    return folder


@pytest.fixture
def jobs(tmp_path: Path, data: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path, data / "campaign.yaml") as found:
        yield found


def table(run: Path) -> list[dict[str, str]]:
    """The rows of the table of a campaign, without what depends on the clock."""
    with (run / "results" / "campaign.csv").open(newline="") as stream:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The campaign as one process does it."""
    folder = tmp_path_factory.mktemp("alone")
    with Jobs(folder, data / "campaign.yaml") as jobs:
        jobs.fit(folder / "run", "--workers", 1, expect=3)
    return folder / "run"


def asked(job_folder: Path, *words: object, expect: int = 0) -> str:
    """What a command of the program prints."""
    job = Job(job_folder / f"asked-{words[0]}", (*PROGRAM, *words), {})
    assert job.wait() == expect, job.text()
    return job.text()


def test_every_item_is_a_row_also_one_that_cannot_be_read(alone):
    rows = table(alone)
    names = {row["item"]: row for row in rows}
    assert set(names) == {"A_T290K_r1", "A_T290K_r2", "A_T300K_r1", "A_T300K_r2", "A_T310K_r1"}
    spoiled = names["A_T310K_r1"]
    assert (spoiled["state"], spoiled["parameter"]) == ("failed", "")
    assert "neither an HDF5 nor an NPZ file" in spoiled["reason"]
    found = [row for row in rows if row["parameter"] == "D0"]
    away = [(float(row["value"]) - float(row["truth"])) / float(row["error"]) for row in found]
    assert len(found) == 4 and np.max(np.abs(away)) < 4.0
    assert (alone / "results" / "campaign.html").exists()


def test_an_item_has_the_bits_of_a_single_fit(alone, tmp_path):
    config = tmp_path / "one.yaml"
    config.write_text(asked(tmp_path, "campaign", "config", alone, "A_T300K_r1"))
    asked(tmp_path, "fit", config, "--run", tmp_path / "single", expect=0)
    asked(tmp_path, "report", alone, "--item", "A_T300K_r1")
    ours, theirs = (
        read_json(place / "nlsq" / "parameters.json")
        for place in (alone / "results" / "items" / "A_T300K_r1", tmp_path / "single" / "results")
    )
    assert {**ours, "timestamp": ""} == {**theirs, "timestamp": ""}


@pytest.mark.parametrize("method", ["importance", "exact", "cmc"])
def test_an_item_that_is_sampled_has_the_draws_of_a_single_run(data, tmp_path, method):
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(data / "A_T290K_r1.hdf", folder)
    shutil.copy(data / "A_T290K_r2.hdf", folder)
    config = written(folder)
    with Jobs(tmp_path, config) as jobs:
        jobs.fit(tmp_path / "run", "--method", method, "--set", "output.items=full", expect=None)
        single = tmp_path / "one.yaml"
        single.write_text(asked(tmp_path, "campaign", "config", tmp_path / "run", "A_T290K_r2"))
        jobs.fit(tmp_path / "single", config=single, expect=None)
    with np.load(tmp_path / "run/results/items/A_T290K_r2/cmc/samples.npz") as archive:
        ours = {name: archive[name] for name in ("posterior_samples", "contrast", "offset", "log_posterior")}
    theirs = draws(tmp_path / "single")
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    median = {row["parameter"]: float(row["value"]) for row in table(tmp_path / "run") if row["item"] == "A_T290K_r2"}
    names = [name for name in median if name in ("D0", "alpha", "D_offset")]
    flat = ours["posterior_samples"].reshape(-1, ours["posterior_samples"].shape[-1])
    np.testing.assert_array_equal([median[name] for name in names], np.median(flat, axis=0)[: len(names)])


@pytest.mark.slow
@pytest.mark.parametrize("before", [(), ranks(3)], ids=["workers", "ranks"])
def test_killed_again_and_again_the_table_is_the_same(jobs, alone, tmp_path, before):
    run = tmp_path / "run"
    slowly = hooked(**{"hpcxpcs.inference.scout:minimise": {"pause": 0.3}})

    def count() -> int:
        return len([path for path in run.glob("items/*/*.h5") if path.name.count(".") == 1])

    for done in (1, 3):
        job = jobs.start(run, before=before, program=slowly)
        job.until(lambda: count() >= done)  # noqa: B023
        job.end(signal.SIGKILL)
    jobs.fit(run, before=before, expect=3)
    assert table(run) == table(alone)
    again = jobs.fit(run, before=before, expect=3)
    assert "nothing is left to do" in again.text()


def test_files_that_come_later_are_added_and_nothing_else_is_computed(data, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    config = written(folder)
    with Jobs(tmp_path, config) as jobs:
        jobs.fit(tmp_path / "grown", expect=3)
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "grown/items").glob("*/*.answer.h5")}
        shutil.copy(data / "A_T290K_r1.hdf", folder / "A_T320K_r1.hdf")
        text = jobs.fit(tmp_path / "grown", expect=3).text()
    assert "4 of 6 items are done, 1 are new" in text
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "grown/items").glob("*/*.answer.h5")}
    assert len(after) == len(before) + 1
    assert {path: after[path] for path in before} == before
    rows = [row for row in table(tmp_path / "grown") if row["item"] == "A_T320K_r1"]
    assert rows and rows[0]["state"] == "done"


def test_a_file_that_changed_is_refused_with_the_difference_and_done_anew_on_request(data, tmp_path):
    folder, run = tmp_path / "data", tmp_path / "run"
    folder.mkdir()
    for repeat in (1, 2):
        shutil.copy(data / f"A_T290K_r{repeat}.hdf", folder)
    with Jobs(tmp_path, written(folder)) as jobs:
        jobs.fit(run)
        first = table(run)
        shutil.copy(data / "A_T300K_r1.hdf", folder / "A_T290K_r2.hdf")
        text = jobs.fit(run, expect=2).text()
        assert "item A_T290K_r2 was computed with something else" in text and "has changed since" in text
        assert "--changed" in text
        jobs.fit(run, "--changed")
        second = table(run)
        assert [row for row in first if row["item"] == "A_T290K_r1"] == [
            row for row in second if row["item"] == "A_T290K_r1"
        ]
        assert first != second
        other = jobs.fit(run, "--set", "scaling.mode=averaged", expect=2).text()
        assert "the setting scaling.mode was" in other


def test_failed_items_are_tried_again_when_asked_and_status_says_why_they_failed(data, tmp_path):
    folder, run = tmp_path / "data", tmp_path / "run"
    folder.mkdir()
    shutil.copy(data / "A_T290K_r1.hdf", folder)
    (folder / "A_T310K_r1.hdf").write_text("spoiled")
    with Jobs(tmp_path, written(folder)) as jobs:
        jobs.fit(run, expect=3)
        told = asked(tmp_path, "status", run)
        assert "temperature 310" in told and "1 failed" in told
        assert "A_T310K_r1: " in told and "neither an HDF5" in told
        shutil.copy(data / "A_T300K_r1.hdf", folder / "A_T310K_r1.hdf")
        assert "1 failed item to try again" in asked(tmp_path, "resume", run, "--failed")
    assert {row["state"] for row in table(run)} == {"done"}


def test_more_work_processes_help_and_gather_writes_the_table_as_far_as_it_is(jobs, alone, tmp_path):
    run = tmp_path / "run"
    slowly = hooked(**{"hpcxpcs.inference.scout:minimise": {"pause": 0.3}})
    job = jobs.start(run, program=slowly)
    job.until(lambda: list(run.glob("items/*/*.answer.h5")))
    job.end(signal.SIGKILL)
    text = asked(tmp_path, "gather", run, expect=75)
    assert "items done" in text
    states = {row["state"] for row in table(run)}
    assert "done" in states and "waiting" in states
    asked(tmp_path, "work", run, expect=1)  # one file cannot be read, so that not every task is done
    asked(tmp_path, "gather", run, expect=3)
    assert table(run) == table(alone)


def test_a_dry_run_shows_all_items_and_writes_nothing(data, tmp_path):
    text = asked(tmp_path, "fit", data / "campaign.yaml", "--dry-run", "--run", tmp_path / "run")
    assert "5 items of 5 files, 1 variants, method nlsq" in text
    assert "A_T310K_r1.hdf cannot be read" in text
    assert not (tmp_path / "run").exists()


def test_options_of_campaigns_are_refused_elsewhere(data, tmp_path):
    for option in ("--dry-run", "--changed"):
        text = asked(tmp_path, "fit", data / "A_T290K_r1.yaml", option, *setting_words(), expect=2)
        assert f"{option} is for campaigns" in text


def test_what_needs_one_file_refuses_a_campaign_and_check_shows_its_items(data, tmp_path):
    config = data / "campaign.yaml"
    assert "5 items of 5 files" in asked(tmp_path, "config", "check", config)
    assert "is a campaign" in asked(tmp_path, "inspect", "--config", config, expect=2)
    with pytest.raises(ConfigError, match="is a campaign"):
        hpcxpcs.fit(config, run=tmp_path / "run")
    with pytest.raises(ConfigError, match="is a campaign"):
        hpcxpcs.load(config)


def setting_words() -> list[str]:
    return [word for setting in QUICK for word in ("--set", setting)]
