"""A small run, and sealed files of it, for the tests of the run folder."""

from __future__ import annotations

import dataclasses
import os
import time

import numpy as np

from hpcxpcs.runs.plan import Plan, new_task
from hpcxpcs.runs.run import DONE
from hpcxpcs.runs.sealed import Sealed

TASK = new_task("shard", 3, cost=2.5)


def sample_plan(**changes):
    """A plan of five tasks."""
    tasks = (*(new_task("shard", index, 1.0 + index) for index in range(4)), new_task("check", 0, 0.5))
    plan = Plan(
        run_id="1234abcd",
        created="2026-01-02T03:04:05+00:00",
        hpcxpcs_version="0.1.0",
        versions={"jax": "0.12.0", "numpy": "2.4.0"},
        stream_version=1,
        method="cmc",
        config={"model": "laminar", "noise": {"kind": "iid", "floor": 0.5}, "ranges": [1, 2.5]},
        config_fingerprint="c0ffee",
        data={"path": "data.h5", "fingerprint": "f00d"},
        seed=7,
        shards={"strategy": "angle_balanced", "count": 4, "anchor": "posterior"},
        chains=4,
        tasks=tasks,
        extra={"point_sha256": "aa"},
    )
    return dataclasses.replace(plan, **changes)


def sample_sealed(generation, *, status="running", run_id="1234abcd", kind="shard"):
    """The file of TASK after so many blocks."""
    return Sealed(
        kind=kind,
        run_id=run_id,
        name=TASK.name,
        status=status,
        progress={"generation": generation},
        arrays={"draws/z": np.full((4, 8), generation, np.float64), "key": np.array([1, 2], np.uint32)},
        attributes={"step_size": [0.5, 0.25]},
    )


def finished(run_id="1234abcd"):
    """The file of TASK when it is done."""
    return sample_sealed(9, status=DONE, run_id=run_id)


def age(path, seconds):
    """Let a file look as if it was written so long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))
