"""Progress on the terminal: one live line on a screen, one plain line per phase in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

LOG_SECONDS = 60.0
"""Seconds between two lines of detail in a log."""


class PhaseLines:
    """Reports phases to a stream (stderr): the current phase is rewritten in place on a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.begun = time.monotonic()
        self.current = ""
        self.logged = self.begun

    def phase(self, text: str) -> None:
        """Show a new phase, with the seconds since the start in a log."""
        self.current = text
        if self.live:
            self._rewrite(text)
        else:
            self._line(text)

    def step(self, done: int, total: int) -> None:
        """Show how much of the phase is done; a log is spared."""
        if self.live:
            self._rewrite(f"{self.current}  {done}/{total}")

    def warn(self, text: str) -> None:
        """Show a warning that stays."""
        self.clear()
        self._write(f"hpcxpcs: warning: {text}\n")

    def detail(self, text: str) -> None:
        """Show what is being worked on; in a log once a minute at most."""
        if self.live:
            self._rewrite(f"{self.current}  {text}")
        elif time.monotonic() - self.logged >= LOG_SECONDS:
            self._line(text)

    def clear(self) -> None:
        """Leave an empty line for what is printed next."""
        if self.live:
            self._rewrite("")

    def _line(self, text: str) -> None:
        self.logged = time.monotonic()
        self._write(f"hpcxpcs: [{self.logged - self.begun:6.1f} s] {text}\n")

    def _rewrite(self, text: str) -> None:
        self._write(f"\r\x1b[K{text}")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
