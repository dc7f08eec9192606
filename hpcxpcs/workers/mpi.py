"""Tasks over MPI ranks: rank 0 leads and works, the others do what they are handed; an error ends all of them."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor as Pool
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, NoReturn, cast

from hpcxpcs.batch.launcher import launched, separate_worlds
from hpcxpcs.errors import EnvironmentProblem, HpcxpcsError, OutputError
from hpcxpcs.files.atomic import writing
from hpcxpcs.log.lines import TOLD
from hpcxpcs.log.process import log_into, name_process
from hpcxpcs.runs.events import append
from hpcxpcs.runs.plan import Task
from hpcxpcs.runs.run import PLAN_FILE, Run, record_failure, state_of
from hpcxpcs.runs.status import open_tasks, repeatedly
from hpcxpcs.workers.local import InProcess, LocalWorkers
from hpcxpcs.workers.preemption import Deadline, StopRequest, find_deadline
from hpcxpcs.workers.work import (
    LONGEST_PAUSE,
    LOOKS_PER_LEASE,
    SHORTEST_PAUSE,
    USUAL_PATIENCE,
    Member,
    Patience,
    Result,
    Silence,
    Stop,
    StopOr,
    TaskFunction,
    WorkReport,
    do_task,
    report_on,
    silences,
    task_fields,
)

if TYPE_CHECKING:
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
                yield (None if pool is None else MpiRanks(pool, rank, tuple(members or ()), lambda: end_all(world, 1)))
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
        who = "" if world.rank == 0 and ours else f"rank {world.rank} (pid {os.getpid()} on {socket.gethostname()}): "
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


class Seat(NamedTuple):
    """Where a rank runs: its machine, and the logical CPUs it may use there."""

    host: str
    cpus: tuple[int, ...]


def at_work(seats: Sequence[Seat], most: int | None = None) -> tuple[bool, ...]:
    """Whether each rank works: one for each CPU in turn, or `most` on each machine; rank 0 always does.

    More than that would take turns on the same cores, each with a copy of the program and of the compiled code.
    """
    taken: dict[str, set[int]] = {}
    working: Counter[str] = Counter()
    found: list[bool] = []
    for seat in seats:
        used = taken.setdefault(seat.host, set())
        free = [cpu for cpu in seat.cpus if cpu not in used]
        works = bool(free) if most is None else working[seat.host] < most
        if works:
            used.update(free[:1])
            working[seat.host] += 1
        found.append(works or not found)
    return tuple(found)


def waiting_words(working: Sequence[bool]) -> str:
    """What to tell when ranks wait; empty when all work."""
    if all(working):
        return ""
    return (
        f"{sum(working)} of {len(working)} ranks work, the others have no core of their own and wait: start one rank "
        "per core, or say with runtime.ranks_per_machine how many are to work"
    )


LOOK_SECONDS = 0.05
"""Between two looks of an idle leader at what the others have answered."""

WATCH_SECONDS = 5.0


@dataclass(frozen=True)
class Rank:
    """What a rank needs to do the tasks that it is handed by name."""

    number: int
    function: TaskFunction
    stop: StopRequest
    patience: Patience

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"rank {self.number}"


class Reply(NamedTuple):
    """What a rank says of a task; `reason` in words when it was stopped."""

    result: Result
    reason: str | None = None


_this_rank: ContextVar[Rank] = ContextVar("_this_rank")
_announced: set[Path] = set()


@cache
def _open_run(folder: Path, run_id: str, stamp: int) -> Run:
    """The run in a folder, read once; `run_id` tells it from one that was there before, `stamp` that it has grown."""
    return Run.open(folder)


@contextmanager
def serve_as(rank: Rank) -> Iterator[None]:
    """Inside this block, tasks that arrive by message are done as `rank`."""
    token = _this_rank.set(rank)
    try:
        yield
    finally:
        _this_rank.reset(token)


def do_here(folder: Path, run_id: str, stamp: int, task: Task, flag: Path) -> Reply:
    """Do a task as the rank of this process; the leader makes the file `flag` when all are to stop."""
    rank = _this_rank.get()
    stop = StopOr(rank.stop, lambda: "the leader stops" if flag.exists() else None)
    return do_as(rank, _open_run(folder, run_id, stamp), task, stop)


def do_as(rank: Rank, run: Run, task: Task, stop: Stop) -> Reply:
    """Do a task; what is not the task's fault is raised with the name of the rank."""
    log_into(run)
    if run.folder not in _announced:
        _announced.add(run.folder)
        append(run, "worker", name=rank.name, worker_pid=os.getpid())
    if (reason := stop.should_stop()) is not None:
        return Reply("stopped", reason)
    try:
        result = do_task(run, task, rank.function, stop, rank.patience)
    except OutputError as error:
        raise OutputError(f"{rank.name} on {socket.gethostname()}: {error}") from error
    return Reply(result, stop.should_stop() if result == "stopped" else None)


@dataclass(frozen=True)
class MpiRanks:
    """Does tasks on all ranks; for rank 0, while the others serve. `end_all` ends every rank, this one included."""

    pool: Pool
    rank: Rank
    members: tuple[Member, ...]
    end_all: Callable[[], None]

    @property
    def workers(self) -> int:
        """Number of ranks, all of which work."""
        return len(self.members)

    @property
    def stop(self) -> StopRequest:
        """Whether the leader is to stop."""
        return self.rank.stop

    def run_tasks(self, run: Run, tasks: Sequence[Task]) -> WorkReport:
        """Do `tasks`, longest first, on whatever rank is free."""
        flag = run.folder / f".stop-{secrets.token_hex(8)}"
        dealing = Dealing(self, run, flag)
        try:
            reason = dealing.deal(open_tasks(run, tasks))
        finally:
            with writing(flag):
                flag.unlink(missing_ok=True)
        return report_on(run, tasks, reason)


Executor = InProcess | LocalWorkers | MpiRanks
"""Whoever does the tasks of a run: it has a `stop` request and a number of `workers`, and can `run_tasks`."""


class Dealing:
    """Tasks of one list on their way to ranks and back.

    It is the stop request of the leader's own tasks: so the leader leads between two of its blocks.
    """

    def __init__(self, ranks: MpiRanks, run: Run, flag: Path) -> None:
        self.ranks = ranks
        self.run = run
        self.flag = flag
        self.stamp = (run.folder / PLAN_FILE).stat().st_mtime_ns
        self.handed: dict[Future[Reply], Task] = {}
        self.parked: list[Task] = []
        self.unpark_at = 0.0
        self.pause = SHORTEST_PAUSE
        self.reason: str | None = None
        self.error: Exception | None = None

    def deal(self, tasks: Sequence[Task]) -> str | None:
        """Hand out all tasks and take the last ones oneself, until all are settled; return why it stopped early."""
        for task in tasks:
            self._hand(task)
        interval = min(WATCH_SECONDS, self.ranks.rank.patience.lease / LOOKS_PER_LEASE)
        with repeatedly(self._watch, interval, "watch over ranks"):
            while self.handed or (self.parked and self.reason is None):
                own = self._take_last() if self.should_stop() is None else None
                if own is not None:
                    self._settle(own, do_as(self.ranks.rank, self.run, own, self))
                else:
                    time.sleep(LOOK_SECONDS)
                if self.error is not None:
                    raise self.error
        return self.reason

    def should_stop(self, next_block_seconds: float = 0.0) -> str | None:
        """See what the ranks have answered, and return why all are to stop, in words, or None."""
        try:
            self._collect()
            self._unpark()
        except Exception as error:  # it is not the fault of the task that the leader is doing
            self.error = error
            return "another rank has failed"
        if self.reason is None and (reason := self.ranks.stop.should_stop(next_block_seconds)):
            self._recall(reason)
        return self.reason

    def _hand(self, task: Task) -> None:
        arguments = (self.run.folder, self.run.plan.run_id, self.stamp, task, self.flag)
        self.handed[self.ranks.pool.submit(do_here, *arguments)] = task

    def _collect(self) -> None:
        for future in [future for future in self.handed if future.done()]:
            task = self.handed.pop(future)
            if not future.cancelled():
                self._settle(task, future.result())

    def _settle(self, task: Task, reply: Reply) -> None:
        """Keep what must be tried again: tasks of other jobs later, failures at once unless given up."""
        if reply.result == "stopped":
            self._recall(reply.reason or "a rank was asked to stop")
        elif reply.result == "busy":
            self.parked.append(task)
        elif reply.result == "failed" and self.reason is None and state_of(self.run, task) != "failed":
            self._hand(task)

    def _take_last(self) -> Task | None:
        """Take back the last task that no rank has begun: the leader, who has other duties, does the shortest."""
        for future in reversed(list(self.handed)):
            if future.cancel():
                return self.handed.pop(future)
        return None

    def _recall(self, reason: str) -> None:
        """Stop handing out, and let ranks stop after their block."""
        if self.reason is not None:
            return
        self.reason = reason
        with writing(self.flag):
            self.flag.touch()
        while self._take_last() is not None:
            continue

    def _unpark(self) -> None:
        """From time to time see whether other jobs have left tasks to us."""
        if time.monotonic() < self.unpark_at or self.reason is not None:
            return
        parked, self.parked = self.parked, []
        for task in parked:
            state = state_of(self.run, task)
            if state == "running":
                self.parked.append(task)
            elif state == "waiting":
                self._hand(task)
        self.pause = min(2 * self.pause, LONGEST_PAUSE) if parked else SHORTEST_PAUSE
        self.unpark_at = time.monotonic() + self.pause

    def _watch(self) -> None:
        """End the job when a rank has fallen silent with a task in hand: nothing can call it back."""
        begun = [task for future, task in list(self.handed.items()) if future.running()]
        for silence in silences(self.run, begun, self.ranks.members):
            self._give_up(silence)

    def _give_up(self, silence: Silence) -> None:
        append(self.run, "died", cause=str(silence), task=silence.task.name)
        record_failure(self.run, silence.task, str(silence), owner=silence.token)
        _log.error("%s", silence, extra={**TOLD, **task_fields(silence.task)})
        sys.stderr.write(f"hpcxpcs: error: {silence}; the job ends, finished work stays: the same command continues\n")
        self.ranks.end_all()
