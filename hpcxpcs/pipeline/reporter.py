"""Where a run tells what it is doing, and how that gets into the log with what each phase has taken."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from hpcxpcs.log.levels import note
from hpcxpcs.log.lines import TOLD
from hpcxpcs.log.process import Stopwatch, usage_fields
from hpcxpcs.workers.machine import return_freed_memory

_log = logging.getLogger(__name__)


class Reporter(Protocol):
    """Where a run tells what it is doing."""

    def phase(self, text: str) -> None:
        """A new phase begins."""

    def step(self, done: int, total: int) -> None:
        """Progress within the phase."""

    def detail(self, text: str) -> None:
        """What is being worked on within the phase."""

    def warn(self, text: str) -> None:
        """Something the user should know that does not stop the run."""


class Silent:
    """A reporter that says nothing."""

    def phase(self, text: str) -> None:
        """Ignore a phase."""

    def step(self, done: int, total: int) -> None:
        """Ignore progress."""

    def detail(self, text: str) -> None:
        """Ignore a detail."""

    def warn(self, text: str) -> None:
        """Ignore a warning."""


class LoggingReporter:
    """Shows everything on another reporter and logs it; when a phase ends, also what it has taken.

    `after_phase` is called when a phase has succeeded and another one begins.
    """

    def __init__(self, shown: Reporter) -> None:
        self.shown = shown
        self.after_phase: Callable[[], None] = lambda: None
        self._phase = ""
        self._watch = Stopwatch()

    def phase(self, text: str) -> None:
        """End the phase before, and begin a new one."""
        if self._phase:
            self.end()
            self.after_phase()
        return_freed_memory()
        self._phase, self._watch = text, Stopwatch()
        note(phase=text)
        _log.info("%s", text, extra=TOLD)
        self.shown.phase(text)

    def step(self, done: int, total: int) -> None:
        """Show progress; the log is spared."""
        self.shown.step(done, total)

    def detail(self, text: str) -> None:
        """Show what is being worked on; the log has it in debug."""
        _log.debug("%s", text, extra=TOLD)
        self.shown.detail(text)

    def warn(self, text: str) -> None:
        """Show and log a warning."""
        _log.warning("%s", text, extra=TOLD)
        self.shown.warn(text)

    def end(self) -> None:
        """End the phase that is going on, if any."""
        if self._phase:
            used, ended, self._phase = self._watch.read(), self._phase, ""
            _log.info("%s: %s", ended, used.words(), extra=usage_fields(ended, used))
            note(phase=None)


@contextmanager
def logged(reporter: Reporter | None) -> Iterator[LoggingReporter]:
    """The reporter that also logs; the phase that is going on ends with the block."""
    found = reporter if isinstance(reporter, LoggingReporter) else LoggingReporter(reporter or Silent())
    try:
        yield found
    finally:
        found.end()
