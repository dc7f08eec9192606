"""What a command costs: wall and CPU time, and the memory of it and of all processes it starts."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

MB = 1.0e6
HEAVY = 100.0
"""Private memory (MB) beyond which a process counts as heavy: one that has imported JAX and more."""


@dataclass(frozen=True)
class Usage:
    """Of a command with all its processes: exit code, begin (Unix time, s), wall and CPU seconds, memory in MB.

    `largest` is the most that one process occupied (resident). `together` is the most that all processes occupied at
    one moment, counting pages they share once (proportional set size); `processes` how many there were at most,
    `heavy` how many of them held more than HEAVY of their own at most.
    """

    code: int
    begin: float
    wall: float
    cpu: float
    largest: float
    together: float
    processes: int
    heavy: int


class MemoryWatch:
    """Looks at a process and its descendants every `interval` seconds, in a thread."""

    def __init__(self, pid: int, interval: float) -> None:
        self.together, self.largest, self.processes, self.heavy = 0.0, 0.0, 0, 0
        self._root, self._interval = psutil.Process(pid), interval
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._interval):
            try:
                self._look([self._root, *self._root.children(recursive=True)])
            except psutil.Error:
                continue

    def _look(self, processes: Sequence[psutil.Process]) -> None:
        shares = []
        for process in processes:
            try:
                shares.append(process.memory_full_info())
            except (psutil.Error, OSError):  # it has just ended
                continue
        if shares:
            self.together = max(self.together, sum(share.pss for share in shares) / MB)
            self.largest = max(self.largest, max(share.rss for share in shares) / MB)
            self.processes = max(self.processes, len(shares))
            self.heavy = max(self.heavy, sum(share.uss > HEAVY * MB for share in shares))


def watched(command: Sequence[str], environment: Mapping[str, str], log: Path, *, interval: float = 0.2) -> Usage:
    """Run a command to its end, its output going to `log`, and account for it and all that it waited for."""
    begin = time.time()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        with MemoryWatch(process.pid, interval) as memory:
            _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Usage(
        code=process.returncode,
        begin=begin,
        wall=time.time() - begin,
        cpu=used.ru_utime + used.ru_stime,
        largest=memory.largest,
        together=memory.together,
        processes=memory.processes,
        heavy=memory.heavy,
    )
