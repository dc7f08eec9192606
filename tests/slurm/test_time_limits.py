"""Time that runs out: known in advance, announced by a signal, and never more than a block of work lost."""

from __future__ import annotations

import json
import sys

import pytest

from tests.runtime import toy
from tests.slurm.batch import events_of, status_of

DEADLINE = """
import json, sys
from hpcxpcs.runtime.batch_job import batch_job
from hpcxpcs.runtime.preemption import find_deadline
found = find_deadline()
print(json.dumps({"seconds": found.remaining(), "source": found.source, **batch_job()}))
"""


@pytest.mark.parametrize("tasks", [1, 2])
def test_given_a_job_with_a_time_limit_then_its_processes_know_when_it_ends(batch, tasks):
    run = batch.toy_run(1)
    job = batch.submit(run.folder, command=(sys.executable, "-c", DEADLINE), tasks=tasks, walltime=300)
    batch.until(lambda: batch.states(job) == {"done"})
    for look in batch.looks(job):
        name = job if look.index is None else f"{job}_{look.index}"
        found = json.loads((run.logs / f"array-{name}.log").read_text().splitlines()[-1])
        assert found["source"] == f"squeue on job {name}"
        assert 0 < found["seconds"] <= 300
        assert (found["job"], found["restarts"]) == (name, 0)


def test_given_tasks_that_stop_in_time_then_they_requeue_themselves_until_all_is_done(batch):
    run = batch.toy_run(4, blocks=8, seconds=0.4)
    job = batch.submit(run.folder, "--time-limit", 3, tasks=2)
    batch.until(lambda: batch.agreed(run, job) and batch.states(job) == {"waiting"})
    assert status_of(run)["state"] == "waiting"
    assert all("(--time-limit)" in text for text in (batch.told(run),))
    batch.until_done(run, job)
    assert max(event["restarts"] for event in events_of(run, "started")) >= 1
    assert len(events_of(run, "started")) == 4 + len(events_of(run, "stopped")), "each stop was continued"


@pytest.mark.slow
def test_given_a_real_time_limit_of_a_minute_then_the_job_goes_on_in_another_leg(batch):
    run = batch.toy_run(2, blocks=90, seconds=0.4)
    job = batch.submit(run.folder, walltime=60)
    batch.until_done(run, job, seconds=200)
    stopped = events_of(run, "stopped")
    assert stopped and all(look.word == "COMPLETED" for look in batch.looks(job))
    assert max(event["restarts"] for event in events_of(run, "started")) >= 1
    assert toy.digest(run) == toy.expected_digest(2, 90)


@pytest.mark.slow
def test_given_a_program_that_hears_nothing_then_the_time_limit_ends_it_and_a_new_job_takes_over(batch):
    run = batch.toy_run(2, trouble={"shard-00000": "freeze"})
    job = batch.submit(run.folder, walltime=60)
    batch.until(
        lambda: batch.agreed(run, job) and not batch.states(job) & {"waiting", "running"}, seconds=200
    )
    assert [(look.state, look.word) for look in batch.looks(job)] == [("failed", "TIMEOUT")]
    assert status_of(run)["state"] == "waiting"
    batch.until_done(run, batch.submit(run.folder))
