"""Who does the tasks: this process, worker processes on this machine, or the ranks of an MPI job.

Nothing here imports JAX: ranks that get no task never pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from hpcxpcs.config import Config
from hpcxpcs.pipeline.choices import worker_count
from hpcxpcs.pipeline.reporter import Reporter
from hpcxpcs.runtime.environment import apply
from hpcxpcs.runtime.executors.in_process import InProcess
from hpcxpcs.runtime.executors.launcher import under_mpi
from hpcxpcs.runtime.executors.local import LocalWorkers
from hpcxpcs.runtime.executors.mpi import mpi_ranks
from hpcxpcs.runtime.placement import my_place
from hpcxpcs.runtime.preemption import StopRequest, find_deadline
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.tasks import Task
from hpcxpcs.runtime.topology import topology
from hpcxpcs.runtime.work import TaskFunction, WorkReport, lazily


class Executor(Protocol):
    """Whatever does tasks of a run, and knows when to stop."""

    @property
    def stop(self) -> StopRequest:
        """Whether to stop."""
        ...

    @property
    def workers(self) -> int:
        """How many processes work."""
        ...

    def run_tasks(self, run: Run, tasks: Sequence[Task]) -> WorkReport:
        """Do tasks, longest first; returns how they stand."""
        ...


def task_function(run: Run) -> TaskFunction:
    """What does the tasks of a run, made when there is the first one to do."""
    from hpcxpcs.pipeline.sampling import task_function as made

    return made(run)


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
