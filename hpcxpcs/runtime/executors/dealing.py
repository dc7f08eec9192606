"""How rank 0 deals tasks to a pool of ranks, does some itself, and watches those that others do."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor as Pool
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from hpcxpcs.errors import OutputError
from hpcxpcs.files.atomic import writing
from hpcxpcs.runtime.events import append
from hpcxpcs.runtime.executors.oversight import Member, Silence, silences
from hpcxpcs.runtime.failures import record_failure
from hpcxpcs.runtime.log_lines import TOLD
from hpcxpcs.runtime.preemption import StopRequest
from hpcxpcs.runtime.process_log import log_into
from hpcxpcs.runtime.pulse import Patience, Stop
from hpcxpcs.runtime.run import Run, state_of
from hpcxpcs.runtime.tasks import Task
from hpcxpcs.runtime.work import (
    LONGEST_PAUSE,
    SHORTEST_PAUSE,
    Result,
    TaskFunction,
    WorkReport,
    do_task,
    open_tasks,
    report_on,
    task_fields,
)

LOOK_SECONDS = 0.05
"""Between two looks of an idle leader at what the others have answered."""

WATCH_SECONDS = 5.0
LOOKS_PER_LEASE = 8


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


class Answer(NamedTuple):
    """What a rank says of a task; `reason` in words when it was stopped."""

    result: Result
    reason: str | None = None


class Recall:
    """A stop request of this rank, or of the leader, who makes the file `flag`: messages wait for the task's end."""

    def __init__(self, own: StopRequest, flag: Path) -> None:
        self._own = own
        self._flag = flag

    def should_stop(self, next_block_seconds: float = 0.0) -> str | None:
        """Return why to stop, in words, or None."""
        reason = self._own.should_stop(next_block_seconds)
        return reason or ("the leader stops" if self._flag.exists() else None)


_this_rank: ContextVar[Rank] = ContextVar("_this_rank")
_announced: set[Path] = set()
_log = logging.getLogger(__name__)


@cache
def _open_run(folder: Path, run_id: str) -> Run:
    """The run in a folder, read once; `run_id` tells it from one that was there before."""
    return Run.open(folder)


@contextmanager
def serve_as(rank: Rank) -> Iterator[None]:
    """Inside this block, tasks that arrive by message are done as `rank`."""
    token = _this_rank.set(rank)
    try:
        yield
    finally:
        _this_rank.reset(token)


def do_here(folder: Path, run_id: str, task: Task, flag: Path) -> Answer:
    """Do a task as the rank of this process."""
    rank = _this_rank.get()
    return do_as(rank, _open_run(folder, run_id), task, Recall(rank.stop, flag))


def do_as(rank: Rank, run: Run, task: Task, stop: Stop) -> Answer:
    """Do a task; what is not the task's fault is raised with the name of the rank."""
    log_into(run)
    if run.folder not in _announced:
        _announced.add(run.folder)
        append(run, "worker", name=rank.name, worker_pid=os.getpid())
    if (reason := stop.should_stop()) is not None:
        return Answer("stopped", reason)
    try:
        result = do_task(run, task, rank.function, stop, rank.patience)
    except OutputError as error:
        raise OutputError(f"{rank.name} on {socket.gethostname()}: {error}") from error
    return Answer(result, stop.should_stop() if result == "stopped" else None)


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


class Dealing:
    """Tasks of one list on their way to ranks and back.

    It is the stop request of the leader's own tasks: so the leader leads between two of its blocks.
    """

    def __init__(self, ranks: MpiRanks, run: Run, flag: Path) -> None:
        self.ranks = ranks
        self.run = run
        self.flag = flag
        self.handed: dict[Future[Answer], Task] = {}
        self.parked: list[Task] = []
        self.unpark_at = 0.0
        self.pause = SHORTEST_PAUSE
        self.reason: str | None = None
        self.error: Exception | None = None

    def deal(self, tasks: Sequence[Task]) -> str | None:
        """Hand out all tasks and take the last ones oneself, until all are settled; return why it stopped early."""
        for task in tasks:
            self._hand(task)
        with self._watched():
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
        arguments = (self.run.folder, self.run.plan.run_id, task, self.flag)
        self.handed[self.ranks.pool.submit(do_here, *arguments)] = task

    def _collect(self) -> None:
        for future in [future for future in self.handed if future.done()]:
            task = self.handed.pop(future)
            if not future.cancelled():
                self._settle(task, future.result())

    def _settle(self, task: Task, answer: Answer) -> None:
        """Keep what must be tried again: tasks of other jobs later, failures at once unless given up."""
        if answer.result == "stopped":
            self._recall(answer.reason or "a rank was asked to stop")
        elif answer.result == "busy":
            self.parked.append(task)
        elif answer.result == "failed" and self.reason is None and state_of(self.run, task) != "failed":
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

    @contextmanager
    def _watched(self) -> Iterator[None]:
        over = threading.Event()
        watch = threading.Thread(target=self._watch, args=(over,), name="watch over ranks", daemon=True)
        watch.start()
        try:
            yield
        finally:
            over.set()
            watch.join()

    def _watch(self, over: threading.Event) -> None:
        """End the job when a rank has fallen silent with a task in hand: nothing can call it back."""
        patience = self.ranks.rank.patience
        while not over.wait(min(WATCH_SECONDS, patience.lease / LOOKS_PER_LEASE)):
            begun = [task for future, task in list(self.handed.items()) if future.running()]
            for silence in silences(self.run, begun, self.ranks.members):
                self._give_up(silence)

    def _give_up(self, silence: Silence) -> None:
        append(self.run, "died", cause=str(silence), task=silence.task.name)
        record_failure(self.run, silence.task, str(silence), owner=silence.token)
        _log.error("%s", silence, extra={**TOLD, **task_fields(silence.task)})
        sys.stderr.write(
            f"hpcxpcs: error: {silence}; the job ends, finished work stays: the same command continues\n"
        )
        self.ranks.end_all()
