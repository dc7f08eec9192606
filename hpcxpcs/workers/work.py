"""The work loop: claim a task, do it, publish it, until nothing is left. Every process of a run does only this.

A leader sees by claims and events what its members have in hand.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol, Self

from hpcxpcs.errors import ClaimLost, OutputError, Stopped
from hpcxpcs.log.levels import log_context
from hpcxpcs.log.lines import FILE_ONLY
from hpcxpcs.log.process import timed
from hpcxpcs.runs.claims import LEASE, Claim, holding, take
from hpcxpcs.runs.events import append, read_events
from hpcxpcs.runs.job import batch_job
from hpcxpcs.runs.plan import Task
from hpcxpcs.runs.run import MOST_ATTEMPTS, Run, failed_attempts, record_failure, state_of, states_of
from hpcxpcs.runs.status import open_tasks
from hpcxpcs.workers.machine import return_freed_memory

EVENT_SECONDS = 5.0
"""At most one event of progress per task in this time: events.jsonl is read whole by `status`."""

RENEWALS_PER_LEASE = 4
HANG_EXIT = 1

LAST_WORDS_SECONDS = 0.5
"""Before a hanging process ends itself: a launcher that loses a rank drops what it has not read by then."""


class Stop(Protocol):
    """What tells a process to stop, such as preemption.StopRequest."""

    def should_stop(self, next_block_seconds: float = 0.0) -> str | None: ...


@dataclass(frozen=True)
class StopOr:
    """A stop request of this process, or another reason to stop, which is asked for each time."""

    own: Stop
    other: Callable[[], str | None]

    def should_stop(self, next_block_seconds: float = 0.0) -> str | None:
        """Return why to stop, in words, or None."""
        return self.own.should_stop(next_block_seconds) or self.other()


@dataclass(frozen=True)
class Patience:
    """Seconds: a claim without a sign of life is void after `lease`, a task without a beat hangs after `hang_after`."""

    lease: float = LEASE
    hang_after: float = 1800.0


USUAL_PATIENCE = Patience()
"""Half an hour without a beat: reading, compiling and one block of draws take minutes on a crowded node."""


class Pulse:
    """What a task function is given: it says how far it is (`beat`) and asks whether to go on (`stop_reason`).

    Inside `with`, a thread renews the claim through long silent steps such as compilation, until the silence has
    lasted for `hang_after`: then `on_hang` is called, which by default ends the process.
    """

    def __init__(
        self,
        run: Run,
        task: Task,
        claim: Claim,
        stop: Stop,
        patience: Patience,
        on_hang: Callable[[Pulse], None] | None = None,
    ) -> None:
        self.run = run
        self.task = task
        self.claim = claim
        self.patience = patience
        self._stop = stop
        self._on_hang = on_hang or end_process
        self._last_beat = time.monotonic()
        self._last_event = -EVENT_SECONDS
        self._lost = False
        self._over = threading.Event()
        self._worker = threading.get_ident()
        self._keeper = threading.Thread(target=self._keep, name=f"pulse of {task.name}", daemon=True)

    def __enter__(self) -> Self:
        self._arm()
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._keeper.join()
        faulthandler.cancel_dump_traceback_later()

    def beat(self, progress: Mapping[str, Any]) -> None:
        """Say that a block is over; `progress` holds "done" and "total", in draws. ClaimLost ends the task."""
        self._last_beat = time.monotonic()
        self._arm()
        if self._lost or not self.claim.renew():
            raise ClaimLost(f"{self.run.folder}: {self.task.name} was taken over by another process")
        if self._last_beat - self._last_event >= EVENT_SECONDS:
            self._last_event = self._last_beat
            append(self.run, "progress", task=self.task.name, **progress)

    def stop_reason(self, next_block_seconds: float = 0.0) -> str | None:
        """Return in words why to stop before a block of about this many seconds; None to go on."""
        return self._stop.should_stop(next_block_seconds)

    def may_publish(self) -> bool:
        """Whether the task is still this process's own."""
        return not self._lost and self.claim.still_mine()

    @property
    def silence(self) -> float:
        """Seconds since the last beat, or since the task began."""
        return time.monotonic() - self._last_beat

    def stack(self) -> str:
        """Where the thread that does the task is right now."""
        frame = sys._current_frames().get(self._worker)
        return "".join(traceback.format_stack(frame)) if frame is not None else ""

    def _arm(self) -> None:
        """End the process from outside Python when a hang lets no thread run, not even the one that watches."""
        if sys.__stderr__ is not None:
            late = self.patience.hang_after + self.patience.lease
            faulthandler.dump_traceback_later(late, exit=True, file=sys.__stderr__)

    def _keep(self) -> None:
        interval = min(self.patience.lease, self.patience.hang_after) / RENEWALS_PER_LEASE
        while not self._over.wait(interval):
            if self.silence > self.patience.hang_after:
                self._on_hang(self)
                return
            try:
                self._lost = self._lost or not self.claim.renew()
            except OutputError:
                continue  # a disk that recovers before the lease is over has done no harm


def end_process(pulse: Pulse) -> None:
    """Record a task that hangs, with the place where it hangs, and end this process: nothing else frees it."""
    cause = f"no progress for {pulse.silence:.0f} s"
    try:
        record_failure(pulse.run, pulse.task, cause, owner=pulse.claim.owner.token, details=pulse.stack())
        append(pulse.run, "hung", task=pulse.task.name, cause=cause)
        text = f"hpcxpcs: error: {pulse.task.name} hangs ({cause}); process {os.getpid()} ends itself\n{pulse.stack()}"
        os.write(sys.stderr.fileno(), text.encode(errors="replace"))
        time.sleep(LAST_WORDS_SECONDS)
    finally:
        os._exit(HANG_EXIT)


SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
"""Seconds between two looks at tasks that others are doing."""

Outcome = Literal["done", "stopped", "failed"]
_log = logging.getLogger(__name__)

TaskFunction = Callable[[Run, Task, Pulse], Outcome]
Result = Literal["done", "stopped", "busy", "failed"]


@dataclass(frozen=True)
class WorkReport:
    """How a list of tasks stands after work: names by state, and why the work `stopped` early (None if not)."""

    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    stopped: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every task is done."""
        return not (self.failed or self.unfinished)

    @property
    def exit_code(self) -> int:
        """0 complete, 75 stopped and to be continued by the same command, 1 failed."""
        if self.complete:
            return 0
        return Stopped.exit_code if self.stopped and not self.failed else 1


def lazily(make_function: Callable[[Run], TaskFunction]) -> TaskFunction:
    """A task function that is made at its first task: a process without a task imports nothing heavy."""
    made: dict[str, TaskFunction] = {}

    def function(run: Run, task: Task, pulse: Pulse) -> Outcome:
        if run.plan.run_id not in made:
            made[run.plan.run_id] = make_function(run)
        return made[run.plan.run_id](run, task, pulse)

    return function


def do_task(run: Run, task: Task, function: TaskFunction, stop: Stop, patience: Patience = USUAL_PATIENCE) -> Result:
    """Claim one task and do it. "busy": another process has it; "failed": this attempt did not succeed.

    Exceptions are recorded; those that are not the task's fault (a full disk, an interrupt) go on to the caller.
    """
    state = state_of(run, task)
    if state in ("done", "failed"):
        return "done" if state == "done" else "failed"
    claim = take(run.claims, task.name, lease=patience.lease)
    if claim is None:
        return "busy"
    try:
        if state_of(run, task) == "done":
            return "done"
        if failed_attempts(run, task) >= MOST_ATTEMPTS:
            return "failed"  # the last attempt of another process ended while this one claimed
        append(run, "started", task=task.name, token=claim.owner.token, **batch_job())
        with log_context(**task_fields(task)), timed(task.name, "task", _log):
            return _attempt(Pulse(run, task, claim, stop, patience), function)
    except BaseException as error:
        append(run, "left", task=task.name, cause=f"{type(error).__name__}: {error}")
        raise
    finally:
        claim.release()
        return_freed_memory()


def task_fields(task: Task) -> dict[str, Any]:
    """What lines of the log say of the task that is being done."""
    return {"task": task.name, "shard": task.index if task.kind == "shard" else None, "phase": task.kind}


def _attempt(pulse: Pulse, function: TaskFunction) -> Result:
    run, task, begun = pulse.run, pulse.task, time.monotonic()
    try:
        with pulse:
            outcome = function(run, task, pulse)
    except ClaimLost:
        append(run, "lost", task=task.name)
        _log.warning("%s was taken over by another process", task.name, extra=FILE_ONLY)
        return "busy"
    except OutputError:
        raise  # no other attempt would find more room on the disk
    except Exception as error:
        return _failed(pulse, f"{type(error).__name__}: {error}", traceback.format_exc())
    if outcome == "done" and state_of(run, task) != "done":
        if not pulse.claim.still_mine():
            return "busy"
        return _failed(pulse, f"ended without writing {task.file}")
    append(run, outcome, task=task.name, seconds=round(time.monotonic() - begun, 3))
    _log.info("%s: %s", task.name, outcome)
    return outcome


def _failed(pulse: Pulse, cause: str, details: str = "") -> Result:
    name = pulse.task.name
    record_failure(pulse.run, pulse.task, cause, owner=pulse.claim.owner.token, details=details)
    append(pulse.run, "failed", task=name, cause=cause)
    _log.warning("%s failed: %s", name, cause, extra={**FILE_ONLY, "details": details})
    return "failed"


def report_on(run: Run, tasks: Sequence[Task], stopped: str | None = None) -> WorkReport:
    """Read how `tasks` stand."""
    states = states_of(run, tasks)
    return WorkReport(
        done=tuple(name for name, state in states.items() if state == "done"),
        failed=tuple(name for name, state in states.items() if state == "failed"),
        unfinished=tuple(name for name, state in states.items() if state in ("waiting", "running")),
        stopped=stopped,
    )


def work(
    run: Run,
    function: TaskFunction,
    tasks: Sequence[Task],
    stop: Stop,
    *,
    patience: Patience = USUAL_PATIENCE,
    wait: bool = True,
) -> WorkReport:
    """Do `tasks`, longest first, until none is left for this process.

    While others do the rest, `wait` for them, to take over what they leave; without it, return.
    """
    left: list[Task] = []
    pause = SHORTEST_PAUSE
    while True:
        left = left or list(open_tasks(run, tasks))
        if not left:
            return report_on(run, tasks)
        result: Result = "busy"
        for task in left:
            if (reason := stop.should_stop()) is not None:
                return report_on(run, tasks, reason)
            result = do_task(run, task, function, stop, patience)
            if result != "busy":
                left.remove(task)  # one that failed is tried again after all others
                break
        else:
            left = []
        if result == "stopped":
            return report_on(run, tasks, stop.should_stop() or "the task function asked for it")
        if result == "busy":
            if not wait:
                return report_on(run, tasks)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            pause = SHORTEST_PAUSE


LOOKS_PER_LEASE = 8
"""A leader's looks at the claims of its members, which cost a few file operations each."""

ENDINGS = ("done", "failed", "stopped", "lost", "left")
"""Events after which a process no longer has the task they name."""


class Member(NamedTuple):
    """A process that works for a leader: `name` such as "rank 3"."""

    name: str
    host: str
    pid: int

    def __str__(self) -> str:
        """Name and where to find it."""
        return f"{self.name} (pid {self.pid} on {self.host})"


class Silence(NamedTuple):
    """A member that has died, or has not renewed its claim on `task` for `seconds`; `token` is that of the claim."""

    member: Member
    task: Task
    token: str
    seconds: float
    died: bool

    def __str__(self) -> str:
        """One sentence for people."""
        what = "has died" if self.died else f"has given no sign of life for {self.seconds:.0f} s"
        return f"{self.member} {what}, with {self.task.name} in hand"


class InHand(NamedTuple):
    """A task that a member has begun and not ended, and the `token` of its claim."""

    task: Task
    token: str


def in_hand(run: Run, tasks: Sequence[Task], member: Member) -> InHand | None:
    """Return what a member was doing last: by the events, because its claim may be another's by now.

    Between claiming a task and saying so, the claim is all there is.
    """
    known = {task.name: task for task in tasks}
    ended = ""
    for event in reversed(read_events(run.events)):
        if event.get("task") in known and (event.get("host"), event.get("pid")) == member[1:]:
            if event["event"] == "started":
                return InHand(known[event["task"]], str(event.get("token", "")))
            if event["event"] in ENDINGS:
                ended = event["task"]
                break
    for task in tasks:
        found = holding(run.claims, task.name) if task.name != ended else None
        if found is not None and (found.owner.host, found.owner.pid) == member[1:]:
            return InHand(task, found.owner.token)
    return None


def silences(run: Run, tasks: Iterable[Task], members: Iterable[Member]) -> Iterator[Silence]:
    """Yield the members that hold one of `tasks` beyond their lease."""
    known = {(member.host, member.pid): member for member in members}
    for task in tasks:
        found = holding(run.claims, task.name)
        if found is not None and not found.live:
            member = known.get((found.owner.host, found.owner.pid))
            if member is not None:
                yield Silence(member, task, found.owner.token, found.age, died=found.age <= found.owner.lease)
