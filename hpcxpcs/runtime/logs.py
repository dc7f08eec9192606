"""The logs of a run: which process wrote which, and who had a task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcxpcs.runtime.events import read_events
from hpcxpcs.runtime.log_file import is_structured, log_name
from hpcxpcs.runtime.log_levels import LEVELS
from hpcxpcs.runtime.log_lines import parsed_line
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.schedulers.scripts import log_task
from hpcxpcs.runtime.tasks import Task

TAIL_BYTES = 64_000
"""Of a log that are read for its last lines."""

MOST_SEARCHED = 4_000_000
"""Bytes at the end of a log of JSON lines in which lines are looked for."""


@dataclass(frozen=True)
class Log:
    """One log: when it was written last (seconds since the epoch), and its size in bytes."""

    path: Path
    written: float
    size: int


def logs_in(folder: Path) -> tuple[Log, ...]:
    """All logs in RUN/logs, the one written last at the end."""
    found = []
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    for entry in entries:
        if entry.is_file() and not entry.name.startswith("."):
            status = entry.stat()
            found.append(Log(Path(entry.path), status.st_mtime, status.st_size))
    return tuple(sorted(found, key=lambda log: (log.written, log.path.name)))


def last_lines(path: Path, count: int) -> tuple[str, ...]:
    """The last lines of a log, without reading all of a long one."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - TAIL_BYTES))
        text = stream.read().decode("utf-8", errors="replace")
    lines = text.rstrip("\n").split("\n")
    return tuple(lines[-count:]) if text.strip() else ()


def last_entries(
    path: Path, count: int, *, level: str | None = None, task: Task | None = None
) -> tuple[Mapping[str, Any], ...]:
    """The last lines of a log of JSON lines that are at least as grave as `level`, and about a task."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - MOST_SEARCHED))
        lines = stream.read().split(b"\n")
    grave = LEVELS[LEVELS.index(level) :] if level else LEVELS
    found: list[Mapping[str, Any]] = []
    for line in reversed(lines):
        entry = parsed_line(line)
        if entry is not None and entry["level"] in grave and (task is None or entry.get("task") == task.name):
            found.append(entry)
        if len(found) == count:
            break
    return tuple(reversed(found))


def job_of(log: Log) -> str:
    """What a log's batch job is called: by its name, or by what its first line says; empty without a job."""
    if not is_structured(log.path):
        return log.path.name.removesuffix(".log").partition("-")[2]
    with log.path.open("rb") as stream:
        entry = parsed_line(stream.readline())
    return log_task(str((entry or {}).get("job") or ""))


def logs_of_task(run: Run, task: Task) -> tuple[Log, ...]:
    """The logs of the processes that had a task, the last one at the end; none where a process left no log.

    Worker processes are known by the log that their leader gave them, batch jobs by their id in the log's name.
    """
    events = read_events(run.events)
    workers = {
        (event.get("host"), event.get("worker_pid")): str(event.get("log"))
        for event in events
        if event["event"] == "worker"
    }
    there = {log.path.name: log for log in logs_in(run.logs)}
    found: dict[str, Log] = {}
    for event in events:
        if event["event"] == "started" and event.get("task") == task.name:
            names = [workers.get((event.get("host"), event.get("pid")), "")]
            job = log_task(str(event.get("job") or ""))
            names += [name for name in there if job and name.endswith(f"-{job}.log")]
            own = log_name("", str(event.get("host")), int(event.get("pid") or 0))
            names += [name for name in there if own in name]
            for name in names:
                if name in there:
                    found.pop(name, None)
                    found[name] = there[name]
    return tuple(found.values())
