"""What `hpcxpcs status` says of runs in every state, from files alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcxpcs import cli
from hpcxpcs.runs.claims import take
from hpcxpcs.runs.events import append
from hpcxpcs.runs.plan import Task, new_task
from hpcxpcs.runs.run import Run, record_failure
from hpcxpcs.runs.sealed import Sealed, write_sealed
from hpcxpcs.runs.status import RunStatus, read_status, speed
from hpcxpcs.workers.preemption import StopRequest
from hpcxpcs.workers.work import work
from tests.workers import toy


def put(run: Run, task: Task, status: str, done: int, total: int = 40) -> None:
    progress = {"done": done, "total": total}
    write_sealed(run.task_file(task), Sealed(task.kind, run.plan.run_id, task.name, status, progress))


@pytest.fixture
def mixed(tmp_path) -> Run:
    """Shard 0 done, 1 running, 2 lost, 3 given up, 4 waiting."""
    run = toy.toy_run(tmp_path / "run", 5)
    tasks = run.plan.tasks
    put(run, tasks[0], "done", 40)
    put(run, tasks[1], "sampling", 10)
    assert take(run.claims, tasks[1].name)
    put(run, tasks[2], "sampling", 20)
    dying = (
        "import os, sys; from pathlib import Path; from hpcxpcs.runs.claims import take; "
        "assert take(Path(sys.argv[1]), sys.argv[2]); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", dying, run.claims, tasks[2].name], check=True)
    for number in range(3):
        record_failure(run, tasks[3], f"ValueError: bad luck {number}", details="a\nb\nValueError: bad luck")
    return run


def states(found: RunStatus) -> list[str]:
    return [task.state for task in found.tasks]


def shown(run: Run, *options: str) -> str:
    result = CliRunner().invoke(cli.program, ["status", str(run.folder), *options])
    assert result.exit_code == 0, result.output
    return result.output


def step(second: int, done: int, task: str = "shard-00000", pid: int = 1) -> dict:
    ts = f"2030-01-01T00:{second // 60:02d}:{second % 60:02d}.000+00:00"
    return {"event": "progress", "ts": ts, "task": task, "host": "node", "pid": pid, "done": done}


def test_given_tasks_in_every_state_then_each_is_told(mixed):
    found = read_status(mixed)
    assert states(found) == ["done", "running", "waiting", "failed", "waiting"]
    assert [task.lost for task in found.tasks] == [False, False, True, False, False]
    assert found.counts == {"shard": {"done": 1, "running": 1, "waiting": 2, "failed": 1}}
    assert found.state == "running"


def test_given_steps_then_those_of_tasks_not_begun_are_taken_from_the_others(mixed):
    found = read_status(mixed)
    assert (found.steps_done, found.steps_total) == (70, 200)


def test_given_a_run_that_has_not_begun_then_nothing_is_known_of_its_steps(tmp_path):
    found = read_status(toy.toy_run(tmp_path))
    assert (found.state, found.steps_total, found.steps_per_second, found.eta_seconds) == (
        "waiting", None, None, None,
    )  # fmt: skip


def test_given_a_finished_run_then_it_is_done_and_has_no_time_to_go(tmp_path):
    run = toy.toy_run(tmp_path)
    work(run, toy.draw, run.plan.tasks, StopRequest())
    found = read_status(run)
    assert (found.state, found.steps_done, found.steps_total) == ("done", 120, 120)
    assert found.eta_seconds is None


def test_given_nobody_at_work_and_a_task_given_up_then_the_run_has_failed(tmp_path):
    run = toy.toy_run(tmp_path, trouble={"shard-00001": "raise"})
    work(run, toy.draw, run.plan.tasks, StopRequest())
    assert read_status(run).state == "failed"


def test_given_failures_then_their_number_and_the_last_cause_are_kept(mixed):
    failure = read_status(mixed).tasks[3].failure
    assert (failure.attempts, failure.cause) == (3, "ValueError: bad luck 2")
    assert failure.lines == ("a", "b", "ValueError: bad luck")


def test_given_tasks_that_were_added_later_then_they_are_found_by_file_or_claim(tmp_path):
    run = toy.toy_run(tmp_path, 1)
    put(run, new_task("exact", 2), "sampling", 5)
    put(run, new_task("exact", 2), "sampling", 6)
    assert take(run.claims, "check-00001")
    found = read_status(run)
    assert [task.name for task in found.tasks] == ["shard-00000", "exact-00002", "check-00001"]


def test_given_a_worker_that_has_a_name_then_its_task_is_told_with_it(mixed):
    append(mixed, "worker", name="rank 7", worker_pid=os.getpid())
    assert read_status(mixed).tasks[1].holder.startswith("rank 7 (pid ")


def test_given_progress_of_two_tasks_then_the_speed_is_that_of_both_together():
    events = [step(0, 0), step(10, 100), step(0, 0, "shard-00001", 2), step(10, 50, "shard-00001", 2)]
    assert speed(events) == 15.0


def test_given_a_task_that_starts_again_then_it_does_not_count_backwards():
    assert speed([step(0, 100), step(5, 0), step(10, 50)]) == 5.0


def test_given_a_task_that_moved_to_another_process_then_the_jump_between_them_does_not_count():
    assert speed([step(0, 0), step(10, 10), step(15, 500, pid=2), step(20, 510, pid=2)]) == 1.0


def test_given_work_of_long_ago_then_the_speed_is_that_of_the_last_ten_minutes():
    assert speed([step(0, 0), step(10, 10_000), step(1200, 10_000), step(1210, 10_100)]) == 10.0


@pytest.mark.parametrize("events", [[], [step(0, 5)], [step(0, 5), step(10, 5)]])
def test_given_too_little_then_no_speed_is_claimed(events):
    assert speed(events) is None


def test_given_a_speed_then_the_time_to_go_follows_from_it(mixed):
    mixed.events.write_text("".join(json.dumps(event) + "\n" for event in (step(0, 0), step(10, 100))))
    found = read_status(mixed)
    assert (found.steps_per_second, found.eta_seconds) == (10.0, 13.0)


def test_when_shown_then_counts_holders_lost_tasks_and_causes_are_there(mixed):
    text = shown(mixed)
    assert "5 in all: 1 done, 1 running, 2 waiting, 1 failed" in text
    assert "70 of 200 (35%)" in text
    assert "shard-00001  10/40  pid " in text
    assert "shard-00002  20/40" in text
    assert "has ended without a word" in text
    assert "shard-00003  3 attempts, given up, last: ValueError: bad luck 2" in text


def test_when_a_run_waits_then_the_way_to_continue_is_shown(tmp_path):
    assert "nobody is at work: continue with" in shown(toy.toy_run(tmp_path))


def test_when_json_is_asked_then_it_parses_and_has_a_schema_version(mixed):
    content = json.loads(shown(mixed, "--json"))
    assert content["schema_version"] == 1
    assert content["state"] == "running"
    assert content["counts"]["shard"]["failed"] == 1
    assert content["tasks"][2]["lost"] is True


def test_when_a_finished_run_is_watched_then_the_command_ends(tmp_path):
    run = toy.toy_run(tmp_path)
    work(run, toy.draw, run.plan.tasks, StopRequest())
    assert json.loads(shown(run, "--watch", "--json"))["state"] == "done"


def test_given_a_folder_without_a_run_then_the_error_says_how_to_start_one(tmp_path, capsys):
    assert cli.main(["status", str(tmp_path)]) == 1
    assert "start one with 'hpcxpcs fit CONFIG --run" in capsys.readouterr().err


def test_when_status_is_asked_then_jax_is_not_imported(mixed):
    child = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "hpcxpcs", "status", mixed.folder],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in child.stderr.splitlines() if "|" in line}
    assert imported & {"jax", "numpyro", "scipy", "mpi4py", "matplotlib", "pydantic"} == set()
