"""What the processes of a run have said, counted: phases with what they took, warnings, errors."""

from __future__ import annotations

import datetime
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcxpcs.runtime.log_file import is_structured
from hpcxpcs.runtime.log_lines import parsed_line

MOST_TEXTS, LONGEST_TEXT = 20, 300
"""Warnings and errors whose words are kept, and characters of each."""

MOST_PROCESSES = 64
"""Processes listed one by one; all are counted."""

MOST_READ = 4_000_000
"""Bytes that are read of one file, from its end."""

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
        process = self.processes.setdefault(
            (host, pid, 0), Process(str(entry.get("role", "")), host, pid, time, time)
        )
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
        processes = sorted(
            self.processes.values(), key=lambda one: (-one.peak_memory_bytes, one.host, one.pid)
        )
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
        lines, whole = _last_lines(path)
        tally.complete &= whole
        entries += [
            entry
            for entry in (parsed_line(line) for line in lines if any(mark in line for mark in _COUNTED))
            if entry is not None
            and entry.get("run") == run
            and not ((entry.get("host"), entry.get("pid")) == own and str(entry.get("time")) >= since)
        ]
    for entry in sorted(entries, key=lambda entry: str(entry.get("time"))):
        tally.add(entry)
    return tally


def _last_lines(path: Path) -> tuple[Iterable[bytes], bool]:
    """The lines in the last MOST_READ bytes of a file, and whether that is all of it."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - MOST_READ))
            return stream.read().split(b"\n"), size <= MOST_READ
    except OSError:
        return (), False
