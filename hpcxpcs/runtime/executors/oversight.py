"""Finding out who of a crew has fallen silent while it holds a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from hpcxpcs.runtime.claims import holding
from hpcxpcs.runtime.events import read_events
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.tasks import Task

ENDINGS = ("done", "failed", "stopped", "lost", "left")
"""Events after which a process no longer has the task they name."""


class Member(NamedTuple):
    """A process that works for a leader: `name` such as "rank 3"."""

    name: str
    host: str
    pid: int

    def __str__(self) -> str:
        """Name and where to find it."""
        return f"{self.name} (pid {self.pid} on {self.host})"


class Silence(NamedTuple):
    """A member that has died, or has not renewed its claim on `task` for `seconds`; `token` is that of the claim."""

    member: Member
    task: Task
    token: str
    seconds: float
    died: bool

    def __str__(self) -> str:
        """One sentence for people."""
        what = "has died" if self.died else f"has given no sign of life for {self.seconds:.0f} s"
        return f"{self.member} {what}, with {self.task.name} in hand"


class Begun(NamedTuple):
    """A task that a member has begun and not ended, and the `token` of its claim."""

    task: Task
    token: str


def begun_by(run: Run, tasks: Sequence[Task], member: Member) -> Begun | None:
    """Return what a member was doing last: by the events, because its claim may be another's by now.

    Between claiming a task and saying so, the claim is all there is.
    """
    known = {task.name: task for task in tasks}
    ended = ""
    for event in reversed(read_events(run.events)):
        if event.get("task") in known and (event.get("host"), event.get("pid")) == member[1:]:
            if event["event"] == "started":
                return Begun(known[event["task"]], str(event.get("token", "")))
            if event["event"] in ENDINGS:
                ended = event["task"]
                break
    for task in tasks:
        found = holding(run.claims, task.name) if task.name != ended else None
        if found is not None and (found.owner.host, found.owner.pid) == member[1:]:
            return Begun(task, found.owner.token)
    return None


def silences(run: Run, tasks: Iterable[Task], members: Iterable[Member]) -> Iterator[Silence]:
    """Yield the members that hold one of `tasks` beyond their lease."""
    known = {(member.host, member.pid): member for member in members}
    for task in tasks:
        found = holding(run.claims, task.name)
        if found is not None and not found.live:
            member = known.get((found.owner.host, found.owner.pid))
            if member is not None:
                yield Silence(member, task, found.owner.token, found.age, died=found.age <= found.owner.lease)
