"""Worker processes on this machine: real processes, real deaths."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpcxpcs.errors import EnvironmentProblem, OutputError, Stopped
from hpcxpcs.runs.claims import holding, take
from hpcxpcs.runs.events import append, read_events
from hpcxpcs.runs.plan import new_task
from hpcxpcs.runs.run import Run, read_failures
from hpcxpcs.workers.local import LocalWorkers
from hpcxpcs.workers.preemption import Deadline, StopRequest
from hpcxpcs.workers.work import InHand, Member, Patience, in_hand
from tests.patience import PATIENCE, until
from tests.workers import toy

TOY_COMMAND = (sys.executable, "-m", "tests.workers.toy")
SECOND = new_task("shard", 1, 99.0)
UNHURRIED = Patience(lease=120.0, hang_after=600.0)


@pytest.fixture(autouse=True)
def from_the_repository(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def crew(
    workers: int, stop: StopRequest | None = None, patience: Patience = UNHURRIED, command=TOY_COMMAND
) -> LocalWorkers:
    return LocalWorkers(workers, stop or StopRequest(), patience, command)


def events_of(run: Run, kind: str) -> list[dict]:
    return [event for event in read_events(run.events) if event["event"] == kind]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def worker_pids(run: Run) -> list[int]:
    return [event["worker_pid"] for event in events_of(run, "worker")]


@contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Do something in a thread beside the block; its error is the test's."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    yield
    thread.join()
    assert errors == []


def start_toy(run: Run, *options: str) -> subprocess.Popen:
    return subprocess.Popen([*TOY_COMMAND, str(run.folder), *options], stdout=subprocess.DEVNULL)


def start_leader(run: Run) -> subprocess.Popen:
    """Two workers under a leader in a process of its own."""
    program = (
        "import sys; from pathlib import Path; from tests.workers.test_local import crew; "
        "from hpcxpcs.runs.run import Run; run = Run.open(Path(sys.argv[1])); "
        "crew(2).run_tasks(run, run.plan.tasks)"
    )
    return subprocess.Popen([sys.executable, "-c", program, str(run.folder)])


@pytest.mark.parametrize("workers", [1, 2])
def test_given_workers_then_all_is_done_with_the_same_draws_and_none_is_left(tmp_path, workers):
    run = toy.toy_run(tmp_path)
    report = crew(workers).run_tasks(run, run.plan.tasks)
    assert report.complete
    assert toy.digest(run) == toy.expected_digest()
    assert len(worker_pids(run)) == workers
    assert not any(map(alive, worker_pids(run)))


def test_given_more_workers_than_tasks_then_no_more_are_started_than_have_work(tmp_path):
    run = toy.toy_run(tmp_path, count=1)
    assert crew(4).run_tasks(run, run.plan.tasks).complete
    assert len(worker_pids(run)) == 1


def test_given_workers_then_each_is_told_its_own_cores(tmp_path):
    run = toy.toy_run(tmp_path, count=2)
    program = "import os; print(os.environ['HPCXPCS_CPUS'], flush=True); os.kill(os.getpid(), 9)"
    with pytest.raises(EnvironmentProblem):
        crew(2, command=(sys.executable, "-c", program)).run_tasks(run, run.plan.tasks)
    told = {log.read_text().strip() for log in run.logs.glob("worker-*.log")}
    assert len(told) == min(2, len(os.sched_getaffinity(0)))


def test_given_a_worker_killed_from_outside_then_its_task_is_done_by_another(tmp_path):
    run = toy.toy_run(tmp_path, count=3, blocks=4, held=True)

    def kill_one() -> None:
        until(lambda: run.task_file(SECOND).exists())
        os.kill(holding(run.claims, SECOND.name).owner.pid, signal.SIGKILL)
        toy.let_go(run)

    with meanwhile(kill_one):
        assert crew(2).run_tasks(run, run.plan.tasks).complete
    assert toy.digest(run) == toy.expected_digest(3, 4)
    (death,) = events_of(run, "died")
    assert death["task"] == SECOND.name
    assert "was ended by SIGKILL" in death["cause"]
    assert read_failures(run, SECOND) == ()


def test_given_a_worker_that_died_before_it_noted_its_claim_then_the_claim_tells_what_it_had(tmp_path):
    run = toy.toy_run(tmp_path)
    me = Member("worker 1 of 2", socket.gethostname(), os.getpid())
    assert in_hand(run, run.plan.tasks, me) is None
    claim = take(run.claims, SECOND.name)
    assert in_hand(run, run.plan.tasks, me) == InHand(SECOND, claim.owner.token)


def test_given_a_worker_that_died_with_its_task_done_then_it_had_none(tmp_path):
    run = toy.toy_run(tmp_path)
    me = Member("worker 1 of 2", socket.gethostname(), os.getpid())
    claim = take(run.claims, SECOND.name)
    append(run, "started", task=SECOND.name, token=claim.owner.token)
    assert in_hand(run, run.plan.tasks, me) == InHand(SECOND, claim.owner.token)
    append(run, "done", task=SECOND.name)
    assert in_hand(run, run.plan.tasks, me) is None


def test_given_a_task_that_kills_its_worker_each_time_then_it_is_given_up_and_named(tmp_path):
    run = toy.toy_run(tmp_path, trouble={SECOND.name: "die"})
    report = crew(2).run_tasks(run, run.plan.tasks)
    assert report.failed == (SECOND.name,)
    assert len(report.done) == 3
    assert "was ended by SIGKILL" in read_failures(run, SECOND)[-1]["cause"]


def test_given_an_exception_each_time_then_the_other_tasks_are_done_and_its_cause_is_kept(tmp_path):
    run = toy.toy_run(tmp_path, trouble={SECOND.name: "raise"})
    report = crew(2).run_tasks(run, run.plan.tasks)
    assert report.failed == (SECOND.name,)
    assert len(report.done) == 3
    assert [failure["cause"] for failure in read_failures(run, SECOND)] == ["ValueError: no luck with shard-00001"] * 3


def test_given_a_task_that_hangs_then_its_worker_ends_itself_and_another_does_it(tmp_path):
    run = toy.toy_run(tmp_path, trouble={SECOND.name: "hang"})
    report = crew(2, patience=Patience(lease=60.0, hang_after=4.0)).run_tasks(run, run.plan.tasks)
    assert report.complete
    assert toy.digest(run) == toy.expected_digest()
    (failure,) = read_failures(run, SECOND)
    assert "no progress for" in failure["cause"]
    assert "misbehaves" in failure["details"]


def test_given_a_worker_that_is_frozen_then_it_is_killed_named_and_another_does_its_task(tmp_path):
    run = toy.toy_run(tmp_path, trouble={SECOND.name: "freeze"})
    assert crew(2, patience=Patience(lease=4.0, hang_after=600.0)).run_tasks(run, run.plan.tasks).complete
    assert toy.digest(run) == toy.expected_digest()
    assert any("has given no sign of life" in event["cause"] for event in events_of(run, "died"))
    assert not any(map(alive, worker_pids(run)))


def test_given_workers_that_cannot_start_then_the_error_says_why_in_bounded_time(tmp_path):
    run = toy.toy_run(tmp_path)
    with pytest.raises(EnvironmentProblem, match=r"No module named '?no_such_module'?"):
        crew(2, command=(sys.executable, "-m", "no_such_module")).run_tasks(run, run.plan.tasks)
    assert not any(map(alive, worker_pids(run)))


def test_given_a_full_disk_then_the_error_says_so(tmp_path):
    run = toy.toy_run(tmp_path, count=1, trouble={"shard-00000": "disk"})
    with pytest.raises(EnvironmentProblem, match="No space left on device"):
        crew(1).run_tasks(run, run.plan.tasks)
    with pytest.raises(OutputError):
        toy.misbehaves(run, run.plan.tasks[0])


def test_given_a_stop_then_workers_save_and_end_and_a_later_start_gives_the_same_draws(tmp_path):
    run, stop = toy.toy_run(tmp_path, blocks=6, held=True), StopRequest()

    def ask() -> None:
        until(lambda: run.task_file(SECOND).exists())
        stop.request("SIGTERM was received")

    with meanwhile(ask):
        report = crew(2, stop).run_tasks(run, run.plan.tasks)
    assert (report.stopped, report.exit_code) == ("SIGTERM was received", Stopped.exit_code)
    assert events_of(run, "stopped")
    assert events_of(run, "died") == []
    toy.let_go(run)
    assert crew(2).run_tasks(run, run.plan.tasks).complete
    assert toy.digest(run) == toy.expected_digest(blocks=6)


def test_given_a_deadline_then_the_workers_know_it_and_stop_before_it(tmp_path):
    run = toy.toy_run(tmp_path, held=True)
    stop = StopRequest(Deadline(time.monotonic() + 4.0, "--time-limit"))
    report = crew(2, stop).run_tasks(run, run.plan.tasks)
    assert "s are left (--time-limit)" in report.stopped
    assert report.exit_code == Stopped.exit_code
    assert events_of(run, "died") == []


def test_given_a_leader_that_is_killed_then_its_workers_stop_and_save(tmp_path):
    run = toy.toy_run(tmp_path, held=True)
    leader = start_leader(run)
    until(lambda: all(run.task_file(task).exists() for task in run.plan.tasks[:2]))
    leader.kill()
    leader.wait()
    pids = worker_pids(run)
    until(lambda: not any(map(alive, pids)))
    assert len(events_of(run, "stopped")) == 2


def test_given_two_jobs_on_one_run_then_together_they_do_each_task_once(tmp_path):
    run = toy.toy_run(tmp_path, count=6, seconds=0.1)
    other = start_toy(run)
    try:
        report = crew(2).run_tasks(run, run.plan.tasks)
        assert other.wait(timeout=PATIENCE) == 0
    finally:
        other.kill()
    assert report.complete
    assert toy.digest(run) == toy.expected_digest(6)
    assert sorted(event["task"] for event in events_of(run, "done")) == [task.name for task in run.plan.tasks]


def test_given_the_work_command_when_signalled_then_it_exits_75_and_the_same_command_continues(tmp_path):
    run = toy.toy_run(tmp_path, count=2, blocks=6, held=True)
    first = start_toy(run)
    until(lambda: run.task_file(run.plan.tasks[0]).exists())
    first.send_signal(signal.SIGUSR1)
    assert first.wait(timeout=PATIENCE) == Stopped.exit_code
    toy.let_go(run)
    assert start_toy(run).wait(timeout=PATIENCE) == 0
    assert toy.digest(run) == toy.expected_digest(2, 6)


def test_given_one_shard_then_only_that_one_is_done(tmp_path):
    run = toy.toy_run(tmp_path)
    assert start_toy(run, "--shard", "2").wait(timeout=PATIENCE) == 0
    assert [path.name for path in (run.folder / "shards").glob("0000?.h5")] == ["00002.h5"]


def test_given_a_task_that_was_given_up_then_the_work_command_exits_1(tmp_path):
    run = toy.toy_run(tmp_path, count=2, trouble={SECOND.name: "raise"})
    assert start_toy(run).wait(timeout=PATIENCE) == 1


def test_given_a_hang_that_lets_no_thread_run_then_the_process_ends_all_the_same_and_says_where(tmp_path):
    run = toy.toy_run(tmp_path, count=1, trouble={"shard-00000": "seize"})
    process = subprocess.Popen(
        [*TOY_COMMAND, str(run.folder), "--lease=1", "--hang-after=2"], stderr=subprocess.PIPE, text=True
    )
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "misbehaves" in said
    assert start_toy(run).wait(timeout=PATIENCE) == 0


def test_given_one_worker_that_is_told_to_stop_then_all_stop_and_save(tmp_path):
    run = toy.toy_run(tmp_path, count=2, held=True)

    def signal_one() -> None:
        until(lambda: all(run.task_file(task).exists() for task in run.plan.tasks))
        os.kill(worker_pids(run)[0], signal.SIGUSR1)

    with meanwhile(signal_one):
        report = crew(2).run_tasks(run, run.plan.tasks)
    assert "SIGUSR1 was received" in report.stopped
    assert len(events_of(run, "stopped")) == 2
    assert len(worker_pids(run)) == 2


@pytest.mark.slow
def test_given_leader_or_workers_killed_at_random_times_then_the_draws_are_those_of_an_undisturbed_run(
    tmp_path,
):
    chance = random.Random(11)
    run = toy.toy_run(tmp_path, count=4, blocks=40, seconds=0.08)
    unfinished = []
    for _ in range(6):
        known = len(worker_pids(run))
        leader = start_leader(run)
        until(lambda known=known: len(worker_pids(run)) > known)
        time.sleep(chance.uniform(0.0, 1.5))
        victims = [leader.pid, *filter(alive, worker_pids(run))]
        unfinished.append(4 - len(events_of(run, "done")))
        os.kill(chance.choice(victims), signal.SIGKILL)
        time.sleep(chance.uniform(0.0, 0.3))
        leader.kill()
        leader.wait()
    until(lambda: not any(map(alive, worker_pids(run))))
    assert crew(2).run_tasks(run, run.plan.tasks).complete
    assert toy.digest(run) == toy.expected_digest(4, 40)
    assert unfinished[0] > 0
