"""`hpcxpcs cancel`: end the jobs of a run."""

from __future__ import annotations

from pathlib import Path

import click

EXAMPLES = """\
\b
Examples:
  hpcxpcs cancel runs/tuesday
"""


@click.command(epilog=EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
def command(run: Path) -> None:
    """End all jobs that were submitted for the run in the folder RUN, waiting or running.

    What is finished stays, and what was begun is kept up to its last checkpoint: `hpcxpcs resume RUN` continues.
    """
    from hpcxpcs.errors import StoreError
    from hpcxpcs.runtime.events import append
    from hpcxpcs.runtime.run import Run
    from hpcxpcs.runtime.schedulers.looking import forget_look, living
    from hpcxpcs.runtime.schedulers.named import scheduler_named
    from hpcxpcs.runtime.schedulers.submissions import at_the_scheduler, note_cancelled, read_record

    opened = Run.open(run)
    if read_record(opened) is None:
        raise StoreError(
            f"{run}: nothing was submitted for this run: what 'hpcxpcs fit' has started ends with Ctrl-C, jobs that "
            "were submitted by hand with qdel or scancel"
        )
    with at_the_scheduler(opened.folder):
        record = read_record(opened)
        alive = () if record is None else living(opened, record, fresh_seconds=0.0)
        for one in reversed(alive):  # those that wait for others first
            scheduler_named(one.scheduler).cancel([one.job])
            note_cancelled(opened, one.job)
            append(opened, "cancelled", job=one.job)
            click.echo(f"cancelled {one.kind} {one.job}")
        forget_look(opened)
    if not alive:
        click.echo(f"{run}: no job of this run waits or runs")
