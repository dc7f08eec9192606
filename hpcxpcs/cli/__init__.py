"""The command line: a table of commands, each imported only when it is called."""

from __future__ import annotations

import difflib
import gc
import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hpcxpcs import __version__
from hpcxpcs.batch.launcher import one_blas_thread
from hpcxpcs.errors import HpcxpcsError, OldConfigurationWarning

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

EXIT_INTERRUPTED = 130

COLLECT_AFTER = (50_000, 20, 20)
"""Thresholds of Python's garbage collector: imports and tracing make many objects that stay, and the usual ones cost
a tenth of the time to an answer."""

EXAMPLES = """\
\b
Examples:
  hpcxpcs config new laminar_flow > config.yaml
  hpcxpcs fit config.yaml
  hpcxpcs COMMAND --help
"""


class CommandEntry(NamedTuple):
    """Where the click object of a command is, as MODULE:NAME, and one line on what it does."""

    place: str
    summary: str

    def load(self) -> click.Command:
        """Import the module of the command."""
        module, _, name = self.place.partition(":")
        command: click.Command = getattr(importlib.import_module(f"hpcxpcs.cli.{module}"), name)
        return command


COMMANDS: Mapping[str, CommandEntry] = {
    "fit": CommandEntry("fit:fit", "Fit a model to a result file and write the answer."),
    "simulate": CommandEntry("simulate:command", "Write a synthetic result file with known truth."),
    "inspect": CommandEntry("inspect:command", "Show what is in a result file."),
    "mask": CommandEntry("frames:mask", "Make a mask of a detector by a recipe."),
    "qmap": CommandEntry("frames:qmap", "Write the maps of q and angle that follow from a geometry."),
    "partition": CommandEntry("frames:partition", "Make the bins of a detector."),
    "correlate": CommandEntry("frames:correlate", "Make two-time matrices and g2 from frames."),
    "saxs": CommandEntry("scattering:saxs", "Write mean intensities of result files."),
    "stability": CommandEntry("scattering:stability", "Judge whether beam and sample stayed as they were."),
    "config": CommandEntry("config:command", "Make, check and describe configuration files."),
    "submit": CommandEntry("submit:submit", "Hand a run to a batch scheduler."),
    "status": CommandEntry("status:command", "Show how far a run is, and what went wrong."),
    "resume": CommandEntry("fit:resume", "Finish a run that was stopped or killed."),
    "gather": CommandEntry("fit:gather", "Combine the finished shards of a run and write the results."),
    "report": CommandEntry("campaign:report", "Write the table of a campaign again, and reports of its items."),
    "campaign": CommandEntry("campaign:campaign", "List the items of a campaign, and show one as a single fit."),
    "g2": CommandEntry("g2:command", "Fit g2(τ) of multi-tau results, and average repeats."),
    "compare": CommandEntry("compare:command", "Compare models of the same data by their evidence."),
    "work": CommandEntry("work:command", "Help with a run that has been started elsewhere."),
    "cancel": CommandEntry("submit:cancel", "End the jobs of a run."),
    "logs": CommandEntry("logs:command", "Show what the processes of a run have said."),
    "cache": CommandEntry("cache:command", "List or remove prepared matrices and compiled code."),
    "topology": CommandEntry("topology:command", "Show the cores of this machine and who works on which."),
    "doctor": CommandEntry("doctor:command", "Check this machine and this installation."),
}


class LazyGroup(click.Group):
    """A click group whose commands stay unimported until one of them is called."""

    def __init__(self, *, entries: Mapping[str, CommandEntry], **settings: Any) -> None:
        super().__init__(**settings)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the table."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command and return its click object, or suggest the nearest name."""
        if cmd_name in self.entries:
            return self.entries[cmd_name].load()
        if ctx.resilient_parsing or cmd_name.startswith("-"):
            return None
        near = difflib.get_close_matches(cmd_name, self.entries, n=1)
        remedy = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(self.entries)}."
        raise click.UsageError(f"no command '{cmd_name}'; {remedy}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete command names from the table alone, and options as click does."""
        from click.shell_completion import CompletionItem

        names = [
            CompletionItem(name, help=entry.summary)
            for name, entry in self.entries.items()
            if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(
    cls=LazyGroup,
    entries=COMMANDS,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="hpcxpcs", message="%(prog)s %(version)s")
def program() -> None:
    """Transport coefficients, shear rates and error bars from two-time XPCS correlation matrices."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors meant for the user become one line on stderr."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        return 1
    return code


def _run(arguments: Sequence[str] | None) -> int:
    one_blas_thread()
    gc.set_threshold(*COLLECT_AFTER)
    try:
        with _warnings_for_the_user():
            returned = program.main(
                args=None if arguments is None else list(arguments),
                prog_name="hpcxpcs",
                standalone_mode=False,
            )
    except HpcxpcsError as error:
        click.echo(f"hpcxpcs: error: {error}", err=True)
        return error.exit_code
    except PermissionError as error:
        if error.filename is None:
            raise
        click.echo(f"hpcxpcs: error: {_not_allowed(error)}", err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("hpcxpcs: interrupted", err=True)
        return EXIT_INTERRUPTED
    return returned if isinstance(returned, int) else 0


def _not_allowed(error: PermissionError) -> str:
    """What may not be read or written, whose it is, and what its owner can do."""
    from pathlib import Path

    path = Path(os.fsdecode(error.filename))
    place = path
    while not os.access(place, os.R_OK) and place.parent != place and not os.access(place.parent, os.X_OK):
        place = place.parent
    try:
        owner = place.owner()
    except (OSError, KeyError):
        owner = "somebody else"
    return (
        f"{path}: may not be opened by you ({error.strerror}): it belongs to {owner}, who can let others read with "
        f"chmod -R a+rX '{place}'"
    )


@contextmanager
def _warnings_for_the_user() -> Iterator[None]:
    """Print what was noticed about an old configuration as one line on stderr, on the first MPI rank only."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, OldConfigurationWarning):
                usual(message, category, *place, **more)
            elif _rank() == 0:
                click.echo(f"hpcxpcs: warning: {message}", err=True)

        warnings.showwarning = show
        warnings.simplefilter("always", OldConfigurationWarning)
        yield


def _rank() -> int:
    """The number of this process among those a launcher has started; 0 without a launcher."""
    from hpcxpcs.batch.launcher import RANK_VARIABLES

    found = [os.environ.get(name, "") for name in (*RANK_VARIABLES, "SLURM_PROCID")]
    return next((int(number) for number in found if number.isdigit()), 0)


def _silence_stdout() -> None:
    """Point stdout at the null device, so that the flush at exit cannot fail a second time."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
