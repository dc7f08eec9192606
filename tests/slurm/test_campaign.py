"""A campaign on a real Slurm: an array over its items and a job that writes the table, cancelled on the way."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hpcxpcs.runs.events import read_events
from tests.acceptance.jobs import Jobs
from tests.cli.fitting import simulated
from tests.cli.submitted import hpcxpcs

FILES = 6

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Six files of a sample, one of them spoiled, and the configuration of a campaign over them."""
    for repeat in range(1, FILES + 1):
        simulated(tmp_path, name=f"A_r{repeat}", seed=repeat, frames=30)
    (tmp_path / "A_r3.hdf").write_text("spoiled")
    path = tmp_path / "campaign.yaml"
    settings = {
        "analysis_mode": "static",
        "campaign": {"files": "A_r{repeat:d}.hdf"},
        "analyzer_parameters": {"scattering": {"wavevector_q": 0.0054}},
        "optimization": {"method": "nlsq"},
        "output": {"directory": str(tmp_path / "runs")},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def here(tmp_path: Path, config: Path) -> Iterator[Path]:
    """The folder of the same campaign as processes of this machine do it."""
    with Jobs(tmp_path, config) as jobs:
        jobs.fit(tmp_path / "here", "--workers", 1, expect=3)
    yield tmp_path / "here"


def table(run: Path) -> list[dict[str, str]]:
    with (run / "results" / "campaign.csv").open(newline="") as stream:
        return [{**row, "seconds": ""} for row in csv.DictReader(stream)]


def test_given_an_array_that_is_cancelled_and_resumed_then_the_table_is_that_of_this_machine(batch, config, here):
    run = config.parent / "runs" / "campaign"
    assert f"array     {FILES} tasks" in hpcxpcs("submit", config, "--scheduler", "slurm", "--dry-run")
    assert not run.exists()
    assert "submitted array" in hpcxpcs("submit", config, "--scheduler", "slurm", "--tasks", "2")
    batch.until(lambda: any(event["event"] == "started" for event in read_events(run / "events.jsonl")))
    assert "cancelled array" in hpcxpcs("cancel", run)
    assert "submitted array" in hpcxpcs("resume", run, "--tasks", "2")
    batch.until(lambda: (run / "complete.json").exists())
    assert table(run) == table(here)
    found = json.loads(hpcxpcs("status", run, "--json", "--no-queue"))
    assert found["counts"]["item"] == {"done": FILES - 1, "running": 0, "waiting": 0, "failed": 1}
