"""The answers of a real OpenPBS 23.06.06 in recorded/openpbs, see the README there."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

RECORDED = Path(__file__).parent / "recorded" / "openpbs"
CALL = re.compile(r"^\$ (.*)\n--- stdout\n((?:.*\n)*?(?:}|))--- stderr\n((?:.*\n)*?)--- rc (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Call:
    """One command, what it printed on stdout, what it complained of on stderr, and its exit code."""

    words: tuple[str, ...]
    printed: str
    complaint: str
    code: int


def recorded_calls(name: str) -> tuple[Call, ...]:
    """Read a file of calls."""
    found = CALL.findall((RECORDED / name).read_text())
    assert found, name
    return tuple(
        Call(tuple(shlex.split(words)), printed, complaint, int(code)) for words, printed, complaint, code in found
    )
