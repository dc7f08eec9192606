"""Where tasks run: in this process, in worker processes on this machine, or in MPI ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from hpcxpcs.runtime.executors.in_process import InProcess
from hpcxpcs.runtime.executors.launcher import under_mpi
from hpcxpcs.runtime.executors.local import LocalWorkers
from hpcxpcs.runtime.preemption import StopRequest, find_deadline
from hpcxpcs.runtime.pulse import USUAL_PATIENCE, Patience
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.tasks import Task
from hpcxpcs.runtime.work import TaskFunction, WorkReport, lazily


class Executor(Protocol):
    """What a leader needs: `workers` that do tasks, and the `stop` request it shares with them."""

    @property
    def workers(self) -> int: ...

    @property
    def stop(self) -> StopRequest: ...

    def run_tasks(self, run: Run, tasks: Sequence[Task]) -> WorkReport: ...


@contextmanager
def open_executor(
    make_function: Callable[[Run], TaskFunction],
    *,
    workers: int = 1,
    time_limit: float | None = None,
    patience: Patience = USUAL_PATIENCE,
    warn: Callable[[str], None] = lambda text: None,
) -> Iterator[Executor | None]:
    """Give the leader its executor: MPI ranks when a launcher started this process, else `workers` processes.

    Ranks that do not lead serve as long as the leader stays in the block, and then get None. `time_limit` is in
    seconds from now; `make_function` is called in each process that gets a task.
    """
    function = lazily(make_function)

    def here(stop: StopRequest) -> Executor:
        if workers == 1:
            return InProcess(function, stop, patience)
        return LocalWorkers(workers, stop, patience)

    if under_mpi():
        from hpcxpcs.runtime.executors.mpi import mpi_ranks

        with mpi_ranks(function, time_limit, patience, warn) as found:
            yield here(found) if isinstance(found, StopRequest) else found
        return
    with StopRequest(find_deadline(time_limit)) as stop:
        yield here(stop)
