"""Machines as their kernels describe them below /sys and /proc, written into a fake root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpcxpcs.workers.machine import Topology, cpu_list, topology


@dataclass(frozen=True)
class Machine:
    """A machine: `cores[socket][node]` lists the logical CPUs of each core; `memory_nodes` have no CPU."""

    cores: Sequence[Sequence[Sequence[tuple[int, ...]]]]
    memory_nodes: int = 0
    node_numbers: Sequence[int] = field(default_factory=lambda: range(1000))

    @property
    def cpus(self) -> frozenset[int]:
        """All logical CPUs."""
        return frozenset(cpu for socket in self.cores for node in socket for core in node for cpu in core)

    def write(self, root: Path) -> Path:
        """Write what the kernel shows in /sys/devices/system and return the root."""
        system = root / "sys/devices/system"
        put(system / "cpu/online", cpu_list(self.cpus))
        numbers = iter(self.node_numbers)
        for package, socket in enumerate(self.cores):
            for node in socket:
                inside = [cpu for core in node for cpu in core]
                put(system / f"node/node{next(numbers)}/cpulist", cpu_list(inside))
                for core in node:
                    for cpu in core:
                        put(system / f"cpu/cpu{cpu}/topology/core_cpus_list", cpu_list(core))
                        put(system / f"cpu/cpu{cpu}/topology/physical_package_id", str(package))
        for _ in range(self.memory_nodes):
            put(system / f"node/node{next(numbers)}/cpulist", "")
        return root

    def seen(self, root: Path, mask: frozenset[int] | None = None, **environ: str) -> Topology:
        """Write the machine and read it back as a process with this affinity mask would (default: all CPUs)."""
        return topology(self.write(root), self.cpus if mask is None else mask, environ)


def put(path: Path, text: str) -> None:
    """Write a control file, with its folders, as the kernel does: one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def blocks(sockets: int, nodes: int, cores: int, *, smt: bool) -> Machine:
    """A machine numbered as most are: cores node by node, then all second siblings in the same order."""
    total = sockets * nodes * cores
    number = iter(range(total))
    return Machine(
        [
            [
                [(cpu, cpu + total) if smt else (cpu,) for cpu in (next(number) for _ in range(cores))]
                for _ in range(nodes)
            ]
            for _ in range(sockets)
        ]
    )


def control_groups(root: Path, membership: str, files: Mapping[str, str]) -> None:
    """Write /proc/self/cgroup, and control files given by their path in /sys/fs/cgroup."""
    put(root / "proc/self/cgroup", membership)
    for name, text in files.items():
        put(root / "sys/fs/cgroup" / name, text)


def ancestors(root: Path, *chain: tuple[str, str]) -> None:
    """Write /proc for this process and its ancestors, nearest first: (name, allowed CPUs) each."""
    put(root / "proc/self/stat", f"100 (python (3.12)) R {101 if chain else 1} 100")
    for position, (name, allowed) in enumerate(chain):
        pid = 101 + position
        parent = pid + 1 if position + 1 < len(chain) else 1
        put(root / f"proc/{pid}/comm", name)
        put(root / f"proc/{pid}/stat", f"{pid} ({name}) S {parent} {pid}")
        put(root / f"proc/{pid}/status", f"Name:\t{name}\nCpus_allowed_list:\t{allowed}")


SMALL_VM = blocks(1, 1, 2, smt=False)  # 2 cores of a virtual machine, recorded
EIGHT_NODES = blocks(2, 4, 8, smt=True)  # two 32-core processors in four NUMA nodes each
EIGHT_NODES_NO_SMT = blocks(2, 4, 8, smt=False)
HIGH_BANDWIDTH = Machine(  # two 52-core processors whose on-package memory makes two more nodes
    [[[(cpu, cpu + 104) for cpu in range(first, first + 52)]] for first in (0, 52)], memory_nodes=2
)
ODD_AND_EVEN = Machine([[[(cpu,) for cpu in range(first, 8, 2)]] for first in (0, 1)])  # alternating sockets
