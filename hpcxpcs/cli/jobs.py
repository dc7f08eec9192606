"""The jobs of a run at a scheduler: announced, handed in, waited for, submitted again, ended."""

from __future__ import annotations

import time
from dataclasses import replace

import click

from hpcxpcs.batch.jobs import Order
from hpcxpcs.batch.launcher import under_mpi
from hpcxpcs.batch.submissions import (
    FRESH_SECONDS,
    Submission,
    SubmitRecord,
    alive_by_job,
    at_the_scheduler,
    forget_look,
    living,
    note_cancelled,
    queue_look,
    read_record,
    scheduler_named,
)
from hpcxpcs.batch.submitting import Offer, offer, submit, submit_lines
from hpcxpcs.cli.terminal import PhaseLines
from hpcxpcs.config.site import walltime_text
from hpcxpcs.errors import SchedulerProblem, Stopped, StoreError
from hpcxpcs.runs.claims import live_holdings
from hpcxpcs.runs.events import append, read_events
from hpcxpcs.runs.job import batch_job
from hpcxpcs.runs.run import Run, forget_failures, state_of
from hpcxpcs.runs.status import EVENT_BYTES, completed, open_tasks, read_status, refuse_complete

ENDED = ("done", "stopped", "failed", "left", "died", "lost", "complete", "cancelled")
"""Events that say how work on a run came to an end."""

WAIT_SECONDS = 2.0
"""Between two looks at the run folder, which asks no scheduler."""


def announcement(run: Run, offered: Offer) -> str:
    """What will be submitted, where its output goes, and what it costs."""
    lines = [f"run       {run.folder}", f"site      {offered.site.name} ({offered.why})"]
    for job in offered.jobs:
        if job.scheduler == "local":
            lines.append(f"job       on this machine, in the background: {job.script}")
            continue
        resources = job.resources
        size = f"{job.tasks} tasks of " if job.kind == "array" else ""
        ranks = f"{resources.processes} ranks x " if job.kind == "mpi" else ""
        nodes = f" on {resources.nodes} nodes" if resources.nodes > 1 else ""
        throttle = f", {job.at_once} at once" if job.at_once else ""
        lines.append(
            f"{job.kind:<9} {size}{ranks}{_cores(resources.cores)}{nodes}, up to "
            f"{walltime_text(resources.walltime)} each{throttle}, {job.core_hours:.4g} core-hours at most"
            + (f", queue {job.queue_name} ({job.why})" if job.queue_name else "")
        )
    if offered.core_hours:
        lines.append(f"cost      {offered.core_hours:.4g} core-hours at most, if all of the time is used")
    lines.append(f"logs      {run.logs}")
    return "\n".join(lines)


def _cores(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"


def how_to_look(run: Run) -> str:
    """Where progress and results of a submitted run are seen."""
    return (
        f"look      hpcxpcs status {run.folder}   (--watch; hpcxpcs logs, cancel, resume)\n"
        f"report    {run.results / 'report.html'}, when the last job is done"
    )


def show_dry_run(planned: Run, order: Order) -> None:
    """Print scripts and commands; nothing is written, not even the plan."""
    offered = offer(planned, order)
    click.echo("\n".join(f"# {line}" for line in announcement(planned, offered).splitlines()))
    for job, line in zip(offered.jobs, submit_lines(offered), strict=True):
        click.echo(f"\n# --- {job.script}\n{job.text.rstrip()}\n\n# {line}")


def jobs_at_work(run: Run, more: bool) -> tuple[Submission, ...]:
    """The jobs of a run that wait or run; SchedulerProblem when anybody is at work and no `more` is asked for."""
    record = read_record(run)
    jobs = () if record is None else living(run, record, fresh_seconds=0.0)
    busy = [f"job {one.job} ({one.kind})" for one in jobs]
    busy += [f"{held.owner.host} on {name}" for name, held in live_holdings(run.claims).items() if not jobs]
    if busy and not more:
        end = f"'hpcxpcs cancel {run.folder}' ends it" if jobs else "what was started by hand ends by hand"
        raise SchedulerProblem(
            f"{run.folder} is at work: {', '.join(busy[:4])}{', …' if len(busy) > 4 else ''}. "
            f"--more adds workers, {end}, 'hpcxpcs status {run.folder}' shows it"
        )
    return jobs


def hand_in(run: Run, order: Order, offered: Offer, *, added: bool = False, behind: str | None = None) -> None:
    """Submit what is offered and tell each job as it is accepted, also when a later one is refused."""
    accepted = []
    try:
        for one in submit(run, order, offered, added=added, behind=behind):
            accepted.append(f"{one.kind} {one.job}")
            click.echo(f"submitted {accepted[-1]}" + (f", after {one.after}" if one.after else ""))
    except SchedulerProblem as problem:
        if not accepted:
            raise
        raise SchedulerProblem(
            f"{problem}. The {' and the '.join(accepted)} before it stays in the queue: 'hpcxpcs resume {run.folder}' "
            f"hands in the rest when that is mended, 'hpcxpcs cancel {run.folder}' ends what is there"
        ) from problem


def wait_for_jobs(run: Run, reporter: PhaseLines, fresh_seconds: float = FRESH_SECONDS) -> int:
    """Wait until the results are written or all jobs have ended, and return the exit code of the run.

    The scheduler is asked once in `fresh_seconds`, and may be silent for a while. A run whose jobs are over without
    results ends with 75 when they stopped with everything saved, otherwise with 1.
    """
    reporter.phase("waiting for the jobs")
    while (ended := completed(run)) is None:
        record = read_record(run)
        if record is None or _over(run, record, fresh_seconds):
            if (ended := completed(run)) is not None:
                break
            reporter.clear()
            if record is not None and _stopped(run, record, fresh_seconds):
                reporter.warn(
                    f"{run.folder}: the jobs stopped with everything saved, before the work was done: "
                    f"'hpcxpcs resume {run.folder}' continues"
                )
                return Stopped.exit_code
            reporter.warn(
                f"{run.folder}: all jobs are over and there is no result: 'hpcxpcs logs {run.folder}' shows what "
                f"happened, 'hpcxpcs resume {run.folder}' continues"
            )
            return 1
        found = read_status(run)
        reporter.detail(f"{sum(task.state == 'done' for task in found.tasks)} of {len(found.tasks)} tasks are done")
        time.sleep(WAIT_SECONDS)
    reporter.clear()
    reporter.phase(f"{ended.verdict}: {ended.words}")
    return ended.exit_code


def _over(run: Run, record: SubmitRecord, fresh_seconds: float) -> bool:
    look = queue_look(run, record, fresh_seconds=fresh_seconds)
    return look.problem is None and not any(look.alive(one) for one in record.submissions)


def _stopped(run: Run, record: SubmitRecord, fresh_seconds: float) -> bool:
    """Whether the last job stopped on purpose: by its exit code, or by the run's events where that is forgotten."""
    if read_status(run).state == "failed":
        return False
    look = queue_look(run, record, fresh_seconds=fresh_seconds)
    states = {task.state for task in look.of(record.submissions[-1])} - {"gone"}
    if states:
        return "stopped" in states and not states & {"failed", "cancelled"}
    ends = [event["event"] for event in read_events(run.events, most_bytes=EVENT_BYTES) if event["event"] in ENDED]
    return ends[-1:] == ["stopped"]


def submitted_elsewhere(run: Run) -> SubmitRecord | None:
    """The jobs of a run that a scheduler looks after, unless this process is itself part of such a job."""
    if batch_job() or under_mpi():
        return None
    record = read_record(run)
    return record if record is not None and record.submissions[-1].scheduler != "local" else None


def submit_again(run: Run, record: SubmitRecord, tasks: int | None, log_level: str | None) -> None:
    """Submit in place of the jobs of a run that have died; shards that were given up are tried again.

    A number of `tasks` counts as it is: what is added to workers that live is no new order for the run.
    """
    with at_the_scheduler(run.folder):
        _replace_dead(run, read_record(run) or record, tasks, log_level)


def _replace_dead(run: Run, record: SubmitRecord, tasks: int | None, log_level: str | None) -> None:
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


def end_jobs(run: Run) -> None:
    """End all jobs of a run that wait or run."""
    if read_record(run) is None:
        raise StoreError(
            f"{run.folder}: nothing was submitted for this run: what 'hpcxpcs fit' has started ends with Ctrl-C, jobs "
            "that were submitted by hand with qdel or scancel"
        )
    with at_the_scheduler(run.folder):
        record = read_record(run)
        alive = () if record is None else living(run, record, fresh_seconds=0.0)
        for one in reversed(alive):  # those that wait for others first
            scheduler_named(one.scheduler).cancel([one.job])
            note_cancelled(run, one.job)
            append(run, "cancelled", job=one.job)
            click.echo(f"cancelled {one.kind} {one.job}")
        forget_look(run)
    if not alive:
        click.echo(f"{run.folder}: no job of this run waits or runs")
