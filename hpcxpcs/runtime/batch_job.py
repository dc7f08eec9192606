"""Which job of a batch scheduler this process belongs to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PBS_CONFIGURATION = "/etc/pbs.conf"
"""Where every machine of a PBS cluster says where its programs are, unless PBS_CONF_FILE names another file."""


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


def with_scheduler_programs(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment, with the programs of PBS on PATH: on the nodes of some clusters they are not.

    They are looked for where the job was submitted from and where PBS is installed; PATH itself comes first.
    """
    installed = environ.get("PBS_EXEC") or _pbs_exec(environ)
    folders = [environ.get("PATH", os.defpath), environ.get("PBS_O_PATH", "")]
    folders += [f"{installed}/bin"] if installed else []
    return {**environ, "PATH": os.pathsep.join(folder for folder in folders if folder)}


def _pbs_exec(environ: Mapping[str, str]) -> str:
    try:
        text = Path(environ.get("PBS_CONF_FILE") or PBS_CONFIGURATION).read_text(errors="replace")
    except OSError:
        return ""
    values = [line.partition("=")[2] for line in text.splitlines() if line.startswith("PBS_EXEC=")]
    return values[-1].strip().strip("\"'") if values else ""
