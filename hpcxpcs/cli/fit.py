"""`hpcxpcs fit`: from a configuration to an answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcxpcs.cli.session import log_level_option

if TYPE_CHECKING:
    from hpcxpcs.cli.session import Session
    from hpcxpcs.config import Config
    from hpcxpcs.pipeline.executor import Executor

EXAMPLES = """\
\b
Examples:
  hpcxpcs fit config.yaml
  mpirun -n 64 hpcxpcs fit config.yaml
  hpcxpcs fit config.yaml --method nlsq
  hpcxpcs fit config.yaml --run runs/tuesday --set analyzer_parameters.end_frame=600
  hpcxpcs fit config.yaml --set scaling.mode=individual --set output.plots=false

\b
Exit codes:
  0 done   1 error   2 configuration or usage   3 finished, but not to be quoted as it is
  75 stopped with everything saved: the same command continues (a point fit begins anew)
"""


@click.command(epilog=EXAMPLES)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--method",
    type=click.Choice(["nlsq", "cmc", "exact"]),
    help="Overrides optimization.method. nlsq: least squares on all pairs; cmc: the posterior from shards, certified "
    "against all data; exact: the posterior from all data at once.",
)
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    help="Run folder; results go to RUN/results.  [default: output.directory/NAME of CONFIG]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Worker processes here, threads of a point fit; overrides runtime.workers.",
)
@click.option(
    "--shards",
    type=click.IntRange(min=1),
    help="Number of shards; overrides optimization.cmc.sharding.num_shards.",
)
@click.option(
    "--fresh", is_flag=True, help="Discard what an earlier run left in the run folder, and start anew."
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Stop before this time is over, a posterior with everything saved.  [default: what the scheduler grants]",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one key of the configuration, dotted (scaling.mode=individual). May be repeated.",
)
@log_level_option
@click.pass_context
def command(
    context: click.Context,
    config: Path,
    method: str | None,
    run: Path | None,
    workers: int | None,
    shards: int | None,
    fresh: bool,
    time_limit: float | None,
    overrides: tuple[str, ...],
    log_level: str | None,
) -> None:
    """Fit the model of CONFIG to its data and write RUN/results.

    The same command starts a run, continues one that was stopped or killed, and says so when it is complete. Under
    mpirun or srun the ranks work, as many as there are cores; otherwise worker processes on this machine do. A point
    fit (--method nlsq) is done by one process, from its beginning every time.
    """
    from hpcxpcs.cli.session import session
    from hpcxpcs.pipeline.choices import configured
    from hpcxpcs.pipeline.crew import led

    given: dict[str, object] = {
        "optimization.method": method,
        "optimization.cmc.sharding.num_shards": shards,
        "runtime.workers": workers,
    }
    chosen = (*overrides, *(f"{key}={value}" for key, value in given.items() if value is not None))
    with session("lead", log_level) as current:
        settings = configured(config, chosen)
        current.log.follow(settings.logging)
        if shards is not None:
            refuse_shards(settings.optimization.method)
        code = led(
            settings,
            time_limit,
            current.reporter,
            lambda executor: _fitted(settings, run, current, fresh, executor),
            workers,
        )
    context.exit(code)


def refuse_shards(method: str) -> None:
    """Refuse --shards with a method that has none."""
    why = {"nlsq": "a point fit takes all pairs at once", "exact": "exact samples all data at once"}
    if method in why:
        raise click.UsageError(
            f"--shards belongs to method cmc, and the method is {method}: {why[method]}; leave --shards out, or give "
            "--method cmc"
        )


def _fitted(
    settings: Config, run: Path | None, current: Session, fresh: bool, executor: Executor
) -> int:
    """Fit, tell, and return the exit code."""
    from hpcxpcs.cli.answer import told
    from hpcxpcs.pipeline.fit import fit

    return told(
        current.console,
        lambda on_answer: fit(
            settings, run=run, reporter=current.reporter, on_answer=on_answer, fresh=fresh, executor=executor
        ),
    )
