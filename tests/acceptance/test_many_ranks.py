"""Far more MPI ranks than cores: the others wait and cost next to nothing, and the draws are the same."""

from __future__ import annotations

import os

import pytest

from tests.acceptance.jobs import digest, events, ranks

ONE_CORE = ("taskset", "-c", min(os.sched_getaffinity(0)))

pytestmark = pytest.mark.slow


def at_work(run):
    """Processes that have drawn."""
    return {event["pid"] for event in events(run, "done") if event["task"].startswith("shard")}


def test_given_64_ranks_then_as_many_work_as_there_are_cores_and_the_draws_are_the_same(jobs, reference, tmp_path):
    job = jobs.fit(tmp_path / "run", "--set", "runtime.ranks_per_machine=auto", before=ranks(64))
    assert digest(tmp_path / "run") == reference.digest
    cores = len(os.sched_getaffinity(0))
    assert 1 <= len(at_work(tmp_path / "run")) <= cores
    if cores < 64:
        assert f"{cores} of 64 ranks work" in job.text()


def test_given_a_number_of_ranks_per_machine_then_so_many_work_whatever_the_cores(jobs, reference, tmp_path):
    options = ("--set", "runtime.ranks_per_machine=3")
    jobs.fit(tmp_path / "run", *options, before=(*ONE_CORE, *ranks(5)))
    assert digest(tmp_path / "run") == reference.digest
    assert 1 < len(at_work(tmp_path / "run")) <= 3
