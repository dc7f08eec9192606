"""The logs of a run: which process wrote which, who had a task, and what they say in all."""

from __future__ import annotations

import datetime
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcxpcs.files.atomic import read_tail
from hpcxpcs.log.levels import LEVELS
from hpcxpcs.log.lines import is_structured, log_name, log_task, parsed_line
from hpcxpcs.runs.events import introduced, read_events
from hpcxpcs.runs.plan import Task
from hpcxpcs.runs.run import Run

TAIL_BYTES = 64_000
"""Of a log that are read for its last lines."""

MOST_READ = 4_000_000
"""Bytes that are read of one log of JSON lines, from its end."""


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
    text = read_tail(path, TAIL_BYTES)[0].decode("utf-8", errors="replace")
    lines = text.rstrip("\n").split("\n")
    return tuple(lines[-count:]) if text.strip() else ()


def last_entries(
    path: Path, count: int, *, level: str | None = None, task: Task | None = None
) -> tuple[Mapping[str, Any], ...]:
    """The last lines of a log of JSON lines that are at least as grave as `level`, and about a task."""
    lines = read_tail(path, MOST_READ)[0].split(b"\n")
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
    workers = introduced(events)
    there = {log.path.name: log for log in logs_in(run.logs)}
    found: dict[str, Log] = {}
    for event in events:
        if event["event"] == "started" and event.get("task") == task.name:
            names = [str(workers.get((event.get("host"), event.get("pid")), {}).get("log"))]
            job = log_task(str(event.get("job") or ""))
            names += [name for name in there if job and name.endswith(f"-{job}.log")]
            own = log_name("", str(event.get("host")), int(event.get("pid") or 0))
            names += [name for name in there if own in name]
            for name in names:
                if name in there:
                    found.pop(name, None)
                    found[name] = there[name]
    return tuple(found.values())


MOST_TEXTS, LONGEST_TEXT = 20, 300
"""Warnings and errors whose words are kept, and characters of each."""

MOST_PROCESSES = 64
"""Processes listed one by one; all are counted."""

_GRAVE = {"warning": "warnings", "error": "errors"}
_COUNTED = (b'"event":', b'"level":"warning"', b'"level":"error"')
"""What a line must hold to be worth reading: most are passed over."""


@dataclass
class Spent:
    """A phase, over all processes that went through it: how often, seconds in sum, the most memory."""

    first: str
    times: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_bytes: int | None = None
    peak_memory_bytes: int = 0
    peak_of: str = "process"

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add a finished phase."""
        self.times += 1
        self.seconds = round(self.seconds + float(entry["seconds"]), 4)
        self.cpu_seconds = round(self.cpu_seconds + float(entry["cpu_seconds"]), 4)
        if entry["memory_bytes"] is not None:
            self.memory_bytes = max(self.memory_bytes or 0, int(entry["memory_bytes"]))
        if entry["peak_memory_bytes"] > self.peak_memory_bytes:
            self.peak_memory_bytes, self.peak_of = int(entry["peak_memory_bytes"]), str(entry["peak_of"])


@dataclass
class Process:
    """One process: its first and last word (UTC), what it used, how often it warned and failed."""

    role: str
    host: str
    pid: int
    first: str
    last: str
    tasks: int = 0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    warnings: int = 0
    errors: int = 0

    @property
    def seconds(self) -> float:
        """From its first to its last word."""
        return (
            datetime.datetime.fromisoformat(self.last) - datetime.datetime.fromisoformat(self.first)
        ).total_seconds()


@dataclass
class Tally:
    """Lines of logs, counted one by one in the order of time."""

    phases: dict[str, Spent] = field(default_factory=dict)
    processes: dict[tuple[str, int, int], Process] = field(default_factory=dict)
    texts: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = True

    @property
    def begun(self) -> str:
        """When the first line was written (UTC); empty before."""
        return min((process.first for process in self.processes.values()), default="")

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count a line; one that another program has written there is passed over."""
        try:
            self._add(entry)
        except (KeyError, TypeError, ValueError):
            self.complete = False

    def _add(self, entry: Mapping[str, Any]) -> None:
        host, pid, time = str(entry["host"]), int(entry["pid"]), str(entry["time"])
        process = self.processes.setdefault((host, pid, 0), Process(str(entry.get("role", "")), host, pid, time, time))
        process.first, process.last = min(process.first, time), max(process.last, time)
        process.role = str(entry.get("role") or process.role)
        if "seconds" in entry and entry.get("event") in ("phase", "task", "process"):
            self._measured(process, entry)
        if (grave := _GRAVE.get(entry["level"])) is not None:
            setattr(process, grave, getattr(process, grave) + 1)
            if len(self.texts) < MOST_TEXTS:
                kept = {key: entry[key] for key in ("time", "level", "role", "rank", "task") if key in entry}
                self.texts.append({**kept, "message": str(entry["message"])[:LONGEST_TEXT]})

    def _measured(self, process: Process, entry: Mapping[str, Any]) -> None:
        process.peak_memory_bytes = max(process.peak_memory_bytes, int(entry["peak_memory_bytes"]))
        process.cpu_seconds = max(process.cpu_seconds, float(entry["process_cpu_seconds"]))
        process.tasks += entry["event"] == "task"
        if entry["event"] != "process":
            name = str(entry["of"]).rpartition("-")[0] if entry["event"] == "task" else str(entry["of"])
            self.phases.setdefault(name, Spent(str(entry["time"]))).add(entry)

    def joined(self, other: Tally) -> Tally:
        """Both together, the phases of `other` first."""
        found = Tally(complete=self.complete and other.complete)
        for number, tally in enumerate((other, self)):
            for name, spent in tally.phases.items():
                known = found.phases.setdefault(name, Spent(spent.first))
                known.first = min(known.first, spent.first)
                times = known.times + spent.times
                known.add(vars(spent))
                known.times = times
            found.processes |= {(host, pid, number): one for (host, pid, *_), one in tally.processes.items()}
        found.texts = sorted((*other.texts, *self.texts), key=lambda text: str(text["time"]))[:MOST_TEXTS]
        return found

    def record(self) -> dict[str, Any]:
        """Phases, processes and messages, as summary.json has them."""
        phases = sorted(self.phases.items(), key=lambda item: item[1].first)
        processes = sorted(self.processes.values(), key=lambda one: (-one.peak_memory_bytes, one.host, one.pid))
        return {
            "phases": [{"phase": name, **vars(spent)} for name, spent in phases],
            "processes": {
                "count": len(processes),
                "cpu_seconds": round(sum(one.cpu_seconds for one in processes), 4),
                "peak_memory_bytes": max((one.peak_memory_bytes for one in processes), default=0),
                "listed": [_listed(one) for one in processes[:MOST_PROCESSES]],
            },
            "messages": {
                "warnings": sum(one.warnings for one in processes),
                "errors": sum(one.errors for one in processes),
                "texts": self.texts,
                "complete": self.complete,
            },
        }


def _listed(process: Process) -> dict[str, Any]:
    known = vars(process)
    return {
        **{key: known[key] for key in ("role", "host", "pid")},
        "seconds": process.seconds,
        **{key: known[key] for key in ("cpu_seconds", "peak_memory_bytes", "tasks", "warnings", "errors")},
    }


def tally_of_others(folder: Path, run: str, since: str) -> Tally:
    """What other processes of a run have written to `folder`; our own lines from `since` (UTC) on are left out.

    Of files that are longer than MOST_READ only the end is counted, which makes the tally incomplete.
    """
    tally, own = Tally(), (socket.gethostname(), os.getpid())
    entries: list[Mapping[str, Any]] = []
    try:
        paths = sorted(path for path in folder.iterdir() if is_structured(path))
    except OSError:
        paths, tally.complete = [], False
    for path in paths:
        try:
            text, whole = read_tail(path, MOST_READ)
        except OSError:
            text, whole = b"", False
        tally.complete &= whole
        entries += [
            entry
            for entry in (parsed_line(line) for line in text.split(b"\n") if any(mark in line for mark in _COUNTED))
            if entry is not None
            and entry.get("run") == run
            and not ((entry.get("host"), entry.get("pid")) == own and str(entry.get("time")) >= since)
        ]
    for entry in sorted(entries, key=lambda entry: str(entry.get("time"))):
        tally.add(entry)
    return tally
