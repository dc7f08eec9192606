"""How a run begins, how far it has come, and that it is complete; needs no JAX, so that a login node can begin one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcxpcs.config import Config
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import AlreadyComplete
from hpcxpcs.files.json_safe import write_json
from hpcxpcs.pipeline.plan import plan_for
from hpcxpcs.pipeline.reporter import Reporter
from hpcxpcs.runtime.events import append
from hpcxpcs.runtime.plan import changed_versions
from hpcxpcs.runtime.run import DONE, PLAN_FILE, Run, discard, state_of
from hpcxpcs.runtime.sealed import peek
from hpcxpcs.runtime.tasks import new_task

COMPLETE_FILE = "complete.json"
"""Says that the results of a run are written, and how it ended."""

PREPARE = new_task("prepare", 0)
"""What this stage is called among the tasks of a run; its file is the prepared likelihood."""


@dataclass(frozen=True)
class Completed:
    """A run whose results are there: verdict in one word, why, and the exit code it ended with."""

    verdict: str
    words: str
    exit_code: int


def begin(folder: Path, config: Config, data: TwoTime, reporter: Reporter, *, fresh: bool = False) -> Run:
    """Start the run in a folder, or go on with it; PlanMismatch names the first difference."""
    if fresh:
        start_over(folder)
    plan = plan_for(config, data)
    continued = (folder / PLAN_FILE).exists()
    run = Run.create(folder, plan)
    if continued:
        done = sum(state_of(run, task) == "done" for task in run.plan.tasks)
        reporter.phase(f"continuing {folder}: {done} of {len(run.plan.tasks)} tasks are done")
        for change in changed_versions(run.plan, plan):
            reporter.warn(f"since this run was started, {change}")
    return run


def start_over(folder: Path) -> None:
    """Discard the run in a folder, if there is one and nobody works on it; results and logs stay."""
    discard(folder)
    (folder / COMPLETE_FILE).unlink(missing_ok=True)


def completed(run: Run) -> Completed | None:
    """How a run ended; None when its results are not written."""
    try:
        found = json.loads((run.folder / COMPLETE_FILE).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(found, Mapping) or found.get("run_id") != run.plan.run_id:
        return None
    return Completed(str(found["verdict"]), str(found["words"]), int(found["exit_code"]))


def refuse_complete(run: Run) -> None:
    """Raise AlreadyComplete when nothing is left to do."""
    ended = completed(run)
    if ended is not None:
        raise AlreadyComplete(
            f"{run.folder}: complete ({ended.verdict}: {ended.words}); nothing is left to do. The report is "
            f"{run.results / 'report.html'}; hpcxpcs fit --fresh computes everything anew",
            ended.exit_code,
        )


def mark_complete(run: Run, verdict: str, words: str, exit_code: int) -> None:
    """Note that the results of a run are written."""
    record: dict[str, Any] = {
        "run_id": run.plan.run_id,
        "verdict": verdict,
        "words": words,
        "exit_code": exit_code,
    }
    write_json(run.folder / COMPLETE_FILE, record)
    append(run, "complete", verdict=verdict)


def is_prepared(run: Run) -> bool:
    """Whether the likelihood of a run is there."""
    header = peek(run.task_file(PREPARE))
    return header is not None and header.status == DONE and header.run_id == run.plan.run_id
