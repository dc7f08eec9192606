"""What becomes of a key of an older program: the rule for it, and the record of one key of one file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Fate(StrEnum):
    """What happens to a key."""

    KEPT = "kept"
    RENAMED = "renamed"
    REPLACED = "replaced by"
    DROPPED = "dropped"
    UNKNOWN = "unknown"


def same(value: Any) -> Any:
    """The value as it is."""
    return value


def always(value: Any) -> bool:
    """True of every value: leaving the key out never changes an answer."""
    return True


@dataclass(frozen=True)
class Rule:
    """The fate of a key; `to` is our dotted key, `harmless` tells values that may go without changing an answer.

    Of several keys with one target that of the highest rank wins. `read` turns a value into ours.
    """

    fate: Fate
    to: str = ""
    why: str = ""
    harmless: Callable[[Any], bool] = always
    read: Callable[[Any], Any] = same
    rank: int = 0


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


KEPT = Rule(Fate.KEPT)


def renamed(to: str, why: str = "", *, read: Callable[[Any], Any] = same, rank: int = 0) -> Rule:
    """The key lives on under the dotted name `to`."""
    return Rule(Fate.RENAMED, to, why, read=read, rank=rank)


def replaced(to: str, why: str, *, read: Callable[[Any], Any] = same, rank: int = 0) -> Rule:
    """The key's value is translated into another one at `to`."""
    return Rule(Fate.REPLACED, to, why, read=read, rank=rank)


def dropped(why: str, harmless: Callable[[Any], bool] = always) -> Rule:
    """The key goes; values that are not harmless would have changed the answer."""
    return Rule(Fate.DROPPED, why=why, harmless=harmless)


def among(*values: Any) -> Callable[[Any], bool]:
    """Whether a value is one of these, capitals aside; null always is."""
    allowed = {str(value).lower() for value in values}
    return lambda value: value is None or str(value).lower() in allowed


def each(prefix: str, names: Iterable[str], rule: Rule) -> dict[str, Rule]:
    """The same rule for `prefix.name` of every name."""
    return {f"{prefix}.{name}" if prefix else name: rule for name in names}


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
