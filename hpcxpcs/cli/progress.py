"""What people see while a run goes on: one live line on a screen, plain lines in a log, and the log in debug."""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

from hpcxpcs.runtime.log_context import context
from hpcxpcs.runtime.log_levels import heard_from, is_ours, level_name, number_of
from hpcxpcs.runtime.log_lines import place_of
from hpcxpcs.runtime.process_log import Console

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
