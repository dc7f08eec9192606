"""`hpcxpcs submit` and `cancel`: hand a run to a batch scheduler, and end its jobs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcxpcs.cli.session import (
    log_level_option,
    refuse_idle_shards,
    run_argument,
    run_option,
    set_option,
    settings_given,
    shards_option,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpcxpcs.batch.jobs import Order
    from hpcxpcs.config import Config
    from hpcxpcs.pipeline.reporter import Reporter
    from hpcxpcs.runs.run import Run

SUBMIT_EXAMPLES = """\
\b
Examples:
  hpcxpcs submit config.yaml --dry-run
  hpcxpcs submit config.yaml --scheduler pbs --account my-project
  hpcxpcs submit config.yaml --site nersc-perlmutter --queue regular --time 2:00:00
  hpcxpcs submit config.yaml --tasks 8 --wait
  hpcxpcs submit config.yaml --mpi --ranks 64
  hpcxpcs submit campaign.yaml --method nlsq --tasks 16

\b
Exit codes:
  0 submitted, or nothing is left to do   1 error   2 configuration or usage
  With --wait that of the run: 3 finished, but not to be quoted as it is   75 stopped: hpcxpcs resume RUN continues
"""


@click.command(epilog=SUBMIT_EXAMPLES)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--scheduler",
    type=click.Choice(["slurm", "pbs", "torque", "local"]),
    help="Overrides what the site has; local runs it on this machine, in the background.",
)
@click.option("--site", help="Name or file of a site (hpcxpcs config sites).  [default: recognised]")
@click.option("--queue", help="Queue or partition.  [default: what the site has for such a job]")
@click.option("--account", help="Who pays: account, project or allocation.")
@click.option("--time", "walltime", metavar="H:MM:SS", help="Time limit of each job.")
@click.option("--memory", metavar="SIZE", help='Memory per node, for example "8 GiB".')
@click.option("--cores", type=click.IntRange(min=1), help="Cores of each process.  [default: 1]")
@click.option(
    "--tasks", type=click.IntRange(min=1), help="Size of the array.  [default: one per shard or item, at most 64]"
)
@click.option("--at-once", type=click.IntRange(min=1), help="Most tasks of the array that run together.")
@click.option("--mpi", is_flag=True, help="One MPI job instead of an array and a job that gathers.")
@click.option("--ranks", type=click.IntRange(min=1), help="MPI ranks.  [default: one per shard or item]")
@click.option("--nodes", type=click.IntRange(min=1), help="Nodes of the MPI job.")
@run_option
@click.option(
    "--method",
    type=click.Choice(["nlsq", "cmc", "exact", "importance"]),
    help="Overrides optimization.method; nlsq for campaigns only.",
)
@shards_option
@set_option
@click.option("--fresh", is_flag=True, help="Discard what an earlier run left in the run folder.")
@click.option("--more", is_flag=True, help="Add workers to a run that is at work.")
@click.option("--dry-run", is_flag=True, help="Print every script and command, and submit nothing.")
@click.option("--write-only", is_flag=True, help="Plan the run and write its scripts to RUN/submit, for you to submit.")
@click.option("--wait", is_flag=True, help="Stay until the run is over, and end with its exit code.")
@log_level_option
@click.pass_context
def submit(
    context: click.Context,
    /,
    config: Path,
    run: Path | None,
    method: str | None,
    shards: int | None,
    overrides: tuple[str, ...],
    fresh: bool,
    more: bool,
    dry_run: bool,
    write_only: bool,
    wait: bool,
    **asked: object,
) -> None:
    """Plan the run of CONFIG once, and hand it to a scheduler: workers in an array, and a job that gathers.

    Nothing is computed here. Look with `hpcxpcs status RUN`; the same command, or `hpcxpcs resume RUN`, continues.
    """
    from hpcxpcs.batch.submissions import at_the_scheduler
    from hpcxpcs.batch.submitting import offer, submit_lines, write_scripts
    from hpcxpcs.cli.jobs import announcement, hand_in, how_to_look, jobs_at_work, show_dry_run, wait_for_jobs
    from hpcxpcs.cli.terminal import PhaseLines
    from hpcxpcs.log.levels import asked_level
    from hpcxpcs.runs.run import PLAN_FILE, Run
    from hpcxpcs.runs.status import refuse_complete

    _refuse_contradictions(dry_run, write_only, wait, fresh, more)
    order = _order(asked)
    reporter = PhaseLines()
    settings = settings_given(config, overrides, method=method, shards=shards)
    refuse_idle_shards(shards, settings)
    reporter.level = asked_level(order.log_level) or settings.logging.level
    planned, begin = _planned(config, settings, run)
    folder = planned.folder
    if dry_run:
        show_dry_run(planned, order)
        return
    offer(planned, order)  # what no queue of the site runs is refused before anything is written
    with at_the_scheduler(folder):
        if fresh and (folder / PLAN_FILE).exists():
            jobs_at_work(Run.open(folder), more=False)
        begun = begin(reporter, fresh)
        refuse_complete(begun)
        at_work = jobs_at_work(begun, more)
        offered = offer(begun, order, workers_only=any(one.kind != "array" for one in at_work))
        click.echo(announcement(begun, offered))
        if write_only:
            write_scripts(begun, offered)
            click.echo("\n".join(submit_lines(offered)))
            return
        hand_in(begun, order, offered, added=more)
    click.echo(how_to_look(begun))
    if wait:
        context.exit(wait_for_jobs(begun, reporter))


def _refuse_contradictions(dry_run: bool, write_only: bool, wait: bool, fresh: bool, more: bool) -> None:
    """Refuse options of which one would leave the other without effect."""
    submits_nothing = "--dry-run" if dry_run else "--write-only" if write_only else ""
    if dry_run and write_only:
        raise click.UsageError("--dry-run writes nothing, --write-only writes scripts: give one of the two")
    if wait and submits_nothing:
        raise click.UsageError(f"--wait waits for jobs, and {submits_nothing} submits none: leave one of them out")
    if fresh and more:
        raise click.UsageError("--more adds to a run that is at work, --fresh discards one: give one of the two")
    if dry_run and (fresh or more):
        raise click.UsageError("--dry-run shows the jobs of a whole run: leave out --fresh and --more")


def _order(asked: dict[str, object]) -> Order:
    """The options as an order; UsageError for what makes no sense together."""
    from hpcxpcs.batch.jobs import Order
    from hpcxpcs.config.site import read_walltime
    from hpcxpcs.config.values import read_memory

    read = {"walltime": ("--time", read_walltime), "memory": ("--memory", read_memory)}
    for key, (option, reader) in read.items():
        if asked[key] is not None:
            try:
                asked[key] = reader(asked[key])
            except ValueError as error:
                raise click.BadParameter(f"{asked[key]} {error}", param_hint=option) from None
    if not asked["mpi"] and (asked["ranks"] or asked["nodes"]):
        raise click.UsageError("--ranks and --nodes belong to --mpi; an array has --tasks and --cores")
    if asked["mpi"] and (asked["tasks"] or asked["at_once"]):
        raise click.UsageError("--tasks and --at-once belong to an array; an MPI job has --ranks and --nodes")
    return Order(**asked)  # type: ignore[arg-type]


def _planned(config: Path, settings: Config, run: Path | None) -> tuple[Run, Callable[[Reporter, bool], Run]]:
    """The run of a configuration as it would begin, and what begins it; ConfigError where nothing is shared out."""
    from hpcxpcs.data.select import load
    from hpcxpcs.errors import ConfigError
    from hpcxpcs.pipeline.campaign import begin_campaign, planned
    from hpcxpcs.pipeline.plan import begin, plan_for
    from hpcxpcs.pipeline.settings import run_folder
    from hpcxpcs.runs.run import Run

    folder = (run or run_folder(settings)).absolute()
    if settings.campaign is not None:
        return planned(folder, settings), lambda to, fresh: begin_campaign(folder, settings, to, fresh=fresh)
    if settings.optimization.method == "nlsq":
        raise ConfigError(
            f"{config}: optimization.method is nlsq, which takes seconds and has no shards: 'hpcxpcs fit {config}' "
            "does it here, --method cmc or exact is what a scheduler is for"
        )
    data = load(settings)
    return Run(folder, plan_for(settings, data)), lambda to, fresh: begin(folder, settings, data, to, fresh=fresh)


CANCEL_EXAMPLES = """\
\b
Examples:
  hpcxpcs cancel runs/tuesday
"""


@click.command(epilog=CANCEL_EXAMPLES)
@run_argument
def cancel(run: Path) -> None:
    """End all jobs that were submitted for the run in the folder RUN, waiting or running.

    What is finished stays, and what was begun is kept up to its last checkpoint: `hpcxpcs resume RUN` continues.
    """
    from hpcxpcs.cli.jobs import end_jobs
    from hpcxpcs.runs.run import Run

    end_jobs(Run.open(run))
