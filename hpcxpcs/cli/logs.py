"""`hpcxpcs logs`: what the processes of a run have said."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcxpcs.cli.session import run_argument
from hpcxpcs.log.levels import LEVELS

if TYPE_CHECKING:
    from hpcxpcs.log.reading import Log
    from hpcxpcs.runs.plan import Task
    from hpcxpcs.runs.run import Run

EXAMPLES = """\
\b
Examples:
  hpcxpcs logs runs/tuesday
  hpcxpcs logs runs/tuesday --shard 12
  hpcxpcs logs runs/tuesday --level warning
  hpcxpcs logs runs/tuesday --job 4711 --lines 200
"""


@click.command(epilog=EXAMPLES)
@run_argument
@click.option("--shard", type=click.IntRange(min=0), help="Logs of the processes that had this shard.")
@click.option("--job", help="Logs of this job, or of one task of it (4711_3, 4711[3]).")
@click.option(
    "--level",
    type=click.Choice(LEVELS, case_sensitive=False),
    help="Lines that are at least so grave; only logs of JSON lines tell.",
)
@click.option("--lines", "-n", type=click.IntRange(min=1), default=20, show_default=True, help="Last lines of each.")
def command(run: Path, shard: int | None, job: str | None, level: str | None, lines: int) -> None:
    """Show the last lines of the logs of the run in the folder RUN, the one written last at the end.

    Every process has a log of JSON lines, ROLE-HOST-PID.jsonl; with --shard only their lines about it are shown, and
    why it failed.
    """
    from hpcxpcs.log.lines import is_structured
    from hpcxpcs.log.reading import job_of, logs_in, logs_of_task

    task = None if shard is None else _task(run, shard)
    if task is None:
        found = logs_in(_folder(run))
    else:
        opened = _opened(run)
        found = logs_of_task(opened, task)
        _show_failures(opened, task)
    wanted = tuple(
        log
        for log in found
        if (job is None or _belongs(job_of(log), job)) and (level is None or is_structured(log.path))
    )
    silent = True
    for log in wanted:
        written = datetime.datetime.fromtimestamp(log.written).astimezone().isoformat(timespec="seconds")
        shown = _shown(log, lines, level, task)
        if shown or level is None:
            silent = False
            click.echo(f"==> {log.path}  ({written}, {log.size} bytes)")
            click.echo("\n".join(shown))
    if silent:
        click.echo(f"{run / 'logs'}: {'no such log' if level is None else f'no line of level {level} or above'}")


def _shown(log: Log, lines: int, level: str | None, task: Task | None) -> tuple[str, ...]:
    """The last lines of a log, JSON lines as people read them."""
    from hpcxpcs.log.lines import human_line, is_structured
    from hpcxpcs.log.reading import last_entries, last_lines

    if not is_structured(log.path):
        return last_lines(log.path, lines)
    return tuple(human_line(entry) for entry in last_entries(log.path, lines, level=level, task=task))


def _folder(run: Path) -> Path:
    """RUN/logs; a point fit has logs and no plan."""
    folder = run / "logs"
    return folder if folder.is_dir() else _opened(run).logs


def _opened(run: Path) -> Run:
    from hpcxpcs.runs.run import Run

    return Run.open(run)


def _task(run: Path, shard: int) -> Task:
    from hpcxpcs.runs.plan import new_task

    task = new_task("shard", shard)
    if task.name not in {planned.name for planned in _opened(run).plan.tasks}:
        raise click.BadParameter(f"{run} has no shard {shard}", param_hint="--shard")
    return task


def _show_failures(run: Run, task: Task) -> None:
    from hpcxpcs.runs.run import read_failures

    for failure in read_failures(run, task):
        click.echo(f"failed    {failure.get('ts')}: {failure.get('cause')}")
        click.echo(str(failure.get("details") or "").rstrip())


def _belongs(found: str, job: str) -> bool:
    """Whether what a log's job is called is this job: 4711 has array-4711_3.log as well."""
    from hpcxpcs.log.lines import log_task

    wanted = log_task(job)
    return found == wanted or found.startswith(f"{wanted}_")
