"""Settle a process on its cores before JAX is imported, which sizes its threads by them once and for all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from hpcxpcs.runtime.blas import one_blas_thread
from hpcxpcs.runtime.placement import Place
from hpcxpcs.runtime.topology import cpu_list


def apply(
    place: Place, *, devices: int | None = None, warn: Callable[[str], None] = lambda text: None
) -> None:
    """Pin this process to `place`, which sizes XLA's threads; with `devices`, JAX shows that many CPU devices.

    Where pinning is refused, `warn` is told.
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
