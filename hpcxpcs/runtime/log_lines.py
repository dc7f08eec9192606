"""A line of a log: one JSON object, made from a record, and read back for people."""

from __future__ import annotations

import datetime
import json
import logging
import os
import socket
import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcxpcs.files.json_safe import json_safe
from hpcxpcs.runtime.log_levels import LEVELS, level_name

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
        "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(
            timespec="milliseconds"
        ),
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
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    known = isinstance(entry, dict) and entry.get("level") in LEVELS and isinstance(entry.get("message"), str)
    return entry if known else None


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
