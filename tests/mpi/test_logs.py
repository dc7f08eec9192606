"""Every MPI rank that works leaves a log of its own, and an error is in that of the rank that had it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcxpcs.batch.launcher import without_launcher
from hpcxpcs.runs.run import Run
from tests.workers import toy

ROOT = Path(__file__).parents[2]
MPIEXEC = Path(sys.prefix) / "bin" / "mpiexec"


def ranks(run: Run, *trouble: str) -> int:
    """Two ranks work on a run; the exit code of mpiexec."""
    program = [sys.executable, "-m", "tests.mpi.logged_ranks", str(run.folder), "120", "600", *trouble]
    return subprocess.run(
        [MPIEXEC, "-launcher", "fork", "-iface", "lo", "-n", "2", *program],
        env={**without_launcher(os.environ), "PYTHONPATH": str(ROOT), "HPCXPCS_LOG_LEVEL": "info"},
        cwd=ROOT, capture_output=True, check=False,
    ).returncode  # fmt: skip


def lines(run: Run) -> dict[str, list[dict]]:
    """The lines of each log, by the beginning of its name."""
    found = {path.name.partition("-")[0]: path for path in run.logs.glob("*.jsonl")}
    return {name: [json.loads(line) for line in path.read_bytes().splitlines()] for name, path in found.items()}


def test_given_two_ranks_then_each_has_a_log_that_knows_its_rank_and_its_tasks(tmp_path: Path) -> None:
    run = toy.toy_run(tmp_path / "run", 6, seconds=0.1)
    assert ranks(run) == 0
    logs = lines(run)
    assert set(logs) == {"rank0", "rank1"}
    done = set()
    for number, name in enumerate(("rank0", "rank1")):
        worked = [entry for entry in logs[name] if entry.get("event") == "task"]
        assert {(entry["rank"], entry["role"], entry["run"]) for entry in worked} == {(number, name, run.plan.run_id)}
        assert all(entry["shard"] == int(entry["task"].rpartition("-")[2]) for entry in worked)
        done |= {entry["task"] for entry in worked}
    assert done == {task.name for task in run.plan.tasks}


@pytest.mark.parametrize(("trouble", "task"), [("raise", "shard-00000"), ("disk", "shard-00000")])
def test_given_a_task_that_fails_then_the_log_of_its_rank_says_why(tmp_path: Path, trouble: str, task: str) -> None:
    run = toy.toy_run(tmp_path / "run", 2, seconds=0.1, trouble={task: trouble})
    assert ranks(run) != 0
    grave = [entry for log in lines(run).values() for entry in log if entry["level"] in ("warning", "error")]
    assert any(("no luck" in entry["message"] or "No space left" in entry["message"]) for entry in grave), grave
