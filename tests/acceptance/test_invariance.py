"""The draws of a run depend on configuration, data and seed alone: not on who computes them, nor in what portions."""

from __future__ import annotations

import os
import pty
import threading
from pathlib import Path

import h5py
import pytest

from tests.acceptance.jobs import (
    MPIEXEC,
    Jobs,
    compiled,
    copied,
    digest,
    digest_of,
    draws,
    events,
    hooked,
    prepared_digest,
    ranks,
)

ONE_CORE = ("taskset", "-c", min(os.sched_getaffinity(0)))
WAYS = {
    "2 workers and threads": ((), 33, {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}),
    "1 rank on 1 core": ((*ONE_CORE, *ranks(1)), 7, {}),
    "2 ranks": (ranks(2), 64, {"OMP_NUM_THREADS": "2"}),
    "7 ranks": (ranks(7), 1000, {}),
}
"""Launcher, steps between checkpoints and environment; the reference is one process, 50 steps, one thread."""


@pytest.fixture(scope="module")
def ways(reference, tmp_path_factory) -> dict[str, Path]:
    """A complete run in each way."""
    folder = tmp_path_factory.mktemp("ways")
    runs = {name: folder / name.replace(" ", "-") for name in WAYS}
    with Jobs(folder, reference.config) as jobs:
        for name, (before, every, environment) in WAYS.items():
            workers = () if before else ("--workers", 2)
            options = (*workers, "--set", f"runtime.checkpoint_every={every}")
            jobs.fit(runs[name], *options, before=before, environment=environment)
    return runs


def test_the_mpiexec_of_the_wheel_is_installed():
    assert os.access(MPIEXEC, os.X_OK), f"{MPIEXEC} is missing: pip install -e '.[mpi,test]'"


@pytest.mark.parametrize("way", WAYS)
def test_given_another_way_to_compute_then_likelihood_and_draws_are_the_same(reference, ways, way):
    assert prepared_digest(ways[way]) == reference.prepared_digest
    assert digest(ways[way]) == reference.digest


def test_given_ranks_or_workers_then_several_processes_have_drawn(ways):
    for name in ("2 workers and threads", "2 ranks", "7 ranks"):
        done = [event for event in events(ways[name], "done") if event["task"].startswith("shard")]
        assert len({event["pid"] for event in done}) > 1, name
        assert len(done) == 6, name


def test_given_two_jobs_at_once_on_one_run_then_both_end_well_and_each_shard_is_drawn_once(jobs, reference, tmp_path):
    run = tmp_path / "run"
    slow = hooked(**{"hpcxpcs.results.write:posterior_files": {"pause": 3.0}})
    both = (jobs.start(run, before=ranks(2), program=slow), jobs.start(run, "--workers", 2, program=slow))
    for job in both:
        assert job.wait() == 0, job.text()
    assert digest(run) == reference.digest
    done = [event["task"] for event in events(run, "done")]
    assert len(done) == len(set(done))
    assert not list((run / "claims").glob("[!.]*"))


def test_given_a_terminal_and_a_checkpoint_after_every_step_then_the_draws_are_the_same(jobs, reference, tmp_path):
    run = copied(reference.prepared, tmp_path / "run")
    leader, follower = pty.openpty()
    shown: list[bytes] = []
    reader = threading.Thread(target=read_all, args=(leader, shown))
    reader.start()
    try:
        jobs.fit(run, "--set", "runtime.checkpoint_every=1", terminal=follower)
    finally:
        os.close(follower)
        reader.join()
        os.close(leader)
    assert b"\r\x1b[K" in b"".join(shown)
    assert digest(run) == reference.digest


def read_all(descriptor: int, into: list[bytes]) -> None:
    """Read a terminal until nobody writes to it any more."""
    while True:
        try:
            into.append(os.read(descriptor, 4096))
        except OSError:
            return


def test_given_the_exact_method_then_ranks_draw_the_same_as_one_process(jobs, reference, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    jobs.fit(alone, "--method", "exact", expect=None)
    jobs.fit(together, "--method", "exact", before=ranks(3), expect=None)
    assert {name.partition(":")[0] for name in draws(alone)} >= {"exact/00000.h5", "exact/00001.h5"}
    assert digest(together) == digest(alone)
    assert len({event["pid"] for event in events(together, "done") if "exact" in event["task"]}) == 2


def test_given_another_seed_then_every_array_differs_and_the_comparison_sees_it(reference, rejected):
    run, _ = rejected
    assert digest(run) != reference.digest
    ours, theirs = draws(reference.run), draws(run)
    same = [name for name in ours if ours[name].tobytes() == theirs[name].tobytes()]
    assert all(name.endswith(":diverging") for name in same)


def test_given_one_bit_of_one_draw_then_the_comparison_sees_it(reference, tmp_path):
    run = copied(reference.run, tmp_path / "run")
    assert digest(run) == reference.digest
    with h5py.File(run / "shards" / "00003.h5", "r+") as file:
        content = file["draws/z"][()]
        content.view("u8")[1, 57, 2] ^= 1
        file["draws/z"][...] = content
    assert digest(run) != reference.digest


@pytest.mark.parametrize("name", ["posterior_samples", "contrast", "shards/00005.h5:z"])
def test_given_an_array_less_then_the_comparison_sees_it(reference, name):
    arrays = draws(reference.run)
    assert digest_of({key: array for key, array in arrays.items() if key != name}) != reference.digest


def test_given_more_shards_then_sampling_asks_for_no_more_compilations(jobs, reference, tmp_path):
    jobs.fit(tmp_path / "run", "--shards", 2, expect=None)
    few, many = compiled(tmp_path / "run", "shard"), compiled(reference.run, "shard")
    assert few.total() == many.total() > 0
    assert [e["during"] for e in events(reference.run, "compiled") if "shard" in e["during"]] == ["shard-00000"]


@pytest.mark.parametrize("way", WAYS)
def test_given_a_second_run_then_nearly_everything_is_found_compiled(reference, ways, way):
    assert compiled(reference.run).total() > 0
    use = compiled(ways[way])
    assert use["hits"] >= 0.95 * use.total() > 0


def test_given_workers_then_each_process_tells_how_it_used_the_cache(ways):
    run = ways["2 workers and threads"]
    drew = {event["pid"] for event in events(run, "done") if event["task"].startswith("shard")}
    told = {event["pid"] for event in events(run, "compiled") if event["during"].startswith("shard")}
    assert told == drew
