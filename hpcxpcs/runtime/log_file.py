"""The log of one process: RUN/logs/ROLE-HOST-PID.jsonl, bounded in size, and never a reason to stop working."""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpcxpcs.runtime.log_context import context
from hpcxpcs.runtime.log_levels import heard_from
from hpcxpcs.runtime.log_lines import entry_of, line_of

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
        self._torn = False

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
        content = b"\n" + line if self._torn else line
        self._torn = True
        if os.write(descriptor, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False

    def _opened(self) -> int:
        if self._descriptor is None:
            assert self.path is not None
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, _APPENDING, 0o666)
            size = os.fstat(self._descriptor).st_size
            self._torn = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"
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
