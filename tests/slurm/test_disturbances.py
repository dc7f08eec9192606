"""Whatever the queue does to tasks, the draws are those of an undisturbed run, and at most a block is done twice."""

from __future__ import annotations

from pathlib import Path

from hpcxpcs.runs.status import read_status
from tests.slurm.batch import Batch, events_of, status_of, steps
from tests.workers import toy


def begun(batch: Batch, run, job: str, tasks: int) -> None:
    """Wait until all tasks of an array are in the middle of a shard."""
    batch.until(lambda: len(batch.running(job)) == tasks and steps(run) >= tasks * toy.DRAWS)


def continued(run) -> dict[str, int]:
    """How often each shard was taken up by a job that had been requeued."""
    again: dict[str, int] = {}
    for event in events_of(run, "started"):
        if event["restarts"]:
            again[event["task"]] = again.get(event["task"], 0) + 1
    return again


def test_given_a_requeue_in_mid_run_then_the_task_saves_waits_and_helps_again(batch):
    run = batch.toy_run(8, held=True)
    job = batch.submit(run.folder, tasks=3)
    begun(batch, run, job, 3)
    batch.lab.ask("scontrol", "requeue", f"{job}_1")
    batch.until(lambda: batch.agreed(run, job) and batch.looks(job)[1].state == "waiting")
    assert batch.looks(job)[1].reason == "BeginTime"
    assert len(events_of(run, "stopped")) == 1
    assert status_of(run)["counts"]["shard"]["running"] == 2
    batch.until(lambda: continued(run))
    toy.let_go(run)
    batch.until_done(run, job)
    assert len(events_of(run, "stopped")) == 1
    assert "restart 0" in log(run, job, 1) and "restart 1" in log(run, job, 1), "one log of both"


def test_given_a_job_of_higher_priority_then_the_array_makes_way_and_goes_on_afterwards(batch):
    run = batch.toy_run(8, held=True)
    low = batch.submit(run.folder, tasks=8, queue="low")
    begun(batch, run, low, 8)
    high = batch.lab.ask(
        "sbatch", "--parsable", "-p", "high", "--exclusive", "-N", 2, "-o", "/dev/null", "--wrap", "sleep 2"
    ).strip()
    batch.until(lambda: batch.agreed(run, low) and batch.states(low) == {"waiting"})
    batch.until(lambda: batch.states(high) == {"running"})
    assert status_of(run)["state"] == "waiting"
    assert status_of(run)["counts"]["shard"]["running"] == 0
    assert len(events_of(run, "stopped")) == 8, "all were warned, and saved what they had"
    toy.let_go(run)
    batch.until_done(run, low)
    assert set(continued(run)) == {task.name for task in run.plan.tasks}


def test_given_a_node_that_is_drained_then_its_tasks_end_in_peace_and_no_other_goes_there(batch):
    run = batch.toy_run(10, held=True)
    first = batch.submit(run.folder, tasks=8)
    begun(batch, run, first, 8)
    batch.lab.set_node("n2", "drain")
    second = batch.submit(run.folder, tasks=6)
    toy.let_go(run)
    batch.until_done(run, first, second)
    assert {look.node for look in batch.looks(first)} == {"n1", "n2"}
    assert {look.node for look in batch.looks(second)} == {"n1"}


def test_given_a_node_that_goes_down_then_its_tasks_are_requeued_and_the_others_go_on(batch):
    run = batch.toy_run(8, held=True)
    job = batch.submit(run.folder, tasks=8)
    begun(batch, run, job, 8)
    batch.lab.set_node("n2", "down")
    batch.until(lambda: len(batch.running(job)) == 4)
    assert {look.node for look in batch.looks(job) if look.state == "running"} == {"n1"}
    batch.until(lambda: status_of(run)["counts"]["shard"]["running"] <= 4)  # Slurm does not wait for their end
    toy.let_go(run)
    batch.until_done(run, job)
    assert len(events_of(run, "stopped")) == 4, "they were warned, and saved what they had"


def test_given_a_node_that_falls_silent_then_its_job_starts_elsewhere_while_the_old_process_draws_on(batch):
    run = batch.toy_run(4, held=True)
    batch.lab.set_node("n1", "drain")
    job = batch.submit(run.folder)
    begun(batch, run, job, 1)
    (old,) = holders(run)
    batch.lab.kill_node("n2")
    batch.lab.set_node("n1", "resume")
    batch.lab.set_node("n2", "down")
    batch.until(lambda: batch.states(job) == {"waiting"})
    assert holders(run) == {old}, "Slurm thinks that nothing runs, the run knows better"
    batch.until(lambda: len(batch.running(job)) == 1 and len(holders(run)) == 2)
    assert old in holders(run)
    toy.let_go(run)
    batch.until(lambda: batch.states(job) == {"done"})
    assert status_of(run)["state"] == "done"
    assert toy.digest(run) == toy.expected_digest(4)
    assert not list(run.failures.iterdir())


def holders(run) -> set[str | None]:
    """Who works on the run."""
    return {task.holder for task in read_status(run).tasks if task.state == "running"}


def log(run, job: str, index: int) -> str:
    """What a task has written, over all its restarts."""
    return Path(run.logs / f"array-{job}_{index}.log").read_text()
