"""Which ranks of an MPI job work: as many on each machine as have a core there; the others wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class Seat(NamedTuple):
    """Where a rank runs: its machine, and the logical CPUs it may use there."""

    host: str
    cpus: tuple[int, ...]


def at_work(seats: Sequence[Seat], most: int | None = None) -> tuple[bool, ...]:
    """Whether each rank works: one for each CPU in turn, or `most` on each machine; rank 0 always does.

    More than that would take turns on the same cores, each with a copy of the program and of the compiled code.
    """
    taken: dict[str, set[int]] = {}
    working: Counter[str] = Counter()
    found: list[bool] = []
    for seat in seats:
        used = taken.setdefault(seat.host, set())
        free = [cpu for cpu in seat.cpus if cpu not in used]
        works = bool(free) if most is None else working[seat.host] < most
        if works:
            used.update(free[:1])
            working[seat.host] += 1
        found.append(works or not found)
    return tuple(found)


def waiting_words(working: Sequence[bool]) -> str:
    """What to tell when ranks wait; empty when all work."""
    if all(working):
        return ""
    return (
        f"{sum(working)} of {len(working)} ranks work, the others have no core of their own and wait: start one rank "
        "per core, or say with runtime.ranks_per_machine how many are to work"
    )
