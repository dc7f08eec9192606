"""`hpcxpcs topology`: which cores there are, and which process gets which."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from hpcxpcs.cli.session import aligned

if TYPE_CHECKING:
    from hpcxpcs.workers.machine import Core, Topology
    from hpcxpcs.workers.placement import LocalRank, Place

CORES_PER_LINE = 32
NOT_OURS, NOBODYS = "-", "."

EXAMPLES = """\
\b
Examples:
  hpcxpcs topology
  hpcxpcs topology -n 16                       (16 processes on this node)
  srun -n 4 hpcxpcs topology                   (what a launcher gives to each)
  hpcxpcs topology -n 16 --json
"""


@click.command(epilog=EXAMPLES)
@click.option(
    "-n",
    "n_local",
    type=click.IntRange(min=1),
    help="Number of processes on this node.  [default: those that a launcher started here, else 1]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table and a drawing.")
def command(n_local: int | None, as_json: bool) -> None:
    """Show sockets, NUMA nodes and cores, and the cores that each process on this node gets.

    Cores outside the affinity mask and the control group of this job are never used, nor are more of them than the
    quota on processor time pays for.
    """
    from hpcxpcs.workers.machine import topology
    from hpcxpcs.workers.placement import is_bound, local_rank, my_place, placement

    machine = topology()
    local = local_rank()
    places = placement(n_local or (local.size if local else 1), machine)
    mine = my_place(machine) if local and n_local is None else None
    bound = is_bound(machine)
    if mine is not None and bound:
        places = (mine,)
    if as_json:
        found = asdict(machine)
        found.pop("seat")
        click.echo(json.dumps({"schema_version": 1, **found, "places": list(map(asdict, places))}))
    else:
        click.echo(map_text(machine, places, local if mine else None, bound))


def map_text(machine: Topology, places: Sequence[Place], local: LocalRank | None = None, bound: bool = False) -> str:
    """Text with what was found, one line per process, and one symbol per core.

    `local` is the rank of this process, if it has one, and `bound` whether its launcher gave it cores of its own.
    """
    return "\n".join(
        [
            *_found(machine, local, bound),
            "",
            *_table(places),
            *_crowding(places),
            "",
            *_drawing(machine, places),
        ]
    )


def _found(machine: Topology, local: LocalRank | None, bound: bool) -> Iterator[str]:
    from hpcxpcs.workers.machine import cores_by_node, cpu_list

    sockets = len({core.socket for core in machine.online})
    nodes = len(cores_by_node(machine.online))
    logical = sum(len(core.cpus) for core in machine.online)
    yield (
        f"machine   {_counted(sockets, 'socket')}, {_counted(nodes, 'NUMA node')}, "
        f"{_counted(len(machine.online), 'core')}, {_counted(logical, 'logical CPU')}"
    )
    yield f"usable    {_counted(len(machine.cores), 'core')}, logical CPUs {cpu_list(machine.cpus)}"
    yield f"quota     {'none' if machine.quota is None else f'{machine.quota:g} cores of processor time'}"
    if local is not None:
        how = "bound by its launcher" if bound else "not bound: its share of the usable cores"
        yield f"process   {local.rank} of {local.size} on this node ({local.source}), {how}"


def _table(places: Sequence[Place]) -> Iterator[str]:
    from hpcxpcs.workers.machine import cpu_list

    header = ("process", "cores", "logical CPUs", "NUMA node", "socket")
    rows = [(str(p.rank), str(p.cores), cpu_list(p.cpus), cpu_list(p.nodes), cpu_list(p.sockets)) for p in places]
    return aligned([header, *rows])


def _crowding(places: Sequence[Place]) -> Iterator[str]:
    sharing = max(place.sharing for place in places)
    if sharing > 1:
        yield f"careful   up to {sharing} processes share a core: start fewer, or bind each to cores of its own"


def _drawing(machine: Topology, places: Sequence[Place]) -> Iterator[str]:
    """One symbol per core: the process that gets it, "+" after it when several do."""
    from hpcxpcs.workers.machine import cores_by_node

    owners: dict[int, list[int]] = {cpu: [] for cpu in machine.cpus}
    for place in places:
        for cpu in place.cpus:
            owners[cpu].append(place.rank)
    wide = max(len(_owner(core, owners)) for core in machine.online)
    socket = None
    for node in cores_by_node(machine.online):
        if node[0].socket != socket:
            socket = node[0].socket
            yield f"socket {socket}"
        symbols = [f"{_owner(core, owners):>{wide}}" for core in node]
        for first in range(0, len(symbols), CORES_PER_LINE):
            label = f"node {node[0].node}" if first == 0 else ""
            yield f"  {label:<8} {' '.join(symbols[first : first + CORES_PER_LINE])}"
    yield f"(one symbol per core: the process that gets it, {NOBODYS} nobody, {NOT_OURS} not this job's)"


def _owner(core: Core, owners: dict[int, list[int]]) -> str:
    ranks = sorted({rank for cpu in core.cpus for rank in owners.get(cpu, ())})
    if not ranks:
        return NOBODYS if any(cpu in owners for cpu in core.cpus) else NOT_OURS
    return f"{ranks[0]}+" if len(ranks) > 1 else str(ranks[0])


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
