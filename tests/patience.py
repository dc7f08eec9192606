"""How long a test waits for what must happen: so long that only a hang is a failure, however busy the machine."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 1800.0
"""Seconds for a process or a condition; pytest ends a test as a whole later (`timeout` in pyproject.toml)."""


def until(
    true: Callable[[], object],
    what: str | Callable[[], str] = "",
    *,
    pause: float = 0.02,
    seconds: float = PATIENCE,
) -> None:
    """Wait until something is true; `what` tells, when it never is, what was waited for or how things stand."""
    give_up = time.monotonic() + seconds
    while not true():
        if time.monotonic() >= give_up:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {seconds:g} s in vain{': ' if told else ''}{told}")
        time.sleep(pause)
