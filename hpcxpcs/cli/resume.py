"""`hpcxpcs resume`: finish a run that was stopped or killed, with the configuration it was started with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcxpcs.cli.session import log_level_option, session

if TYPE_CHECKING:
    from hpcxpcs.cli.session import Session
    from hpcxpcs.pipeline.executor import Executor
    from hpcxpcs.runtime.run import Run
    from hpcxpcs.runtime.schedulers.submissions import SubmitRecord

EXAMPLES = """\
\b
Examples:
  hpcxpcs resume runs/tuesday
  hpcxpcs resume runs/tuesday --tasks 4
  hpcxpcs resume runs/tuesday --here
  mpirun -n 64 hpcxpcs resume runs/tuesday

\b
Exit codes:
  0 done   1 error   2 usage   3 finished, but not to be quoted as it is   75 stopped: the same command continues
"""


@click.command(epilog=EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--workers", type=click.IntRange(min=1), help="Worker processes here; overrides the run's own setting."
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Stop with everything saved before this time is over.  [default: what the scheduler grants]",
)
@click.option(
    "--tasks",
    type=click.IntRange(min=1),
    help="Array tasks to submit, for a run that was submitted.  [default: as many as have died]",
)
@click.option("--here", is_flag=True, help="Compute here, even if the run was submitted to a scheduler.")
@log_level_option
@click.pass_context
def command(
    context: click.Context,
    run: Path,
    workers: int | None,
    time_limit: float | None,
    tasks: int | None,
    here: bool,
    log_level: str | None,
) -> None:
    """Continue the run in the folder RUN to its end and write RUN/results.

    This is what `hpcxpcs fit CONFIG` does when RUN is there, without the need for CONFIG. A run that was submitted to
    a scheduler is submitted again as far as its jobs have died; in a batch job, or with --here, --workers or
    --time-limit, it goes on here.
    """
    from hpcxpcs.runtime.run import Run

    opened = Run.open(run)
    record = None if here or workers or time_limit is not None else _submitted_elsewhere(opened)
    if record is not None:
        from hpcxpcs.runtime.schedulers.submissions import at_the_scheduler, read_record

        with at_the_scheduler(opened.folder):
            _submit_again(opened, read_record(opened) or record, tasks, log_level)
        return
    if tasks is not None:
        why = "it was not submitted, or this is its job"
        if here or workers or time_limit is not None:
            why = "--here, --workers and --time-limit continue it here"
        raise click.UsageError(
            f"--tasks hands work to a scheduler, but {run} goes on here: {why}; leave --tasks out"
        )
    context.exit(_finished(run, opened, workers, time_limit, log_level))


def _submitted_elsewhere(run: Run) -> SubmitRecord | None:
    """The jobs of a run that a scheduler looks after, unless this process is itself part of such a job."""
    from hpcxpcs.runtime.batch_job import batch_job
    from hpcxpcs.runtime.executors.launcher import under_mpi
    from hpcxpcs.runtime.schedulers.submissions import read_record

    if batch_job() or under_mpi():
        return None
    record = read_record(run)
    return record if record is not None and record.submissions[-1].scheduler != "local" else None


def _submit_again(run: Run, record: SubmitRecord, tasks: int | None, log_level: str | None) -> None:
    """Submit in place of the jobs that have died; shards that were given up are tried again.

    A number of `tasks` counts as it is: what is added to workers that live is no new order for the run.
    """
    from hpcxpcs.cli.submit import hand_in
    from hpcxpcs.runtime.failures import forget_failures
    from hpcxpcs.runtime.run import state_of
    from hpcxpcs.runtime.schedulers.looking import alive_by_job
    from hpcxpcs.runtime.schedulers.submitting import offer
    from hpcxpcs.runtime.status import refuse_complete
    from hpcxpcs.runtime.work import open_tasks

    refuse_complete(run)
    if tasks is not None and record.order.mpi:
        raise click.UsageError("--tasks is the size of an array; this run was submitted with --mpi")
    alive = alive_by_job(run, record)
    arrays = [one for one in record.submissions if one.kind == "array"]
    living = [one for one in arrays if alive[one.job]]
    workers = sum(alive[one.job] for one in arrays)
    gathers = any(alive[one.job] for one in record.submissions if one.kind != "array")
    for task in run.plan.tasks:
        if state_of(run, task) == "failed":
            forget_failures(run, task)
    left = len(open_tasks(run, run.plan.tasks))
    most = max((one.tasks for one in arrays), default=0)
    missing = max(0, min(left, most) - workers) if tasks is None else tasks
    if gathers and not (missing and left):
        click.echo(f"{run.folder}: nothing has died: {workers} workers and a job that gathers wait or run")
        return
    order = record.order if log_level is None else replace(record.order, log_level=log_level)
    order = order if tasks is None else replace(order, tasks=tasks)
    offered = offer(run, order, workers_only=gathers, most_tasks=missing if arrays else None)
    behind = living[-1].job if living and not gathers and len(offered.jobs) == 1 else None
    hand_in(run, order, offered, added=bool(living), behind=behind)
    click.echo(f"look      hpcxpcs status {run.folder}")


def _finished(
    run: Path, opened: Run, workers: int | None, time_limit: float | None, log_level: str | None
) -> int:
    """Do here what is left, and return the exit code."""
    from hpcxpcs.pipeline.choices import config_of
    from hpcxpcs.pipeline.crew import led
    from hpcxpcs.runtime.batch_job import batch_job

    with session("gather" if batch_job() else "lead", log_level) as current:
        settings = config_of(opened.plan)
        current.log.follow(settings.logging)
        return led(
            settings,
            time_limit,
            current.reporter,
            lambda executor: _continued(run, current, executor),
            workers,
        )


def _continued(run: Path, current: Session, executor: Executor) -> int:
    """Continue, tell, and return the exit code."""
    from hpcxpcs.cli.answer import told
    from hpcxpcs.pipeline.fit import continued

    return told(
        current.console,
        lambda tell: continued(run, executor=executor, reporter=current.reporter, on_answer=tell),
    )
