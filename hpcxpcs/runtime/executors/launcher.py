"""Which MPI launcher has started this process, read from the environment alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PALS_SIZE", "SLURM_STEP_NUM_TASKS")
"""How many processes a launcher started together. SLURM_NTASKS is no sign: the job script itself has it too."""

RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "PALS_RANKID")
"""A process that has one of these was started by a launcher, even when it does not say how many there are."""


class Launched(NamedTuple):
    """A launcher started this process as one of `size`; `variable` says so."""

    size: int
    variable: str


def launched(environ: Mapping[str, str] = os.environ) -> Launched | None:
    """Return how many processes the launcher started (1 when it does not say); None without a launcher."""
    for variable in SIZE_VARIABLES:
        count = environ.get(variable, "")
        if count.isdigit() and not (variable.startswith("SLURM") and int(count) == 1):
            return Launched(int(count), variable)
    for variable in RANK_VARIABLES:
        if environ.get(variable, "").isdigit():
            return Launched(1, variable)
    return None


def under_mpi(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is an MPI rank, so that mpi4py has something to find."""
    return launched(environ) is not None


def separate_worlds(started: Launched | None, world_size: int, library: str = "") -> str | None:
    """Return a warning in words when MPI sees one rank although the launcher started many; None when all is well."""
    if started is None or started.size == 1 or world_size > 1:
        return None
    used = f" ({library.splitlines()[0]})" if library else ""
    return (
        f"the launcher started {started.size} processes ({started.variable}), but each is alone in an MPI world of 1: "
        f"launcher and MPI library{used} do not belong together. The processes still share the run folder, but each "
        "prepares and gathers for itself. Use the launcher of that library, or MPI4PY_LIBMPI=FILE with the "
        "launcher's own library; `hpcxpcs doctor` shows which library is found"
    )
