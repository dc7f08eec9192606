"""The work loop: claim a task, do it, publish it, until nothing is left. Every process of a run does only this."""

from __future__ import annotations

import logging
import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hpcxpcs.errors import ClaimLost, OutputError
from hpcxpcs.runtime.batch_job import batch_job
from hpcxpcs.runtime.claims import Claim, take
from hpcxpcs.runtime.events import append
from hpcxpcs.runtime.failures import MOST_ATTEMPTS, failed_attempts, record_failure
from hpcxpcs.runtime.freed_memory import return_freed_memory
from hpcxpcs.runtime.log_context import log_context
from hpcxpcs.runtime.log_lines import FILE_ONLY
from hpcxpcs.runtime.pulse import USUAL_PATIENCE, Patience, Pulse, Stop
from hpcxpcs.runtime.run import Run, share_left, state_of
from hpcxpcs.runtime.tasks import Task, longest_first
from hpcxpcs.runtime.usage import timed

EXIT_STOPPED = os.EX_TEMPFAIL
"""Exit code of a process that stopped on purpose with everything saved: the same command continues."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
"""Seconds between two looks at tasks that others are doing."""

Outcome = Literal["done", "stopped"]
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
        return EXIT_STOPPED if self.stopped and not self.failed else 1


def lazily(make_function: Callable[[Run], TaskFunction]) -> TaskFunction:
    """A task function that is made at its first task: a process without a task imports nothing heavy."""
    made: dict[str, TaskFunction] = {}

    def function(run: Run, task: Task, pulse: Pulse) -> Outcome:
        if run.plan.run_id not in made:
            made[run.plan.run_id] = make_function(run)
        return made[run.plan.run_id](run, task, pulse)

    return function


def do_task(
    run: Run, task: Task, function: TaskFunction, stop: Stop, patience: Patience = USUAL_PATIENCE
) -> Result:
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
            return _attempt(run, task, function, claim, stop, patience)
    except BaseException as error:
        append(run, "left", task=task.name, cause=f"{type(error).__name__}: {error}")
        raise
    finally:
        claim.release()
        return_freed_memory()


def task_fields(task: Task) -> dict[str, Any]:
    """What lines of the log say of the task that is being done."""
    return {"task": task.name, "shard": task.index if task.kind == "shard" else None, "phase": task.kind}


def _attempt(
    run: Run, task: Task, function: TaskFunction, claim: Claim, stop: Stop, patience: Patience
) -> Result:
    begun = time.monotonic()
    try:
        with Pulse(run, task, claim, stop, patience) as pulse:
            outcome = function(run, task, pulse)
    except ClaimLost:
        append(run, "lost", task=task.name)
        _log.warning("%s was taken over by another process", task.name, extra=FILE_ONLY)
        return "busy"
    except OutputError:
        raise  # no other attempt would find more room on the disk
    except Exception as error:
        return _failed(run, task, claim, f"{type(error).__name__}: {error}", traceback.format_exc())
    if outcome == "done" and state_of(run, task) != "done":
        if not claim.still_mine():
            return "busy"
        return _failed(run, task, claim, f"ended without writing {task.file}")
    append(run, outcome, task=task.name, seconds=round(time.monotonic() - begun, 3))
    _log.info("%s: %s", task.name, outcome)
    return outcome


def _failed(run: Run, task: Task, claim: Claim, cause: str, details: str = "") -> Result:
    record_failure(run, task, cause, owner=claim.owner.token, details=details)
    append(run, "failed", task=task.name, cause=cause)
    _log.warning("%s failed: %s", task.name, cause, extra={**FILE_ONLY, "details": details})
    return "failed"


def report_on(run: Run, tasks: Sequence[Task], stopped: str | None = None) -> WorkReport:
    """Read how `tasks` stand."""
    states = {task.name: state_of(run, task) for task in tasks}
    return WorkReport(
        done=tuple(name for name, state in states.items() if state == "done"),
        failed=tuple(name for name, state in states.items() if state == "failed"),
        unfinished=tuple(name for name, state in states.items() if state in ("waiting", "running")),
        stopped=stopped,
    )


def open_tasks(run: Run, tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Return the tasks that are neither done nor given up, longest first, by what is left to do of each."""
    left = (task for task in tasks if state_of(run, task) not in ("done", "failed"))
    return longest_first(left, lambda task: task.cost * share_left(run, task))


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
    tried: dict[str, int] = {}
    pause = SHORTEST_PAUSE
    while True:
        left = sorted(open_tasks(run, tasks), key=lambda task: tried.get(task.name, 0))
        if not left:
            return report_on(run, tasks)
        result: Result = "busy"
        for task in left:
            if (reason := stop.should_stop()) is not None:
                return report_on(run, tasks, reason)
            result = do_task(run, task, function, stop, patience)
            if result != "busy":
                tried[task.name] = tried.get(task.name, 0) + (result == "failed")
                break
        if result == "stopped":
            return report_on(run, tasks, stop.should_stop() or "the task function asked for it")
        if result == "busy":
            if not wait:
                return report_on(run, tasks)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            pause = SHORTEST_PAUSE
