"""The queue is asked once a minute, whoever asks, and sooner when it did not answer."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from hpcxpcs.batch import submissions
from hpcxpcs.batch.jobs import TaskLook
from hpcxpcs.batch.submissions import (
    Order,
    Submission,
    forget_look,
    living,
    note_cancelled,
    note_submission,
    queue_look,
    read_record,
)
from hpcxpcs.errors import SchedulerProblem
from tests.workers import toy


class Counted:
    """A scheduler that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.broken = False
        self.tasks: list[TaskLook] = []

    def look(self, jobs: Sequence[str]) -> tuple[TaskLook, ...]:
        self.asked += 1
        if self.broken:
            raise SchedulerProblem("squeue: no answer")
        if self.tasks:
            return tuple(self.tasks)
        return tuple(TaskLook(job, None, "running", "RUNNING") for job in jobs)


@pytest.fixture
def scheduler(monkeypatch):
    found = Counted()
    monkeypatch.setattr(submissions, "scheduler_named", lambda name: found)
    return found


@pytest.fixture
def run(tmp_path):
    made = toy.toy_run(tmp_path)
    submit(made, "1")
    return made


def submit(run, job):
    submission = Submission(job, "array", "slurm", "here", "main", "sbatch x", "2030-01-01T00:00:00+00:00", 1, 1.0)
    note_submission(run, Order(), submission)


def test_given_two_looks_within_a_minute_then_the_scheduler_is_asked_once(run, scheduler):
    first, second = (queue_look(run, read_record(run)) for _ in range(2))
    assert scheduler.asked == 1
    assert first == second
    assert second.counts(read_record(run).submissions[0]) == {"running": 1}


def test_given_an_old_answer_then_the_scheduler_is_asked_again(run, scheduler):
    queue_look(run, read_record(run))
    queue_look(run, read_record(run), fresh_seconds=0.0)
    assert scheduler.asked == 2


def test_given_a_new_job_then_the_scheduler_is_asked_again(run, scheduler):
    queue_look(run, read_record(run))
    submit(run, "2")
    assert len(queue_look(run, read_record(run)).tasks) == 2
    assert scheduler.asked == 2


def test_given_something_was_changed_then_the_scheduler_is_asked_again(run, scheduler):
    queue_look(run, read_record(run))
    forget_look(run)
    queue_look(run, read_record(run))
    assert scheduler.asked == 2


def test_given_a_scheduler_that_does_not_answer_then_looking_tells_why_and_asks_again_soon(run, scheduler, monkeypatch):
    scheduler.broken = True
    assert [queue_look(run, read_record(run)).problem for _ in range(2)] == ["squeue: no answer"] * 2
    assert scheduler.asked == 1
    scheduler.broken = False
    now = time.time()
    monkeypatch.setattr(submissions.time, "time", lambda: now + submissions.CHANGING_SECONDS + 1)
    assert queue_look(run, read_record(run)).problem is None
    assert scheduler.asked == 2


@pytest.mark.parametrize(
    ("seen", "state", "words"),
    [
        (("failed", 75), "stopped", "stopped with everything saved"),
        (("failed", 3), "done", "not to be quoted"),
        (("failed", 1), "failed", "as it was"),
        (("cancelled", 75), "cancelled", "as it was"),
    ],
)
def test_given_an_exit_code_of_ours_then_it_is_taken_for_what_it_means(run, scheduler, seen, state, words):
    scheduler.tasks = [TaskLook("1", None, seen[0], "F", reason="as it was", exit_code=seen[1])]
    (task,) = queue_look(run, read_record(run)).tasks
    assert task.state == state and words in task.reason


def test_given_a_suspended_task_then_it_is_alive(run, scheduler):
    scheduler.tasks = [TaskLook("1", None, "suspended", "S")]
    assert [one.job for one in living(run, read_record(run))] == ["1"]


def test_given_a_scheduler_that_does_not_answer_then_nobody_takes_the_jobs_for_dead(run, scheduler):
    scheduler.broken = True
    with pytest.raises(SchedulerProblem, match="no answer"):
        living(run, read_record(run))


def test_given_a_cancelled_job_that_lingers_then_it_counts_as_dead(run, scheduler):
    note_cancelled(run, "1")
    assert living(run, read_record(run)) == ()
    submit(run, "2")
    assert [one.job for one in living(run, read_record(run))] == ["2"]


def test_given_an_answer_that_cannot_be_read_then_the_scheduler_is_asked(run, scheduler):
    (run.folder / "submit" / "queue.json").write_text("{")
    assert queue_look(run, read_record(run)).tasks
    assert scheduler.asked == 1


def test_given_jobs_of_another_run_in_the_folder_then_they_are_not_this_runs(run, tmp_path):
    record = run.folder / "submit" / "jobs.json"
    record.write_text(record.read_text().replace(run.plan.run_id, "another"))
    assert read_record(run) is None
