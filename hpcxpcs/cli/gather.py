"""`hpcxpcs gather`: combine what the tasks of a run have left, and write the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcxpcs.cli.session import log_level_option, session

if TYPE_CHECKING:
    from hpcxpcs.cli.session import Session
    from hpcxpcs.pipeline.executor import Executor

EXAMPLES = """\
\b
Examples:
  hpcxpcs gather runs/tuesday
  hpcxpcs gather runs/tuesday --partial

\b
Exit codes:
  0 done   1 error, or something is missing   2 usage   3 finished, but not to be quoted as it is
  75 stopped: the same command continues
"""


@click.command(epilog=EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--partial", is_flag=True, help="Leave out what is not finished, and say so.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Worker processes here; overrides the run's own setting."
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Stop with everything saved before this time is over.  [default: what the scheduler grants]",
)
@log_level_option
@click.pass_context
def command(
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
    from hpcxpcs.pipeline.choices import config_of
    from hpcxpcs.pipeline.crew import led
    from hpcxpcs.runtime.run import Run

    opened = Run.open(run)
    with session("gather", log_level) as current:
        settings = config_of(opened.plan)
        current.log.follow(settings.logging)
        code = led(
            settings,
            time_limit,
            current.reporter,
            lambda executor: _gathered(run, current, executor, partial),
            workers,
        )
    context.exit(code)


def _gathered(run: Path, current: Session, executor: Executor, partial: bool) -> int:
    """Gather, tell, and return the exit code."""
    from hpcxpcs.cli.answer import told
    from hpcxpcs.pipeline.fit import continued

    settings: dict[str, Any] = {"executor": executor, "gather_only": True, "partial": partial}
    return told(
        current.console,
        lambda tell: continued(run, reporter=current.reporter, on_answer=tell, **settings),
    )
