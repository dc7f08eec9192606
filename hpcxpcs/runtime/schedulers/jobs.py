"""What is asked of a batch scheduler and what it answers, in the same words for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Dialect = Literal["slurm", "pbs", "torque"]
JobKind = Literal["array", "mpi", "gather"]
QueueState = Literal["waiting", "running", "suspended", "done", "stopped", "failed", "cancelled", "gone"]
"""How a task stands; `gone` is one whose end the scheduler has forgotten, as schedulers do, and `stopped` one of ours
that ended before its work did, with everything saved."""


@dataclass(frozen=True)
class Resources:
    """What one task of a job gets: `cores` per process, `memory` in bytes per node (None: the queue's default).

    `walltime` is in seconds; `processes` per node is 1 except for MPI jobs.
    """

    walltime: int
    nodes: int = 1
    processes: int = 1
    cores: int = 1
    memory: int | None = None


@dataclass(frozen=True)
class JobRequest:
    """One job: `command` (arguments, unquoted) runs on its nodes, behind `launcher` if there is one.

    `tasks` is the size of an array and `at_once` how many of them may run together. `setup` are shell lines (modules,
    activation) before the command, `directives` further lines for the scheduler without their prefix. `umask` is that
    of the files which the job writes; None takes it from the run folder.
    """

    kind: JobKind
    name: str
    command: tuple[str, ...]
    run: Path
    resources: Resources
    tasks: int = 1
    at_once: int | None = None
    queue: str | None = None
    account: str | None = None
    launcher: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    umask: int | None = None

    @property
    def logs(self) -> Path:
        """Where its output goes."""
        return self.run / "logs"


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
