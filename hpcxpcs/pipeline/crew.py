"""Who does the tasks: this process, worker processes on this machine, or the ranks of an MPI job.

Nothing here imports JAX: ranks that get no task never pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from hpcxpcs.batch.launcher import under_mpi
from hpcxpcs.config import Config
from hpcxpcs.errors import ConfigError
from hpcxpcs.pipeline.plan import is_prepared
from hpcxpcs.pipeline.reporter import Reporter
from hpcxpcs.pipeline.settings import fit_threads, worker_count
from hpcxpcs.runs.plan import CAMPAIGN
from hpcxpcs.runs.run import Run
from hpcxpcs.workers.local import InProcess, LocalWorkers
from hpcxpcs.workers.machine import topology
from hpcxpcs.workers.mpi import Executor, MpiRanks, mpi_ranks
from hpcxpcs.workers.placement import Place, apply, limited_threads, my_place
from hpcxpcs.workers.preemption import StopRequest, find_deadline
from hpcxpcs.workers.work import Stop, TaskFunction, lazily


def make_task_function(run: Run) -> TaskFunction:
    """What does the tasks of a run, made when there is the first one to do."""
    if run.plan.method == CAMPAIGN:
        from hpcxpcs.pipeline.item_fit import item_function

        return item_function(run)
    from hpcxpcs.pipeline.sample import task_function as made

    return made(run)


def ensure_ready(run: Run, stop: Stop, reporter: Reporter) -> Run:
    """Have the likelihood of a run prepared, by this process or another; Stopped when time is up before.

    The run comes back as this process has it open after that, for its tasks.
    """
    if run.plan.method == CAMPAIGN or is_prepared(run):
        return run
    from hpcxpcs.pipeline.prepare import OpenRun, ensure_prepared

    opened = OpenRun.of(run)
    ensure_prepared(opened, stop, reporter)
    return opened


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
            yield InProcess(lazily(make_task_function), found) if isinstance(found, StopRequest) else found
        return
    count = workers or worker_count(config)
    threads = limited_threads(fit_threads(config)) if is_point_fit(config) else nullcontext()
    with threads, StopRequest(find_deadline(time_limit)) as stop:
        yield LocalWorkers(count, stop) if count > 1 else InProcess(lazily(make_task_function), stop)


def pin_to_cores(reporter: Reporter) -> Place:
    """Take the cores of this process."""
    place = my_place(topology())
    apply(place, warn=reporter.warn)
    return place


def is_point_fit(config: Config) -> bool:
    """Whether there are neither draws nor items to share out."""
    return config.optimization.method == "nlsq" and config.campaign is None


@contextmanager
def _ranks(config: Config, time_limit: float | None, reporter: Reporter) -> Iterator[MpiRanks | StopRequest | None]:
    """The ranks that work for rank 0, each on cores of its own; for a point fit it keeps what the launcher gave it."""
    function = lazily(make_task_function)
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
    place = pin_to_cores(reporter)
    most = config.runtime.ranks_per_machine
    chosen = None if most == "auto" else most
    with mpi_ranks(function, time_limit, warn=reporter.warn, cpus=place.cpus, most=chosen) as found:
        yield found
