"""Settle a process on its cores before JAX is imported, which sizes its threads by them once and for all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpcxpcs.runtime.blas import one_blas_thread
from hpcxpcs.runtime.placement import Place
from hpcxpcs.runtime.topology import cpu_list

THREADS_VARIABLE = "NPROC"
"""Environment variable by which XLA sizes its pools of threads; without it, by the affinity mask."""


def apply(place: Place, *, warn: Callable[[str], None] = lambda text: None) -> None:
    """Pin this process to `place`, which sizes XLA's threads; where pinning is refused, `warn` is told.

    JAX keeps its one CPU device, on which the chains of a task are one vectorised computation. Spread over several
    they would be compiled for fewer chains each, and XLA rounds differently then: 4 chains drawn one by one left those
    drawn together. A core more is used by a worker process more.
    """
    if "jax" in sys.modules:
        raise RuntimeError(
            "a process chooses its cores before JAX is imported, and here JAX is there already"
        )
    try:
        _pin(place.cpus)
    except OSError as error:
        warn(
            f"this process could not be pinned to CPUs {cpu_list(place.cpus)} ({error.strerror}): it runs where the "
            "system puts it, slower if it shares cores with others"
        )
    one_blas_thread()
    os.environ["JAX_ENABLE_X64"] = "1"


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Let XLA compute with `count` threads instead of one per core, on whichever cores are free.

    XLA reads the variable once, when JAX first looks for its devices; where that was before, there is no effect.
    """
    before = os.environ.get(THREADS_VARIABLE)
    os.environ[THREADS_VARIABLE] = str(count)
    try:
        yield
    finally:
        os.environ.pop(THREADS_VARIABLE)
        if before is not None:
            os.environ[THREADS_VARIABLE] = before


def _pin(cpus: Iterable[int]) -> None:
    """Move this thread and all others of the process; new ones inherit the mask."""
    if not hasattr(os, "sched_setaffinity"):
        return
    os.sched_setaffinity(0, cpus)
    with suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cpus)
