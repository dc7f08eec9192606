"""Freed memory goes back to the system: the C library keeps what threads have freed, most of it of no more use."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from hpcxpcs.files.process_memory import resident_memory

WORTHWHILE = 50_000_000
"""Bytes by which this process must have grown since the last time."""


class _Last:
    """Bytes that this process had when memory was returned last."""

    resident = 0


@cache
def _trim() -> Any:
    """The function of the GNU C library that does it; None with another library."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None


def return_freed_memory() -> None:
    """Return freed memory if this process has grown: between tasks and phases, when little is in use."""
    trim, now = _trim(), resident_memory()
    if trim is None or now is None or now < _Last.resident + WORTHWHILE:
        return
    trim(0)
    _Last.resident = resident_memory() or now
