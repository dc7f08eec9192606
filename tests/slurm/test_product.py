"""The real thing on Slurm: an array and its gather job, and MPI jobs, give the bits of a run on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpcxpcs.runs.run import Run
from tests.acceptance.jobs import MPIEXEC, Jobs, copied, digest, hooked
from tests.slurm.batch import PRODUCT, Batch, events_of, status_of, steps
from tests.small_problem import small_problem

SHARDS = 4

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Problem:
    """A complete run by one process in one go, and the same one just begun: nothing but its plan."""

    run: Path
    begun: Path
    digest: str


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory, private_cache: None) -> Iterator[Problem]:
    folder = tmp_path_factory.mktemp("problem")
    config = small_problem(folder, SHARDS, ranks_per_machine=2, checkpoint_every=25)
    with Jobs(folder, config) as jobs:
        jobs.fit(folder / "run")
    work = ("complete.json", "events.jsonl", "results", "shards", "checks", "data", "point", "logs")
    begun = copied(folder / "run", folder / "begun", without=work)
    yield Problem(folder / "run", begun, digest(folder / "run"))


def begun_run(problem: Problem, batch: Batch) -> Run:
    """A run of which there is only the plan."""
    return Run.create(batch.folder / "run", Run.open(problem.begun).plan)


def test_given_an_array_with_a_requeue_in_mid_run_and_a_gather_job_then_the_results_are_those_of_a_local_run(
    batch, problem
):
    run = begun_run(problem, batch)
    hurry = batch.folder / "hurry"
    slowly = hooked(**{"hpcxpcs.inference.nuts:advance": {"pause": 1.0, "unless": str(hurry)}})
    array = batch.submit(run.folder, command=(*slowly, "work"), tasks=2)
    gather = batch.submit(run.folder, "--here", command=(*PRODUCT, "resume"), kind="gather", after=array)
    batch.until(lambda: batch.agreed(run, array) and len(batch.running(array)) == 2 and steps(run) >= 20)
    batch.lab.ask("scontrol", "requeue", array)
    batch.until(lambda: batch.agreed(run, array) and batch.states(array) == {"waiting"})
    assert status_of(run)["counts"]["shard"]["running"] == 0
    assert batch.states(gather) == {"waiting"}, "an array that is requeued has not ended"
    saved = steps(run)
    hurry.touch()
    batch.until(lambda: batch.agreed(run, array, gather) and batch.states(array) == {"done"})
    assert status_of(run)["counts"]["shard"]["done"] == SHARDS
    batch.until(lambda: not batch.states(gather) & {"waiting", "running"})
    assert batch.states(gather) == {"done"}, batch.told(run)
    assert digest(run.folder) == problem.digest
    legs = events_of(run, "started")
    assert {event["restarts"] for event in legs} >= {0, 1}
    assert saved > 0 and len(legs) > len({event["task"] for event in legs}), "shards were continued"


@pytest.mark.parametrize(
    "launcher", [(str(MPIEXEC), "-n", "3"), ("srun", "--mpi=pmi2")], ids=["mpiexec of the wheel", "srun"]
)
def test_given_an_mpi_job_over_two_nodes_then_it_does_the_same_plan(batch, problem, launcher):
    run = begun_run(problem, batch)
    job = batch.submit(
        run.folder,
        "--here",
        command=(*PRODUCT, "resume"),
        kind="mpi",
        launcher=launcher,
        nodes=2,
        processes=2,
    )
    batch.until(lambda: batch.states(job) == {"running"})
    batch.until(lambda: not batch.states(job) & {"waiting", "running"})
    assert batch.states(job) == {"done"}, batch.told(run)
    assert digest(run.folder) == problem.digest
    assert len({event["name"] for event in events_of(run, "worker")}) > 1, "ranks saw each other"
