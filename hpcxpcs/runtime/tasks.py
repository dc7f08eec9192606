"""The units of work of a run: small records with a name, a file and a cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

TASK_FOLDERS = {"prepare": "data", "shard": "shards", "exact": "exact", "check": "checks"}
"""Kind of task and the folder of the run in which its file appears."""


@dataclass(frozen=True)
class Task:
    """One idempotent piece of a run: `name` such as "shard-00012", `cost` in any unit that tasks share."""

    name: str
    kind: str
    index: int
    cost: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a kind or a name that has no place in the run folder."""
        if self.kind not in TASK_FOLDERS or self.index < 0 or self.name != task_name(self.kind, self.index):
            raise ValueError(f"not a task: {self.name!r}, kind {self.kind!r}, index {self.index}")

    @property
    def file(self) -> str:
        """Path of the task's file inside the run folder."""
        return f"{TASK_FOLDERS[self.kind]}/{self.index:05d}.h5"


def task_name(kind: str, index: int) -> str:
    """Return the name of task `index` (from 0) of a kind."""
    return f"{kind}-{index:05d}"


def new_task(kind: str, index: int, cost: float = 1.0) -> Task:
    """Make the task `index` (from 0) of a kind."""
    return Task(task_name(kind, index), kind, index, cost)


def longest_first(tasks: Iterable[Task], cost: Callable[[Task], float]) -> tuple[Task, ...]:
    """Order tasks so that the most costly start first; equal ones by name, the same for every process."""
    return tuple(sorted(tasks, key=lambda task: (-cost(task), task.name)))
