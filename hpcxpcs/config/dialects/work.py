"""A translation in the making: the rules of keys.yaml, the new document, and what became of each old key."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from hpcxpcs.config.document import Document
from hpcxpcs.config.problems import KeyPath, Problem, dotted
from hpcxpcs.config.values import read_number

_POSTERIOR = "optimization.cmc"
_ONLY_NESTED = ("method", "name", "strategy")
"""Names that several sections of heterodyne's posterior have: they are not read flat."""


class Fate(StrEnum):
    """What happens to a key."""

    KEPT = "kept"
    RENAMED = "renamed"
    REPLACED = "replaced by"
    DROPPED = "dropped"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Rule:
    """The fate of a key; the head of keys.yaml tells what the others are."""

    fate: Fate
    to: str = ""
    why: str = ""
    harmless: tuple[object, ...] | None = None
    words: Mapping[Any, Any] = field(default_factory=dict)
    rank: int = 0

    def read(self, value: Any) -> Any:
        """A value of theirs as ours."""
        return self.words.get(value, value) if isinstance(value, str | None) else value

    def may_go(self, value: Any) -> bool:
        """Whether leaving the key out changes no answer when it has this value."""
        if self.harmless is None or value is None:
            return True
        return str(value).lower() in {str(one).lower() for one in self.harmless}


def rule_for(table: Mapping[str, Rule], key: str) -> Rule | None:
    """The rule for a dotted key: its own, that of `section.*.key`, else of the nearest section `section.*`."""
    if key in table:
        return table[key]
    parts = key.split(".")
    if (rule := table.get(f"{parts[0]}.*.{parts[-1]}")) is not None:
        return rule
    for length in range(len(parts), 0, -1):
        if (rule := table.get(".".join([*parts[:length], "*"]))) is not None:
            return rule
    return None


def _tables() -> dict[str, dict[str, Rule]]:
    listed = yaml.safe_load(Path(__file__).with_name("keys.yaml").read_text("utf-8"))
    both = dict(_rules(listed["both"]))
    posterior = dict(_nested_and_flat(listed["heterodyne_posterior"]))
    return {
        "homodyne": both | dict(_rules(listed["homodyne"])),
        "heterodyne": both | dict(_rules(listed["heterodyne"])) | posterior,
    }


def _rules(listed: Mapping[str, list[dict[str, Any]]]) -> Iterator[tuple[str, Rule]]:
    """The keys of a part of the file, each with its rule."""
    for fate, rules in listed.items():
        for given in rules:
            rule = Rule(Fate(fate), **{key: value for key, value in given.items() if key != "keys"})
            sections = given["keys"] if isinstance(given["keys"], dict) else {"": given["keys"]}
            for section, names in sections.items():
                for name in names.split():
                    yield f"{section}.{name}" if section else name, rule


def _nested_and_flat(listed: Mapping[str, list[dict[str, Any]]]) -> Iterator[tuple[str, Rule]]:
    """The keys of heterodyne's posterior in their sections and flat; the flat one wins, as it did."""
    for key, rule in _rules(listed):
        nested = f"{_POSTERIOR}.{key}"
        kept = rule.fate is Fate.RENAMED and rule.to == nested and not rule.words
        yield nested, Rule(Fate.KEPT) if kept else rule
        section, _, name = key.rpartition(".")
        if section and name not in _ONLY_NESTED:
            yield f"{_POSTERIOR}.{name}", replace(rule, rank=rule.rank + 1)


TABLES: Mapping[str, Mapping[str, Rule]] = _tables()
"""The rules of every dialect, by dotted key."""


@dataclass(frozen=True)
class Record:
    """What became of one key of a file; line is None for what the file does not say; value is as written.

    What is `aloud` is said whenever the file is read, not only when all keys are accounted for.
    """

    key: str
    line: int | None
    value: Any
    fate: Fate
    to: str = ""
    why: str = ""
    changes_answer: bool = False
    aloud: bool = False


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

    def number(self, path: KeyPath, wanted: str) -> float | None:
        """An old value as a number; None, and refused, when it is none."""
        try:
            return read_number(self.at(*path))
        except ValueError as error:
            self.refuse(path, f"{error}; give {wanted}")
            return None

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

    def tell(self, origin: KeyPath, fate: Fate, to: str = "", why: str = "", **marks: bool) -> None:
        """Record what became of an old key; `marks` are changes_answer and aloud."""
        self._told.add(origin)
        line = self.old.lines.get(origin)
        self.records.append(Record(dotted(origin), line, self.at(*origin), fate, to, why, **marks))

    def keep(self, origin: KeyPath, value: Any, why: str = "") -> None:
        """Put a value where it was."""
        self.put(origin, value, origin)
        self.tell(origin, Fate.KEPT, "", why)

    def drop(self, origin: KeyPath, why: str, **marks: bool) -> None:
        """Record that an old key goes."""
        self.tell(origin, Fate.DROPPED, "", why, **marks)

    def disown(self, origin: KeyPath, why: str) -> None:
        """Record an old key that nobody knows where all keys count."""
        self.tell(origin, Fate.UNKNOWN, "", why, changes_answer=True)

    def rename(self, origin: KeyPath, target: KeyPath, value: Any, why: str = "", rank: int = 0) -> None:
        """Put a value under its new name, unless another key wins."""
        if self.put(target, value, origin, rank):
            self.tell(origin, Fate.RENAMED, dotted(target), why)
        else:
            self.drop(origin, f"{dotted(self.origins[target])} wins")

    def replace(
        self, origin: KeyPath, target: KeyPath, value: Any, why: str = "", rank: int = 0, **marks: bool
    ) -> None:
        """Put a translated value to its place and show it, unless another key wins."""
        if self.put(target, value, origin, rank):
            self.tell(origin, Fate.REPLACED, said(target, value), why, **marks)
        else:
            self.drop(origin, f"{dotted(self.origins[target])} wins")

    def tell_absent(self, key: str, to: str, why: str, *, aloud: bool = False) -> None:
        """Record what the file leaves unsaid and the older program took for granted."""
        self.records.append(Record(key, None, NOT_THERE, Fate.REPLACED, to, why, aloud=aloud))

    def assume(self, key: str, target: KeyPath, value: Any, why: str, origin: KeyPath) -> None:
        """Put what the file leaves unsaid; `origin` is where complaints about it lead to."""
        self.put(target, value, origin)
        self.tell_absent(key, said(target, value), why)

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


def said(target: KeyPath, value: Any) -> str:
    """A key of ours with its value, as it stands in a file."""
    if isinstance(value, float):
        return f"{dotted(target)}: {value:.3g}"
    return f"{dotted(target)}: {'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"
