"""What an older configuration says about its log: how much is shown, and how large files grow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcxpcs.config.dialects.rules import Fate
from hpcxpcs.config.dialects.work import Work
from hpcxpcs.config.numbers import read_number
from hpcxpcs.config.problems import KeyPath, dotted

LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "warning": "warning",
    "error": "error",
    "critical": "error",
    "fatal": "error",
}
"""The older programs' levels, the most talkative first, and ours."""

_TARGET: KeyPath = ("logging", "level")
_SWITCHES: tuple[KeyPath, ...] = (("logging", "enabled"), ("logging", "console", "enabled"))
_LEVELS: tuple[KeyPath, ...] = (_TARGET, ("logging", "console", "level"))
_SIZES: tuple[KeyPath, ...] = (("logging", "file", "max_size_mb"), ("logging", "file", "backup_count"))


def translate_logging(work: Work) -> None:
    """The level of the terminal, of the four keys that had a say in it, and files that grew without end."""
    if all(isinstance(work.given(*path), Mapping | None) for path in (("logging",), ("logging", "console"))):
        _level(work)
        _sizes(work)


def _level(work: Work) -> None:
    silenced = None
    for path in _SWITCHES:
        value = work.given(*path)
        if value is None:
            continue
        if not isinstance(value, bool):
            work.refuse(path, "must be true or false")
        elif value or silenced is not None:
            why = "there is always a log; logging.level says how much of it is shown"
            work.tell(path, Fate.DROPPED, why=f"{dotted(silenced)} is false" if silenced else why)
        else:
            silenced = path
            work.put(_TARGET, "error", path)
            why = "nothing but errors is shown; a run keeps its log in RUN/logs all the same"
            work.tell(path, Fate.REPLACED, "logging.level: error", why)
    known = {path: level for path in _LEVELS if (level := _known(work, path)) is not None}
    order = list(dict.fromkeys(LEVELS.values()))
    winner = max(known, key=lambda path: order.index(known[path]), default=None)
    for path, level in known.items():
        if silenced is not None:
            work.tell(path, Fate.DROPPED, why=f"{dotted(silenced)} is false")
        elif path != winner:
            why = f"{dotted(winner or path)} says it: the one that shows less wins"
            work.tell(path, Fate.DROPPED, why=why)
        else:
            work.put(_TARGET, level, path)
            work.tell(path, Fate.REPLACED, f"logging.level: {level}")


def _known(work: Work, path: KeyPath) -> str | None:
    """The level of ours that a key of theirs names; None when it is not there, or refused."""
    value = work.given(*path)
    if value is None:
        return None
    level = LEVELS.get(value.strip().lower()) if isinstance(value, str) else None
    if level is None:
        work.refuse(path, f"is not a level; give one of {', '.join(dict.fromkeys(LEVELS.values()))}")
    return level


def _sizes(work: Work) -> None:
    """A size or a number of files of 0, at which one file grew without end; others are left to the table."""
    for path in _SIZES:
        if _is_zero(work.given(*path)):
            why = "0 was one file without end; here logs begin new files at logging.max_size_mb"
            work.tell(path, Fate.DROPPED, why=why)


def _is_zero(value: Any) -> bool:
    try:
        return value is not None and read_number(value) == 0
    except ValueError:
        return False  # the check of the key says what is wrong with it
