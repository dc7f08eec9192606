"""Telling a person how far a run is while its tasks are being done, whoever does them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpcxpcs.errors import HpcxpcsError
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.status import RunStatus, read_status

TELL_SECONDS = 5.0
"""Between two looks at the files of the tasks; the draws do not depend on whether anybody looks."""


MANY = {"shard": "shards", "exact": "chains", "check": "angle checks"}
"""What several tasks of a kind are called; there is one preparation, and no need to count it."""


@contextmanager
def telling(run: Run, tell: Callable[[str], None], seconds: float = TELL_SECONDS) -> Iterator[None]:
    """Inside this block, `tell` is called with a headline every few `seconds`, from a thread of its own."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(seconds):
            try:
                text = headline(read_status(run))
            except (HpcxpcsError, OSError):
                continue  # a file system that answers later is no reason to disturb the work
            tell(text)

    thread = threading.Thread(target=look, name=f"progress of {run.folder}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def headline(found: RunStatus) -> str:
    """One line: tasks by state, steps, speed and time to go, as far as they are known."""
    parts = [
        f"{states['done']} of {sum(states.values())} {MANY[kind]} done" + _others(states["running"], states["failed"])
        for kind, states in found.counts.items()
        if kind in MANY
    ]
    if found.steps_total:
        parts.append(f"{found.steps_done / found.steps_total:.0%} of all steps")
    if found.steps_per_second is not None:
        parts.append(f"{found.steps_per_second:.3g} steps/s")
    if found.eta_seconds is not None:
        parts.append(f"about {duration(found.eta_seconds)} to go")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def _others(running: int, failed: int) -> str:
    words = [f"{count} {what}" for count, what in ((running, "running"), (failed, "failed")) if count]
    return f" ({', '.join(words)})" if words else ""
