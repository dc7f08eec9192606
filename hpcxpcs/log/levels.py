"""How much is said, and what every line of a log says of where it comes from (run, role, rank, task, phase)."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from hpcxpcs.errors import ConfigError

LEVELS = ("debug", "info", "warning", "error")
"""Levels by name, the most talkative first."""

LEVEL_VARIABLE = "HPCXPCS_LOG_LEVEL"
"""Environment variable with the level of processes that are given none."""

USUAL = "info"

OURS = "hpcxpcs"
"""The logger above all of this program's own; silent where nobody keeps a log."""

LIBRARIES: Mapping[str, int] = {
    **dict.fromkeys(("jax", "jaxlib", "absl", "numba", "h5py", "h5netcdf", "arviz", "arviz_stats"), logging.WARNING),
    **dict.fromkeys(("numpyro", "submitit", "filelock", "fsspec", "PIL", "asyncio", "mpi4py"), logging.WARNING),
    "matplotlib": logging.ERROR,  # where its font cache goes is nobody's concern
    "nlsq": logging.ERROR,  # the outcome of a fit is judged here, not there
}
"""From which level on libraries are heard; with debug all are from info on."""

LIBRARIES_IN_DEBUG = logging.INFO
"""Their own debug is megabytes of fonts and programs."""

LEFT_ALONE = frozenset({"jax", "jaxlib", "absl"})
"""Setting the level of these lets them and their C++ parts print by themselves; JAX_LOGGING_LEVEL is for that."""


def asked_level(given: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The level of the command line, else of the environment; None when neither says one."""
    if given is not None:
        return given
    text = environ.get(LEVEL_VARIABLE, "").strip()
    if not text:
        return None
    if text.lower() not in LEVELS:
        raise ConfigError(f"{LEVEL_VARIABLE}={text!r} is no level: choose {', '.join(LEVELS[:-1])} or {LEVELS[-1]}")
    return text.lower()


def number_of(level: str) -> int:
    """The number that the logging library has for a level."""
    return int(logging.getLevelNamesMapping()[level.upper()])


def level_name(number: int) -> str:
    """The name of the level that a number belongs to, such as error for a critical record."""
    return next((name for name in reversed(LEVELS) if number >= number_of(name)), LEVELS[0])


def is_ours(logger: str) -> bool:
    """Whether a logger is this program's own."""
    return logger == OURS or logger.startswith(f"{OURS}.")


def heard_from(logger: str, level: str) -> int:
    """The number from which on records of a logger are kept at a level; those of ours always from info on."""
    if is_ours(logger):
        return logging.DEBUG if level == "debug" else logging.INFO
    return LIBRARIES_IN_DEBUG if level == "debug" else LIBRARIES.get(logger.partition(".")[0], logging.WARNING)


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
