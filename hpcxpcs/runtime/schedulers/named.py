"""Schedulers by name; what they need to look at a job, and no more."""

from __future__ import annotations

from hpcxpcs.runtime.schedulers.detached import Detached
from hpcxpcs.runtime.schedulers.jobs import Scheduler
from hpcxpcs.runtime.schedulers.pbs import Pbs
from hpcxpcs.runtime.schedulers.slurm import Slurm


def scheduler_named(name: str) -> Scheduler:
    """The scheduler itself."""
    if name == "slurm":
        return Slurm()
    return Detached() if name == "local" else Pbs("torque" if name == "torque" else "pbs")
