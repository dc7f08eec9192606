"""A node: runs one task in a session of its own, ends it when told to, and delivers its output afterwards."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.batch.fake_pbs import ledger as book

LOOK_EVERY = 0.03
RERUN = {"rerun", "preempt", "node"}


def main(arguments: list[str]) -> int:
    """Run the task `index` ("" for a plain job) of job `number` in the queue of a folder."""
    folder, number, index = Path(arguments[0]), arguments[1], arguments[2]
    with book.opened(folder) as ledger:
        job, settings = ledger["jobs"][number], ledger["settings"]
        process = _start(folder, number, index, job, settings)
        job["tasks"][index]["session"] = process.pid
    why, kill_at = _watch(folder, number, index, process, job["walltime"] if settings["walltime_limits"] else None)
    code = process.wait()
    while book.session_pids(process.pid):  # what is left dies with the job, after a TERM when its time is over
        if kill_at is None or time.monotonic() >= kill_at:
            book.send(process.pid, signal.SIGKILL)
        time.sleep(LOOK_EVERY)
    status = 256 - code if code < 0 else code
    if why == "walltime":
        status = -29
        with _spool(folder, number, index, "OU" if job["join"] else "ER").open("a") as errors:
            errors.write(f"=>> PBS: job killed: walltime {job['walltime'] + 16} exceeded limit {job['walltime']}\n")
    with book.opened(folder) as ledger:
        ledger["jobs"][number]["tasks"][index].update(state="E", substate=50)
    _finish(folder, number, index, status, why)
    return 0


def _start(folder: Path, number: str, index: str, job: book.Record, settings: book.Record) -> subprocess.Popen[bytes]:
    out = _spool(folder, number, index, "OU").open("ab")
    err = out if job["join"] else _spool(folder, number, index, "ER").open("ab")
    login = job["command"] is None
    with out, err:
        process = subprocess.Popen(
            ["-bash"] if login else job["command"],
            executable="/bin/bash" if login else None,
            stdin=subprocess.PIPE if login else subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=settings["home"],
            env=_environment(folder, number, index, job, settings),
            start_new_session=True,
            umask=settings["umask"] if job["umask"] is None else job["umask"],
        )
    if process.stdin is not None:
        with process.stdin:
            process.stdin.write(f"{folder}/spool/{number}.SC\n".encode())
    return process


def _environment(folder: Path, number: str, index: str, job: book.Record, settings: book.Record) -> dict[str, str]:
    name = book.name_of(number, index)
    temporary = folder / "tmp" / f"pbs.{name}"
    temporary.mkdir(exist_ok=True)
    nodes = folder / "spool" / f"{name}.nodes"
    nodes.write_text(f"{book.SERVER}\n" * job["processes"])
    given = {
        "PATH": settings["node_path"] or f"{folder}/bin:/usr/bin:/bin",
        "HOME": settings["home"],
        "USER": job["user"],
        "LOGNAME": job["user"],
        "SHELL": "/bin/bash",
        "PBS_JOBID": name,
        "PBS_JOBNAME": job["name"],
        "PBS_QUEUE": job["queue"],
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_NODEFILE": str(nodes),
        "PBS_O_WORKDIR": job["workdir"],
        "PBS_O_HOST": book.SERVER,
        "PBS_O_PATH": job["path"],
        "PBS_JOBDIR": settings["home"],
        "PBS_TASKNUM": "1",
        "PBS_NODENUM": "0",
        "TMPDIR": str(temporary),
        "NCPUS": str(job["cores"]),
        "OMP_NUM_THREADS": str(job["cores"]),
    }
    if job["array"]:
        given |= {"PBS_ARRAY_INDEX": index, "PBS_ARRAY_ID": book.name_of(number, "all")}
    return {**job["exported"], **given, **job["variables"]}


def _watch(
    folder: Path, number: str, index: str, process: subprocess.Popen[bytes], walltime: int | None
) -> tuple[str | None, float | None]:
    """Wait for the end of the top process; returns why it was brought about, if it was, and when the rest is killed."""
    file = folder / "orders" / f"{number}.{index}"
    started, why, kill_at = time.monotonic(), None, None
    while process.poll() is None:
        now = time.monotonic()
        if why is None and file.exists():
            why = file.read_text()
        if why is None and walltime is not None and now > started + walltime:
            why = "walltime"
        if why and kill_at is None:
            kill_at = now if why == "node" else now + book.read(folder)["settings"]["kill_delay"]
            if why != "node":
                book.send(process.pid, signal.SIGTERM)
        if kill_at is not None and now >= kill_at:
            book.send(process.pid, signal.SIGKILL)
        time.sleep(LOOK_EVERY)
    return why or (file.read_text() if file.exists() else None), kill_at


def _finish(folder: Path, number: str, index: str, status: int, why: str | None) -> None:
    with book.opened(folder) as ledger:
        job = ledger["jobs"][number]
        again = why in RERUN and job["rerunnable"]
        if not again:
            _deliver(folder, number, index, job)
        if again:
            job["tasks"][index].update(state="Q", substate=10, session=None)
            job["exit"] = 2 if job["array"] else None
        elif why == "node":
            book.end_task(job, index, -20, 93)
        else:
            book.end_task(job, index, status, 91 if why == "delete" else 93 if status else 92)
        book.schedule(folder, ledger)


def _deliver(folder: Path, number: str, index: str, job: book.Record) -> None:
    shutil.rmtree(folder / "tmp" / f"pbs.{book.name_of(number, index)}", ignore_errors=True)
    for kind, given in (("OU", job["out"]), ("ER", job["err"])):
        spooled = _spool(folder, number, index, kind)
        ending = f".{kind[0].lower()}{number}" + (f".{index}" if index else "")
        target = Path(job["workdir"]) / (given or job["name"] + ending).replace("^array_index^", index)
        if spooled.exists() and str(target) != "/dev/null":
            with contextlib.suppress(OSError):  # a real server sends mail then
                target.write_bytes(spooled.read_bytes())


def _spool(folder: Path, number: str, index: str, kind: str) -> Path:
    return folder / "spool" / f"{book.name_of(number, index)}.{kind}"
