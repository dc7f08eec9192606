"""What every line of a log says of where it comes from (run, role, rank, task, phase), without being handed around."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_fields: ContextVar[Mapping[str, Any] | None] = ContextVar("_fields", default=None)


class _MainThread:
    """What the main thread is doing: threads that say nothing of their own work for it."""

    fields: Mapping[str, Any] = {}


def context() -> Mapping[str, Any]:
    """The fields of this thread, else those of the main thread."""
    found = _fields.get()
    return _MainThread.fields if found is None else found


def note(**fields: Any) -> None:
    """Change fields from here on; None takes one out."""
    known = {key: value for key, value in {**context(), **fields}.items() if value is not None}
    _put(known, known)


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Inside this block, lines of the log have these fields."""
    own, process = _fields.get(), _MainThread.fields
    note(**fields)
    try:
        yield
    finally:
        _put(own, process)


def _put(own: Mapping[str, Any] | None, process: Mapping[str, Any]) -> None:
    _fields.set(own)
    if threading.current_thread() is threading.main_thread():
        _MainThread.fields = process
