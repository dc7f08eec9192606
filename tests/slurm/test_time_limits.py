"""Time that runs out: known in advance, announced by a signal, and never more than a block of work lost."""

from __future__ import annotations

import json
import sys

import pytest

from tests.slurm.batch import events_of, status_of
from tests.workers import toy

DEADLINE = """
import json, sys
from hpcxpcs.runs.job import batch_job
from hpcxpcs.workers.preemption import find_deadline
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
    run = batch.toy_run(4, held=True)
    job = batch.submit(run.folder, "--time-limit", 3, tasks=2)
    batch.until(lambda: batch.agreed(run, job) and len(events_of(run, "stopped")) >= 2)
    batch.until(lambda: batch.agreed(run, job) and batch.states(job) == {"waiting"})
    assert status_of(run)["state"] == "waiting"
    assert batch.told(run).count("s are left (--time-limit)") >= 2
    toy.let_go(run)
    batch.until_done(run, job)
    assert max(event["restarts"] for event in events_of(run, "started")) >= 1
    assert len(events_of(run, "started")) == 4 + len(events_of(run, "stopped")), "each stop was continued"


@pytest.mark.slow
def test_given_a_time_limit_of_a_minute_then_who_listens_goes_on_in_another_leg_and_who_does_not_is_ended(
    batch,
):
    run = batch.toy_run(2, held=True)
    frozen = batch.toy_run(2, name="frozen", trouble={"shard-00000": "freeze"})
    job, ended = batch.submit(run.folder, walltime=60), batch.submit(frozen.folder, walltime=60)
    batch.until(lambda: events_of(run, "stopped"))
    toy.let_go(run)
    batch.until_done(run, job)
    assert max(event["restarts"] for event in events_of(run, "started")) >= 1, "saved in time, and continued"

    batch.until(lambda: batch.agreed(frozen, ended) and batch.states(ended) == {"failed"})
    assert [look.word for look in batch.looks(ended)] == ["TIMEOUT"]
    assert status_of(frozen)["state"] == "waiting"
    batch.until_done(frozen, batch.submit(frozen.folder))
