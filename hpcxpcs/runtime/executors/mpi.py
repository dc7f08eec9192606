"""Tasks over MPI ranks: rank 0 leads and works, the others do what they are handed; an error ends all of them."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn, cast

from hpcxpcs.errors import EnvironmentProblem, HpcxpcsError
from hpcxpcs.runtime.executors.dealing import MpiRanks, Rank, serve_as
from hpcxpcs.runtime.executors.launcher import launched, separate_worlds
from hpcxpcs.runtime.executors.oversight import Member
from hpcxpcs.runtime.executors.seats import Seat, at_work, waiting_words
from hpcxpcs.runtime.log_lines import TOLD
from hpcxpcs.runtime.preemption import Deadline, StopRequest, find_deadline
from hpcxpcs.runtime.process_log import name_process
from hpcxpcs.runtime.pulse import USUAL_PATIENCE, Patience
from hpcxpcs.runtime.work import TaskFunction

if TYPE_CHECKING:
    from concurrent.futures import Executor as Pool

    from mpi4py.MPI import Intracomm

IDLE_SECONDS = 0.05
"""Between two looks of an idle rank for messages. MPI itself would spin, and take the core from a rank at work."""

FORWARDING_SECONDS = 0.5
"""For the launcher to pass on what was printed: when a rank aborts, it drops what it has not read by then."""

INTERRUPTED = 130

_log = logging.getLogger(__name__)


@contextmanager
def mpi_ranks(
    function: TaskFunction,
    time_limit: float | None,
    patience: Patience = USUAL_PATIENCE,
    warn: Callable[[str], None] = lambda text: None,
    *,
    cpus: Sequence[int] | None = None,
    most: int | None = None,
) -> Iterator[MpiRanks | StopRequest | None]:
    """Enter on all ranks, first of all: rank 0 gets the ranks to work with, the others serve and then get None.

    A process that works alone gets its StopRequest only. An exception inside the block ends all ranks at once, so
    everything that other ranks wait for belongs into it. With the `cpus` of this rank, only as many ranks work as
    have a core, or `most` on each machine.
    """
    mpi = _load_mpi()
    world: Intracomm = mpi.COMM_WORLD
    if warning := separate_worlds(launched(), world.size, mpi.Get_library_version()):
        warn(warning)
    if world.size == 1:
        with StopRequest(find_deadline(time_limit)) as stop:
            yield stop
        return
    name_process(f"rank{world.rank}", rank=world.rank)
    with _ending_together(world), _common_stop(world, time_limit) as stop:
        crew = _crew_of(world, cpus, most, warn)
        rank = Rank(world.rank, function, stop, patience)
        if crew is None:
            yield None
        elif crew.size == 1:
            yield stop
        else:
            members = crew.gather(Member(rank.name, socket.gethostname(), os.getpid()))
            from mpi4py.futures import MPICommExecutor

            with serve_as(rank), MPICommExecutor(crew, root=0, backoff=IDLE_SECONDS) as found:
                pool = cast("Pool | None", found)
                yield (
                    None
                    if pool is None
                    else MpiRanks(pool, rank, tuple(members or ()), lambda: end_all(world, 1))
                )
        _meet(world)


def _crew_of(
    world: Intracomm, cpus: Sequence[int] | None, most: int | None, warn: Callable[[str], None]
) -> Intracomm | None:
    """The ranks that work; None on one that waits."""
    if cpus is None:
        return world
    working = at_work(world.allgather(Seat(socket.gethostname(), tuple(cpus))), most)
    if all(working):
        return world
    if world.rank == 0:
        warn(waiting_words(working))
    found = cast("Intracomm", world.Split(0 if working[world.rank] else 1, world.rank))
    return found if working[world.rank] else None


def as_rank_0_has_it[T](value: T) -> T:
    """The `value` of rank 0 on every rank; all ranks call it at the same place, after mpi_ranks.

    A process without other ranks keeps its own.
    """
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or mpi.COMM_WORLD.size == 1:
        return value
    found: T = mpi.COMM_WORLD.bcast(value)
    return found


def end_all(world: Intracomm, code: int) -> NoReturn:
    """End all ranks, this one included, whatever they are doing."""
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(FORWARDING_SECONDS)
    world.Abort(code)
    os._exit(code)  # with MPICH Abort comes back


def _load_mpi() -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # separate_worlds says it with the remedy
            from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise EnvironmentProblem(
            f"this process was started by an MPI launcher, but MPI cannot be loaded ({error}): load the site's MPI "
            "module, or pip install 'hpcxpcs[mpi]' and use the mpiexec that comes with it"
        ) from error
    module: ModuleType = MPI
    return module


@contextmanager
def _ending_together(world: Intracomm) -> Iterator[None]:
    """Let an exception on one rank end all of them, named, instead of leaving the others to wait for it."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        ours = isinstance(error, HpcxpcsError)
        text = str(error) if ours else "".join(traceback.format_exception(error))
        who = (
            ""
            if world.rank == 0 and ours
            else f"rank {world.rank} (pid {os.getpid()} on {socket.gethostname()}): "
        )
        sys.stderr.write(f"hpcxpcs: error: {who}{text.rstrip()}\n")
        _log.error("%s", error, exc_info=None if ours else error, extra=TOLD)
        code = error.exit_code if isinstance(error, HpcxpcsError) else 1
        end_all(world, INTERRUPTED if isinstance(error, KeyboardInterrupt) else code)


@contextmanager
def _common_stop(world: Intracomm, time_limit: float | None) -> Iterator[StopRequest]:
    """The stop request of this rank, with the deadline that rank 0 has found: the scheduler is asked once."""
    found = find_deadline(time_limit) if world.rank == 0 else None
    _meet(world)
    told = world.bcast(None if found is None else (found.remaining(), found.source))
    deadline = None if told is None else Deadline(time.monotonic() + told[0], told[1])
    with StopRequest(deadline) as stop:
        yield stop


def _meet(world: Intracomm) -> None:
    """Wait until all ranks are here, asleep: those that still import need the cores."""
    request = world.Ibarrier()
    while not request.Test():
        time.sleep(IDLE_SECONDS)
