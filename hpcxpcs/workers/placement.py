"""Which cores each process of a node works on."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from hpcxpcs.batch.launcher import one_blas_thread
from hpcxpcs.errors import ConfigError
from hpcxpcs.workers.machine import Core, Topology, cores_by_node, cpu_list, cpu_set, restricted

PLACE_VARIABLE = "HPCXPCS_CPUS"  # logical CPUs that the process which started this one chose for it
LAUNCHER_VARIABLES = (
    ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ("MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
    ("PALS_LOCAL_RANKID", "PALS_LOCAL_SIZE"),
    ("PMI_LOCAL_RANK", "PMI_LOCAL_SIZE"),
)


class LocalRank(NamedTuple):
    """Number of this process among the `size` that a launcher started on this node; `source` is a variable."""

    rank: int
    size: int
    source: str


@dataclass(frozen=True)
class Place:
    """What process `rank` of `size` on this node gets: logical CPUs, number of physical cores, NUMA nodes, sockets.

    `sharing` is how many processes work on each of these cores: more than 1 when there are too many of them.
    """

    rank: int
    size: int
    cpus: tuple[int, ...]
    cores: int
    nodes: tuple[int, ...]
    sockets: tuple[int, ...]
    sharing: int


def local_rank(environ: Mapping[str, str] = os.environ) -> LocalRank | None:
    """Read rank and number of processes on this node from what launchers set; None without a launcher."""
    for rank_name, size_name in LAUNCHER_VARIABLES:
        if found := _checked(environ.get(rank_name), environ.get(size_name), rank_name):
            return found
    return _checked(environ.get("SLURM_LOCALID"), _slurm_local_size(environ), "SLURM_LOCALID")


def placement(n_local: int, topology: Topology) -> tuple[Place, ...]:
    """Divide the usable cores among `n_local` processes, as evenly as NUMA nodes allow.

    A process gets a run of cores inside one node where that does not cost it cores; fewer processes than nodes get
    whole nodes. A quota on processor time that is tighter than the cores is kept to.
    """
    if n_local < 1:
        raise ValueError(f"{n_local} processes cannot be placed")
    cores = _within_quota(topology, topology.quota)
    sharing = math.ceil(n_local / len(cores))
    if sharing > 1:
        shares: list[Sequence[Core]] = [[cores[rank * len(cores) // n_local]] for rank in range(n_local)]
    else:
        inside = _inside_nodes(cores_by_node(cores), n_local)
        whole = _whole_nodes(cores_by_node(cores), n_local)
        shares = whole if min(map(len, whole)) > min(map(len, inside)) else inside
    return tuple(_place(rank, n_local, share, sharing) for rank, share in enumerate(shares))


def my_place(topology: Topology, local: LocalRank | None = None, environ: Mapping[str, str] = os.environ) -> Place:
    """Choose the cores of this process: those its parent chose, those it is bound to, or its share of all.

    `local` is its rank on this node where the launcher's variables do not tell.
    """
    if kept := restricted(topology.cores, _chosen_by_parent(environ)):
        return _place(0, 1, kept, 1)
    local = local or local_rank(environ) or LocalRank(0, 1, "no launcher")
    if not is_bound(topology, environ):
        return placement(local.size, topology)[local.rank]
    quota = None if topology.quota is None else topology.quota / local.size
    given_out = local.size * len(topology.cpus) / len(topology.granted)
    return _place(local.rank, local.size, _within_quota(topology, quota), max(1, math.ceil(given_out)))


def is_bound(topology: Topology, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process was given cores of its own, fewer than its job has on this node."""
    if environ.get("SLURM_CPU_BIND_TYPE", "").startswith("none"):
        return False
    of_job = environ.get("SLURM_CPUS_ON_NODE", "")
    return topology.bound or (of_job.isdigit() and int(of_job) > len(topology.cpus))


def child_environment(place: Place) -> dict[str, str]:
    """Variables that make `my_place` of a process started with them return the cores of `place`."""
    return {PLACE_VARIABLE: cpu_list(place.cpus)}


def _chosen_by_parent(environ: Mapping[str, str]) -> frozenset[int]:
    text = environ.get(PLACE_VARIABLE, "")
    try:
        return cpu_set(text)
    except ValueError:
        raise ConfigError(
            f"{PLACE_VARIABLE}={text!r} is no list of logical CPUs such as 0-3,8: correct it or unset it"
        ) from None


def _checked(rank: str | None, size: str | int | None, source: str) -> LocalRank | None:
    if not rank or not rank.isdigit() or not str(size or "").isdigit():
        return None
    found = LocalRank(int(rank), int(size or 0), source)
    return found if found.rank < found.size else None


def _slurm_local_size(environ: Mapping[str, str]) -> int | None:
    """Tasks of this step on this node, from "2(x3),1"; a batch script has SLURM_LOCALID too, but no step."""
    counts: list[int] = []
    for part in environ.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        if not (match := re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)):
            return None
        counts += [int(match[1])] * int(match[2] or 1)
    node = environ.get("SLURM_NODEID", "0")
    return counts[int(node)] if node.isdigit() and int(node) < len(counts) else None


def _within_quota(topology: Topology, quota: float | None) -> tuple[Core, ...]:
    """As many cores as the quota pays for, one logical CPU each; different ones in different containers.

    A container with a quota sees all cores of its machine: the first few would be everybody's.
    """
    cores = topology.cores
    if quota is None or math.ceil(quota) >= len(topology.cpus):
        return cores
    count = min(len(cores), max(1, math.ceil(quota)))
    start = count * (topology.seat % (len(cores) // count))
    return tuple(Core(core.cpus[:1], core.node, core.socket) for core in cores[start : start + count])


def _inside_nodes(nodes: Sequence[Sequence[Core]], n_local: int) -> list[Sequence[Core]]:
    """Give each process cores of one node; the next goes where its share is largest, rather where it is alone."""
    counts = [0] * len(nodes)
    for _ in range(n_local):
        shares = [(len(node) // (count + 1), -count) for node, count in zip(nodes, counts, strict=True)]
        counts[shares.index(max(shares))] += 1
    return [run for node, count in zip(nodes, counts, strict=True) for run in _runs(node, count)]


def _runs(cores: Sequence[Core], count: int) -> list[Sequence[Core]]:
    """Cut cores into `count` consecutive runs whose lengths differ by one at most."""
    cuts = [len(cores) * i // count for i in range(count + 1)] if count else [0]
    return [cores[first:last] for first, last in pairwise(cuts)]


def _whole_nodes(nodes: Sequence[Sequence[Core]], n_local: int) -> list[Sequence[Core]]:
    """Give each process consecutive whole nodes; some get nothing when nodes are few or very unequal."""
    shares: list[list[Core]] = [[] for _ in range(n_local)]
    total = sum(map(len, nodes))
    before = 0
    for node in nodes:
        shares[n_local * (2 * before + len(node)) // (2 * total)] += node
        before += len(node)
    return list(shares)


def _place(rank: int, size: int, cores: Sequence[Core], sharing: int) -> Place:
    return Place(
        rank=rank,
        size=size,
        cpus=tuple(sorted(cpu for core in cores for cpu in core.cpus)),
        cores=len(cores),
        nodes=tuple(sorted({core.node for core in cores})),
        sockets=tuple(sorted({core.socket for core in cores})),
        sharing=sharing,
    )


THREADS_VARIABLE = "NPROC"
"""Environment variable by which XLA sizes its pools of threads; without it, by the affinity mask."""


def apply(place: Place, *, warn: Callable[[str], None] = lambda text: None) -> None:
    """Pin this process to `place`, which sizes XLA's threads; where pinning is refused, `warn` is told.

    JAX keeps its one CPU device, on which the chains of a task are one vectorised computation. Spread over several
    they would be compiled for fewer chains each, and XLA rounds differently then: 4 chains drawn one by one left those
    drawn together. A core more is used by a worker process more.
    """
    if "jax" in sys.modules:
        raise RuntimeError("a process chooses its cores before JAX is imported, and here JAX is there already")
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
