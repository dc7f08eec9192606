"""The log of a run: one JSON object per line, appended by every process, read by `status` and people."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hpcxpcs.files.atomic import append_line, read_tail
from hpcxpcs.files.json_safe import json_object, json_safe, utc_now
from hpcxpcs.runs.run import Run

LINE_BYTES = 4096
_LONG_TEXT = 200


def append(run: Run, event: str, **fields: Any) -> bool:
    """Add one line to the run's events; False when that fails: a log that cannot be written stops no work."""
    stamp = {
        "ts": utc_now("milliseconds"),
        "event": event,
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    try:
        descriptor = os.open(run.events, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            append_line(descriptor, _line(stamp, {key: fields[key] for key in fields if key not in stamp}))
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return True


def read_events(path: Path, *, most_bytes: int | None = None) -> tuple[dict[str, Any], ...]:
    """Read events, oldest first: all, or those in the last `most_bytes` of the file.

    Lines that a killed process or a full disk left incomplete are passed over.
    """
    try:
        text, _ = read_tail(path, most_bytes)
    except FileNotFoundError:
        return ()
    found = (json_object(line) for line in text.split(b"\n"))
    return tuple(event for event in found if event is not None and "event" in event)


def introduced(events: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, Any], Mapping[str, Any]]:
    """The events that tell the name of a rank or a worker process and its log, by host and process id."""
    return {(event.get("host"), event.get("worker_pid")): event for event in events if event["event"] == "worker"}


def _line(stamp: Mapping[str, Any], fields: Mapping[str, Any]) -> bytes:
    """One line of at most LINE_BYTES; what does not fit is cut, and the line says so."""
    shortened = {key: _shortened(value) for key, value in fields.items()} | {"cut": True}
    for content in (fields, shortened, {"cut": True}):
        text = json.dumps(json_safe({**stamp, **content}), separators=(",", ":"), allow_nan=False)
        if len(text) < LINE_BYTES:
            return text.encode() + b"\n"
    raise ValueError(f"an event's name is too long: {stamp['event'][:_LONG_TEXT]}")


def _shortened(value: Any) -> Any:
    return value[:_LONG_TEXT] if isinstance(value, str) else value
