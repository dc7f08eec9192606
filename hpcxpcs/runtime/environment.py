"""Settle a process on its cores before JAX is imported, which sizes its threads by them once and for all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from hpcxpcs.runtime.placement import Place
from hpcxpcs.runtime.topology import cpu_list

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def apply(
    place: Place, *, devices: int | None = None, warn: Callable[[str], None] = lambda text: None
) -> None:
    """Pin this process to `place` and size its thread pools; with `devices`, JAX shows that many CPU devices.

    A smaller number of threads that the user has set is kept. Where pinning is refused, `warn` is told.
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
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(min(place.cores, _threads(os.environ.get(variable)) or place.cores))
    os.environ["JAX_ENABLE_X64"] = "1"
    if devices is not None:
        os.environ["JAX_NUM_CPU_DEVICES"] = str(devices)


def _pin(cpus: Iterable[int]) -> None:
    """Move this thread and all others of the process; new ones inherit the mask."""
    if not hasattr(os, "sched_setaffinity"):
        return
    os.sched_setaffinity(0, cpus)
    with suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cpus)


def _threads(text: str | None) -> int | None:
    """Number of threads in a variable such as "4" or "4,2" (nested levels); None when there is none."""
    first = (text or "").partition(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else None
