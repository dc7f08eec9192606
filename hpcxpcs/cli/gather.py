"""`hpcxpcs gather`: combine what the tasks of a run have left, and write the results."""

from __future__ import annotations

from pathlib import Path

import click

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
@click.pass_context
def command(
    context: click.Context, run: Path, partial: bool, workers: int | None, time_limit: float | None
) -> None:
    """Combine and certify the finished shards of the run in the folder RUN, and write RUN/results again.

    Shards are not sampled here; `hpcxpcs resume` does that. All data are sampled if the consensus is rejected.
    """
    from hpcxpcs.cli.progress import PhaseLines
    from hpcxpcs.pipeline.choices import config_of
    from hpcxpcs.pipeline.crew import crew
    from hpcxpcs.runtime.run import Run

    reporter = PhaseLines()
    with crew(config_of(Run.open(run).plan), time_limit, reporter, workers) as executor:
        if executor is None:
            context.exit(0)
        from hpcxpcs.cli.answer import told
        from hpcxpcs.pipeline.fit import continued

        code = told(
            reporter,
            lambda tell: continued(
                run, executor=executor, reporter=reporter, on_answer=tell, gather_only=True, partial=partial
            ),
        )
    context.exit(code)
