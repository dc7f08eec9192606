"""Any number of array tasks for any number of shards; one that ends early is made up for by the others."""

from __future__ import annotations

import pytest

from tests.slurm.batch import events_of, status_of, steps
from tests.workers import toy


def test_given_an_array_of_8_over_20_shards_then_they_are_done_once_each_and_status_agrees_with_squeue(batch):
    run = batch.toy_run(20, held=range(4, 20))
    job = batch.submit(run.folder, tasks=8)
    assert status_of(run)["state"] == "waiting"
    halfway = {"done": 4, "running": 8, "waiting": 8, "failed": 0}
    batch.until(lambda: batch.agreed(run, job) and status_of(run)["counts"]["shard"] == halfway)
    assert status_of(run)["state"] == "running"
    toy.let_go(run)
    batch.until_done(run, job)
    assert [look.index for look in batch.looks(job)] == list(range(8))
    assert sorted(event["task"] for event in events_of(run, "done")) == [task.name for task in run.plan.tasks]
    assert len({event["pid"] for event in events_of(run, "done")}) >= 4
    assert {event["job"] for event in events_of(run, "started")} <= {f"{job}_{index}" for index in range(8)}


def test_given_a_limit_on_tasks_at_once_then_the_others_wait_and_slurm_says_why(batch):
    run = batch.toy_run(4, held=True)
    job = batch.submit(run.folder, tasks=2, at_once=1)
    batch.until(lambda: batch.running(job))
    assert [(look.state, look.reason) for look in batch.looks(job)[1:]] == [("waiting", "JobArrayTaskLimit")]
    toy.let_go(run)
    batch.until_done(run, job)
    assert len({event["pid"] for event in events_of(run, "done")}) == 1


def test_given_a_run_that_is_done_when_a_task_starts_then_it_ends_at_once_and_well(batch):
    run = batch.toy_run(4)
    batch.until_done(run, batch.submit(run.folder))
    before = run.events.read_bytes()
    batch.until_done(run, batch.submit(run.folder, tasks=2))
    assert run.events.read_bytes() == before


def test_given_a_job_after_an_array_then_it_waits_for_its_end_and_starts_although_a_task_has_failed(batch):
    run = batch.toy_run(4, held=True, trouble={"shard-00001": "raise"})
    array = batch.submit(run.folder, tasks=2)
    last = batch.submit(run.folder, kind="gather", after=array)
    assert [(look.state, look.reason) for look in batch.looks(last)] == [("waiting", "Dependency")]
    toy.let_go(run)
    batch.until(lambda: batch.agreed(run, array, last) and batch.states(last) == {"failed"})
    assert {look.exit_code for look in batch.looks(array, last)} == {1}
    status = status_of(run)
    assert (status["state"], status["counts"]["shard"]["done"]) == ("failed", 3)
    assert "given up: shard-00001" in batch.told(run)


def test_given_a_task_that_is_cancelled_then_the_others_do_its_shards(batch):
    run = batch.toy_run(6, held=True)
    job = batch.submit(run.folder, tasks=3)
    batch.until(lambda: len(batch.running(job)) == 3 and steps(run) >= 3 * toy.DRAWS)
    batch.slurm.cancel([f"{job}_1"])
    batch.until(lambda: events_of(run, "stopped"))
    toy.let_go(run)
    batch.until(lambda: batch.agreed(run, job) and not batch.states(job) & {"waiting", "running"})
    assert [look.state for look in batch.looks(job)] == ["done", "cancelled", "done"]
    assert status_of(run)["state"] == "done"
    assert toy.digest(run) == toy.expected_digest(6)
    left = [event["task"] for event in events_of(run, "stopped")]
    assert len(left) == 1, "it was warned, and saved what it had"


@pytest.mark.parametrize("tasks", [1, 3])
def test_given_a_job_that_is_cancelled_then_everything_stops_with_what_it_has_and_a_new_one_goes_on(batch, tasks):
    run = batch.toy_run(3, held=True)
    job = batch.submit(run.folder, tasks=tasks)
    batch.until(lambda: len(batch.running(job)) == tasks and steps(run) >= tasks * toy.DRAWS)
    batch.slurm.cancel([job])
    batch.until(lambda: batch.agreed(run, job) and batch.states(job) == {"cancelled"})
    batch.until(lambda: status_of(run)["state"] == "waiting")
    saved = steps(run)
    assert saved > 0
    toy.let_go(run)
    batch.until_done(run, batch.submit(run.folder, tasks=2))
    assert len(events_of(run, "started")) == tasks + 3, "each was continued, none was begun anew"
