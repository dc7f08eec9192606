"""The queue: one file of JSON that programs and nodes change in turn, and what may run next."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SERVER = "vm"
ENDED = {"F", "X"}
SETTINGS: dict[str, Any] = {
    "slots": 4,  # tasks at a time
    "history": True,  # job_history_enable
    "operator": False,  # whether the user may qrerun
    "kill_delay": 3.0,  # seconds between TERM and KILL; a real one took 23
    "umask": 0o077,  # of jobs that ask for none
    "node_path": None,  # PATH of jobs; by default the programs of the fake are on it
    "max_array_size": 10_000,
    "queues": ["workq"],
    "home": None,  # where jobs start; a folder of the fake by default
    "walltime_limits": False,  # whether a job is ended when its walltime is over
}

Record = dict[str, Any]


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Record]:
    """Give the queue to one process at a time; what it changed is saved."""
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ledger = read(folder)
        yield ledger
        temporary = folder / "ledger.json.new"
        temporary.write_text(json.dumps(ledger))
        temporary.replace(folder / "ledger.json")


def read(folder: Path) -> Record:
    """Look at the queue without changing it."""
    ledger: Record = json.loads((folder / "ledger.json").read_text())
    return ledger


def create(folder: Path) -> None:
    """Begin with an empty queue."""
    for name in ("spool", "tmp", "orders", "home"):
        (folder / name).mkdir(parents=True)
    settings = {**SETTINGS, "home": str(folder / "home")}
    (folder / "ledger.json").write_text(json.dumps({"settings": settings, "next": 1, "jobs": {}}))


def name_of(number: str, index: str) -> str:
    """Return the id of a job or a task: `12.vm`, `1[3].vm`; `1[].vm` for the index "all"."""
    middle = "" if index == "" else "[]" if index == "all" else f"[{index}]"
    return f"{number}{middle}.{SERVER}"


def has_record(ledger: Record, task: Record) -> bool:
    """Whether the server knows of a task by itself; what it says of others is made up from the array's record."""
    if task["state"] in ENDED and not ledger["settings"]["history"]:
        return False
    return task["run_count"] > 0 and task["state"] not in ("Q", "H")


def array_state(job: Record) -> str:
    """Return the state of a job as a whole."""
    states = {task["state"] for task in job["tasks"].values()}
    if not job["array"]:
        return str(states.pop())
    if states <= ENDED:
        return "F"
    return "B" if job["begun"] else str(job["tasks"][next(iter(job["tasks"]))]["state"])


def end_task(job: Record, index: str, status: int | None, substate: int, comment: str = "") -> None:
    """Note how a task ended; a finished task is X as long as its array runs, F afterwards."""
    task = job["tasks"][index]
    task.update(state="X" if job["array"] else "F", substate=substate, session=None, comment=comment)
    task["exit"] = status
    if job["array"] and task["run_count"] and status:
        job["exit"] = 1 if status > 0 else 2
    if all(other["state"] in ENDED for other in job["tasks"].values()):
        for other in job["tasks"].values():
            other["state"] = "F"
        job["ended"] = time.time()
        _end_array(job)


def _end_array(job: Record) -> None:
    """Exit status and substate of an array as a whole: deleted, or by the worst of its tasks."""
    ran = [task for task in job["tasks"].values() if task["run_count"]]
    codes = [task["exit"] for task in ran if task["exit"] is not None]
    job["exit"] = None if not ran else 2 if min(codes) < 0 else int(any(codes))
    deleted = not ran or any(task["substate"] == 91 for task in ran)
    job["substate"] = 91 if deleted else 93 if job["exit"] else 92


def schedule(folder: Path, ledger: Record) -> None:
    """Start what may run: first come, first served, as far as there are slots and nothing is waited for."""
    jobs = ledger["jobs"]
    for number in jobs:
        _settle_dependencies(jobs, jobs[number])
    free = ledger["settings"]["slots"] - _running(jobs.values())
    for number, job in jobs.items():
        at_once = job["array"] and job["array"].get("at_once")
        room = min(free, (at_once or free) - _running([job]))
        for index, task in job["tasks"].items():
            if room <= 0 or free <= 0 or task["state"] != "Q":
                continue
            room, free = room - 1, free - 1
            job["begun"] = job["begun"] or time.time()
            task.update(state="R", substate=42, run_count=task["run_count"] + 1, started=time.time())
            task["node"] = _start_node(folder, number, index)
    if not ledger["settings"]["history"]:
        for number in [number for number, job in jobs.items() if job.get("ended")]:
            del jobs[number]


def _running(jobs: Any) -> int:
    return sum(task["state"] in ("R", "E") for job in jobs for task in job["tasks"].values())


def _settle_dependencies(jobs: Record, job: Record) -> None:
    if job.get("ended"):
        return
    waits = False
    for kind, number in job["after"]:
        other = jobs.get(number)
        if other is None or other.get("ended"):
            failed = other is not None and any(task["exit"] for task in other["tasks"].values())
            if other is None and number not in job["known"]:
                for index in job["tasks"]:
                    end_task(job, index, None, 92)
                return
            if kind == "afterok" and failed:
                for index, task in job["tasks"].items():
                    if task["state"] == "H":
                        end_task(job, index, None, 91, "dependency request for job rejected")
                return
        else:
            waits = True
    for task in job["tasks"].values():
        if task["state"] == "H" and not waits and not job["held"]:
            task.update(state="Q", substate=10)


def _start_node(folder: Path, number: str, index: str) -> int:
    (folder / "orders" / f"{number}.{index}").unlink(missing_ok=True)  # of an earlier run of the task
    with (folder / "node.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", launcher("node"), str(folder), number, index],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(folder / "tmp")},
            cwd="/",
            start_new_session=True,
        )
    process.returncode = 0  # it is nobody's to wait for
    return process.pid


def launcher(module: str) -> str:
    """Return the line of Python that runs one of these modules without the site packages, which take time."""
    root = Path(__file__).parents[3]
    return (
        f"import sys; sys.path.insert(0, {str(root)!r}); "
        f"from tests.batch.fake_pbs import {module}; sys.exit({module}.main(sys.argv[1:]))"
    )


def session_pids(session: int | None) -> list[int]:
    """Return the processes of a session that still run."""
    pids = []
    for entry in Path("/proc").iterdir():
        if session and entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(its_session) == session and state != "Z":
                    pids.append(int(entry.name))
    return pids


def send(session: int | None, signum: int) -> None:
    """Signal every process of a session, as PBS does with jobs."""
    for pid in session_pids(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def order(folder: Path, number: str, index: str, why: str) -> None:
    """Tell the node of a running task to end it: delete, rerun, preempt or node (lost)."""
    new = folder / "orders" / f"{number}.{index}.{os.getpid()}"
    new.write_text(why)
    new.replace(folder / "orders" / f"{number}.{index}")
