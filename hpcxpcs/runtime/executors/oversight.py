"""Finding out who of a crew has fallen silent while it holds a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hpcxpcs.runtime.claims import holding
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.tasks import Task


class Member(NamedTuple):
    """A process that works for a leader: `name` such as "rank 3"."""

    name: str
    host: str
    pid: int

    def __str__(self) -> str:
        """Name and where to find it."""
        return f"{self.name} (pid {self.pid} on {self.host})"


class Silence(NamedTuple):
    """A member whose claim on `task` has not been renewed for `seconds`."""

    member: Member
    task: Task
    seconds: float

    def __str__(self) -> str:
        """One sentence for people."""
        return f"{self.member} has given no sign of life for {self.seconds:.0f} s, while on {self.task.name}"


def held_by(run: Run, tasks: Iterable[Task], member: Member) -> tuple[Task, ...]:
    """Return those of `tasks` that a member has claimed, dead or alive."""
    return tuple(task for task in tasks if _holder(run, task) == (member.host, member.pid))


def silences(run: Run, tasks: Iterable[Task], members: Iterable[Member]) -> Iterator[Silence]:
    """Yield the members that hold one of `tasks` beyond their lease."""
    known = {(member.host, member.pid): member for member in members}
    for task in tasks:
        found = holding(run.claims, task.name)
        if found is not None and not found.live:
            member = known.get((found.owner.host, found.owner.pid))
            if member is not None:
                yield Silence(member, task, found.age)


def _holder(run: Run, task: Task) -> tuple[str, int] | None:
    found = holding(run.claims, task.name)
    return None if found is None else (found.owner.host, found.owner.pid)
