"""What people see of a run: one live line on a screen or plain lines in a log, the log in debug, and the answer."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

import click

from hpcxpcs.errors import AlreadyComplete
from hpcxpcs.log.levels import context, heard_from, is_ours, level_name, number_of
from hpcxpcs.log.lines import place_of
from hpcxpcs.log.process import Console

if TYPE_CHECKING:
    from hpcxpcs.pipeline.fit import FitRun

LOG_SECONDS = 60.0
"""Seconds between two lines of detail in a log."""


class PhaseLines:
    """Reports phases to a stream (stderr): the current phase is rewritten in place on a terminal.

    Where there is no terminal, `level` warning leaves out phases; anywhere, error leaves out warnings.
    """

    def __init__(self, stream: TextIO | None = None, level: str = "info") -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.level = level
        self.begun = time.monotonic()
        self.current = ""
        self.logged = self.begun

    def phase(self, text: str) -> None:
        """Show a new phase, with the seconds since the start in a log."""
        self.current = text
        if self.live:
            self._rewrite(text)
        elif self._shows("info"):
            self._line(text)

    def step(self, done: int, total: int) -> None:
        """Show how much of the phase is done; a log is spared."""
        if self.live:
            self._rewrite(f"{self.current}  {done}/{total}")

    def warn(self, text: str) -> None:
        """Show a warning that stays."""
        if self._shows("warning"):
            self.stay(f"hpcxpcs: warning: {text}")

    def detail(self, text: str) -> None:
        """Show what is being worked on; in a log once a minute at most."""
        if self.live:
            self._rewrite(f"{self.current}  {text}")
        elif self._shows("info") and time.monotonic() - self.logged >= LOG_SECONDS:
            self._line(text)

    def clear(self) -> None:
        """Leave an empty line for what is printed next."""
        if self.live:
            self._rewrite("")

    def stay(self, text: str) -> None:
        """Show a line that stays."""
        self.clear()
        self._write(f"{text}\n")

    def _shows(self, level: str) -> bool:
        return number_of(level) >= number_of(self.level)

    def _line(self, text: str) -> None:
        self.logged = time.monotonic()
        self._write(f"hpcxpcs: [{self.logged - self.begun:6.1f} s] {text}\n")

    def _rewrite(self, text: str) -> None:
        self._write(f"\r\x1b[K{text}")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


class ConsoleLines(Console):
    """Shows of the log what nobody has said yet: warnings and errors; in debug every line, and where it comes from."""

    def __init__(self, shown: PhaseLines) -> None:
        super().__init__()
        self._shown = shown
        self._debug = False

    def follow(self, level: str) -> None:
        """Show what belongs to a level from now on."""
        self._debug = level == "debug"
        self._shown.level = level
        self.setLevel(logging.DEBUG if self._debug else max(logging.WARNING, number_of(level)))

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record unless it is for the file alone or was shown before."""
        if getattr(record, "told", False) or (getattr(record, "file_only", False) and not self._debug):
            return
        if record.levelno < heard_from(record.name, self._shown.level):
            return  # a library's own loggers may be louder than the one above them
        try:
            self._shown.stay(self._words(record))
        except (OSError, ValueError):
            return  # nobody reads any more

    def _words(self, record: logging.LogRecord) -> str:
        source = "" if is_ours(record.name) else f"{record.name}: "
        grave = f"{level_name(record.levelno)}: "
        if not self._debug:
            return f"hpcxpcs: {grave}{source}{record.getMessage()}"
        place = place_of(context())
        logger = record.name if is_ours(record.name) else source.removesuffix(": ")
        trace = "" if record.exc_info is None else f"\n{logging.Formatter().formatException(record.exc_info)}"
        return f"hpcxpcs: {grave}{place}{' ' if place else ''}{logger}: {record.getMessage()}{trace}"


MOST_NOTES = 5
"""Notes on the data shown on the terminal."""


def run_and_print(reporter: PhaseLines, find: Callable[..., FitRun]) -> int:
    """Let `find` tell `on_answer` of an answer, print it at once, and later what became of the rest; the exit code."""

    def on_answer(found: FitRun) -> None:
        reporter.clear()
        click.echo(answer_text(found))

    try:
        found = find(on_answer=on_answer)
    except AlreadyComplete as complete:
        reporter.clear()
        click.echo(f"hpcxpcs: {complete}")
        return complete.exit_code
    reporter.clear()
    for trouble in (*found.written.plots_failed, *found.written.skipped):
        click.echo(f"not written: {trouble.what}: {trouble.reason}", err=True)
    if found.written.report is not None:
        click.echo(f"report   {found.written.report}")
    return found.exit_code


def answer_text(found: FitRun) -> str:
    """The table, the fit's quality in a line or two, everything to be careful about, and where the numbers are."""
    if found.posterior is not None:
        from hpcxpcs.results.table import posterior_text

        where = found.results / "cmc" / "parameters.json"
        return f"\n{posterior_text(found.posterior, found.point, found.data, found.truth)}\nnumbers  {where}"
    from hpcxpcs.answer.fit_verdict import noise_words, quality_warnings, verdict
    from hpcxpcs.results.table import HEADINGS, MOST_ANGLES, plain_text, scaling_range, sets_words, summary_lines

    point, scaling = found.point, found.point.scaling
    rows, few = summary_lines(point, found.data, found.truth), found.data.n_phi <= MOST_ANGLES
    parts = (
        ("contrast", scaling.contrast, scaling.contrast_uncertainty),
        ("offset", scaling.offset, scaling.offset_uncertainty),
    )
    conventions = ", ".join(f"{key} {value}" for key, value in point.conventions.items())
    compression = point.compression
    how = (
        "raw pairs, no compression"
        if compression.provider == "raw"
        else f"{compression.nodes} nodes per angle, log-likelihood error {compression.error:.2g} nats"
    )
    q = f"q = {found.data.q:.6g} 1/Å" if found.data.q_known else "q unknown"
    lines = [
        "",
        f"{point.model} ({conventions}), {found.data.n_phi} angles × {found.data.n_frames} frames, "
        f"{q}, scaling {point.scaling.mode}",
        "",
        plain_text(HEADINGS, rows if few else rows[: len(point.names)]),
        *(() if few else (scaling_range(*part, "±") for part in parts)),
        "",
        f"χ²       {point.chi_squared:.7g} on {point.degrees_of_freedom:.7g} degrees of freedom, "
        f"reduced {point.reduced_chi_squared:.4f}",
        f"data     {compression.pairs} pairs, {how}",
        *([f"noise    {shared}"] if (shared := noise_words(point)) else []),
        *(f"note     {note}" for note in _shortened(found.data.provenance.get("notes", ()))),
        *([] if point.exchange is None else [f"labels   {point.exchange.words}"]),
        *(f"sets     {words}" for words in sets_words(point)),
        *(f"careful  {warning}" for warning in quality_warnings(point)),
        f"verdict  {verdict(point, found.exit_code)}",
        f"numbers  {found.results / 'nlsq' / 'parameters.json'}",
    ]
    return "\n".join(lines)


def _shortened(notes: Sequence[str]) -> list[str]:
    """The first few notes on the data; all of them are in provenance.json."""
    shown = list(notes[:MOST_NOTES])
    return shown if len(shown) == len(notes) else [*shown, f"… and {len(notes) - len(shown)} more in provenance.json"]
