"""Real processes of `hpcxpcs`, local and under mpiexec, and what they leave in a run folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcxpcs.batch.launcher import without_launcher
from hpcxpcs.runs.events import read_events
from tests.patience import PATIENCE, until

ROOT = Path(__file__).parents[2]
MPIEXEC = Path(sys.prefix) / "bin" / "mpiexec"
PROGRAM = (sys.executable, "-m", "hpcxpcs")
RESULTS = ("posterior_samples", "contrast", "offset", "log_posterior")


def hooked(**hooks: Any) -> tuple[str, ...]:
    """The program with its calls interfered with: see tests/acceptance/hooked.py."""
    return (sys.executable, "-m", "tests.acceptance.hooked", json.dumps(hooks))


def ranks(count: int) -> tuple[str, ...]:
    """What to put before a program so that it runs in MPI ranks."""
    return (str(MPIEXEC), "-launcher", "fork", "-iface", "lo", "-n", str(count))


class Job:
    """A running command; its output goes to a file, which no process can fill up."""

    def __init__(
        self,
        output: Path,
        command: Iterable[object],
        environment: Mapping[str, str],
        terminal: int | None = None,
    ) -> None:
        self.output = output
        with output.open("wb") as stream:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                env={**without_launcher(os.environ), "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream if terminal is None else terminal,
                cwd=ROOT,
            )

    def wait(self) -> int:
        """Exit code; a job that does not end is a failure, and is ended."""
        try:
            return self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end after {PATIENCE:g} s: {self.text()}") from None

    def text(self) -> str:
        """Everything it has printed."""
        return self.output.read_text(errors="replace")

    def until(self, true: Callable[[], object]) -> None:
        """Wait until something is true, while the job runs."""

        def ended_or_true() -> bool:
            ended = self.process.poll() is not None
            if true():
                return True
            assert not ended, f"ended too early: {self.text()}"
            return False

        until(ended_or_true, self.text, pause=0.01)

    def end(self, number: int = signal.SIGKILL) -> None:
        """End it if it runs."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait()


class Jobs:
    """Starts jobs on one problem; as a context it leaves none behind."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.folder = folder
        self.config = config
        self.started: list[Job] = []

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *_: object) -> None:
        for job in self.started:
            with contextlib.suppress(ProcessLookupError):
                job.end()

    def start(
        self,
        run: Path,
        *options: object,
        before: Iterable[object] = (),
        program: Iterable[object] = PROGRAM,
        environment: Mapping[str, str] | None = None,
        terminal: int | None = None,
        config: Path | None = None,
    ) -> Job:
        """`BEFORE PROGRAM fit CONFIG --run RUN OPTIONS` in the background."""
        command = (*before, *program, "fit", config or self.config, "--run", run, *options)
        output = self.folder / f"output-{len(self.started)}"
        self.started.append(Job(output, command, environment or {}, terminal))
        return self.started[-1]

    def fit(self, run: Path, *options: object, expect: int | None = 0, **how: Any) -> Job:
        """The same, waited for; `expect` is its exit code (None: any)."""
        job = self.start(run, *options, **how)
        code = job.wait()
        assert expect in (None, code), job.text()
        return job


def draws(run: Path) -> dict[str, np.ndarray]:
    """Every array of every chain of a run, and the posterior in its results, by name."""
    found = {}
    for path in sorted((*run.glob("shards/*.h5"), *run.glob("exact/*.h5"))):
        if path.name.startswith(".") or path.name.endswith(".prev.h5"):
            continue
        with h5py.File(path, "r") as file:
            for name, array in file["draws"].items():
                found[f"{path.relative_to(run)}:{name}"] = array[()]
    with np.load(run / "results" / "cmc" / "samples.npz", allow_pickle=False) as archive:
        return {**found, **{name: archive[name] for name in RESULTS}}


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """One SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def digest(run: Path) -> str:
    """One SHA-256 over all draws of a complete run."""
    return digest_of(draws(run))


def prepared_digest(run: Path) -> str:
    """One SHA-256 over the prepared likelihood, everything the draws depend on."""
    with h5py.File(run / "data" / "00000.h5", "r") as file:
        arrays: dict[str, np.ndarray] = {}
        file.visititems(
            lambda name, item: (
                arrays.__setitem__(name, item[()])
                if isinstance(item, h5py.Dataset) and item.dtype.kind != "S"
                else None
            )
        )
    return digest_of(arrays)


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    """Events of one kind, oldest first."""
    return [event for event in read_events(run / "events.jsonl") if event["event"] == kind]


def compiled(run: Path, during: str = "") -> Counter[str]:
    """Hits and misses of the compile cache of all processes of a run, while `during` went on."""
    found: Counter[str] = Counter()
    for event in events(run, "compiled"):
        if event["during"].startswith(during):
            found.update(hits=event["hits"], misses=event["misses"])
    return found


def copied(run: Path, place: Path, *, without: Iterable[str] = ()) -> Path:
    """A copy of a run without some of its files or folders."""
    shutil.copytree(run, place)
    for name in without:
        for path in place.glob(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if name in ("shards", "exact", "checks"):
            (place / name).mkdir()
    return place
