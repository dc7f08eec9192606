"""What has been handed to a scheduler for a run, RUN/submit/jobs.json, and what became of it.

A machine that has no scheduler has one here: a process in the background that outlives the terminal.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hpcxpcs.batch.jobs import (
    SUBMIT_FOLDER,
    JobKind,
    Order,
    QueueState,
    Scheduler,
    SchedulerName,
    TaskLook,
)
from hpcxpcs.batch.launcher import without_launcher
from hpcxpcs.batch.pbs import Pbs
from hpcxpcs.batch.slurm import Slurm
from hpcxpcs.errors import HpcxpcsError, SchedulerProblem, Stopped, StoreError
from hpcxpcs.files.atomic import writing
from hpcxpcs.files.json_safe import utc_now, write_json
from hpcxpcs.runs.claims import Claim, holding, process_start, take
from hpcxpcs.runs.run import Run

JOBS_FILE = "jobs.json"
CLAIM_FILE = "at-the-scheduler"
CLAIM_SECONDS = 600.0
"""For which a process may submit or cancel jobs of a run: some requests of a minute each at most."""

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Submission:
    """One job that a scheduler has taken: `job` is its id, `line` the command that handed it in (`after` another).

    `submitted` and `cancelled` (by `hpcxpcs cancel`) are UTC; `core_hours` are charged at most. A job's id belongs to
    its scheduler and submit time: ids come round again.
    """

    job: str
    kind: JobKind
    scheduler: SchedulerName
    site: str
    queue: str
    line: str
    submitted: str
    tasks: int
    core_hours: float
    after: str | None = None
    cancelled: str | None = None


@dataclass(frozen=True)
class SubmitRecord:
    """The last order for a run, and all its jobs, oldest first."""

    order: Order
    submissions: tuple[Submission, ...]

    @property
    def jobs(self) -> tuple[str, ...]:
        """The ids of all jobs."""
        return tuple(submission.job for submission in self.submissions)


def submit_folder(run: Run) -> Path:
    """Where scripts and job ids of a run are."""
    return run.folder / SUBMIT_FOLDER


@contextmanager
def at_the_scheduler(run_folder: Path) -> Iterator[None]:
    """Submit or cancel jobs of a run while no other process does; SchedulerProblem names the one that does.

    What is looked up inside is true until the end of the block: of two that submit at once, one is told.
    """
    folder = run_folder / SUBMIT_FOLDER
    with writing(folder):
        made = [path for path in (folder, run_folder) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    claim = _claimed(run_folder)
    try:
        yield
    finally:
        claim.release()
        with suppress(OSError):  # they hold something now, unless nothing came of it
            for path in made:
                path.rmdir()


def _claimed(run_folder: Path) -> Claim:
    """Take the claim; one whose owner has died is taken over, of several that try that at once by one."""
    folder = run_folder / SUBMIT_FOLDER
    found = None
    for pause in (0.1, 0.4, 1.6, 0.0):
        if (claim := take(folder, CLAIM_FILE, lease=CLAIM_SECONDS)) is not None:
            return claim
        found = holding(folder, CLAIM_FILE)
        if found is not None and found.live:
            break
        time.sleep(pause)
    who = "another process" if found is None else str(found.owner)
    raise SchedulerProblem(
        f"{run_folder}: {who} submits or cancels jobs of this run at this moment: look with "
        f"'hpcxpcs status {run_folder}' first. If that process is no more, remove {folder / CLAIM_FILE}"
    )


def read_record(run: Run) -> SubmitRecord | None:
    """What has been submitted for this run; None when nothing has."""
    path = submit_folder(run) / JOBS_FILE
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}): the jobs of this run are not known") from error
    if found.get("run_id") != run.plan.run_id:
        return None
    try:
        return SubmitRecord(Order(**found["order"]), tuple(Submission(**one) for one in found["jobs"]))
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{path}: holds something that this version does not know ({error}): was it written by a later one?"
        ) from error


def note_submission(run: Run, order: Order, submission: Submission, *, added: bool = False) -> None:
    """Add a job to the record at once, so that none that was accepted is forgotten.

    One that is `added` to jobs at work does not change how the run is submitted again.
    """
    known = read_record(run)
    before = () if known is None else known.submissions
    _write(run, SubmitRecord(known.order if added and known else order, (*before, submission)))


def note_cancelled(run: Run, job: str) -> None:
    """Note that a job was cancelled: it may linger in the queue for a while, but counts as dead."""
    known = read_record(run)
    if known is not None:
        jobs = (replace(one, cancelled=utc_now()) if one.job == job else one for one in known.submissions)
        _write(run, SubmitRecord(known.order, tuple(jobs)))


def _write(run: Run, record: SubmitRecord) -> None:
    submit_folder(run).mkdir(exist_ok=True)
    content = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.plan.run_id,
        "order": asdict(record.order),
        "jobs": [asdict(one) for one in record.submissions],
    }
    write_json(submit_folder(run) / JOBS_FILE, content)


class _Detached:
    """Runs scripts on this machine; ids are pid.start@host, with the start in clock ticks after boot.

    `after` is not needed here and refused: one process does everything.
    """

    name = "local"

    def submit(self, script: Path, *, after: str | None = None) -> str:
        if after is not None:
            raise SchedulerProblem(f"{script}: a local job waits for no other ({after})")
        try:
            process = subprocess.Popen(
                ["bash", str(script.absolute())],
                env=without_launcher(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise SchedulerProblem(f"bash: cannot be started ({error.strerror})") from error
        return f"{process.pid}.{process_start(process.pid) or 0}@{socket.gethostname()}"

    def submit_line(self, script: Path, *, after: str | None = None) -> str:
        return f"setsid bash {shlex.quote(str(script.absolute()))} > /dev/null 2>&1 &"

    def look(self, jobs: Sequence[str]) -> tuple[TaskLook, ...]:
        """Whether the processes are there; one that has ended leaves nothing behind but its log."""
        return tuple(_look_at_process(job) for job in jobs)

    def cancel(self, jobs: Sequence[str]) -> None:
        """Ask processes to stop; those of another machine are told by name."""
        for job in jobs:
            pid, _, host = _process_of(job)
            if host != socket.gethostname():
                raise SchedulerProblem(f"{job}: runs on {host}; cancel it there")
            if _look_at_process(job).state == "running":
                with suppress(ProcessLookupError):  # it may have ended just now
                    os.kill(pid, signal.SIGTERM)


def _look_at_process(job: str) -> TaskLook:
    pid, start, host = _process_of(job)
    if host != socket.gethostname():
        return TaskLook(job, None, "gone", "on another machine", node=host)
    alive = process_start(pid) == start
    return TaskLook(job, None, "running" if alive else "gone", "running" if alive else "ended", node=host)


def _process_of(job: str) -> tuple[int, int, str]:
    process, _, host = job.partition("@")
    pid, _, start = process.partition(".")
    if not (pid.isdigit() and start.isdigit() and host):
        raise SchedulerProblem(f"{job}: is no id of a local job (pid.start@host)")
    return int(pid), int(start), host


def scheduler_named(name: str) -> Scheduler:
    """The scheduler itself."""
    if name == "slurm":
        return Slurm()
    return _Detached() if name == "local" else Pbs(name)


QUEUE_FILE = "queue.json"
FRESH_SECONDS = 60.0
"""How long an answer of the scheduler is good for: many people and programs ask it."""

CHANGING_SECONDS = 5.0
"""How long one is good for that is bound to change: of jobs that have done their work, or that nobody answers."""

ALIVE: tuple[QueueState, ...] = ("waiting", "running", "suspended")
OUR_EXITS: Mapping[int, tuple[QueueState, str]] = {
    3: ("done", "exit code 3: the results are written, and not to be quoted as they are"),
    Stopped.exit_code: (
        "stopped",
        f"exit code {Stopped.exit_code}: stopped with everything saved, resume continues",
    ),
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
        return QueueLook(float(look["asked"]), tuple(TaskLook(**task) for task in look["tasks"]), look["problem"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _same_job(seen: str, submitted: str) -> bool:
    """Whether an id that a scheduler prints is that of a job; PBS adds or drops its server's name."""
    return seen == submitted or seen.partition(".")[0] == submitted.partition(".")[0]
