"""What commands have in common: options, tables, a reporter with a log, and how they come to an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcxpcs.log.levels import LEVELS

if TYPE_CHECKING:
    from hpcxpcs.cli.terminal import PhaseLines
    from hpcxpcs.config import Config
    from hpcxpcs.log.process import ProcessLog
    from hpcxpcs.pipeline.fit import FitRun
    from hpcxpcs.pipeline.reporter import LoggingReporter

run_argument = click.argument("run", type=click.Path(path_type=Path))

run_option = click.option(
    "--run",
    type=click.Path(path_type=Path),
    help="Run folder; results go to RUN/results.  [default: output.directory/NAME of CONFIG]",
)

shards_option = click.option(
    "--shards",
    type=click.IntRange(min=1),
    help="Number of shards; overrides optimization.cmc.sharding.num_shards.",
)

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one key of the configuration, dotted (scaling.mode=individual). May be repeated.",
)

log_level_option = click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    help="How much the terminal shows; debug adds to the files in RUN/logs, too.  "
    "[default: $HPCXPCS_LOG_LEVEL, else logging.level]",
)


def workers_option(help_text: str, **settings: Any) -> Callable[..., Any]:
    """The option --workers: a number of processes."""
    return click.option("--workers", type=click.IntRange(min=1), help=help_text, **settings)


def time_limit_option(help_text: str) -> Callable[..., Any]:
    """The option --time-limit, in seconds."""
    return click.option(
        "--time-limit",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help=f"{help_text}  [default: what the scheduler grants]",
    )


def settings_given(
    config: Path,
    overrides: Sequence[str],
    *,
    method: str | None = None,
    shards: int | None = None,
    workers: int | None = None,
) -> Config:
    """The configuration in a file with the overrides and options of a command line."""
    from hpcxpcs.pipeline.settings import configured

    options = {
        "optimization.method": method,
        "optimization.cmc.sharding.num_shards": shards,
        "runtime.workers": workers,
    }
    given = (f"{key}={value}" for key, value in options.items() if value is not None)
    return configured(config, (*overrides, *given))


def refuse_idle_shards(shards: int | None, settings: Config) -> None:
    """Refuse --shards with a method that has none."""
    method = settings.optimization.method
    why = {
        "nlsq": "a point fit takes all pairs at once",
        "exact": "exact samples all data at once",
        "importance": "importance weighs draws with all data at once",
    }
    if shards is not None and method in why:
        raise click.UsageError(
            f"--shards belongs to method cmc, and the method is {method}: {why[method]}; leave --shards out, or give "
            "--method cmc"
        )


@dataclass(frozen=True)
class Session:
    """The terminal, the reporter that shows things there and logs them, and the log."""

    console: PhaseLines
    reporter: LoggingReporter
    log: ProcessLog

    def find_answer(
        self,
        settings: Config,
        find: Callable[..., FitRun],
        *,
        time_limit: float | None,
        workers: int | None,
    ) -> int:
        """Find an answer with the crew and print it, on rank 0 where there are ranks; the exit code on all of them.

        `find` takes the keywords executor, reporter and on_answer.
        """
        from hpcxpcs.cli.terminal import run_and_print
        from hpcxpcs.pipeline.crew import crew
        from hpcxpcs.workers.mpi import as_rank_0_has_it

        self.log.follow(settings.logging)
        code = 0
        with crew(settings, time_limit, self.reporter, workers) as executor:
            if executor is not None:
                find_here = partial(find, executor=executor, reporter=self.reporter)
                code = run_and_print(self.console, find_here)
        return as_rank_0_has_it(code)


@contextmanager
def session(role: str, level: str | None) -> Iterator[Session]:
    """Keep a log of this command; `level` is that of the command line."""
    from hpcxpcs.cli.terminal import ConsoleLines, PhaseLines
    from hpcxpcs.log.process import process_log
    from hpcxpcs.pipeline.reporter import LoggingReporter, logged

    console = PhaseLines()
    with process_log(role, level, ConsoleLines(console)) as log, logged(LoggingReporter(console)) as reporter:
        yield Session(console, reporter, log)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of equal length as lines with columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
