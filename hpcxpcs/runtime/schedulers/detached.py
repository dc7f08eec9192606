"""The scheduler of a machine that has none: a process in the background that outlives the terminal."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hpcxpcs.errors import SchedulerProblem
from hpcxpcs.runtime.checks import without_launcher
from hpcxpcs.runtime.claims import process_start
from hpcxpcs.runtime.schedulers.jobs import TaskLook


class Detached:
    """Runs scripts on this machine; ids are pid.start@host, with the start in clock ticks after boot.

    `after` is not needed here and refused: one process does everything.
    """

    name = "local"

    def submit(self, script: Path, *, after: str | None = None) -> str:
        """Start a script, away from this terminal; returns its id."""
        if after is not None:
            raise SchedulerProblem(f"{script}: a local job waits for no other ({after})")
        try:
            process = subprocess.Popen(
                ["bash", str(script.absolute())],
                env=without_launcher(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise SchedulerProblem(f"bash: cannot be started ({error.strerror})") from error
        return f"{process.pid}.{process_start(process.pid) or 0}@{socket.gethostname()}"

    def submit_line(self, script: Path, *, after: str | None = None) -> str:
        """The command that `submit` runs, for people to copy."""
        return f"setsid bash {shlex.quote(str(script.absolute()))} > /dev/null 2>&1 &"

    def look(self, jobs: Sequence[str]) -> tuple[TaskLook, ...]:
        """Whether the processes are there; one that has ended leaves nothing behind but its log."""
        return tuple(_look(job) for job in jobs)

    def cancel(self, jobs: Sequence[str]) -> None:
        """Ask processes to stop; those of another machine are told by name."""
        for job in jobs:
            pid, _, host = _parts(job)
            if host != socket.gethostname():
                raise SchedulerProblem(f"{job}: runs on {host}; cancel it there")
            if _look(job).state == "running":
                with suppress(ProcessLookupError):  # it may have ended just now
                    os.kill(pid, signal.SIGTERM)


def _look(job: str) -> TaskLook:
    pid, start, host = _parts(job)
    if host != socket.gethostname():
        return TaskLook(job, None, "gone", "on another machine", node=host)
    alive = process_start(pid) == start
    return TaskLook(job, None, "running" if alive else "gone", "running" if alive else "ended", node=host)


def _parts(job: str) -> tuple[int, int, str]:
    process, _, host = job.partition("@")
    pid, _, start = process.partition(".")
    if not (pid.isdigit() and start.isdigit() and host):
        raise SchedulerProblem(f"{job}: is no id of a local job (pid.start@host)")
    return int(pid), int(start), host
