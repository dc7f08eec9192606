"""A log: lines of JSON made from records, read back for people, and the file of one process, bounded in size."""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import socket
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpcxpcs.files.atomic import append_line
from hpcxpcs.files.json_safe import json_object, json_safe
from hpcxpcs.log.levels import LEVELS, OURS, context, heard_from, level_name

logging.getLogger(OURS).addHandler(logging.NullHandler())

LINE_BYTES = 16_384
"""Longest line: one write of it is not torn apart by those of other processes."""

TOLD = {"told": True}
"""Extra of a record that the console has shown already."""

FILE_ONLY = {"file_only": True}
"""Extra of a record that the console shows in debug alone, whatever its level."""

_LONG_TEXT, _LONG_LIST, _SHORT_ID = 4000, 64, 8
_CONTEXT = ("run", "role", "rank", "job", "task", "shard", "phase")
_STAMP = ("time", "level", "logger", "message", *_CONTEXT, "host", "pid")
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", *TOLD, *FILE_ONLY}
_HIDDEN = frozenset({*_STAMP, "exception", "event", "process_cpu_seconds", "cut"})
"""Fields that people are not shown beside the message."""


def entry_of(record: logging.LogRecord, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a line: when, how grave, who, what, the `fields` of the context, and the record's own extra."""
    stamp = {
        "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
        "level": level_name(record.levelno),
        "logger": record.name,
        "message": _message(record)[:_LONG_TEXT],
    }
    own = {key: value for key, value in vars(record).items() if key not in _PLAIN and not key.startswith("_")}
    known = {key: fields[key] for key in _CONTEXT if key in fields}
    rest = {key: value for key, value in {**fields, **own}.items() if key not in stamp and key not in known}
    entry = {**stamp, **known, "host": socket.gethostname(), "pid": record.process or os.getpid(), **rest}
    if record.exc_info and record.exc_info[1] is not None:
        entry["exception"] = "".join(traceback.format_exception(record.exc_info[1]))[-_LONG_TEXT:]
    return {key: _safe(value) for key, value in entry.items()}


def line_of(entry: Mapping[str, Any]) -> bytes:
    """One line of at most LINE_BYTES; what does not fit is left out, and the line says so."""
    kept = {key: entry[key] for key in _STAMP if key in entry}
    for content in (
        entry,
        {**kept, "cut": True},
        {**kept, "message": kept.get("message", "")[:200], "cut": True},
    ):
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        line = text.encode("utf-8", "replace") + b"\n"
        if len(line) <= LINE_BYTES:
            break
    return line


def parsed_line(line: bytes) -> dict[str, Any] | None:
    """The content of a line; None for one that a killed process or a full disk left incomplete."""
    entry = json_object(line)
    if entry is None or entry.get("level") not in LEVELS or not isinstance(entry.get("message"), str):
        return None
    return entry


def human_line(entry: Mapping[str, Any]) -> str:
    """A line as people read it: time, level, where from, the message, and its values."""
    where = place_of(entry)
    values = " ".join(f"{key}={_shown(value)}" for key, value in entry.items() if key not in _HIDDEN)
    shown = values if entry.get("event") is None else ""  # a measured phase has its values in the message
    parts = (str(entry.get("time", ""))[11:23], f"{entry['level']:<7}", where, entry["message"], shown)
    text = " ".join(part for part in parts if part)
    return text if "exception" not in entry else f"{text}\n{str(entry['exception']).rstrip()}"


def place_of(fields: Mapping[str, Any]) -> str:
    """Run, rank and shard (or task) in brackets; empty when none is known."""
    known = [(key, fields[key]) for key in ("run", "rank", "shard") if key in fields]
    if "run" in fields:
        known[0] = ("run", str(fields["run"])[:_SHORT_ID])
    if "rank" not in fields and "role" in fields:
        known.insert(min(1, len(known)), ("role", fields["role"]))
    if "shard" not in fields and "task" in fields:
        known.append(("task", fields["task"]))
    return f"[{' '.join(f'{key}={value}' for key, value in known)}]" if known else ""


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a text that does not fit its values is no reason to lose either
        return f"{record.msg} {record.args!r}"


def _safe(value: Any) -> Any:
    """JSON types without NaN, and without more of them than a line has room for."""
    if isinstance(value, str):
        value = value[:_LONG_TEXT]
    elif isinstance(value, np.ndarray) and value.size > _LONG_LIST:
        value = f"array of {value.shape}"
    elif isinstance(value, list | tuple) and len(value) > _LONG_LIST:
        value = [*value[:_LONG_LIST], "…"]
    try:
        return json_safe(value)
    except Exception:  # an object of a library: what it says of itself
        return repr(value)[:_LONG_TEXT]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


SUFFIX = ".jsonl"
MEGABYTE = 1_000_000
_APPENDING = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW

MOST_WAITING = 1000
"""Lines kept until it is known where the log is to be."""


def log_name(role: str, host: str, pid: int) -> str:
    """The name of a process's log."""
    return f"{role}-{re.sub('[^A-Za-z0-9.-]', '_', host)}-{pid}{SUFFIX}"


class LogFile(logging.Handler):
    """Keeps lines until `open_in` says where they go, then writes each at once; every entry is shown to `seen`, too.

    A file that is full becomes NAME.1, the one before NAME.2 and so on, `keep` of them. The first write that fails is
    told by `complain`; later lines are tried again, because a disk may recover.
    """

    def __init__(
        self, complain: Callable[[str], None], seen: Callable[[Mapping[str, Any]], None] = lambda entry: None
    ) -> None:
        super().__init__(logging.DEBUG)
        self.level_name = "info"
        self.most_bytes = 10 * MEGABYTE
        self.keep = 5
        self.path: Path | None = None
        self.failed = False
        self._complain = complain
        self._seen = seen
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MOST_WAITING)
        self._descriptor: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or keep it until there is a file."""
        if record.levelno < heard_from(record.name, self.level_name):
            return
        try:
            entry = entry_of(record, context())
            self._seen(entry)
            if self.path is None:
                self._waiting.append(entry)
            else:
                self._write(line_of(entry))
        except Exception:  # whatever is wrong with a record is no reason to end the work it is about
            self.handleError(record)

    def open_in(self, folder: Path, role: str, run: str) -> None:
        """Write to a file in `folder` from now on, beginning with what was kept, which gets the id of the run."""
        folder = folder.absolute()  # where this process works may change
        self.acquire()
        try:
            if self.path is not None and self.path.parent == folder:
                return
            self._close_quietly()
            self.path = folder / log_name(role, socket.gethostname(), os.getpid())
            while self._waiting:
                self._write(line_of({**self._waiting.popleft(), "run": run, "role": role}))
        finally:
            self.release()

    def close(self) -> None:
        """Close the file."""
        self._close_quietly()
        super().close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, line: bytes) -> None:
        try:
            self._append(line)
        except OSError as error:
            self._close_quietly()
            if not self.failed:
                self.failed = True
                reason = os.strerror(error.errno) if error.errno else str(error)
                self._complain(f"{self.path}: cannot be written ({reason}): the run goes on without this log")

    def _append(self, line: bytes) -> None:
        descriptor = self._opened()
        size = os.fstat(descriptor).st_size
        if size and size + len(line) > self.most_bytes:
            self._rotate()
            descriptor = self._opened()
        append_line(descriptor, line)

    def _opened(self) -> int:
        if self._descriptor is None:
            assert self.path is not None
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, _APPENDING, 0o666)
        return self._descriptor

    def _rotate(self) -> None:
        """Give every generation the next number; the oldest goes."""
        assert self.path is not None
        self._close()
        for number in range(self.keep - 1, 0, -1):
            older = generation(self.path, number)
            if older.exists():
                older.replace(generation(self.path, number + 1))
        if self.keep:
            self.path.replace(generation(self.path, 1))
        else:
            self.path.unlink()

    def _close_quietly(self) -> None:
        try:
            self._close()
        except OSError:
            self._descriptor = None


def generation(path: Path, number: int) -> Path:
    """The name of a log that was full so many files ago."""
    return path.with_name(f"{path.name}.{number}")


def is_structured(path: Path) -> bool:
    """Whether a file is such a log, or an earlier generation of one."""
    return re.search(rf"{re.escape(SUFFIX)}(\.\d+)?$", path.name) is not None


def log_task(job: str) -> str:
    """Return what a log, RUN/logs/KIND-….log, is called after: 12_3 for 12_3 and 12[3].server, 12 for 12[].server."""
    return job.partition(".")[0].replace("[", "_").rstrip("]_")
