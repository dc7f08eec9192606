"""What a phase of the work takes: wall and processor time, memory at its end, and peak memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hpcxpcs.files.process_memory import peak_memory, resident_memory

_log = logging.getLogger(__name__)
_MIB = 1 << 20


@dataclass(frozen=True)
class Usage:
    """Seconds on the clock and of all threads, bytes resident at the end, and the most this process ever had.

    That peak is of the phase when it was reached in it; of the process, when the phase stayed below an earlier one.
    Linux could reset the peak, but then whoever watches this process (a scheduler, a parent) would see it too small.
    """

    seconds: float
    cpu_seconds: float
    memory_bytes: int | None
    peak_memory_bytes: int
    peak_of: Literal["phase", "process"]

    def words(self) -> str:
        """One line for people."""
        resident = "" if self.memory_bytes is None else f", memory {self.memory_bytes / _MIB:.0f} MiB"
        return (
            f"{self.seconds:.2f} s (processor {self.cpu_seconds:.2f} s{resident}, peak of the {self.peak_of} "
            f"{self.peak_memory_bytes / _MIB:.0f} MiB)"
        )


class Stopwatch:
    """Measures from the moment it is made."""

    def __init__(self) -> None:
        self._clock = time.perf_counter()
        self._processor = time.process_time()
        self._peak = peak_memory()

    def read(self) -> Usage:
        """What was used since the start."""
        peak = peak_memory()
        return Usage(
            seconds=round(time.perf_counter() - self._clock, 4),
            cpu_seconds=round(time.process_time() - self._processor, 4),
            memory_bytes=resident_memory(),
            peak_memory_bytes=peak,
            peak_of="phase" if peak > self._peak else "process",
        )


def usage_fields(what: str, used: Usage, kind: str = "phase") -> dict[str, Any]:
    """A finished phase as fields of a line of the log; `kind` is phase, task or process."""
    return {"event": kind, "of": what, **asdict(used), "process_cpu_seconds": round(time.process_time(), 4)}


@contextmanager
def timed(what: str, kind: str = "phase", logger: logging.Logger = _log) -> Iterator[None]:
    """Log what the block has taken when it ends, however it ends."""
    watch = Stopwatch()
    try:
        yield
    finally:
        used = watch.read()
        logger.info("%s: %s", what, used.words(), extra=usage_fields(what, used, kind))
