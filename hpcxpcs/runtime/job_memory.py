"""How much memory a batch job was given on this node, by what its scheduler says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from hpcxpcs.runtime.preemption import Ask, ask_program, pbs_record

MEBIBYTE = 1024**2
PBS_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4, "p": 1024**5}


def slurm_memory(environ: Mapping[str, str]) -> int | None:
    """Bytes per node of the Slurm job this process is in; None outside, and where the whole node was given."""
    per_node, per_core = environ.get("SLURM_MEM_PER_NODE"), environ.get("SLURM_MEM_PER_CPU")
    if per_node and per_node.isdigit() and int(per_node) > 0:
        return int(per_node) * MEBIBYTE
    cores = environ.get("SLURM_CPUS_ON_NODE", "")
    if per_core and per_core.isdigit() and cores.isdigit():
        return int(per_core) * int(cores) * MEBIBYTE
    return None


def pbs_memory(environ: Mapping[str, str], ask: Ask = ask_program) -> int | None:
    """Bytes per node that the PBS job this process is in asked for; the server is asked once per process."""
    job = environ.get("PBS_JOBID")
    return _requested(job, ask) if job else None


@cache
def _requested(job: str, ask: Ask) -> int | None:
    """What qstat says that a job asked for in all, by the number of its nodes."""
    try:
        resources = pbs_record(job, ask).get("Resource_List", {})
        total, nodes = pbs_bytes(resources.get("mem")), int(resources.get("nodect", 1))
    except (ValueError, TypeError, AttributeError):
        return None
    return None if total is None else total // max(1, nodes)


def pbs_bytes(value: object) -> int | None:
    """Bytes of PBS's sizes, such as 4gb, 131072kb or 1000; None for what is none (and for words, "mw")."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"(\d+)([kmgtp]?)b?", value.strip().lower()) if isinstance(value, str) else None
    return None if match is None else int(match[1]) * PBS_UNITS[match[2]]
