"""`hpcxpcs submit`: hand a run to a batch scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcxpcs.cli.session import log_level_option

if TYPE_CHECKING:
    from hpcxpcs.config import Config
    from hpcxpcs.data.twotime import TwoTime
    from hpcxpcs.runtime.run import Run
    from hpcxpcs.runtime.schedulers.submissions import Order, Submission
    from hpcxpcs.runtime.schedulers.submitting import Offer

EXAMPLES = """\
\b
Examples:
  hpcxpcs submit config.yaml --dry-run
  hpcxpcs submit config.yaml --scheduler pbs --account my-project
  hpcxpcs submit config.yaml --site nersc-perlmutter --queue regular --time 2:00:00
  hpcxpcs submit config.yaml --tasks 8 --wait
  hpcxpcs submit config.yaml --mpi --ranks 64

\b
Exit codes:
  0 submitted, or nothing is left to do   1 error   2 configuration or usage
  With --wait that of the run: 3 finished, but not to be quoted as it is   75 stopped: hpcxpcs resume RUN continues
"""


@click.command(epilog=EXAMPLES)
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
@click.option("--tasks", type=click.IntRange(min=1), help="Size of the array.  [default: one task per shard]")
@click.option("--at-once", type=click.IntRange(min=1), help="Most tasks of the array that run together.")
@click.option("--mpi", is_flag=True, help="One MPI job instead of an array and a job that gathers.")
@click.option("--ranks", type=click.IntRange(min=1), help="MPI ranks.  [default: one per shard]")
@click.option("--nodes", type=click.IntRange(min=1), help="Nodes of the MPI job.")
@click.option("--run", type=click.Path(path_type=Path), help="Run folder, as for hpcxpcs fit.")
@click.option("--method", type=click.Choice(["cmc", "exact"]), help="Overrides optimization.method.")
@click.option(
    "--shards",
    type=click.IntRange(min=1),
    help="Number of shards; overrides optimization.cmc.sharding.num_shards.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one key of the configuration. May be repeated.",
)
@click.option("--fresh", is_flag=True, help="Discard what an earlier run left in the run folder.")
@click.option("--more", is_flag=True, help="Add workers to a run that is at work.")
@click.option("--dry-run", is_flag=True, help="Print every script and command, and submit nothing.")
@click.option(
    "--write-only", is_flag=True, help="Plan the run and write its scripts to RUN/submit, for you to submit."
)
@click.option("--wait", is_flag=True, help="Stay until the run is over, and end with its exit code.")
@log_level_option
@click.pass_context
def command(
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
    from hpcxpcs.cli.fit import refuse_shards
    from hpcxpcs.cli.progress import PhaseLines
    from hpcxpcs.pipeline.begin import begin
    from hpcxpcs.pipeline.plan import plan_for
    from hpcxpcs.runtime.log_levels import asked_level
    from hpcxpcs.runtime.run import PLAN_FILE, Run
    from hpcxpcs.runtime.schedulers.submissions import at_the_scheduler
    from hpcxpcs.runtime.schedulers.submitting import offer, submit_lines, write_scripts
    from hpcxpcs.runtime.status import refuse_complete

    _refuse_contradictions(dry_run, write_only, wait, fresh, more)
    order = _order(asked)
    given: dict[str, object] = {
        "optimization.method": method,
        "optimization.cmc.sharding.num_shards": shards,
    }
    chosen = (*overrides, *(f"{key}={value}" for key, value in given.items() if value is not None))
    reporter = PhaseLines()
    settings, data, folder = _loaded(config, chosen, run)
    if shards is not None:
        refuse_shards(settings.optimization.method)
    reporter.level = asked_level(order.log_level) or settings.logging.level
    planned = Run(folder, plan_for(settings, data))
    if dry_run:
        _show_dry_run(planned, order)
        return
    offer(planned, order)  # what no queue of the site runs is refused before anything is written
    with at_the_scheduler(folder):
        if fresh and (folder / PLAN_FILE).exists():
            _at_work(Run.open(folder), more=False)
        begun = begin(folder, settings, data, reporter, fresh=fresh)
        refuse_complete(begun)
        at_work = _at_work(begun, more)
        offered = offer(begun, order, workers_only=any(one.kind != "array" for one in at_work))
        click.echo(_announcement(begun, offered))
        if write_only:
            write_scripts(begun, offered)
            click.echo("\n".join(submit_lines(offered)))
            return
        hand_in(begun, order, offered, added=more)
    click.echo(_how_to_look(begun, offered))
    if wait:
        from hpcxpcs.cli.waiting import waited

        context.exit(waited(begun, reporter))


def hand_in(
    run: Run, order: Order, offered: Offer, *, added: bool = False, behind: str | None = None
) -> None:
    """Submit what is offered and tell each job as it is accepted, also when a later one is refused."""
    from hpcxpcs.errors import SchedulerProblem
    from hpcxpcs.runtime.schedulers.submitting import submit

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
    from hpcxpcs.config.numbers import read_memory
    from hpcxpcs.config.site import read_walltime
    from hpcxpcs.runtime.schedulers.submissions import Order

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


def _loaded(config: Path, chosen: tuple[str, ...], run: Path | None) -> tuple[Config, TwoTime, Path]:
    """The configuration, its data and the run folder; ConfigError for a method that has nothing to share out."""
    from hpcxpcs.data.select import load
    from hpcxpcs.errors import ConfigError
    from hpcxpcs.pipeline.choices import configured, run_folder

    settings = configured(config, chosen)
    if settings.optimization.method == "nlsq":
        raise ConfigError(
            f"{config}: optimization.method is nlsq, which takes seconds and has no shards: 'hpcxpcs fit {config}' "
            "does it here, --method cmc or exact is what a scheduler is for"
        )
    return settings, load(settings), (run or run_folder(settings)).absolute()


def _at_work(run: Run, more: bool) -> tuple[Submission, ...]:
    """The jobs of a run that wait or run; SchedulerProblem when anybody is at work and no `more` is asked for."""
    from hpcxpcs.errors import SchedulerProblem
    from hpcxpcs.runtime.claims import live_holdings
    from hpcxpcs.runtime.schedulers.looking import living
    from hpcxpcs.runtime.schedulers.submissions import read_record

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


def _announcement(run: Run, offered: Offer) -> str:
    """What will be submitted, where its output goes, and what it costs."""
    from hpcxpcs.config.site import walltime_text

    lines = [f"run       {run.folder}", f"site      {offered.site.name} ({offered.why})"]
    for job in offered.jobs:
        if job.fit is None:
            lines.append(f"job       on this machine, in the background: {job.script}")
            continue
        resources = job.request.resources
        size = f"{job.request.tasks} tasks of " if job.request.kind == "array" else ""
        ranks = f"{resources.processes} ranks x " if job.request.kind == "mpi" else ""
        nodes = f" on {resources.nodes} nodes" if resources.nodes > 1 else ""
        throttle = f", {job.request.at_once} at once" if job.request.at_once else ""
        lines.append(
            f"{job.request.kind:<9} {size}{ranks}{_cores(resources.cores)}{nodes}, up to "
            f"{walltime_text(resources.walltime)} each{throttle}, {job.core_hours:.4g} core-hours at most"
            + (f", queue {job.queue} ({job.fit.why})" if job.queue else "")
        )
    if offered.core_hours:
        lines.append(f"cost      {offered.core_hours:.4g} core-hours at most, if all of the time is used")
    lines.append(f"logs      {run.logs}")
    return "\n".join(lines)


def _cores(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"


def _how_to_look(run: Run, offered: Offer) -> str:
    return (
        f"look      hpcxpcs status {run.folder}   (--watch; hpcxpcs logs, cancel, resume)\n"
        f"report    {run.results / 'report.html'}, when the last job is done"
    )


def _show_dry_run(planned: Run, order: Order) -> None:
    """Print scripts and commands; nothing is written, not even the plan."""
    from hpcxpcs.runtime.schedulers.submitting import offer, submit_lines

    offered = offer(planned, order)
    click.echo("\n".join(f"# {line}" for line in _announcement(planned, offered).splitlines()))
    for job, line in zip(offered.jobs, submit_lines(offered), strict=True):
        click.echo(f"\n# --- {job.script}\n{job.text.rstrip()}\n\n# {line}")
