"""All tasks in this process, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcxpcs.runtime.preemption import StopRequest
from hpcxpcs.runtime.pulse import USUAL_PATIENCE, Patience
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.tasks import Task
from hpcxpcs.runtime.work import TaskFunction, WorkReport, work


@dataclass(frozen=True)
class InProcess:
    """Does tasks itself, and waits for those that processes of other jobs are doing."""

    function: TaskFunction
    stop: StopRequest
    patience: Patience = USUAL_PATIENCE
    workers: int = 1

    def run_tasks(self, run: Run, tasks: Sequence[Task]) -> WorkReport:
        """Do `tasks`, longest first."""
        return work(run, self.function, tasks, self.stop, patience=self.patience)
