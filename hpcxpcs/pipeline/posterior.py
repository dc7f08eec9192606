"""A posterior run from its folder's point of view: prepare, sample, gather, and write alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hpcxpcs.errors import Stopped, StoreError
from hpcxpcs.inference.posterior import Posterior
from hpcxpcs.pipeline.begin import PREPARE, is_prepared
from hpcxpcs.pipeline.compile_log import compile_log
from hpcxpcs.pipeline.executor import Executor
from hpcxpcs.pipeline.reporter import Reporter
from hpcxpcs.pipeline.stage import prepare
from hpcxpcs.runtime.batch_job import batch_job
from hpcxpcs.runtime.claims import take
from hpcxpcs.runtime.events import append
from hpcxpcs.runtime.failures import forget_failures
from hpcxpcs.runtime.log_context import log_context
from hpcxpcs.runtime.progress import telling
from hpcxpcs.runtime.pulse import USUAL_PATIENCE, Pulse, Stop
from hpcxpcs.runtime.run import Run, set_aside_damaged, state_of
from hpcxpcs.runtime.work import SHORTEST_PAUSE

RESULTS = "results"
WRITING_LEASE = 900.0
"""Name of the claim on the results, and seconds after which it is void when its owner is gone on another node."""


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
                    append(run, "started", task=task.name, token=claim.owner.token, **batch_job())
                    log = compile_log()
                    with log_context(task=task.name):
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
