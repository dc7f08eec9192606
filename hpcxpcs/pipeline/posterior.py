"""A posterior run from its folder's point of view: start or continue, prepare, sample, gather, be complete."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcxpcs.config import Config
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import Stopped, StoreError
from hpcxpcs.files.json_safe import write_json
from hpcxpcs.inference.posterior import Posterior
from hpcxpcs.pipeline.compile_log import compile_log
from hpcxpcs.pipeline.crew import Executor
from hpcxpcs.pipeline.plan import plan_for
from hpcxpcs.pipeline.reporter import Reporter
from hpcxpcs.pipeline.stage import PREPARE, is_prepared, prepare
from hpcxpcs.runtime.claims import take
from hpcxpcs.runtime.events import append
from hpcxpcs.runtime.failures import forget_failures
from hpcxpcs.runtime.plan import changed_versions
from hpcxpcs.runtime.progress import telling
from hpcxpcs.runtime.pulse import USUAL_PATIENCE, Pulse, Stop
from hpcxpcs.runtime.run import PLAN_FILE, Run, discard, set_aside_damaged, state_of
from hpcxpcs.runtime.work import SHORTEST_PAUSE

COMPLETE_FILE = "complete.json"
"""Says that the results of a run are written, and how it ended."""

RESULTS = "results"
WRITING_LEASE = 900.0
"""Name of the claim on the results, and seconds after which it is void when its owner is gone on another node."""


@dataclass(frozen=True)
class Completed:
    """A run whose results are there: verdict in one word, why, and the exit code it ended with."""

    verdict: str
    words: str
    exit_code: int


def begin(folder: Path, config: Config, data: TwoTime, reporter: Reporter, *, fresh: bool = False) -> Run:
    """Start the run in a folder, or go on with it; PlanMismatch names the first difference."""
    if fresh:
        discard(folder)
        (folder / COMPLETE_FILE).unlink(missing_ok=True)
    plan = plan_for(config, data)
    continued = (folder / PLAN_FILE).exists()
    run = Run.create(folder, plan)
    if continued:
        done = sum(state_of(run, task) == "done" for task in run.plan.tasks)
        reporter.phase(f"continuing {folder}: {done} of {len(run.plan.tasks)} tasks are done")
        for change in changed_versions(run.plan, plan):
            reporter.warn(f"since this run was started, {change}")
    return run


def completed(run: Run) -> Completed | None:
    """How a run ended; None when its results are not written."""
    try:
        found = json.loads((run.folder / COMPLETE_FILE).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(found, Mapping) or found.get("run_id") != run.plan.run_id:
        return None
    return Completed(str(found["verdict"]), str(found["words"]), int(found["exit_code"]))


def mark_complete(run: Run, posterior: Posterior, exit_code: int) -> None:
    """Note that the results of a run are written."""
    record: dict[str, Any] = {
        "run_id": run.plan.run_id,
        "verdict": posterior.verdict,
        "words": posterior.words,
        "exit_code": exit_code,
    }
    write_json(run.folder / COMPLETE_FILE, record)
    append(run, "complete", verdict=posterior.verdict)


def ensure_prepared(run: Run, stop: Stop, reporter: Reporter) -> None:
    """Prepare the likelihood of a run, or wait while another process does."""
    task = PREPARE
    set_aside_damaged(run, (task,), reporter.warn)
    while not is_prepared(run):
        if (reason := stop.should_stop()) is not None:
            raise Stopped(
                f"{run.folder}: stopped before sampling began ({reason}); run the same command again"
            )
        claim = take(run.claims, task.name)
        if claim is None:
            time.sleep(SHORTEST_PAUSE)
            continue
        try:
            with Pulse(run, task, claim, stop, USUAL_PATIENCE):
                if not is_prepared(run):
                    append(run, "started", task=task.name, token=claim.owner.token)
                    log = compile_log()
                    prepare(run, reporter)
                    log.tell(run, task.name)
                    append(run, "done", task=task.name)
        finally:
            claim.release()


@contextmanager
def writing_alone(run: Run, stop: Stop) -> Iterator[None]:
    """Keep the results of a run to oneself; waits while another process of the run writes them."""
    while (claim := take(run.claims, RESULTS, lease=WRITING_LEASE)) is None:
        if (reason := stop.should_stop()) is not None:
            raise Stopped(
                f"{run.folder}: stopped while another process writes the results ({reason}); run the same command again"
            )
        time.sleep(SHORTEST_PAUSE)
    try:
        yield
    finally:
        claim.release()


def unfinished(run: Run) -> tuple[str, ...]:
    """Names of the planned tasks that are neither done nor given up."""
    return tuple(task.name for task in run.plan.tasks if state_of(run, task) not in ("done", "failed"))


def combined_from_what_is_there(
    run: Run, executor: Executor, reporter: Reporter, *, partial: bool
) -> Posterior:
    """Gather a run without sampling its shards; StoreError names what is missing unless `partial`."""
    set_aside_damaged(run, (PREPARE, *run.plan.tasks), reporter.warn)
    missing = () if is_prepared(run) else ("prepare-00000",)
    missing = (*missing, *unfinished(run))
    if missing and not (partial and is_prepared(run)):
        raise StoreError(
            f"{run.folder}: {len(missing)} tasks are not finished ({', '.join(missing[:4])}"
            f"{', …' if len(missing) > 4 else ''}): 'hpcxpcs resume {run.folder}' finishes them"
            f"{', --partial goes on without them' if is_prepared(run) else ''}"
        )
    for name in missing:
        reporter.warn(f"{name} is not finished and is left out")
    return _gathered(run, executor, reporter)


def sampled(run: Run, executor: Executor, reporter: Reporter) -> Posterior:
    """Prepare, sample and gather a run, as far as that has not been done; Stopped when time is up."""
    ensure_prepared(run, executor.stop, reporter)
    set_aside_damaged(run, run.plan.tasks, reporter.warn)
    for task in run.plan.tasks:
        if state_of(run, task) == "failed":
            reporter.warn(f"{task.name} was given up by an earlier command; it is tried again")
            forget_failures(run, task)
    waiting = [task for task in run.plan.tasks if state_of(run, task) != "done"]
    if waiting:
        kinds = "shards" if run.plan.method == "cmc" else "chains on all data"
        reporter.phase(f"sampling {len(waiting)} {kinds} with {min(executor.workers, len(waiting))} workers")
    with telling(run, reporter.detail):
        report = executor.run_tasks(run, run.plan.tasks)
    if report.stopped is not None and report.unfinished:
        raise Stopped(
            f"{run.folder}: stopped with everything saved, {len(report.done)} of {len(run.plan.tasks)} tasks done "
            f"({report.stopped}); run the same command again"
        )
    for name in report.failed:
        reporter.warn(f"{name} was given up after several attempts: see {run.failures / name}")
    return _gathered(run, executor, reporter)


def _gathered(run: Run, executor: Executor, reporter: Reporter) -> Posterior:
    # imported when needed: it brings in the samplers, which a point fit has no use for
    from hpcxpcs.pipeline.gather import Gathering

    return Gathering(run, executor, reporter).posterior()
