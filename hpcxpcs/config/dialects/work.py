"""A translation in the making: the new document, where each of its values comes from, and what became of each key."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcxpcs.config.dialects.rules import Fate, Record
from hpcxpcs.config.document import Document
from hpcxpcs.config.problems import KeyPath, Problem, dotted

NOT_THERE = object()


class Work:
    """Reads the old document, and writes the new one with a record per key; base is the folder of the file."""

    def __init__(self, old: Document, dialect: str, base: Path | None) -> None:
        self.old, self.dialect, self.base = old, dialect, base
        self.new: dict[str, Any] = {}
        self.origins: dict[KeyPath, KeyPath] = {}
        self.records: list[Record] = []
        self.problems: list[Problem] = []
        self._told: set[KeyPath] = set()
        self._writers: dict[KeyPath, tuple[int, int]] = {}

    def at(self, *path: str | int) -> Any:
        """The old value at a path; NOT_THERE when there is none."""
        here = self.old.data
        for part in path:
            try:
                here = here[part]
            except (KeyError, IndexError, TypeError):
                return NOT_THERE
        return here

    def given(self, *path: str | int) -> Any:
        """The old value at a path; None when it is null or not there."""
        value = self.at(*path)
        return None if value is NOT_THERE else value

    def section(self, *path: str) -> Mapping[str, Any]:
        """The old section at a path, empty when it is null or not there; refused when it is no section."""
        value = self.given(*path)
        if value is not None and not isinstance(value, Mapping):
            self.refuse(path, "must be a section of keys")
        return value if isinstance(value, Mapping) else {}

    def switch(self, path: KeyPath, default: bool) -> bool:
        """A key that is true or false, `default` when it is null or not there; refused when it is neither."""
        value = self.given(*path)
        if value is not None and not isinstance(value, bool):
            self.refuse(path, "must be true or false")
        return default if value is None else value is True

    def put(self, path: KeyPath, value: Any, origin: KeyPath, rank: int = 0) -> bool:
        """Set a value of the new document; False when a value of a higher rank is there already."""
        number = len(self.records)
        if path in self._writers:
            before, earlier = self._writers[path]
            if before > rank:
                return False
            if earlier < number and self.records[earlier].fate is not Fate.DROPPED:
                why = f"{dotted(origin)} wins"
                self.records[earlier] = replace(self.records[earlier], fate=Fate.DROPPED, to="", why=why)
        here = self.new
        for part in path[:-1]:
            here = here.setdefault(str(part), {})
        here[str(path[-1])] = copy.deepcopy(value)
        self.origins[path] = origin
        self._writers[path] = (rank, number)
        return True

    def tell(
        self,
        origin: KeyPath,
        fate: Fate,
        to: str = "",
        why: str = "",
        *,
        changes_answer: bool = False,
        aloud: bool = False,
    ) -> None:
        """Record what became of an old key."""
        self._told.add(origin)
        value = self.at(*origin)
        line = self.old.lines.get(origin)
        self.records.append(Record(dotted(origin), line, value, fate, to, why, changes_answer, aloud))

    def tell_absent(self, key: str, to: str, why: str, *, aloud: bool = False) -> None:
        """Record what the file leaves unsaid and the older program took for granted."""
        self.records.append(Record(key, None, NOT_THERE, Fate.REPLACED, to, why, aloud=aloud))

    def refuse(self, path: KeyPath, predicate: str) -> None:
        """Note that an old value cannot be understood."""
        self.problems.append(Problem(path, predicate, self.at(*path)))

    def is_told(self, path: KeyPath) -> bool:
        """Whether a key, or a section it is in, has been dealt with."""
        return any(path[:length] in self._told for length in range(1, len(path) + 1))

    def leaves(self) -> Iterator[KeyPath]:
        """The paths of all old keys that hold no keys themselves."""
        yield from _leaves(self.old.data, ())


def _leaves(data: Mapping[str, Any], path: KeyPath) -> Iterator[KeyPath]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)
