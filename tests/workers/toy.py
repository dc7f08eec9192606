"""A task function that is quick and behaves as badly as the plan says; as a program it is `hpcxpcs work` with it.

plan.extra: "blocks" per task, "seconds" per block, and "trouble": {task name: what goes wrong}, where
* "raise" raises in block 1 of every attempt, "raise once" only in the first attempt,
* "die" ends the process by SIGKILL in every attempt, "die once" only in the first,
* "hang" never comes back, "seize" neither, and lets no other thread run, "freeze" stops the whole process
  (SIGSTOP), each in the first attempt only,
* "nothing" says done without having written anything, "disk" fails to write as a full disk does.

Tasks named in plan.extra["held"] wait after their first block, saved, until `let_go` is called or they are told to
stop: so a test meets them in the middle however long it takes to get there.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hpcxpcs.errors import OutputError
from hpcxpcs.runs.plan import Plan, Task, new_run_id, new_task
from hpcxpcs.runs.run import Run
from hpcxpcs.runs.sealed import Sealed, newest_good, read_sealed, write_sealed
from hpcxpcs.workers.work import Outcome, Pulse

DRAWS = 10
"""Draws per block."""


def toy_run(
    folder: Path,
    count: int = 4,
    *,
    blocks: int = 3,
    seconds: float = 0.0,
    trouble: Mapping[str, str] | None = None,
    held: bool | Sequence[int] = False,
) -> Run:
    """Create (or open) a run of `count` shards, the later ones a little cheaper; `held`: all, or these of them."""
    held = range(count) if held is True else held or ()
    plan = Plan(
        run_id=new_run_id(),
        created="2030-01-01T00:00:00+00:00",
        hpcxpcs_version="0",
        versions={},
        stream_version=1,
        method="cmc",
        config={},
        config_fingerprint="c",
        data={"path": "data.hdf", "fingerprint": "d"},
        seed=1,
        shards={"strategy": "random", "count": count, "anchor": "point"},
        chains=1,
        tasks=tuple(new_task("shard", index, 100.0 - index) for index in range(count)),
        extra={
            "blocks": blocks,
            "seconds": seconds,
            "trouble": dict(trouble or {}),
            "held": [new_task("shard", index, 1.0).name for index in held],
        },
    )
    return Run.create(folder, plan)


def draw(run: Run, task: Task, pulse: Pulse) -> Outcome:
    """Draw in blocks with a checkpoint after each; the draws depend on seed, shard and block alone."""
    path, run_id = run.task_file(task), run.plan.run_id
    found = newest_good(path, kind=task.kind, run_id=run_id, warn=lambda text: None)
    draws = found.arrays["draws"] if found is not None else np.empty(0)
    blocks = run.plan.extra["blocks"]
    for block in range(len(draws) // DRAWS, blocks):
        if not may_go_on(run, task, pulse, block):
            return "stopped"
        if block == 1 and misbehaves(run, task):
            return "done"
        time.sleep(run.plan.extra["seconds"])
        stream = np.random.default_rng([run.plan.seed, task.index, block])
        draws = np.concatenate([draws, stream.normal(size=DRAWS)])
        progress = {"done": len(draws), "total": blocks * DRAWS}
        pulse.beat(progress)
        status = "done" if block == blocks - 1 else "sampling"
        if pulse.may_publish():
            write_sealed(path, Sealed(task.kind, run_id, task.name, status, progress, {"draws": draws}))
    return "done"


def let_go(run: Run) -> None:
    """Let the tasks that are held go on."""
    (run.folder / "go").touch()


def may_go_on(run: Run, task: Task, pulse: Pulse, block: int) -> bool:
    """Wait as long as the task is held; False when it is to stop."""
    while not pulse.stop_reason(run.plan.extra["seconds"]):
        if block == 0 or task.name not in run.plan.extra["held"] or (run.folder / "go").exists():
            return True
        time.sleep(0.02)
    return False


def misbehaves(run: Run, task: Task) -> bool:
    """Do what the plan has in store for this task; True when it is to end at once."""
    trouble = run.plan.extra["trouble"].get(task.name, "")
    kind, _, once = trouble.partition(" ")
    mark = run.logs / f"tried-{task.name}"
    if (once or kind in ("hang", "seize", "freeze")) and mark.exists():
        return False
    mark.touch()
    if kind == "raise":
        raise ValueError(f"no luck with {task.name}")
    if kind == "disk":
        raise OutputError(f"{run.folder}: cannot be written (No space left on device): free some space")
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    if kind == "seize":
        ctypes.PyDLL(None).sleep(1000)
    while kind == "hang":
        time.sleep(0.1)
    return kind == "nothing"


def digest(run: Run) -> str:
    """SHA-256 over the draws of all tasks."""
    found = hashlib.sha256()
    for task in run.plan.tasks:
        sealed = read_sealed(run.task_file(task), kind=task.kind, run_id=run.plan.run_id)
        found.update(sealed.arrays["draws"].tobytes())
    return found.hexdigest()


def expected_digest(count: int = 4, blocks: int = 3, seed: int = 1) -> str:
    """What `digest` returns after an undisturbed run."""
    found = hashlib.sha256()
    for index in range(count):
        for block in range(blocks):
            found.update(np.random.default_rng([seed, index, block]).normal(size=DRAWS).tobytes())
    return found.hexdigest()


def main() -> int:
    """`hpcxpcs work ARGUMENTS`, with toys for tasks."""
    from hpcxpcs import cli
    from hpcxpcs.pipeline import crew

    crew.make_task_function = lambda run: draw
    crew.ensure_ready = lambda run, stop, reporter: run
    return cli.main(["work", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
