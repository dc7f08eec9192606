"""The logs of a leader and its worker processes: real processes, real deaths."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hpcxpcs.errors import EnvironmentProblem
from hpcxpcs.log.process import log_into, process_log
from hpcxpcs.runs.run import Run
from hpcxpcs.workers.local import LocalWorkers
from hpcxpcs.workers.preemption import StopRequest
from hpcxpcs.workers.work import Patience
from tests.workers import toy

TOY_COMMAND = (sys.executable, "-m", "tests.workers.toy")


@pytest.fixture(autouse=True)
def from_the_repository(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.delenv("HPCXPCS_LOG_LEVEL", raising=False)


def worked(run: Run, level: str, workers: int = 1, command=TOY_COMMAND) -> None:
    """Do a run as a leader that keeps a log."""
    with process_log("lead", level):
        log_into(run)
        LocalWorkers(workers, StopRequest(), Patience(2.0, 60.0), command).run_tasks(run, run.plan.tasks)


def lines(run: Run, role: str) -> list[dict]:
    texts = [path.read_text().splitlines() for path in sorted(run.logs.glob(f"{role}-*.jsonl"))]
    return [json.loads(text) for file in texts for text in file]


@pytest.mark.parametrize("level", ["debug", "error"])
def test_given_a_leader_with_a_level_then_its_workers_have_it_and_their_numbers(tmp_path, level):
    run = toy.toy_run(tmp_path, count=2)
    program = "import os; print(os.environ['HPCXPCS_LOG_LEVEL'], os.environ['HPCXPCS_WORKER']); os.kill(os.getpid(), 9)"
    with pytest.raises(EnvironmentProblem):
        worked(run, level, 2, (sys.executable, "-u", "-c", program))
    told = {tuple(log.read_text().split()) for log in run.logs.glob("worker-*.log")}
    assert {(level, "1"), (level, "2")} <= told


def test_given_a_worker_that_dies_then_its_log_is_there_and_the_leader_says_what_it_was_doing(tmp_path):
    run = toy.toy_run(tmp_path, count=2, trouble={"shard-00001": "die once"})
    worked(run, "info")
    (death,) = [line for line in lines(run, "lead") if line["level"] == "warning"]
    assert "was ended by SIGKILL" in death["message"]
    assert (death["task"], death["shard"], death["role"]) == ("shard-00001", 1, "lead")
    workers = lines(run, "worker")
    assert len({line["pid"] for line in workers}) == 2 and death["worker_pid"] in {line["pid"] for line in workers}
    done = [line["task"] for line in workers if line.get("event") == "task"]
    assert sorted(done) == ["shard-00000", "shard-00001"]
    assert toy.digest(run) == toy.expected_digest(2)


def test_given_a_task_that_fails_then_the_worker_s_log_says_why_and_where(tmp_path):
    run = toy.toy_run(tmp_path, count=1, trouble={"shard-00000": "raise once"})
    worked(run, "error")
    (failure,) = [line for line in lines(run, "worker") if line["level"] == "warning"]
    assert "no luck with shard-00000" in failure["message"] and "misbehaves" in failure["details"]
    assert failure["run"] == run.plan.run_id and failure["shard"] == 0


def test_given_a_run_with_settings_for_its_logs_then_a_worker_keeps_to_them(tmp_path):
    run = toy.toy_run(tmp_path)
    settings = {"level": "warning", "max_size_mb": 0.5, "backup_count": 1}
    run.plan.extra["config"] = {"logging": settings}
    with process_log("worker") as log:
        log_into(run)
        assert (log.level, log.file.most_bytes, log.file.keep) == ("warning", 500_000, 1)
