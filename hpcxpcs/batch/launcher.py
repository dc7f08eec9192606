"""Which MPI launcher has started this process, and which one belongs to the installed MPI library."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
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


def own_launcher(environ: Mapping[str, str] = os.environ) -> str:
    """Path of the mpiexec that belongs to the MPI library of mpi4py; "mpiexec" where it is not known.

    Jobs do not have the PATH of an activated environment, and PBS has an mpiexec of its own there.
    """
    for folder in _library_folders(environ):
        if os.access(folder / "mpiexec", os.X_OK):
            return str(folder / "mpiexec")
    return "mpiexec"


def _library_folders(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where programs of the library may be: beside the one that is asked for, of the compiler, or installed with us."""
    if library := environ.get("MPI4PY_LIBMPI"):
        yield Path(library).parent.parent / "bin"
    try:
        import mpi4py

        compiler = mpi4py.get_config().get("mpicc")
    except ImportError:
        return
    if compiler:
        yield Path(compiler).parent
    yield Path(sys.executable).parent


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


THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def one_blas_thread() -> None:
    """Let BLAS libraries that are loaded from now on, here and in child processes, use one thread.

    So a run gives the same bits on any number of cores. Tasks and XLA use the cores, on matrices that are small.
    """
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))


LAUNCHER_PREFIXES = ("PMI", "MPI_LOCAL", "HYD", "OMPI_", "PRTE")


def without_launcher(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what an MPI launcher put there; a child that inherits it would abort."""
    return {name: value for name, value in environ.items() if not name.startswith(LAUNCHER_PREFIXES)}
