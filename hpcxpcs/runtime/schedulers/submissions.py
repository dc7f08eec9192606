"""What has been handed to a scheduler for a run: RUN/submit/jobs.json."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from hpcxpcs.errors import SchedulerProblem, StoreError
from hpcxpcs.files.atomic import writing
from hpcxpcs.files.json_safe import write_json
from hpcxpcs.runtime.claims import Claim, holding, take
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.schedulers.jobs import JobKind

SUBMIT_FOLDER = "submit"
JOBS_FILE = "jobs.json"
CLAIM_FILE = "at-the-scheduler"
CLAIM_SECONDS = 600.0
"""For which a process may submit or cancel jobs of a run: some requests of a minute each at most."""

SCHEMA_VERSION = 1

SchedulerName = Literal["slurm", "pbs", "torque", "local"]


@dataclass(frozen=True)
class Order:
    """How a run was to be submitted, kept to submit it again; None leaves it to the site.

    `site` is a name or a file, `scheduler` overrides its own. `tasks` is the size of an array, `cores` are those of one
    process, `ranks` those of an MPI job, `memory` is in bytes per node, `walltime` in seconds, `log_level` a word.
    """

    site: str | None = None
    scheduler: SchedulerName | None = None
    queue: str | None = None
    account: str | None = None
    tasks: int | None = None
    at_once: int | None = None
    mpi: bool = False
    ranks: int | None = None
    nodes: int | None = None
    cores: int | None = None
    memory: int | None = None
    walltime: int | None = None
    log_level: str | None = None


@dataclass(frozen=True)
class Submission:
    """One job that a scheduler has taken: `job` is its id, `line` the command that handed it in (`after` another).

    `submitted` and `cancelled` (by `hpcxpcs cancel`) are UTC; `core_hours` are charged at most. A job's id belongs to
    its scheduler and submit time: ids come round again.
    """

    job: str
    kind: JobKind
    scheduler: SchedulerName
    site: str
    queue: str
    line: str
    submitted: str
    tasks: int
    core_hours: float
    after: str | None = None
    cancelled: str | None = None


@dataclass(frozen=True)
class SubmitRecord:
    """The last order for a run, and all its jobs, oldest first."""

    order: Order
    submissions: tuple[Submission, ...]

    @property
    def jobs(self) -> tuple[str, ...]:
        """The ids of all jobs."""
        return tuple(submission.job for submission in self.submissions)


def submit_folder(run: Run) -> Path:
    """Where scripts and job ids of a run are."""
    return run.folder / SUBMIT_FOLDER


@contextmanager
def at_the_scheduler(run_folder: Path) -> Iterator[None]:
    """Submit or cancel jobs of a run while no other process does; SchedulerProblem names the one that does.

    What is looked up inside is true until the end of the block: of two that submit at once, one is told.
    """
    folder = run_folder / SUBMIT_FOLDER
    with writing(folder):
        made = [path for path in (folder, run_folder) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    claim = _claimed(run_folder)
    try:
        yield
    finally:
        claim.release()
        with suppress(OSError):  # they hold something now, unless nothing came of it
            for path in made:
                path.rmdir()


def _claimed(run_folder: Path) -> Claim:
    """Take the claim; one whose owner has died is taken over, of several that try that at once by one."""
    folder = run_folder / SUBMIT_FOLDER
    found = None
    for pause in (0.1, 0.4, 1.6, 0.0):
        if (claim := take(folder, CLAIM_FILE, lease=CLAIM_SECONDS)) is not None:
            return claim
        found = holding(folder, CLAIM_FILE)
        if found is not None and found.live:
            break
        time.sleep(pause)
    who = "another process" if found is None else f"process {found.owner.pid} on {found.owner.host}"
    raise SchedulerProblem(
        f"{run_folder}: {who} submits or cancels jobs of this run at this moment: look with "
        f"'hpcxpcs status {run_folder}' first. If that process is no more, remove {folder / CLAIM_FILE}"
    )


def read_record(run: Run) -> SubmitRecord | None:
    """What has been submitted for this run; None when nothing has."""
    path = submit_folder(run) / JOBS_FILE
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}): the jobs of this run are not known") from error
    if found.get("run_id") != run.plan.run_id:
        return None
    try:
        return SubmitRecord(Order(**found["order"]), tuple(Submission(**one) for one in found["jobs"]))
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{path}: holds something that this version does not know ({error}): was it written by a later one?"
        ) from error


def note_submission(run: Run, order: Order, submission: Submission, *, added: bool = False) -> None:
    """Add a job to the record at once, so that none that was accepted is forgotten.

    One that is `added` to jobs at work does not change how the run is submitted again.
    """
    known = read_record(run)
    before = () if known is None else known.submissions
    _write(run, SubmitRecord(known.order if added and known else order, (*before, submission)))


def note_cancelled(run: Run, job: str) -> None:
    """Note that a job was cancelled: it may linger in the queue for a while, but counts as dead."""
    known = read_record(run)
    if known is not None:
        jobs = (replace(one, cancelled=utc_now()) if one.job == job else one for one in known.submissions)
        _write(run, SubmitRecord(known.order, tuple(jobs)))


def _write(run: Run, record: SubmitRecord) -> None:
    submit_folder(run).mkdir(exist_ok=True)
    content = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.plan.run_id,
        "order": asdict(record.order),
        "jobs": [asdict(one) for one in record.submissions],
    }
    write_json(submit_folder(run) / JOBS_FILE, content)


def utc_now() -> str:
    """The time as events and records have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
