"""What the commands that compute have in common: --log-level, a reporter, and a log of what this process does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from hpcxpcs.runtime.log_levels import LEVELS

if TYPE_CHECKING:
    from hpcxpcs.cli.progress import PhaseLines
    from hpcxpcs.pipeline.reporter import Recorded
    from hpcxpcs.runtime.process_log import ProcessLog

log_level_option = click.option(
    "--log-level",
    type=click.Choice(LEVELS, case_sensitive=False),
    help="How much the terminal shows; debug adds to the files in RUN/logs, too.  "
    "[default: $HPCXPCS_LOG_LEVEL, else logging.level]",
)


@dataclass(frozen=True)
class Session:
    """The terminal, the reporter that shows things there and logs them, and the log."""

    console: PhaseLines
    reporter: Recorded
    log: ProcessLog


@contextmanager
def session(role: str, level: str | None) -> Iterator[Session]:
    """Keep a log of this command; `level` is that of the command line."""
    from hpcxpcs.cli.progress import ConsoleLines, PhaseLines
    from hpcxpcs.pipeline.reporter import Recorded, recorded
    from hpcxpcs.runtime.process_log import process_log

    console = PhaseLines()
    with process_log(role, level, ConsoleLines(console)) as log, recorded(Recorded(console)) as reporter:
        yield Session(console, reporter, log)
