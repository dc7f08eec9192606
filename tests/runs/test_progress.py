"""Progress in one line, told while work goes on."""

from __future__ import annotations

import threading

import pytest

from hpcxpcs.runs.claims import take
from hpcxpcs.runs.status import duration, headline, read_status, report_progress
from hpcxpcs.workers.preemption import StopRequest
from hpcxpcs.workers.work import work
from tests.patience import until
from tests.workers import toy


def test_given_a_run_then_the_headline_counts_tasks_and_steps(tmp_path):
    run = toy.toy_run(tmp_path)
    work(run, toy.draw, run.plan.tasks[:1], StopRequest())
    assert take(run.claims, run.plan.tasks[1].name)
    assert headline(read_status(run)) == "1 of 4 shards done (1 running), 25% of all steps"


def test_given_a_task_that_was_given_up_then_the_headline_says_so(tmp_path):
    run = toy.toy_run(tmp_path, trouble={"shard-00001": "raise"})
    work(run, toy.draw, run.plan.tasks, StopRequest())
    assert "3 of 4 shards done (1 failed)" in headline(read_status(run))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (75, "1 min 15 s"), (7380, "2 h 03 min")]
)
def test_given_seconds_then_they_are_told_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_when_work_goes_on_then_it_is_told_and_the_draws_are_the_same(tmp_path):
    run, told = toy.toy_run(tmp_path, held=True), []

    def let_go_when_told() -> None:
        until(lambda: told)
        toy.let_go(run)

    with report_progress(run, told.append, seconds=0.01):
        threading.Thread(target=let_go_when_told).start()
        work(run, toy.draw, run.plan.tasks, StopRequest())
    assert told[0].startswith("0 of 4 shards done")
    assert toy.digest(run) == toy.expected_digest()


def test_when_the_work_is_over_then_nothing_more_is_told(tmp_path):
    run, told = toy.toy_run(tmp_path), []
    with report_progress(run, told.append, seconds=0.01):
        until(lambda: told)
    assert not [thread for thread in threading.enumerate() if thread.name == f"progress of {run.folder}"]


def test_given_a_file_system_that_does_not_answer_then_nothing_is_told_and_nothing_fails(tmp_path, monkeypatch):
    asked = []

    def fail(run):
        asked.append(run)
        raise OSError("stale file handle")

    monkeypatch.setattr("hpcxpcs.runs.status.read_status", fail)
    told = []
    with report_progress(toy.toy_run(tmp_path), told.append, seconds=0.01):
        until(lambda: len(asked) > 1)
    assert told == []
