"""The logs of a run: which process wrote which, and who had a task."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hpcxpcs.runtime.events import read_events
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.schedulers.scripts import log_task
from hpcxpcs.runtime.tasks import Task

TAIL_BYTES = 64_000
"""Of a log that are read for its last lines."""


@dataclass(frozen=True)
class Log:
    """One log: when it was written last (seconds since the epoch), and its size in bytes."""

    path: Path
    written: float
    size: int


def logs_of(run: Run) -> tuple[Log, ...]:
    """All logs of a run, the one written last at the end."""
    found = []
    try:
        entries = list(os.scandir(run.logs))
    except FileNotFoundError:
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
    there = {log.path.name: log for log in logs_of(run)}
    found: dict[str, Log] = {}
    for event in events:
        if event["event"] == "started" and event.get("task") == task.name:
            names = [workers.get((event.get("host"), event.get("pid")), "")]
            job = log_task(str(event.get("job") or ""))
            names += [name for name in there if job and name.endswith(f"-{job}.log")]
            for name in names:
                if name in there:
                    found.pop(name, None)
                    found[name] = there[name]
    return tuple(found.values())
