"""What a pipeline asks of whoever does its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hpcxpcs.runtime.preemption import StopRequest
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.tasks import Task
from hpcxpcs.runtime.work import WorkReport


class Executor(Protocol):
    """Whatever does tasks of a run, and knows when to stop."""

    @property
    def stop(self) -> StopRequest:
        """Whether to stop."""
        ...

    @property
    def workers(self) -> int:
        """How many processes work."""
        ...

    def run_tasks(self, run: Run, tasks: Sequence[Task]) -> WorkReport:
        """Do tasks, longest first; returns how they stand."""
        ...
