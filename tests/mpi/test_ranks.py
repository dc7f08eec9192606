"""Tasks over MPI ranks: real ranks, real deaths, and an end in bounded time whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcxpcs.batch.launcher import without_launcher
from hpcxpcs.errors import Stopped
from hpcxpcs.runs.claims import holding
from hpcxpcs.runs.events import read_events
from hpcxpcs.runs.plan import new_task
from hpcxpcs.runs.run import Run, read_failures, state_of
from tests.patience import PATIENCE, until
from tests.workers import toy

ROOT = Path(__file__).parents[2]
MPIEXEC = Path(sys.prefix) / "bin" / "mpiexec"
SECOND = new_task("shard", 1, 99.0)


class Job:
    """A running mpiexec; its output goes to files, which no rank can fill up."""

    def __init__(self, ranks: int, program: list[str], folder: Path, extra: dict[str, str] | None = None) -> None:
        self.output = folder / f"output-{time.monotonic_ns()}"
        with self.output.open("wb") as stream:
            self.process = subprocess.Popen(
                [MPIEXEC, "-launcher", "fork", "-iface", "lo", "-n", str(ranks), *program],
                env={**without_launcher(os.environ), "PYTHONPATH": str(ROOT), **(extra or {})},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd=ROOT,
            )

    def wait(self) -> int:
        return self.process.wait(timeout=PATIENCE)

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def start_one(run: Run, ranks: int, *, lease: float = 120.0, hang_after: float = 600.0, trouble: str = "") -> Job:
        program = [sys.executable, "-m", "tests.mpi.toy_ranks", str(run.folder), str(lease), str(hang_after)]
        jobs.append(Job(ranks, [*program, trouble], tmp_path))
        return jobs[-1]

    yield start_one
    for job in jobs:
        job.end()


@pytest.fixture
def make_run(tmp_path) -> Callable[..., Run]:
    return lambda *arguments, **settings: toy.toy_run(tmp_path / "run", *arguments, **settings)


def events_of(run: Run, kind: str) -> list[dict]:
    return [event for event in read_events(run.events) if event["event"] == kind]


def begun(run: Run) -> int:
    """How many tasks have saved something."""
    return sum(run.task_file(task).exists() for task in run.plan.tasks)


def holder_of(run: Run, task=SECOND) -> int:
    until(lambda: holding(run.claims, task.name) is not None)
    return holding(run.claims, task.name).owner.pid


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_given_ranks_then_all_is_done_with_the_same_draws(start, make_run, ranks):
    run = make_run(6, seconds=0.05)
    job = start(run, ranks)
    assert job.wait() == 0, job.text()
    assert (run.logs / "report").read_text() == f"{ranks} workers, 6 done, None"
    assert toy.digest(run) == toy.expected_digest(6)
    assert sorted(event["task"] for event in events_of(run, "done")) == [task.name for task in run.plan.tasks]
    assert list(run.folder.glob(".stop-*")) == []


def test_given_two_ranks_then_both_work(start, make_run):
    run = make_run(6, seconds=0.1)
    job = start(run, 2)
    assert job.wait() == 0, job.text()
    assert len({event["pid"] for event in events_of(run, "done")}) == 2
    assert {event["name"] for event in events_of(run, "worker")} == {"rank 0", "rank 1"}


def test_given_more_ranks_than_tasks_then_ranks_without_a_task_make_no_task_function(start, make_run):
    run = make_run(1)
    job = start(run, 4)
    assert job.wait() == 0, job.text()
    assert len(list(run.logs.glob("made-by-*"))) == 1


def test_given_a_rank_that_comes_late_then_the_others_wait_for_it(start, make_run):
    run = make_run(2)
    job = start(run, 2, trouble="late rank")
    assert job.wait() == 0, job.text()


def test_given_an_exception_each_time_then_the_rest_is_done_and_the_task_is_given_up(start, make_run):
    run = make_run(trouble={SECOND.name: "raise"})
    job = start(run, 2)
    assert job.wait() != 0
    assert (run.logs / "report").read_text() == "2 workers, 3 done, None"
    assert state_of(run, SECOND) == "failed"
    assert "no luck with shard-00001" in read_failures(run, SECOND)[-1]["cause"]


def test_given_a_passing_exception_then_the_task_is_done_after_all(start, make_run):
    run = make_run(trouble={SECOND.name: "raise once"})
    job = start(run, 2)
    assert job.wait() == 0, job.text()
    assert toy.digest(run) == toy.expected_digest()


def test_given_a_full_disk_on_one_rank_then_the_job_ends_and_names_rank_and_cause(start, make_run):
    run = make_run(2, blocks=40, seconds=0.05, trouble={"shard-00000": "disk"})
    job = start(run, 2)
    assert job.wait() != 0
    assert "rank 1 on" in job.text()
    assert "No space left on device" in job.text()


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("leader refuses", "hpcxpcs: error: config.yaml: key 'shards'"),
        ("leader fails", "ZeroDivisionError: in the leader"),
    ],
)
def test_given_an_error_in_the_leader_then_all_ranks_end_and_it_is_printed_once(start, make_run, trouble, said):
    job = start(make_run(), 3, trouble=trouble)
    assert job.wait() != 0
    assert job.text().count(said) == 1


def test_given_a_rank_that_is_killed_then_the_job_ends_finished_work_stays_and_the_next_job_completes(start, make_run):
    run = make_run(4, blocks=4, held=(1, 2, 3))
    job = start(run, 2)
    until(lambda: events_of(run, "done") and begun(run) == 3)
    victim = next(event["worker_pid"] for event in events_of(run, "worker") if event["name"] == "rank 1")
    os.kill(victim, signal.SIGKILL)
    assert job.wait() != 0
    before = {event["task"] for event in events_of(run, "done")}
    assert before == {"shard-00000"}
    toy.let_go(run)
    assert start(run, 2).wait() == 0
    assert toy.digest(run) == toy.expected_digest(4, 4)
    tasks = [event["task"] for event in events_of(run, "done")]
    assert len(tasks) == len(set(tasks))


def test_given_a_hang_then_the_job_ends_and_names_task_and_place(start, make_run):
    run = make_run(4, trouble={SECOND.name: "hang"})
    job = start(run, 2, hang_after=4.0)
    assert job.wait() != 0
    assert "shard-00001 hangs (no progress for" in job.text()
    assert "misbehaves" in job.text()
    assert start(run, 2).wait() == 0
    assert toy.digest(run) == toy.expected_digest()


def test_given_a_rank_that_is_frozen_then_the_leader_ends_the_job_and_names_rank_and_task(start, make_run):
    run = make_run(2, seconds=0.1, trouble={"shard-00000": "freeze"})
    job = start(run, 2, lease=4.0)
    assert job.wait() != 0
    assert "hpcxpcs: error: rank 1 (pid" in job.text()
    assert "has given no sign of life for" in job.text()
    assert "with shard-00000 in hand" in job.text()
    assert "has given no sign of life" in read_failures(run, new_task("shard", 0))[0]["cause"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_given_a_signal_to_mpiexec_then_ranks_save_and_the_next_job_gives_the_same_draws(start, make_run, number):
    run = make_run(4, blocks=6, held=True)
    job = start(run, 2)
    until(lambda: begun(run) == 2)
    job.process.send_signal(number)
    assert job.wait() == Stopped.exit_code, job.text()
    assert f"{number.name} was received" in (run.logs / "report").read_text()
    assert len(events_of(run, "stopped")) == 2
    toy.let_go(run)
    assert start(run, 4).wait() == 0
    assert toy.digest(run) == toy.expected_digest(4, 6)


def test_given_a_signal_to_one_rank_then_all_ranks_stop_and_save(start, make_run):
    run = make_run(2, held=True)
    job = start(run, 2)
    until(lambda: begun(run) == 2)
    os.kill(holder_of(run, run.plan.tasks[0]), signal.SIGUSR1)
    assert job.wait() == Stopped.exit_code, job.text()
    assert len(events_of(run, "stopped")) == 2


def test_given_a_job_of_ranks_and_one_without_on_one_run_then_together_they_do_each_task_once(start, make_run):
    run = make_run(8, seconds=0.1)
    other = subprocess.Popen(
        [sys.executable, "-m", "tests.workers.toy", str(run.folder)],
        cwd=ROOT, env=without_launcher(os.environ) | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        job = start(run, 2)
        assert job.wait() == 0, job.text()
        assert other.wait(timeout=PATIENCE) == 0
    finally:
        other.kill()
    assert toy.digest(run) == toy.expected_digest(8)
    assert sorted(event["task"] for event in events_of(run, "done")) == [task.name for task in run.plan.tasks]


def test_given_a_launcher_of_another_library_then_a_warning_says_so_and_the_work_is_done(tmp_path, make_run):
    run = make_run(2)
    alone = subprocess.run(
        [sys.executable, "-m", "tests.mpi.toy_ranks", str(run.folder), "120", "600"],
        env={**without_launcher(os.environ), "PYTHONPATH": str(ROOT), "OMPI_COMM_WORLD_SIZE": "4"},
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    assert "the launcher started 4 processes (OMPI_COMM_WORLD_SIZE)" in alone.stderr
    assert toy.digest(run) == toy.expected_digest(2)
