"""`hpcxpcs work`: help with a run that has been started elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcxpcs.cli.session import (
    log_level_option,
    run_argument,
    session,
    time_limit_option,
    workers_option,
)

if TYPE_CHECKING:
    from hpcxpcs.runs.plan import Task
    from hpcxpcs.runs.run import Run
    from hpcxpcs.workers.preemption import StopRequest
    from hpcxpcs.workers.work import Patience, WorkReport

EXAMPLES = """\
\b
Examples:
  hpcxpcs work runs/tuesday
  hpcxpcs work runs/tuesday --time-limit 3600
  hpcxpcs work runs/tuesday --shard 12

\b
Exit codes:
  0 every task is done   1 error, or a task was given up   2 usage   75 stopped, to be continued by the same command
"""


@click.command(epilog=EXAMPLES)
@run_argument
@click.option("--shard", type=click.IntRange(min=0), help="Do this shard only, and do not wait for others.")
@time_limit_option("Stop between two blocks before this time is over.")
@workers_option("Worker processes, on as many cores each as there are for them.", default=1, show_default=True)
@click.option("--only", hidden=True, help="Names of tasks, separated by commas.")
@click.option("--lease", type=float, hidden=True, help="Seconds after which a claim without a sign of life is void.")
@click.option("--hang-after", type=float, hidden=True, help="Seconds without progress after which a task hangs.")
@click.option("--leader", type=int, hidden=True, help="Process id of the leader, without whom work stops.")
@log_level_option
@click.pass_context
def command(
    context: click.Context,
    run: Path,
    shard: int | None,
    time_limit: float | None,
    workers: int,
    only: str | None,
    lease: float | None,
    hang_after: float | None,
    leader: int | None,
    log_level: str | None,
) -> None:
    """Do tasks of the run in the folder RUN until nothing is left, together with whoever else works there.

    The first to come prepares the run if that has not been done; `hpcxpcs resume` or `fit` gathers it. Start as many of
    these as you like, on any node that sees the folder, at any time: results do not depend on who did what.
    """
    from hpcxpcs.log.process import log_into
    from hpcxpcs.pipeline.crew import ensure_ready, pin_to_cores
    from hpcxpcs.runs.claims import LEASE
    from hpcxpcs.runs.job import batch_job
    from hpcxpcs.runs.run import Run
    from hpcxpcs.runs.status import open_tasks
    from hpcxpcs.workers.preemption import StopRequest, find_deadline
    from hpcxpcs.workers.work import USUAL_PATIENCE, Patience

    if shard is not None and workers > 1:
        raise click.UsageError("--shard is one task, which one process does: leave --workers out")
    opened = Run.open(run)
    tasks = _tasks(opened, shard, only)
    with session("array" if leader is None and batch_job() else "worker", log_level) as current:
        log_into(opened)
        pin_to_cores(current.reporter)  # before anything sizes its threads by them
        patience = Patience(lease or LEASE, hang_after or USUAL_PATIENCE.hang_after)
        # a leader has asked the scheduler already, for all its workers
        deadline = find_deadline(time_limit, os.environ if leader is None else {})
        with StopRequest(deadline) as asked:
            if leader is None and open_tasks(opened, tasks):
                opened = ensure_ready(opened, asked, current.reporter)
            current.reporter.end()
            report = _worked(opened, tasks, asked, patience, workers, leader, wait=shard is None)
    click.echo(_summary(opened, report))
    context.exit(report.exit_code)


def _worked(
    run: Run,
    tasks: tuple[Task, ...],
    asked: StopRequest,
    patience: Patience,
    workers: int,
    leader: int | None,
    *,
    wait: bool,
) -> WorkReport:
    """Do tasks here, or in several worker processes."""
    from hpcxpcs.pipeline.crew import make_task_function
    from hpcxpcs.workers.local import LocalWorkers
    from hpcxpcs.workers.work import StopOr, lazily, work

    if workers > 1:
        return LocalWorkers(workers, asked, patience).run_tasks(run, tasks)
    stop = StopOr(asked, lambda: None if leader in (None, os.getppid()) else "the leader has gone")
    return work(run, lazily(make_task_function), tasks, stop, patience=patience, wait=wait)


def _tasks(run: Run, shard: int | None, only: str | None) -> tuple[Task, ...]:
    """The tasks asked for; those that are not in the plan (added when the plan was done) are told by name."""
    from hpcxpcs.runs.plan import new_task

    planned = {task.name: task for task in run.plan.tasks}
    if only is not None:
        named = (name.rpartition("-") for name in only.split(","))
        found = (new_task(kind, int(index)) for kind, _, index in named)
        return tuple(planned.get(task.name, task) for task in found)
    if shard is None:
        return run.plan.tasks
    wanted = new_task("shard", shard)
    if wanted.name not in planned:
        count = sum(task.kind == "shard" for task in run.plan.tasks)
        raise click.BadParameter(f"there are {count} shards in {run.folder}, numbered from 0", param_hint="--shard")
    return (planned[wanted.name],)


def _summary(run: Run, report: WorkReport) -> str:
    total = len(report.done) + len(report.failed) + len(report.unfinished)
    if not run.plan.tasks:
        return f"{run.folder}: method {run.plan.method} has no tasks to share out: 'hpcxpcs resume {run.folder}'"
    lines = [f"{run.folder}: {len(report.done)} of {total} tasks are done"]
    if report.failed:
        lines.append(f"given up: {', '.join(report.failed)} (hpcxpcs status shows why)")
    if report.stopped:
        lines.append(f"stopped: {report.stopped}; the same command continues")
    return "\n".join(lines)
