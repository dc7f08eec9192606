"""`hpcxpcs logs`: what the processes of a run have said."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hpcxpcs.runtime.logs import Log

EXAMPLES = """\
\b
Examples:
  hpcxpcs logs runs/tuesday
  hpcxpcs logs runs/tuesday --shard 12
  hpcxpcs logs runs/tuesday --job 4711 --lines 200
"""


@click.command(epilog=EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--shard", type=click.IntRange(min=0), help="Logs of the processes that had this shard.")
@click.option("--job", help="Logs of this job, or of one task of it (4711_3, 4711[3]).")
@click.option(
    "--lines", "-n", type=click.IntRange(min=1), default=20, show_default=True, help="Last lines of each."
)
def command(run: Path, shard: int | None, job: str | None, lines: int) -> None:
    """Show the last lines of the logs of the run in the folder RUN, the one written last at the end.

    Why a shard failed is shown as well, with --shard.
    """
    from hpcxpcs.runtime.failures import read_failures
    from hpcxpcs.runtime.logs import last_lines, logs_of, logs_of_task
    from hpcxpcs.runtime.run import Run
    from hpcxpcs.runtime.tasks import new_task

    opened = Run.open(run)
    if shard is None:
        found = logs_of(opened)
    else:
        task = new_task("shard", shard)
        if task.name not in {planned.name for planned in opened.plan.tasks}:
            raise click.BadParameter(f"{run} has no shard {shard}", param_hint="--shard")
        found = logs_of_task(opened, task)
        for failure in read_failures(opened, task):
            click.echo(f"failed    {failure.get('ts')}: {failure.get('cause')}")
            click.echo(str(failure.get("details") or "").rstrip())
    found = tuple(log for log in found if job is None or _belongs(log, job))
    for log in found:
        written = datetime.datetime.fromtimestamp(log.written).astimezone().isoformat(timespec="seconds")
        click.echo(f"==> {log.path}  ({written}, {log.size} bytes)")
        click.echo("\n".join(last_lines(log.path, lines)))
    if not found:
        click.echo(f"{opened.logs}: no such log; processes that 'hpcxpcs fit' runs in write to its terminal")


def _belongs(log: Log, job: str) -> bool:
    """Whether a log is of this job: 4711 has array-4711_3.log as well."""
    from hpcxpcs.runtime.schedulers.scripts import log_task

    wanted = log_task(job)
    stem = log.path.name.removesuffix(".log").partition("-")[2]
    return stem == wanted or stem.startswith(f"{wanted}_")
