"""What went wrong with a task: one file per attempt, so that all processes together try a bounded number of times."""

from __future__ import annotations

import datetime
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcxpcs.files.atomic import Fault, atomic_create_bytes, writing
from hpcxpcs.files.json_safe import dumps
from hpcxpcs.runtime.tasks import Task

if TYPE_CHECKING:
    from hpcxpcs.runtime.run import Run

MOST_ATTEMPTS = 3
"""Failures of one task, over all processes, after which it counts as failed."""


def record_failure(
    run: Run, task: Task, cause: str, *, owner: str = "", details: str = "", fault: Fault | None = None
) -> int:
    """Note a failed attempt and return how many there are; `owner`, the token of a claim, fails only once.

    The process itself, its watch and its leader may all see the same failure.
    """
    folder = _folder(run, task)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    known = read_failures(run, task)
    if owner and any(failure.get("owner") == owner for failure in known):
        return len(known)
    text = dumps(_record(task, cause, owner, details)).encode()
    number = len(known) + 1
    while not atomic_create_bytes(folder / f"{number}.json", text, fault=fault):
        number += 1
    return number


def failed_attempts(run: Run, task: Task) -> int:
    """Count the failures of a task."""
    return len(_files(_folder(run, task)))


def read_failures(run: Run, task: Task) -> tuple[dict[str, Any], ...]:
    """Read the failures of a task, oldest first: task, cause, details, owner, host, pid, ts."""
    return tuple(_read(path, task) for path in _files(_folder(run, task)))


def forget_failures(run: Run, task: Task) -> None:
    """Let a task be tried again as if it had never failed."""
    for path in reversed(_files(_folder(run, task))):
        with writing(path):
            path.unlink(missing_ok=True)


def _record(task: Task, cause: str, owner: str, details: str) -> dict[str, Any]:
    return {
        "task": task.name,
        "cause": cause,
        "details": details,
        "owner": owner,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "ts": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _read(path: Path, task: Task) -> dict[str, Any]:
    """One failure; what cannot be read still counts as one."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, OSError):
        content = None
    return content if isinstance(content, dict) else {"task": task.name, "cause": f"{path} cannot be read"}


def _folder(run: Run, task: Task) -> Path:
    return run.failures / task.name


def _files(folder: Path) -> list[Path]:
    try:
        found = [path for path in folder.iterdir() if path.stem.isdigit() and path.suffix == ".json"]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda path: int(path.stem))
