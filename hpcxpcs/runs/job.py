"""Which job of a batch scheduler this process belongs to; it imports no NumPy, for what runs before threads are set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def slurm_job(environ: Mapping[str, str] = os.environ) -> str | None:
    """The id of this process's Slurm job, `12_3` for an array task; None outside of Slurm.

    An array task goes by its index, because one of the tasks shares its job number with the whole array.
    """
    array, index = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else environ.get("SLURM_JOB_ID") or None


def batch_job(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What events say of it: {"job": id}, under Slurm also {"restarts": how often it was requeued}; else nothing."""
    if (job := slurm_job(environ)) is not None:
        restarts = environ.get("SLURM_RESTART_COUNT", "")  # Slurm does not set it before the first restart
        return {"job": job, "restarts": int(restarts) if restarts.isdigit() else 0}
    return {"job": environ["PBS_JOBID"]} if environ.get("PBS_JOBID") else {}
