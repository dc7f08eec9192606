"""Problems of a configuration: where, which key, which value, what is wrong, and what was probably meant."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from hpcxpcs.errors import ConfigError

KeyPath = tuple[str | int, ...]
_LONGEST_VALUE = 80
_MOST_PROBLEMS = 60
NO_VALUE = object()


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: path of the key, its value (NO_VALUE when absent), and a predicate: why."""

    path: KeyPath
    predicate: str
    value: Any = NO_VALUE


def dotted(path: Sequence[str | int]) -> str:
    """The path as a person writes it: `parameter_space.bounds[1].min`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def shown(value: object) -> str:
    """The value as it would stand in the file, shortened to one readable line."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:
        text = str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known word is close to the wrong one, else nothing."""
    by_lower = {word.lower(): word for word in known}
    close = get_close_matches(wrong.lower(), list(by_lower), n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[close[0]]}'?" if close else ""


def sentence(problem: Problem) -> str:
    """The problem without its place: `key: value predicate`."""
    parts = [f"{dotted(problem.path)}:"] if problem.path else []
    if problem.value is not NO_VALUE:
        parts.append(shown(problem.value))
    return " ".join([*parts, problem.predicate])


def config_error(problems: Sequence[Problem], place: Callable[[KeyPath], str], source: str) -> ConfigError:
    """One error that lists every problem, each prefixed by the place (`file:line: `) of its key; of very many some."""
    lines = [f"{place(problem.path)}{sentence(problem)}" for problem in problems[:_MOST_PROBLEMS]]
    if len(problems) == 1:
        return ConfigError(lines[0])
    if len(problems) > len(lines):
        lines.append(f"and {len(problems) - len(lines)} more")
    return ConfigError("\n  ".join([f"{len(problems)} problems in {source}", *lines]))
