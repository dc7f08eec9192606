"""The run folder: where everything is, how it begins, and how far each task is."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hpcxpcs.errors import StoreError
from hpcxpcs.files.array_store import TAG_FILE
from hpcxpcs.files.atomic import (
    atomic_create_bytes,
    atomic_write_bytes,
    reading,
    sync_folder,
    writing,
)
from hpcxpcs.files.json_safe import dumps, json_object, utc_now
from hpcxpcs.files.places import not_a_file, refuse_link
from hpcxpcs.runs import claims, sealed
from hpcxpcs.runs.plan import TASK_FOLDERS, Plan, Task, refuse_difference

State = Literal["waiting", "running", "done", "failed"]

DONE, REFUSED = "done", "refused"
"""Status of a sealed file whose task is finished, or which another attempt would fail alike; any other status is a
checkpoint."""

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
    def create(cls, folder: Path, plan: Plan) -> Run:
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
        if not atomic_create_bytes(path, text) and _is_empty(path):
            atomic_write_bytes(path, text)
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
    if is_done(run, header):
        return "done"
    if header is not None and header.status == REFUSED and header.run_id == run.plan.run_id:
        return "failed"
    holding = claims.holding(run.claims, task.name)
    if holding is not None and holding.live:
        return "running"
    attempts = failed_attempts(run, task)
    return "failed" if attempts >= MOST_ATTEMPTS else "waiting"


def is_done(run: Run, header: sealed.Header | None) -> bool:
    """Whether the header of a task's file says that it is finished."""
    return header is not None and header.status == DONE and header.run_id == run.plan.run_id


def touched(run: Run, tasks: Iterable[Task]) -> frozenset[str]:
    """Names of the tasks of which there is a file, a claim or a failure; of the others nobody has begun one.

    Folders are listed once, so that of thousands of tasks only those are looked at that have been begun.
    """
    begun = {name for folder in (run.claims, run.failures) for name in _names(folder)}
    files: dict[Path, frozenset[str]] = {}
    found = []
    for task in tasks:
        path = run.task_file(task)
        if path.parent not in files:
            files[path.parent] = _names(path.parent)
        if path.name in files[path.parent] or task.name in begun:
            found.append(task.name)
    return frozenset(found)


def states_of(run: Run, tasks: Sequence[Task]) -> dict[str, State]:
    """How far each of many tasks is, by name."""
    begun = touched(run, tasks)
    return {task.name: state_of(run, task) if task.name in begun else "waiting" for task in tasks}


def _names(folder: Path) -> frozenset[str]:
    """Names of the files in a folder; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except FileNotFoundError:
        return frozenset()


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
            f"{folder}: {held.owner} works on {name}: end it first, or wait {held.owner.lease:g} s if it is gone"
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
        state = f"is where {at_work.owner} does a point fit"
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
    with reading(path):
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
    return Plan.parsed(text, path) if text else None


MOST_ATTEMPTS = 3
"""Failures of one task, over all processes, after which it counts as failed."""


def record_failure(run: Run, task: Task, cause: str, *, owner: str = "", details: str = "") -> int:
    """Note a failed attempt and return how many there are; `owner`, the token of a claim, fails only once.

    The process itself, its watch and its leader may all see the same failure.
    """
    folder = _folder(run, task)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    known = read_failures(run, task)
    if owner and any(failure.get("owner") == owner for failure in known):
        return len(known)
    record = {
        "task": task.name,
        "cause": cause,
        "details": details,
        "owner": owner,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "ts": utc_now(),
    }
    text = dumps(record).encode()
    number = len(known) + 1
    while not atomic_create_bytes(folder / f"{number}.json", text):
        number += 1
    return number


def failed_attempts(run: Run, task: Task) -> int:
    """Count the failures of a task."""
    return len(_files(_folder(run, task)))


def read_failures(run: Run, task: Task) -> tuple[dict[str, Any], ...]:
    """Read the failures of a task, oldest first: task, cause, details, owner, host, pid, ts."""
    return tuple(_read(path, task) for path in _files(_folder(run, task)))


def forget_failures(run: Run, task: Task) -> None:
    """Let a task be tried again as if it had never failed."""
    for path in reversed(_files(_folder(run, task))):
        with writing(path):
            path.unlink(missing_ok=True)


def _read(path: Path, task: Task) -> dict[str, Any]:
    """One failure; what cannot be read still counts as one."""
    content = None
    with suppress(OSError):
        content = json_object(path.read_bytes())
    return content or {"task": task.name, "cause": f"{path} cannot be read"}


def _folder(run: Run, task: Task) -> Path:
    return run.failures / task.name


def _files(folder: Path) -> list[Path]:
    try:
        found = [path for path in folder.iterdir() if path.stem.isdigit() and path.suffix == ".json"]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda path: int(path.stem))
