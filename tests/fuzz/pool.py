"""A process that looks at one input after the other, and that may hang or die without harm."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LIMIT = 20.0
"""Seconds for one input; whole ones take some milliseconds."""
START_LIMIT = 120.0


@dataclass(frozen=True)
class Verdict:
    """What came of one seed; `text` says more when it is neither used nor refused."""

    seed: int
    text: str
    seconds: float = 0.0

    @property
    def fine(self) -> bool:
        """Whether it was used or refused in words."""
        return self.text in ("used", "refused")


def verdicts(kind: str, seeds: Iterable[int], folder: Path, limit: float = LIMIT) -> Iterator[Verdict]:
    """Look at the input of every seed in a child process, which is started anew when it hangs or dies."""
    worker: subprocess.Popen[str] | None = None
    try:
        for seed in seeds:
            worker = worker or _started(kind, folder)
            answer = _asked(worker, str(seed), limit)
            if answer is not None and answer:
                yield Verdict(**json.loads(answer))
                continue
            code = _ended(worker)
            worker = None
            what = f"hang: no answer in {limit:g} s" if answer is None else f"crash: ended with {code}"
            yield Verdict(seed, what)
    finally:
        if worker is not None:
            _ended(worker)


def told(kind: str, found: Iterable[Verdict], most: int = 10) -> str:
    """What went wrong, and the command that looks at the same inputs again."""
    bad = [verdict for verdict in found if not verdict.fine]
    seeds = " ".join(str(verdict.seed) for verdict in bad[:most])
    lines = [f"seed {verdict.seed}: {verdict.text}" for verdict in bad[:most]]
    return "\n".join([f"{len(bad)} bad; again: python -m tests.fuzz {kind} {seeds}", *lines])


def _started(kind: str, folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1", "OMP_NUM_THREADS": "1"}
    with (folder / "stderr.txt").open("a") as errors:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz", kind, "--work", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )
    if not _asked(worker, "", START_LIMIT):
        _ended(worker)
        raise RuntimeError(f"no worker starts: {(folder / 'stderr.txt').read_text()}")
    return worker


def _ended(worker: subprocess.Popen[str]) -> int:
    """The exit code of a worker that is taken away, or has gone by itself."""
    assert worker.stdin and worker.stdout
    worker.kill()
    code = worker.wait()
    with suppress(BrokenPipeError):
        worker.stdin.close()
    worker.stdout.close()
    return code


def _asked(worker: subprocess.Popen[str], question: str, limit: float) -> str | None:
    """The line that the worker answers with; "" when it has died, None when it says nothing in time."""
    assert worker.stdin and worker.stdout
    try:
        worker.stdin.write(question + "\n")
        worker.stdin.flush()
    except BrokenPipeError:
        return ""
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        return worker.stdout.readline() if selector.select(limit) else None
