"""What the queue says of a run's jobs, asked once a minute whoever asks, and sooner where that is bound to change."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hpcxpcs.errors import HpcxpcsError, SchedulerProblem
from hpcxpcs.files.json_safe import write_json
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.schedulers.jobs import QueueState, TaskLook
from hpcxpcs.runtime.schedulers.named import scheduler_named
from hpcxpcs.runtime.schedulers.submissions import Submission, SubmitRecord, submit_folder
from hpcxpcs.runtime.work import EXIT_STOPPED

QUEUE_FILE = "queue.json"
FRESH_SECONDS = 60.0
"""How long an answer of the scheduler is good for: many people and programs ask it."""

CHANGING_SECONDS = 5.0
"""How long one is good for that is bound to change: of jobs that have done their work, or that nobody answers."""

ALIVE: tuple[QueueState, ...] = ("waiting", "running", "suspended")
OUR_EXITS: Mapping[int, tuple[QueueState, str]] = {
    3: ("done", "exit code 3: the results are written, and not to be quoted as they are"),
    EXIT_STOPPED: ("stopped", f"exit code {EXIT_STOPPED}: stopped with everything saved, resume continues"),
}
"""Exit codes of `hpcxpcs` that schedulers take for failures."""


@dataclass(frozen=True)
class QueueLook:
    """The tasks of all jobs as the scheduler saw them `asked` (seconds since the epoch), or why it was not seen."""

    asked: float
    tasks: tuple[TaskLook, ...]
    problem: str | None = None

    def of(self, submission: Submission) -> tuple[TaskLook, ...]:
        """The tasks of one job."""
        return tuple(task for task in self.tasks if _same_job(task.job, submission.job))

    def counts(self, submission: Submission) -> dict[QueueState, int]:
        """How many of its tasks are in which state."""
        found: dict[QueueState, int] = {}
        for task in self.of(submission):
            found[task.state] = found.get(task.state, 0) + 1
        return found

    def alive(self, submission: Submission) -> int:
        """How many of its tasks wait or run; none of a job that was cancelled, though it may take a while to end."""
        if submission.cancelled is not None:
            return 0
        return sum(task.state in ALIVE for task in self.of(submission))


def queue_look(run: Run, record: SubmitRecord, *, fresh_seconds: float = FRESH_SECONDS) -> QueueLook:
    """Look at the jobs of a run; an answer younger than `fresh_seconds` is used again, by whoever it was asked.

    That there was none is not remembered as long.
    """
    known = _known(run, record)
    if known is not None:
        good_for = fresh_seconds if known.problem is None else min(fresh_seconds, CHANGING_SECONDS)
        if 0.0 <= time.time() - known.asked < good_for:
            return known
    found = _asked(record.submissions)
    content = {"jobs": list(record.jobs), "look": asdict(found)}
    try:
        write_json(submit_folder(run) / QUEUE_FILE, content)
    except HpcxpcsError:
        return found  # who may only read the folder asks each time
    return found


def forget_look(run: Run) -> None:
    """Ask anew next time: something was changed."""
    (submit_folder(run) / QUEUE_FILE).unlink(missing_ok=True)


def living(run: Run, record: SubmitRecord, *, fresh_seconds: float = FRESH_SECONDS) -> tuple[Submission, ...]:
    """The jobs of a run that wait or run; SchedulerProblem when the scheduler does not say."""
    alive = alive_by_job(run, record, fresh_seconds=fresh_seconds)
    return tuple(one for one in record.submissions if alive[one.job])


def alive_by_job(run: Run, record: SubmitRecord, *, fresh_seconds: float = 0.0) -> dict[str, int]:
    """How many tasks of each job wait or run; SchedulerProblem when the scheduler does not say."""
    look = queue_look(run, record, fresh_seconds=fresh_seconds)
    if look.problem is not None:
        raise SchedulerProblem(look.problem)
    return {one.job: look.alive(one) for one in record.submissions}


def _asked(submissions: Sequence[Submission]) -> QueueLook:
    """One request to each scheduler that has jobs of this run; there is hardly ever more than one."""
    tasks: list[TaskLook] = []
    try:
        for name in dict.fromkeys(one.scheduler for one in submissions):
            jobs = [one.job for one in submissions if one.scheduler == name]
            tasks += [_in_our_words(task) for task in scheduler_named(name).look(jobs)]
    except SchedulerProblem as error:
        return QueueLook(time.time(), tuple(tasks), str(error))
    return QueueLook(time.time(), tuple(tasks))


def _in_our_words(task: TaskLook) -> TaskLook:
    """What a scheduler takes for a failure can be an end that was meant."""
    if task.state != "failed" or task.exit_code is None or task.exit_code not in OUR_EXITS:
        return task
    state, reason = OUR_EXITS[task.exit_code]
    return replace(task, state=state, reason=reason)


def _known(run: Run, record: SubmitRecord) -> QueueLook | None:
    """The last answer, if it is about the same jobs."""
    try:
        found: Mapping[str, Any] = json.loads((submit_folder(run) / QUEUE_FILE).read_text())
        if found["jobs"] != list(record.jobs):
            return None
        look = found["look"]
        return QueueLook(
            float(look["asked"]), tuple(TaskLook(**task) for task in look["tasks"]), look["problem"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _same_job(seen: str, submitted: str) -> bool:
    """Whether an id that a scheduler prints is that of a job; PBS adds or drops its server's name."""
    return seen == submitted or seen.partition(".")[0] == submitted.partition(".")[0]
