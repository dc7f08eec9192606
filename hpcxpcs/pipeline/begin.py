"""How a run begins, and how far it has come; needs no JAX, so that a login node can begin one."""

from __future__ import annotations

from pathlib import Path

from hpcxpcs.config import Config
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.pipeline.plan import plan_for
from hpcxpcs.pipeline.reporter import Reporter
from hpcxpcs.runtime.plan import changed_versions
from hpcxpcs.runtime.run import DONE, PLAN_FILE, Run, discard, state_of
from hpcxpcs.runtime.sealed import peek
from hpcxpcs.runtime.status import COMPLETE_FILE
from hpcxpcs.runtime.tasks import new_task

PREPARE = new_task("prepare", 0)
"""What this stage is called among the tasks of a run; its file is the prepared likelihood."""


def begin(folder: Path, config: Config, data: TwoTime, reporter: Reporter, *, fresh: bool = False) -> Run:
    """Start the run in a folder, or go on with it; PlanMismatch names the first difference."""
    if fresh:
        start_over(folder)
    plan = plan_for(config, data)
    continued = (folder / PLAN_FILE).exists()
    run = Run.create(folder, plan)
    if continued:
        done = sum(state_of(run, task) == "done" for task in run.plan.tasks)
        reporter.phase(f"continuing {folder}: {done} of {len(run.plan.tasks)} tasks are done")
        for change in changed_versions(run.plan, plan):
            reporter.warn(f"since this run was started, {change}")
    return run


def start_over(folder: Path) -> None:
    """Discard the run in a folder, if there is one and nobody works on it; results and logs stay."""
    discard(folder)
    (folder / COMPLETE_FILE).unlink(missing_ok=True)


def is_prepared(run: Run) -> bool:
    """Whether the likelihood of a run is there."""
    header = peek(run.task_file(PREPARE))
    return header is not None and header.status == DONE and header.run_id == run.plan.run_id
