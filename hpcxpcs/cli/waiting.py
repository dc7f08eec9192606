"""Staying until a submitted run is over."""

from __future__ import annotations

import time

from hpcxpcs.cli.progress import PhaseLines
from hpcxpcs.pipeline.begin import completed
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.schedulers.looking import FRESH_SECONDS, queue_look
from hpcxpcs.runtime.schedulers.submissions import SubmitRecord, read_record
from hpcxpcs.runtime.status import read_status

LOOK_SECONDS = 2.0
"""Between two looks at the run folder, which asks no scheduler."""


def waited(run: Run, reporter: PhaseLines, fresh_seconds: float = FRESH_SECONDS) -> int:
    """Wait until the results are written or all jobs have ended, and return the exit code of the run.

    The scheduler is asked once in `fresh_seconds`, and may be silent for a while; a run whose jobs are over without
    results ends with 1.
    """
    reporter.phase("waiting for the jobs")
    while (ended := completed(run)) is None:
        record = read_record(run)
        if record is None or _over(run, record, fresh_seconds):
            if (ended := completed(run)) is not None:
                break
            reporter.clear()
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
