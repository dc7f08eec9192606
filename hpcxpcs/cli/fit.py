"""`hpcxpcs fit`, `resume` and `gather`: from a configuration, or a run that was begun, to an answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcxpcs.cli.session import (
    Session,
    log_level_option,
    refuse_idle_shards,
    run_argument,
    run_option,
    session,
    set_option,
    settings_given,
    shards_option,
    time_limit_option,
    workers_option,
)

if TYPE_CHECKING:
    from hpcxpcs.config import Config
    from hpcxpcs.pipeline.fit import FitRun
    from hpcxpcs.runs.run import Run

FIT_EXAMPLES = """\
\b
Examples:
  hpcxpcs fit config.yaml
  mpirun -n 64 hpcxpcs fit config.yaml
  hpcxpcs fit config.yaml --method nlsq
  hpcxpcs fit config.yaml --run runs/tuesday --set analyzer_parameters.end_frame=600
  hpcxpcs fit config.yaml --set scaling.mode=individual --set output.plots=false
  hpcxpcs fit campaign.yaml --dry-run
  hpcxpcs fit campaign.yaml --watch 60

\b
Exit codes:
  0 done   1 error   2 configuration or usage   3 finished, but not to be quoted as it is
  75 stopped with everything saved: the same command continues (a point fit begins anew)
"""

RESUME_EXAMPLES = """\
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

GATHER_EXAMPLES = """\
\b
Examples:
  hpcxpcs gather runs/tuesday
  hpcxpcs gather runs/tuesday --partial

\b
Exit codes:
  0 done   1 error, or something is missing   2 usage   3 finished, but not to be quoted as it is
  75 stopped: the same command continues
"""

run_workers_option = workers_option("Worker processes here; overrides the run's own setting.")
saved_time_limit_option = time_limit_option("Stop with everything saved before this time is over.")


@click.command(epilog=FIT_EXAMPLES)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--method",
    type=click.Choice(["nlsq", "cmc", "exact", "importance"]),
    help="Overrides optimization.method. nlsq: least squares on all pairs; cmc: the posterior from shards, certified "
    "against all data; exact: the posterior from all data at once; importance: from weighed independent draws, in "
    "seconds, and exact where that does not do.",
)
@run_option
@workers_option("Worker processes here, threads of a point fit; overrides runtime.workers.")
@shards_option
@click.option("--fresh", is_flag=True, help="Discard what an earlier run left in the run folder, and start anew.")
@time_limit_option("Stop before this time is over, a posterior with everything saved.")
@click.option("--dry-run", is_flag=True, help="Of a campaign: print its items and what they cost, and fit nothing.")
@click.option("--changed", is_flag=True, help="Of a campaign: fit items anew whose file or settings have changed.")
@click.option(
    "--watch",
    type=click.FloatRange(min=1.0),
    metavar="SECONDS",
    help="Of a campaign: go on looking for new files this often, and fit them, until stopped (Ctrl-C, a time limit).",
)
@set_option
@log_level_option
@click.pass_context
def fit(
    context: click.Context,
    config: Path,
    method: str | None,
    run: Path | None,
    workers: int | None,
    shards: int | None,
    fresh: bool,
    time_limit: float | None,
    dry_run: bool,
    changed: bool,
    watch: float | None,
    overrides: tuple[str, ...],
    log_level: str | None,
) -> None:
    """Fit the model of CONFIG to its data and write RUN/results.

    The same command starts a run, continues one that was stopped or killed, and says so when it is complete. Under
    mpirun or srun the ranks work, as many as there are cores; otherwise worker processes on this machine do. A point
    fit (--method nlsq) is done by one process, from its beginning every time. Where CONFIG has a section campaign, all
    its items are fitted, and files that came since are added.
    """

    def find(**how: Any) -> FitRun:
        from hpcxpcs.pipeline.fit import (
            fit as fit_data,  # it imports JAX: not before this process has its cores
        )

        return fit_data(settings, run=run, fresh=fresh, **how)

    with session("lead", log_level) as current:
        settings = settings_given(config, overrides, method=method, shards=shards, workers=workers)
        refuse_idle_shards(shards, settings)
        if settings.campaign is None:
            idle = {"--dry-run": dry_run, "--changed": changed, "--watch": watch is not None}
            _refuse_of_campaigns(config, [name for name, given in idle.items() if given])
            code = current.find_answer(settings, find, time_limit=time_limit, workers=workers)
        else:
            code = _fit_campaign(
                current,
                settings,
                dry_run=dry_run,
                **{
                    "run": run,
                    "fresh": fresh,
                    "changed": changed,
                    "watch": watch,
                    "time_limit": time_limit,
                    "workers": workers,
                },
            )
    context.exit(code)


def _refuse_of_campaigns(config: Path, options: list[str]) -> None:
    """Refuse what a single fit has no use for."""
    if options:
        raise click.UsageError(f"{options[0]} is for campaigns, and {config} has no section campaign: leave it out")


def _fit_campaign(current: Session, settings: Config, *, dry_run: bool, **how: Any) -> int:
    """Fit the items of a campaign, or show them."""
    from hpcxpcs.cli.campaign import find_and_print, show_items

    if dry_run:
        show_items(settings, how["run"])
        return 0
    return find_and_print(current, settings, **how)


@click.command(epilog=RESUME_EXAMPLES)
@run_argument
@run_workers_option
@saved_time_limit_option
@click.option(
    "--tasks",
    type=click.IntRange(min=1),
    help="Array tasks to submit, for a run that was submitted.  [default: as many as have died]",
)
@click.option("--here", is_flag=True, help="Compute here, even if the run was submitted to a scheduler.")
@click.option("--failed", is_flag=True, help="Of a campaign: try the items again that failed.")
@log_level_option
@click.pass_context
def resume(
    context: click.Context,
    run: Path,
    workers: int | None,
    time_limit: float | None,
    tasks: int | None,
    here: bool,
    failed: bool,
    log_level: str | None,
) -> None:
    """Continue the run in the folder RUN to its end and write RUN/results.

    This is what `hpcxpcs fit CONFIG` does when RUN is there, without the need for CONFIG. A run that was submitted to
    a scheduler is submitted again as far as its jobs have died; in a batch job, or with --here, --workers or
    --time-limit, it goes on here.
    """
    from hpcxpcs.cli.jobs import submit_again, submitted_elsewhere
    from hpcxpcs.runs.job import batch_job
    from hpcxpcs.runs.run import Run

    opened = Run.open(run)
    if failed:
        _retry(opened)
    asked_here = here or workers or time_limit is not None
    record = None if asked_here else submitted_elsewhere(opened)
    if record is not None:
        submit_again(opened, record, tasks, log_level)
        return
    if tasks is not None:
        why = "it was not submitted, or this is its job"
        if asked_here:
            why = "--here, --workers and --time-limit continue it here"
        raise click.UsageError(f"--tasks hands work to a scheduler, but {run} goes on here: {why}; leave --tasks out")
    role = "gather" if batch_job() else "lead"
    context.exit(_finish(opened, role, log_level, time_limit=time_limit, workers=workers))


def _retry(run: Run) -> None:
    """Have the failed items of a campaign tried again."""
    from hpcxpcs.pipeline.campaign import retry_failed
    from hpcxpcs.runs.plan import CAMPAIGN

    if run.plan.method != CAMPAIGN:
        raise click.UsageError(
            f"--failed is for campaigns, and {run.folder} is one fit: resume tries what failed anyway"
        )
    count = retry_failed(run)
    click.echo(f"{count} failed item{'s' if count != 1 else ''} to try again")


@click.command(epilog=GATHER_EXAMPLES)
@run_argument
@click.option("--partial", is_flag=True, help="Leave out what is not finished, and say so.")
@run_workers_option
@saved_time_limit_option
@log_level_option
@click.pass_context
def gather(
    context: click.Context,
    run: Path,
    partial: bool,
    workers: int | None,
    time_limit: float | None,
    log_level: str | None,
) -> None:
    """Combine and certify the finished shards of the run in the folder RUN, and write RUN/results again.

    Shards are not sampled here; `hpcxpcs resume` does that. All data are sampled if the consensus is rejected.
    """
    from hpcxpcs.runs.run import Run

    limits: dict[str, Any] = {"time_limit": time_limit, "workers": workers}
    context.exit(_finish(Run.open(run), "gather", log_level, **limits, gather_only=True, partial=partial))


def _finish(
    run: Run,
    role: str,
    log_level: str | None,
    *,
    time_limit: float | None,
    workers: int | None,
    gather_only: bool = False,
    partial: bool = False,
) -> int:
    """Do here what is left of a run, all of it or the gathering only, and return the exit code."""
    from hpcxpcs.pipeline.settings import config_of
    from hpcxpcs.runs.plan import CAMPAIGN

    if run.plan.method == CAMPAIGN:
        from hpcxpcs.cli.campaign import finish_and_print

        with session(role, log_level) as current:
            return finish_and_print(current, run, time_limit=time_limit, workers=workers, gather_only=gather_only)

    def find(**how: Any) -> FitRun:
        from hpcxpcs.pipeline.fit import continued

        return continued(run.folder, gather_only=gather_only, partial=partial, **how)

    with session(role, log_level) as current:
        return current.find_answer(config_of(run.plan), find, time_limit=time_limit, workers=workers)
