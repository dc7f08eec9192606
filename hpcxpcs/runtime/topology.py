"""Sockets, NUMA nodes and cores of this machine, and which of them this process was given."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from hpcxpcs.runtime.machine import ROOT, control_group_folders, control_text, core_quota

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


def topology(
    root: Path = ROOT, mask: Set[int] | None = None, environ: Mapping[str, str] = os.environ
) -> Topology:
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
