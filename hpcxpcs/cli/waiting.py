"""Staying until a submitted run is over."""

from __future__ import annotations

import time

from hpcxpcs.cli.progress import PhaseLines
from hpcxpcs.runtime.events import read_events
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.schedulers.looking import FRESH_SECONDS, queue_look
from hpcxpcs.runtime.schedulers.submissions import SubmitRecord, read_record
from hpcxpcs.runtime.status import EVENT_BYTES, completed, read_status
from hpcxpcs.runtime.work import EXIT_STOPPED

ENDINGS = ("done", "stopped", "failed", "left", "died", "lost", "complete", "cancelled")
"""Events that say how work on a run came to an end."""

LOOK_SECONDS = 2.0
"""Between two looks at the run folder, which asks no scheduler."""


def waited(run: Run, reporter: PhaseLines, fresh_seconds: float = FRESH_SECONDS) -> int:
    """Wait until the results are written or all jobs have ended, and return the exit code of the run.

    The scheduler is asked once in `fresh_seconds`, and may be silent for a while. A run whose jobs are over without
    results ends with 75 when they stopped with everything saved, otherwise with 1.
    """
    reporter.phase("waiting for the jobs")
    while (ended := completed(run)) is None:
        record = read_record(run)
        if record is None or _over(run, record, fresh_seconds):
            if (ended := completed(run)) is not None:
                break
            reporter.clear()
            if record is not None and _stopped(run, record, fresh_seconds):
                reporter.warn(
                    f"{run.folder}: the jobs stopped with everything saved, before the work was done: "
                    f"'hpcxpcs resume {run.folder}' continues"
                )
                return EXIT_STOPPED
            reporter.warn(
                f"{run.folder}: all jobs are over and there is no result: 'hpcxpcs logs {run.folder}' shows what "
                f"happened, 'hpcxpcs resume {run.folder}' continues"
            )
            return 1
        found = read_status(run)
        reporter.detail(
            f"{sum(task.state == 'done' for task in found.tasks)} of {len(found.tasks)} tasks are done"
        )
        time.sleep(LOOK_SECONDS)
    reporter.clear()
    reporter.phase(f"{ended.verdict}: {ended.words}")
    return ended.exit_code


def _over(run: Run, record: SubmitRecord, fresh_seconds: float) -> bool:
    look = queue_look(run, record, fresh_seconds=fresh_seconds)
    return look.problem is None and not any(look.alive(one) for one in record.submissions)


def _stopped(run: Run, record: SubmitRecord, fresh_seconds: float) -> bool:
    """Whether the last job stopped on purpose: by its exit code, or by the run's events where that is forgotten."""
    if read_status(run).state == "failed":
        return False
    look = queue_look(run, record, fresh_seconds=fresh_seconds)
    states = {task.state for task in look.of(record.submissions[-1])} - {"gone"}
    if states:
        return "stopped" in states and not states & {"failed", "cancelled"}
    ends = [
        event["event"]
        for event in read_events(run.events, most_bytes=EVENT_BYTES)
        if event["event"] in ENDINGS
    ]
    return ends[-1:] == ["stopped"]
