"""Who does the tasks: this process, worker processes on this machine, or the ranks of an MPI job.

Nothing here imports JAX: ranks that get no task never pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hpcxpcs.config import Config
from hpcxpcs.pipeline.begin import is_prepared
from hpcxpcs.pipeline.choices import worker_count
from hpcxpcs.pipeline.executor import Executor
from hpcxpcs.pipeline.reporter import Reporter
from hpcxpcs.runtime.environment import apply
from hpcxpcs.runtime.executors.in_process import InProcess
from hpcxpcs.runtime.executors.launcher import under_mpi
from hpcxpcs.runtime.executors.local import LocalWorkers
from hpcxpcs.runtime.executors.mpi import mpi_ranks
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

    `workers` overrides the configuration's; under MPI the ranks are the workers, at most one per core.
    """
    if under_mpi():
        place = my_place(topology())
        apply(place, warn=reporter.warn)
        most = config.runtime.ranks_per_machine
        with mpi_ranks(
            lazily(task_function),
            time_limit,
            warn=reporter.warn,
            cpus=place.cpus,
            most=None if most == "auto" else most,
        ) as found:
            yield InProcess(lazily(task_function), found) if isinstance(found, StopRequest) else found
        return
    count = workers or worker_count(config)
    with StopRequest(find_deadline(time_limit)) as stop:
        yield LocalWorkers(count, stop) if count > 1 else InProcess(lazily(task_function), stop)
