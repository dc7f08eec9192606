"""The fixture `fake_pbs`: programs that speak the recorded grammar of an OpenPBS server, first on PATH for one test.

A folder of tests has it when its conftest.py imports `fake_pbs_queue`; tests then take the argument `fake_pbs`.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.batch.fake_pbs import ledger as book
from tests.patience import PATIENCE

PROGRAMS = {"qsub": "qsub", "qstat": "requests", "qdel": "requests", "qrerun": "requests", "qsig": "requests"}


@dataclass(frozen=True)
class QueuedTask:
    """A job or task as the fake has it: `state` Q H R E X F, `exit` its Exit_status, `session` of its processes."""

    state: str
    substate: int
    exit: int | None
    run_count: int
    session: int | None


class FakePbs:
    """A queue in a folder. `environment` is for programs started with an environment of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        book.create(folder)
        (folder / "bin").mkdir()
        for name, module in PROGRAMS.items():
            program = folder / "bin" / name
            words = [sys.executable, "-S", "-E", "-c", book.launcher(module), str(folder)]
            words += [] if module == "qsub" else [name]
            program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
            program.chmod(0o755)
        path = os.environ.get("PATH", os.defpath)
        self.environment = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{path}"}

    def set(self, **settings: Any) -> None:
        """Change settings of the server; their names and defaults are in fake_pbs/ledger.py."""
        with book.opened(self.folder) as ledger:
            assert settings.keys() <= ledger["settings"].keys(), f"known: {sorted(ledger['settings'])}"
            ledger["settings"].update(settings)
            book.schedule(self.folder, ledger)

    def queue(self) -> dict[str, QueuedTask]:
        """Return {id: task} of all plain jobs and array tasks, ended ones included while there is history."""
        jobs = book.read(self.folder)["jobs"]
        return {
            book.name_of(number, index): QueuedTask(*(task[key] for key in QueuedTask.__dataclass_fields__))
            for number, job in jobs.items()
            for index, task in job["tasks"].items()
        }

    def wait(self, job: str, *states: str, seconds: float = PATIENCE) -> None:
        """Wait until a task, or all tasks of an array `1[].vm`, are in one of the states (F and X by default)."""
        wanted = set(states or ("F", "X"))
        deadline = time.monotonic() + seconds
        while not all(task.state in wanted for task in self._of(job)):
            assert time.monotonic() < deadline, f"{job} is not {wanted}: {self.queue()}\n{self.log()}"
            time.sleep(0.03)

    def settle(self, seconds: float = PATIENCE) -> None:
        """Wait until everything in the queue has ended."""
        deadline = time.monotonic() + seconds
        while any(task.state not in book.ENDED for task in self.queue().values()):
            assert time.monotonic() < deadline, f"{self.queue()}\n{self.log()}"
            time.sleep(0.03)

    def hold(self) -> None:
        """Start no more jobs; those that run go on."""
        self.set(slots=0)

    def release(self) -> None:
        """Start jobs again."""
        self.set(slots=book.SETTINGS["slots"])

    def preempt(self, job: str) -> None:
        """Do what a job of higher priority does: TERM, KILL after kill_delay, and back into the queue."""
        self._order(job, "preempt")

    def lose_node(self, job: str) -> None:
        """Let the node under a running task die: no signal that can be caught, back into the queue."""
        self._order(job, "node")

    def forget(self, job: str) -> None:
        """Drop a job from the history."""
        with book.opened(self.folder) as ledger:
            del ledger["jobs"][job.partition(".")[0].partition("[")[0]]

    def log(self) -> str:
        """What went wrong on the nodes."""
        file = self.folder / "node.log"
        return file.read_text() if file.exists() else ""

    def stop(self) -> None:
        """End every process of this queue, by its id."""
        for _ in range(100):
            pids = self._processes()
            if not pids:
                return
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        raise AssertionError(f"still there: {pids}")

    def _of(self, job: str) -> list[QueuedTask]:
        number, _, rest = job.partition("[")
        if rest.startswith("]"):
            found = [task for name, task in self.queue().items() if name.startswith(f"{number}[")]
        else:
            found = [self.queue()[job]]
        assert found, f"{job}: not in {list(self.queue())}"
        return found

    def _order(self, job: str, why: str) -> None:
        number, _, index = job.partition(".")[0].rstrip("]").partition("[")
        book.order(self.folder, number, index, why)

    def _processes(self) -> list[int]:
        """Nodes and what runs on them: they have a TMPDIR in this folder, or are in a session of a task."""
        sessions = [task.session for task in self.queue().values() if task.session]
        mark = f"TMPDIR={self.folder}/tmp".encode()
        pids = {pid for session in sessions for pid in book.session_pids(session)}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes():
                        pids.add(int(entry.name))
        return sorted(pids - {os.getpid()})


@pytest.fixture(name="fake_pbs")
def fake_pbs_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePbs]:
    """A queue of this test alone; all its processes end with the test.

    Scripts without -o leave their output in the folder they are submitted from: submit from a folder of the test.
    """
    pbs = FakePbs(tmp_path / "pbs")
    monkeypatch.setenv("PATH", pbs.environment["PATH"])
    try:
        yield pbs
    finally:
        pbs.stop()
