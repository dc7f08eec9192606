"""Who does the tasks: this process, worker processes on this machine, or the ranks of an MPI job.

Nothing here imports JAX: ranks that get no task never pay for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from hpcxpcs.config import Config
from hpcxpcs.errors import ConfigError
from hpcxpcs.pipeline.begin import is_prepared
from hpcxpcs.pipeline.choices import fit_threads, worker_count
from hpcxpcs.pipeline.executor import Executor
from hpcxpcs.pipeline.reporter import Reporter
from hpcxpcs.runtime.environment import apply, limited_threads
from hpcxpcs.runtime.executors.dealing import MpiRanks
from hpcxpcs.runtime.executors.in_process import InProcess
from hpcxpcs.runtime.executors.launcher import under_mpi
from hpcxpcs.runtime.executors.local import LocalWorkers
from hpcxpcs.runtime.executors.mpi import as_rank_0_has_it, mpi_ranks
from hpcxpcs.runtime.placement import my_place
from hpcxpcs.runtime.preemption import StopRequest, find_deadline
from hpcxpcs.runtime.pulse import Stop
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.topology import topology
from hpcxpcs.runtime.work import TaskFunction, lazily


def task_function(run: Run) -> TaskFunction:
    """What does the tasks of a run, made when there is the first one to do."""
    from hpcxpcs.pipeline.sampling import task_function as made

    return made(run)


def ensure_ready(run: Run, stop: Stop, reporter: Reporter) -> None:
    """Have the likelihood of a run prepared, by this process or another; Stopped when time is up before."""
    if not is_prepared(run):
        from hpcxpcs.pipeline.posterior import ensure_prepared

        ensure_prepared(run, stop, reporter)


@contextmanager
def crew(
    config: Config, time_limit: float | None, reporter: Reporter, workers: int | None = None
) -> Iterator[Executor | None]:
    """The executor that suits how this process was started; None on a rank that has served and is done.

    `workers` are those of the command line, and override the configuration's; under MPI the ranks are the workers, at
    most one per core. A point fit is the work of one process, with a thread for each worker: its other ranks wait.
    """
    if under_mpi():
        with _ranks(config, time_limit, reporter) as found:
            if found is not None and workers is not None:
                raise ConfigError(
                    "--workers: is for a command without an MPI launcher; here the ranks are the workers: leave it "
                    "out, and start as many ranks as are to work (runtime.ranks_per_machine)"
                )
            yield InProcess(lazily(task_function), found) if isinstance(found, StopRequest) else found
        return
    count = workers or worker_count(config)
    threads = limited_threads(fit_threads(config)) if is_point_fit(config) else nullcontext()
    with threads, StopRequest(find_deadline(time_limit)) as stop:
        yield LocalWorkers(count, stop) if count > 1 else InProcess(lazily(task_function), stop)


def is_point_fit(config: Config) -> bool:
    """Whether there are no draws to share out."""
    return config.optimization.method == "nlsq"


@contextmanager
def _ranks(
    config: Config, time_limit: float | None, reporter: Reporter
) -> Iterator[MpiRanks | StopRequest | None]:
    """The ranks that work for rank 0, each on cores of its own; for a point fit it keeps what the launcher gave it."""
    function = lazily(task_function)
    if is_point_fit(config):
        with mpi_ranks(function, time_limit, warn=reporter.warn) as found:
            if isinstance(found, MpiRanks):
                waiting = f"{found.workers - 1} rank{'s' if found.workers > 2 else ''}"
                reporter.warn(
                    f"a point fit is the work of one process: rank 0 does it on {fit_threads(config)} cores, while "
                    f"{waiting} waits; without a launcher it has all cores of the machine"
                )
            yield found
        return
    place = my_place(topology())
    apply(place, warn=reporter.warn)
    most = config.runtime.ranks_per_machine
    chosen = None if most == "auto" else most
    with mpi_ranks(function, time_limit, warn=reporter.warn, cpus=place.cpus, most=chosen) as found:
        yield found


def led(
    config: Config,
    time_limit: float | None,
    reporter: Reporter,
    lead: Callable[[Executor], int],
    workers: int | None = None,
) -> int:
    """Let `lead` work with the crew, on rank 0 where there are ranks, and return its exit code on all of them."""
    code = 0
    with crew(config, time_limit, reporter, workers) as executor:
        if executor is not None:
            code = lead(executor)
    return as_rank_0_has_it(code)
