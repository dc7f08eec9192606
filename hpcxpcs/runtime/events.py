"""The log of a run: one JSON object per line, appended by every process, read by `status` and people."""

from __future__ import annotations

import datetime
import errno
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcxpcs.files.json_safe import json_safe
from hpcxpcs.runtime.run import Run

LINE_BYTES = 4096
_LONG_TEXT = 200


def append(run: Run, event: str, **fields: Any) -> bool:
    """Add one line to the run's events; False when that fails: a log that cannot be written stops no work."""
    stamp = {
        "ts": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "event": event,
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    try:
        _append_line(run.events, _line(stamp, {key: fields[key] for key in fields if key not in stamp}))
    except OSError:
        return False
    return True


def read_events(path: Path, *, most_bytes: int | None = None) -> tuple[dict[str, Any], ...]:
    """Read events, oldest first: all, or those in the last `most_bytes` of the file.

    Lines that a killed process or a full disk left incomplete are passed over.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(0 if most_bytes is None else max(0, size - most_bytes))
            lines = stream.read().split(b"\n")
    except FileNotFoundError:
        return ()
    found = (_parsed(line) for line in lines)
    return tuple(event for event in found if event is not None)


def _append_line(path: Path, line: bytes) -> None:
    """Append in one write; a line that another process left without its end is ended first.

    One that is just being written looks the same, and gives an empty line at most.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        content = b"\n" + line if torn else line
        if os.write(descriptor, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


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


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
