"""A newcomer's path: the lines of the page on clusters, one after the other, on a real Slurm."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.jobs import digest
from tests.cli.submitted import hpcxpcs, small_config, status_of

ROOT = Path(__file__).parents[2]
SHELLCHECK = Path(sys.prefix) / "bin" / "shellcheck"
SHARDS = 3

pytestmark = pytest.mark.slow


def lines_of_the_readme() -> Iterator[str]:
    """The commands of docs/clusters.md, Slurm, without their comments."""
    page = (ROOT / "docs" / "clusters.md").read_text()
    block = re.search(r"\*\*Slurm\*\*\n\n```\n(.*?)```", page, re.DOTALL)
    assert block is not None
    for line in block[1].splitlines():
        yield line.partition("#")[0].strip()


class Newcomer:
    """Somebody in a folder with a config.yaml, at a shell that has hpcxpcs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "runs" / "config"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path}

    def types(self, line: str) -> str:
        """Run a line in the shell; returns what it prints."""
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}: exit code {done.returncode}: {done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def newcomer(batch, tmp_path) -> Newcomer:
    small_config(tmp_path, shards=SHARDS)
    return Newcomer(tmp_path)


def told_the_truth(newcomer: Newcomer, batch) -> bool:
    """Whether `status --json` counts what the run folder and the queue hold."""
    found = status_of(newcomer.run)
    assert sum(found["counts"]["shard"].values()) == SHARDS
    jobs = [job["job"] for job in found["queue"]["jobs"]]
    seen = {(task["job"], task["index"]) for job in found["queue"]["jobs"] for task in job["tasks_seen"]}
    assert seen <= {(look.job, look.index) for look in batch.looks(*jobs)}
    return found["queue"]["problem"] is None


def test_given_the_page_of_the_readme_when_followed_line_by_line_then_a_report_is_there(newcomer, batch):
    dry_run, submit, status, logs, cancel, resume = lines_of_the_readme()

    scripts = newcomer.types(dry_run)
    assert not newcomer.run.exists()
    for number, part in enumerate(re.split(r"^# --- .*$", scripts, flags=re.MULTILINE)[1:]):
        path = newcomer.folder / f"dry-{number}.sh"
        path.write_text(part[part.index("#!") :])
        subprocess.run([SHELLCHECK, "--shell=bash", path], check=True)

    assert f"array     {SHARDS} tasks" in newcomer.types(submit)
    assert told_the_truth(newcomer, batch)
    assert "shard" in newcomer.types(status)
    newcomer.types(logs)
    assert "cancelled array" in newcomer.types(cancel)
    assert "submitted array" in newcomer.types(resume)
    batch.until(lambda: (newcomer.run / "complete.json").exists())

    assert (newcomer.run / "results" / "report.html").exists()
    assert told_the_truth(newcomer, batch)
    assert status_of(newcomer.run)["counts"]["shard"]["done"] == SHARDS
    hpcxpcs("fit", "config.yaml", "--run", "undisturbed", cwd=newcomer.folder, code=None)
    assert digest(newcomer.run) == digest(newcomer.folder / "undisturbed")
