"""The run folder: where everything is, how it begins, and how far each task is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpcxpcs.errors import StoreError
from hpcxpcs.files.array_store import TAG_FILE
from hpcxpcs.files.atomic import Fault, atomic_create_bytes, atomic_write_bytes, sync_folder, writing
from hpcxpcs.files.places import not_a_file, refuse_link
from hpcxpcs.runtime import claims, failures, sealed
from hpcxpcs.runtime.plan import Plan, new_run_id, refuse_difference
from hpcxpcs.runtime.tasks import TASK_FOLDERS, Task

__all__ = [
    "DONE",
    "PLAN_FILE",
    "Plan",
    "Run",
    "State",
    "discard",
    "new_run_id",
    "refuse_difference",
    "set_aside_damaged",
    "state_of",
]

State = Literal["waiting", "running", "done", "failed"]

DONE = "done"
"""Status of a sealed file whose task is finished; any other status is a checkpoint."""

PLAN_FILE = "plan.json"
_WORK_FOLDERS = tuple(dict.fromkeys(("data", "point", *TASK_FOLDERS.values(), "claims", "failures", "logs")))


@dataclass(frozen=True)
class Run:
    """A folder in which any number of processes do the tasks of one plan."""

    folder: Path
    plan: Plan

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open the run in a folder; StoreError when there is none or this version cannot read it."""
        plan = _read_plan(folder)
        if plan is None:
            _refuse_point_fit(folder)
            raise StoreError(
                f"{folder}: holds no run (no {PLAN_FILE}): start one with 'hpcxpcs fit CONFIG --run {folder}'"
            )
        return cls(folder, plan)

    @classmethod
    def create(cls, folder: Path, plan: Plan, *, fault: Fault | None = None) -> Run:
        """Begin a run, or open the one that is there if it has the same plan in all that matters.

        Of processes that create at once one wins; all get the winner's run, and PlanMismatch if it differs.
        """
        path = folder / PLAN_FILE
        if not os.path.lexists(path):
            _refuse_foreign_work(folder)
        with writing(folder):
            for name in _WORK_FOLDERS:
                (folder / name).mkdir(parents=True, exist_ok=True)
            with suppress(PermissionError):  # the folder above may be somebody else's
                sync_folder(folder.parent)
        text = plan.text().encode()
        if not atomic_create_bytes(path, text, fault=fault) and _is_empty(path):
            atomic_write_bytes(path, text, fault=fault)
        run = cls.open(folder)
        refuse_difference(run.plan, plan, place=folder)
        return run

    @property
    def data(self) -> Path:
        """Folder of prepared arrays."""
        return self.folder / "data"

    @property
    def point(self) -> Path:
        """Folder of the point fit."""
        return self.folder / "point"

    @property
    def claims(self) -> Path:
        """Folder of claims, one file per task that somebody works on."""
        return self.folder / "claims"

    @property
    def failures(self) -> Path:
        """Folder of failures, one folder per task that has failed."""
        return self.folder / "failures"

    @property
    def logs(self) -> Path:
        """Folder of logs, one file per process."""
        return self.folder / "logs"

    @property
    def results(self) -> Path:
        """Folder of what the user came for."""
        return self.folder / "results"

    @property
    def events(self) -> Path:
        """File of events, one JSON object per line."""
        return self.folder / "events.jsonl"

    def task_file(self, task: Task) -> Path:
        """Checkpoint of a task while it runs, its result when it is done."""
        return self.folder / task.file

    def data_file(self, name: str) -> Path:
        """File of the prepared arrays called `name`."""
        return self.data / f"{name}.h5"


def state_of(run: Run, task: Task) -> State:
    """How far a task is, from its file's header, its claim and its failures."""
    header = sealed.peek(run.task_file(task))
    if header is not None and header.status == DONE and header.run_id == run.plan.run_id:
        return "done"
    holding = claims.holding(run.claims, task.name)
    if holding is not None and holding.live:
        return "running"
    attempts = failures.failed_attempts(run, task)
    return "failed" if attempts >= failures.MOST_ATTEMPTS else "waiting"


def share_left(run: Run, task: Task) -> float:
    """The share of a task, 0 … 1, that its checkpoint leaves to do; 1 without one."""
    header = sealed.peek(run.task_file(task))
    if header is None or header.run_id != run.plan.run_id:
        return 1.0
    done, total = header.progress.get("done", 0), header.progress.get("total", 0)
    return 1.0 - min(done, total) / total if total else 1.0


def set_aside_damaged(run: Run, tasks: Iterable[Task], warn: Callable[[str], None]) -> None:
    """Take files of finished tasks out of the way whose content is not what was written: the tasks are done again.

    State is read from headers alone, so a damaged file would count as done, and be found out when it is too late.
    """
    for task in tasks:
        path = run.task_file(task)
        if state_of(run, task) != "done" or (found := sealed.damage(path)) is None:
            continue
        warn(f"{path}: {found}: {task.name} is done again, the file is kept as {path.stem}.damaged")
        with writing(path), suppress(FileNotFoundError):
            path.replace(path.with_suffix(".damaged"))


def discard(folder: Path) -> None:
    """Remove a run's plan and work, for a fresh start; results and logs stay.

    The plan goes last: when this is interrupted, what is left is a run that lacks some finished work. Refused
    while a process works on it.
    """
    if not os.path.lexists(folder / PLAN_FILE):
        return
    for name, held in claims.live_holdings(folder / "claims").items():
        raise StoreError(
            f"{folder}: process {held.owner.pid} on {held.owner.host} works on {name}: end it first, "
            f"or wait {held.owner.lease:g} s if it is gone"
        )
    removed = [folder / name for name in _WORK_FOLDERS if name != "logs" and os.path.lexists(folder / name)]
    for path in removed:
        refuse_link(path, "a fresh start removes only what is in the run folder itself; remove the link")
    with writing(folder):
        for path in removed:
            shutil.rmtree(path)
        (folder / "events.jsonl").unlink(missing_ok=True)
        (folder / PLAN_FILE).unlink(missing_ok=True)


def _refuse_point_fit(folder: Path) -> None:
    """Say of a folder without a plan that a point fit is, or is being, written there: it has no tasks to look at."""
    at_work = next(iter(claims.live_holdings(folder / "claims").values()), None)
    if at_work is not None:
        state = f"is where process {at_work.owner.pid} on {at_work.owner.host} does a point fit"
    elif (folder / "results" / "nlsq").is_dir():
        state = f"holds a point fit, whose results are in {folder / 'results'}"
    else:
        return
    raise StoreError(
        f"{folder}: {state}: it is done in one go and has no tasks to show, share out, continue or gather. 'hpcxpcs "
        f"logs {folder}' shows what it said, 'hpcxpcs fit CONFIG' does it from the beginning, and with --method cmc "
        "the posterior"
    )


def _refuse_foreign_work(folder: Path) -> None:
    """Refuse to begin where folders of a run have files already: a fresh start would remove them one day.

    Matrices that a point fit has kept there are ours, and made again when they are missing.
    """
    for name in (name for name in _WORK_FOLDERS if name not in ("logs", "claims")):
        with suppress(FileNotFoundError, NotADirectoryError):
            entries = (entry for entry in (folder / name).iterdir() if not (entry / TAG_FILE).exists())
            held = next((entry.name for entry in entries), None)
            if held is not None and not os.path.lexists(folder / PLAN_FILE):
                raise StoreError(
                    f"{folder / name}: holds files ({held}), but there is no run here ({PLAN_FILE}): choose another "
                    "folder with --run, or remove them"
                )


def _is_empty(path: Path) -> bool:
    """Whether a plan has only its name, which a kill can leave where there are no hard links."""
    with writing(path):
        return path.stat().st_size == 0


def _read_plan(folder: Path) -> Plan | None:
    """The plan in a folder; None when there is none, or none yet."""
    path = folder / PLAN_FILE
    kind = not_a_file(path)
    if kind is not None:
        raise StoreError(f"{path}: is {kind}, not the plan of a run: choose another folder with --run")
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}): check permissions and disk") from error
    return Plan.parsed(text, path) if text else None
