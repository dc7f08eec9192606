"""What this process may use of the machine: memory, cores and a folder for compiled code."""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from hpcxpcs.files.process_memory import resident_memory
from hpcxpcs.workers.preemption import Ask, ask_program, pbs_record

ROOT = Path("/")
CACHE_VARIABLE = "HPCXPCS_CACHE_DIR"


@dataclass(frozen=True)
class Memory:
    """Memory in bytes: `limit` for the whole job, `available` of it now, `source` of the limit in words."""

    limit: int
    available: int
    source: str


def memory(root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> Memory:
    """Return the tightest of installed RAM, cgroup limits above `root` and what Slurm or PBS was asked for, in bytes.

    PBS is asked only where no cgroup tells.
    """
    installed = psutil.virtual_memory()
    groups = [_group_memory(folder, limit) for folder, limit in _memory_limits(root)]
    candidates = [Memory(installed.total, installed.available, "installed memory"), *groups]
    if (granted := slurm_memory(environ)) is not None:
        candidates.append(Memory(granted, granted, "Slurm request"))
    if not groups and (granted := pbs_memory(environ)) is not None:
        candidates.append(Memory(granted, granted, "PBS request"))
    tightest = min(candidates, key=lambda candidate: candidate.limit)
    available = min(candidate.available for candidate in candidates)
    return Memory(tightest.limit, min(available, tightest.limit), tightest.source)


def affinity_cores() -> int:
    """Return the number of logical cores in the affinity mask of this process."""
    return len(affinity_mask())


def core_quota(root: Path = ROOT) -> float | None:
    """Return the tightest cgroup limit on processor time in cores, None when there is none."""
    quotas = [*_quotas_v2(root), *_quotas_v1(root)]
    return min(quotas, default=None)


def usable_cores(root: Path = ROOT) -> int:
    """Return how many logical cores this process may keep busy (affinity mask, cgroup quota), at least 1."""
    quota = core_quota(root)
    cores = affinity_cores()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where compiled code is kept: $HPCXPCS_CACHE_DIR, else hpcxpcs in the user's cache folder."""
    if chosen := environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser()
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hpcxpcs"


def control_group_folders(root: Path, controller: str) -> list[Path]:
    """Return the folders of our control group and of its parents; `controller` "" means cgroup version 2.

    Inside a container the path that the kernel names may not be visible; its visible parents then count.
    """
    mounts = root / "sys/fs/cgroup"
    for line in control_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            break
    else:
        return []
    top = _mount_point(mounts, controllers, controller)
    inner = top / path.lstrip("/")
    return [folder for folder in (inner, *inner.parents) if folder == top or top in folder.parents]


def control_text(path: Path) -> str:
    """Return the text of a control file; "" when this kernel or container does not show it."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _group_memory(folder: Path, limit: int) -> Memory:
    """Return the memory of a control group; file pages that the kernel can drop count as available."""
    usage = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
    rows = (row.split() for row in control_text(folder / "memory.stat").splitlines())
    statistics = {row[0]: int(row[1]) for row in rows if len(row) == 2}
    droppable = statistics.get("total_inactive_file", statistics.get("inactive_file", 0))
    available = limit - max(0, usage - droppable)
    return Memory(limit, max(0, available), f"cgroup limit in {folder}")


def _memory_limits(root: Path) -> Iterator[tuple[Path, int]]:
    """Yield (folder, bytes) of every limit between our control group and the top, in both versions."""
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for folder in control_group_folders(root, controller):
            limit = _number(folder / name)
            if limit is not None:
                yield folder, limit


def _quotas_v2(root: Path) -> Iterator[float]:
    for folder in control_group_folders(root, ""):
        words = control_text(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            yield int(words[0]) / int(words[1])


def _quotas_v1(root: Path) -> Iterator[float]:
    for folder in control_group_folders(root, "cpu"):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota and period and quota > 0:
            yield quota / period


def _mount_point(mounts: Path, controllers: str, controller: str) -> Path:
    if controller:
        joined = mounts / controllers
        return joined if joined.is_dir() else mounts / controller
    hybrid = mounts / "unified"
    return hybrid if hybrid.is_dir() else mounts


def _number(path: Path) -> int | None:
    """Return the whole number in a control file, None when the file is absent or says "max"."""
    text = control_text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


MEBIBYTE = 1024**2
PBS_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4, "p": 1024**5}


def slurm_memory(environ: Mapping[str, str]) -> int | None:
    """Bytes per node of the Slurm job this process is in; None outside, and where the whole node was given."""
    per_node, per_core = environ.get("SLURM_MEM_PER_NODE"), environ.get("SLURM_MEM_PER_CPU")
    if per_node and per_node.isdigit() and int(per_node) > 0:
        return int(per_node) * MEBIBYTE
    cores = environ.get("SLURM_CPUS_ON_NODE", "")
    if per_core and per_core.isdigit() and cores.isdigit():
        return int(per_core) * int(cores) * MEBIBYTE
    return None


def pbs_memory(environ: Mapping[str, str], ask: Ask = ask_program) -> int | None:
    """Bytes per node that the PBS job this process is in asked for; the server is asked once per process."""
    job = environ.get("PBS_JOBID")
    return _requested(job, ask) if job else None


@cache
def _requested(job: str, ask: Ask) -> int | None:
    """What qstat says that a job asked for in all, by the number of its nodes."""
    try:
        resources = pbs_record(job, ask).get("Resource_List", {})
        total, nodes = pbs_bytes(resources.get("mem")), int(resources.get("nodect", 1))
    except (ValueError, TypeError, AttributeError):
        return None
    return None if total is None else total // max(1, nodes)


def pbs_bytes(value: object) -> int | None:
    """Bytes of PBS's sizes, such as 4gb, 131072kb or 1000; None for what is none (and for words, "mw")."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"(\d+)([kmgtp]?)b?", value.strip().lower()) if isinstance(value, str) else None
    return None if match is None else int(match[1]) * PBS_UNITS[match[2]]


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


LAUNCHERS = frozenset(
    {
        "hydra_pmi_proxy", "pmi_proxy", "mpiexec", "mpiexec.hydra", "mpirun",
        "prted", "prterun", "prte", "orted", "orterun", "slurmstepd", "srun", "palsd",
    }
)  # fmt: skip
MOST_ANCESTORS = 16


@dataclass(frozen=True)
class Core:
    """A physical core: the numbers of its logical CPUs (SMT siblings), its NUMA node and its socket."""

    cpus: tuple[int, ...]
    node: int
    socket: int


@dataclass(frozen=True)
class Topology:
    """All `online` cores, and the part of them (`cores`) that mask and cpuset leave to this process.

    Both are sorted by socket, NUMA node and CPU number. `quota` is processor time in cores or None; `granted` are
    the logical CPUs of the job on this node, `bound` says whether a launcher gave this process fewer. `seat` is a
    number that the processes of one container or job share, and that differs from that of most others.
    """

    online: tuple[Core, ...]
    cores: tuple[Core, ...]
    granted: tuple[int, ...]
    quota: float | None
    bound: bool
    seat: int = 0

    @property
    def cpus(self) -> tuple[int, ...]:
        """Logical CPUs that this process may use, sorted."""
        return tuple(sorted(cpu for core in self.cores for cpu in core.cpus))

    @property
    def nodes(self) -> tuple[tuple[Core, ...], ...]:
        """Usable cores of each NUMA node that has some."""
        return cores_by_node(self.cores)


def topology(root: Path = ROOT, mask: Set[int] | None = None, environ: Mapping[str, str] = os.environ) -> Topology:
    """Read the machine below `root`; `mask` is the affinity mask, by default that of this process."""
    mask = affinity_mask() if mask is None else mask
    system = root / "sys/devices/system"
    online = _cores(system, cpu_set(control_text(system / "cpu/online")) | mask)
    everything = {cpu for core in online for cpu in core.cpus}
    granted = (everything & _cpuset(root)) or everything
    usable = (granted & mask) or mask
    outer = _launcher_mask(root)
    unbound = granted & outer if usable <= outer else granted
    return Topology(
        online=online,
        cores=restricted(online, usable),
        granted=tuple(sorted(granted)),
        quota=core_quota(root),
        bound=usable < unbound,
        seat=_seat(root, environ),
    )


def affinity_mask() -> frozenset[int]:
    """Logical CPUs on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def restricted(cores: Iterable[Core], cpus: Set[int]) -> tuple[Core, ...]:
    """The same cores with only these logical CPUs; cores without any are left out."""
    parts = (Core(tuple(cpu for cpu in core.cpus if cpu in cpus), core.node, core.socket) for core in cores)
    return tuple(part for part in parts if part.cpus)


def cores_by_node(cores: Iterable[Core]) -> tuple[tuple[Core, ...], ...]:
    """Group cores, in their order, by NUMA node."""
    groups: dict[int, list[Core]] = {}
    for core in cores:
        groups.setdefault(core.node, []).append(core)
    return tuple(tuple(group) for group in groups.values())


def cpu_set(text: str) -> frozenset[int]:
    """Numbers of a kernel list such as "0-3,8,10-11"; empty text gives the empty set."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def cpu_list(cpus: Iterable[int]) -> str:
    """Kernel list of numbers, the opposite of `cpu_set`: (0, 1, 2, 8) gives "0-2,8"."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _cores(system: Path, online: Set[int]) -> tuple[Core, ...]:
    """Every CPU that the kernel describes no further is a core of its own, in node and socket 0."""
    node_of = {cpu: node for node, cpus in _nodes(system / "node") for cpu in cpus}
    cores: list[Core] = []
    seen: set[int] = set()
    for cpu in sorted(online):
        if cpu in seen:
            continue
        folder = system / f"cpu/cpu{cpu}/topology"
        siblings = control_text(folder / "core_cpus_list") or control_text(folder / "thread_siblings_list")
        cpus = (cpu_set(siblings) & online) | {cpu}
        seen |= cpus
        package = control_text(folder / "physical_package_id").strip()
        socket = int(package) if package.isdigit() else 0
        cores.append(Core(tuple(sorted(cpus)), node_of.get(cpu, socket), socket))
    return tuple(sorted(cores, key=lambda core: (core.socket, core.node, core.cpus)))


def _nodes(folder: Path) -> Iterator[tuple[int, frozenset[int]]]:
    """Number and logical CPUs of each NUMA node; those of memory alone have none."""
    for entry in folder.glob("node[0-9]*"):
        yield int(entry.name.removeprefix("node")), cpu_set(control_text(entry / "cpulist"))


def _cpuset(root: Path) -> frozenset[int]:
    """CPUs of the nearest control group that names some, in either version; empty when none does."""
    for controller, names in (
        ("cpuset", ("cpuset.effective_cpus", "cpuset.cpus")),
        ("", ("cpuset.cpus.effective",)),
    ):
        for folder in control_group_folders(root, controller):
            for name in names:
                if cpus := cpu_set(control_text(folder / name)):
                    return cpus
    return frozenset()


def _launcher_mask(root: Path) -> frozenset[int]:
    """Affinity mask of the nearest ancestor that launches processes; empty when there is none.

    The mask of a whole job, which its processes inherit, is thus told from one that a launcher gave each of them.
    """
    process = root / "proc/self"
    for _ in range(MOST_ANCESTORS):
        parent = control_text(process / "stat").rpartition(")")[2].split()[1:2]
        if not parent or int(parent[0]) <= 1:
            break
        process = root / "proc" / parent[0]
        if control_text(process / "comm").strip() in LAUNCHERS:
            for line in control_text(process / "status").splitlines():
                if line.startswith("Cpus_allowed_list:"):
                    return cpu_set(line.partition(":")[2])
    return frozenset()


def _seat(root: Path, environ: Mapping[str, str]) -> int:
    """Containers differ in host name, jobs in number."""
    names = [
        control_text(root / "proc/sys/kernel/hostname"),
        *map(environ.get, ("SLURM_JOB_ID", "PBS_JOBID")),
    ]
    return int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:4])
