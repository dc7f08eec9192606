"""What is asked of a batch scheduler and what it answers, in the same words for all of them."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from hpcxpcs.errors import SchedulerProblem

PATIENCE = 60.0
"""Seconds that a scheduler may take to answer; a busy one takes ten or twenty."""

TOLD_CHARACTERS = 1000
"""Of a program's complaint that a message repeats."""

UNREACHABLE = (
    "Connection refused",
    "Connection timed out",
    "cannot connect to server",
    "connect to cluster",
    "Unable to contact slurm controller",
    "Socket timed out",
)
"""In the complaints of programs that do not reach their server: nothing is wrong with what was asked for."""


@dataclass(frozen=True)
class Said:
    """What a program printed, and what it had to complain of though it did not fail."""

    printed: str
    complaint: str


def call(
    command: Sequence[str],
    *,
    remedy: str,
    tolerated: Sequence[str] = (),
    seconds: float = PATIENCE,
    environ: Mapping[str, str] = os.environ,
) -> Said:
    """Return what a command says; SchedulerProblem, ending with `remedy`, when it fails.

    A failure with nothing but complaints that contain one of the `tolerated` texts is none.
    """
    try:
        done = subprocess.run(
            list(command),
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise no_answer(command, seconds) from None
    except OSError as error:
        raise not_started(command, error) from None
    complaints = [line for line in done.stderr.splitlines() if line.strip()]
    harmless = complaints and all(any(text in line for text in tolerated) for line in complaints)
    if done.returncode and not harmless:
        raise refused(command, done.returncode, done.stderr or done.stdout, remedy)
    return Said(done.stdout, done.stderr)


def refused(command: Sequence[str], code: int, complaint: str, remedy: str) -> SchedulerProblem:
    """A program ended with an error."""
    said = complaint.strip()[:TOLD_CHARACTERS] or "no word of explanation"
    if any(text in complaint for text in UNREACHABLE):
        remedy = "the scheduler's server is not reached: try again later, or ask those who look after it"
    return SchedulerProblem(f"{shlex.join(command)}: exit code {code}: {said}: {remedy}")


def no_answer(command: Sequence[str], seconds: float) -> SchedulerProblem:
    """A program did not end in time."""
    return SchedulerProblem(
        f"{shlex.join(command)}: no answer within {seconds:g} s: try again when the scheduler is less busy"
    )


def not_started(command: Sequence[str], error: OSError) -> SchedulerProblem:
    """A program could not be started."""
    return SchedulerProblem(
        f"{command[0]}: cannot be started ({error.strerror}): log in to a node from which jobs are submitted, "
        "or load the scheduler's module"
    )


SchedulerName = Literal["slurm", "pbs", "torque", "local"]
JobKind = Literal["array", "mpi", "gather"]
QueueState = Literal["waiting", "running", "suspended", "done", "stopped", "failed", "cancelled", "gone"]
"""How a task stands; `gone` is one whose end the scheduler has forgotten, as schedulers do, and `stopped` one of ours
that ended before its work did, with everything saved."""

SUBMIT_FOLDER = "submit"
"""Folder of a run with its scripts and job ids."""


@dataclass(frozen=True)
class Order:
    """How a run was to be submitted, kept to submit it again; None leaves it to the site.

    `site` is a name or a file, `scheduler` overrides its own. `tasks` is the size of an array, `cores` are those of one
    process, `ranks` those of an MPI job, `memory` is in bytes per node, `walltime` in seconds, `log_level` a word.
    """

    site: str | None = None
    scheduler: SchedulerName | None = None
    queue: str | None = None
    account: str | None = None
    tasks: int | None = None
    at_once: int | None = None
    mpi: bool = False
    ranks: int | None = None
    nodes: int | None = None
    cores: int | None = None
    memory: int | None = None
    walltime: int | None = None
    log_level: str | None = None


@dataclass(frozen=True)
class Resources:
    """What one task of a job gets: `cores` per process, `memory` in bytes per node (None: the queue's default).

    `walltime` is in seconds; `processes` per node is 1 except for MPI jobs.
    """

    walltime: int = 0
    nodes: int = 1
    processes: int = 1
    cores: int = 1
    memory: int | None = None


@dataclass(frozen=True)
class Job:
    """One job: `command` (arguments, unquoted) runs on its nodes, behind `launcher` if there is one.

    `tasks` is the size of an array and `at_once` how many of them may run together; `queue` is None where the default
    is meant or `directives` name it. `setup` are shell lines (modules, activation) before the command, `directives`
    further lines for the scheduler without their prefix. `umask` is that of the files which the job writes; None takes
    it from the run folder. `text` is its script.

    For people: `queue_name`, and `why` it is that one. `workers` is how many processes of the size that was asked for
    have room in one task: more than its `resources.processes` where whole nodes are given. `core_hours` is what is
    charged when all of the time is used.
    """

    scheduler: SchedulerName
    kind: JobKind
    run: Path
    name: str = ""
    command: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    tasks: int = 1
    at_once: int | None = None
    queue: str | None = None
    account: str | None = None
    launcher: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    umask: int | None = None
    text: str = ""
    queue_name: str = ""
    why: str = ""
    workers: int = 1
    core_hours: float = 0.0

    @property
    def logs(self) -> Path:
        """Where its output goes."""
        return self.run / "logs"

    @property
    def script(self) -> Path:
        """Where its script is: array.sbatch, gather.pbs or local.sh in RUN/submit."""
        names = {"slurm": f"{self.kind}.sbatch", "local": "local.sh"}
        return self.run / SUBMIT_FOLDER / names.get(self.scheduler, f"{self.kind}.pbs")


@dataclass(frozen=True)
class TaskLook:
    """A task as the scheduler sees it: `word` is its own name for the state, `index` that in the array, if any."""

    job: str
    index: int | None
    state: QueueState
    word: str
    node: str = ""
    reason: str = ""
    exit_code: int | None = None


class Scheduler(Protocol):
    """A batch scheduler. Each call is one request to it; `SchedulerProblem` says what it answered."""

    name: str

    def submit(self, script: Path, *, after: str | None = None) -> str:
        """Hand in a script, to start when the job `after` has ended in any way; returns the job's id."""
        ...

    def submit_line(self, script: Path, *, after: str | None = None) -> str:
        """The command that `submit` runs, for people to copy."""
        ...

    def look(self, jobs: Sequence[str]) -> tuple[TaskLook, ...]:
        """All tasks of some jobs, in one request."""
        ...

    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs, running or waiting; those that have ended already are no error."""
        ...
