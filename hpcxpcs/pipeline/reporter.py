"""Where a run tells what it is doing."""

from __future__ import annotations

from typing import Protocol


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
