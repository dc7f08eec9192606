"""NLSQ without its side effects: its import changes the process in ways that are undone here."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TextIO

import jax

if TYPE_CHECKING:
    from nlsq import LeastSquares

CACHE_SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)
"""JAX settings that importing the solver changes."""


@contextmanager
def quiet_nlsq() -> Iterator[None]:
    """Keep the solver's own log lines to itself unless they are asked for; its outcome is judged here, not there."""
    logger = logging.getLogger("nlsq")
    propagate = logger.propagate
    logger.propagate = logger.isEnabledFor(logging.INFO)
    try:
        yield
    finally:
        logger.propagate = propagate


@cache
def nlsq_solver() -> LeastSquares:
    """The solver, imported with JAX's compile cache, the working directory and the fault handler left as they were."""
    settings = {name: getattr(jax.config, name) for name in CACHE_SETTINGS}
    with (
        TemporaryDirectory() as elsewhere,
        chdir(elsewhere),
        _nothing_logged(),
        _own_fault_handler(),
        _own_log_handlers(),
    ):
        from nlsq import LeastSquares

        solver = LeastSquares()
    for name, value in settings.items():
        jax.config.update(name, value)
    return solver


@contextmanager
def _own_fault_handler() -> Iterator[None]:
    """Let an import enable the fault handler on a stream that has a descriptor, and put the handler back after."""
    enabled = faulthandler.is_enabled()
    with ExitStack() as streams:
        if not _has_descriptor(sys.stderr):
            streams.enter_context(redirect_stderr(streams.enter_context(Path(os.devnull).open("w"))))
        yield
    faulthandler.disable()
    if enabled and sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)


@contextmanager
def _nothing_logged() -> Iterator[None]:
    """Let an import say nothing that is no error."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)


@contextmanager
def _own_log_handlers() -> Iterator[None]:
    """Let an import add no handler: who listens to which logger is the program's choice."""
    root, known = logging.getLogger(), list(logging.getLogger().handlers)
    try:
        yield
    finally:
        root.handlers = known
        logging.getLogger("nlsq").handlers = [logging.NullHandler()]


def _has_descriptor(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() >= 0
    except (OSError, ValueError):
        return False
