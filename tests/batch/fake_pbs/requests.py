"""qstat, qdel, qrerun and qsig: requests about jobs that are there."""

from __future__ import annotations

import getopt
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.batch.fake_pbs import answers
from tests.batch.fake_pbs import ledger as book

UNKNOWN, HAS_FINISHED, NOT_ALLOWED, NOT_RERUNNABLE, WRONG_STATE = 153, 35, 159, 190, 170
FINISHED = "{} Job has finished, use -x or -H to obtain historical job information"
NO_HISTORY = "PBS is not configured to maintain job history"
SKIPPED_AFTER = 2
"""Of more waiting tasks than these in one qdel, a real server left the last one."""
ID = re.compile(r"(\d+)(?:\[(\d*)\])?(?:\.([\w.-]+))?")


class ComplaintError(Exception):
    """What is said on stderr of one id, and the exit code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def main(arguments: list[str]) -> int:
    """Answer `FOLDER PROGRAM ...`; ids are served one after the other, and the last complaint is the exit code."""
    folder, program, rest = Path(arguments[0]), arguments[1], arguments[2:]
    return {"qstat": qstat, "qdel": qdel, "qrerun": qrerun, "qsig": qsig}[program](folder, rest)


def qstat(folder: Path, arguments: list[str]) -> int:
    """Print jobs."""
    options, ids = getopt.getopt(arguments, "aefF:HitTwxu:")
    flags = {flag for flag, _ in options}
    style = dict(options).get("-F")
    if "-f" not in flags:
        print("qstat: this fake knows only full answers (-f)", file=sys.stderr)
        return 2
    ledger, code, entries = book.read(folder), 0, {}
    if "-x" in flags and not ledger["settings"]["history"]:
        for text in ids or [""]:
            print(f"qstat: {NO_HISTORY} {_full(text) if text else ''}", file=sys.stderr)
        print(answers.as_json({}) if style == "json" else "", end="")
        return 0
    for text in ids or [book.name_of(n, "all" if j["array"] else "") for n, j in ledger["jobs"].items()]:
        try:
            number, index, job = _found(ledger, text)
            if job.get("ended") and "-x" not in flags:
                raise ComplaintError(FINISHED.format(book.name_of(number, index)), HAS_FINISHED)
        except ComplaintError as complaint:
            print(f"qstat: {complaint}", file=sys.stderr)
            code = complaint.code
            continue
        inner = list(job["tasks"]) if index == "all" and "-t" in flags else []
        for each in [index, *inner]:
            entries[book.name_of(number, each)] = answers.entry(number, each, ledger)
    print(answers.as_json(entries) if style == "json" else answers.as_text(entries), end="")
    return code


def qdel(folder: Path, arguments: list[str]) -> int:
    """End jobs: those that wait at once, the others by TERM, and KILL after kill_delay."""
    with book.opened(folder) as ledger:
        code, ids = 0, getopt.getopt(arguments, "xW:")[1]
        waiting = [text for text in ids if _waits(ledger, text)]
        for text in ids:
            if text in waiting[SKIPPED_AFTER:] and text == waiting[-1]:
                continue
            try:
                for number, index, job in _tasks(ledger, text):
                    if job["tasks"][index]["state"] in ("R", "E"):
                        book.order(folder, number, index, "delete")
                    elif job["tasks"][index]["state"] not in book.ENDED:
                        book.end_task(job, index, 1 if job["array"] else None, 91)
            except ComplaintError as complaint:
                said = str(complaint).replace(f".{book.SERVER}", "" if "." not in text else f".{book.SERVER}")
                print(f"qdel: {said if complaint.code == UNKNOWN else complaint}", file=sys.stderr)
                code = complaint.code
        book.schedule(folder, ledger)
    return code


def qrerun(folder: Path, arguments: list[str]) -> int:
    """Run jobs again, if the user is an operator."""
    ledger, code = book.read(folder), 0
    for text in getopt.getopt(arguments, "W:")[1]:
        try:
            for number, index, job in _tasks(ledger, text):
                if not ledger["settings"]["operator"]:
                    raise ComplaintError(f"Unauthorized Request  {book.name_of(number, index)}", NOT_ALLOWED)
                if not job["rerunnable"]:
                    raise ComplaintError(f"Job not rerunable {text}", NOT_RERUNNABLE)
                if job["tasks"][index]["state"] == "R":
                    book.order(folder, number, index, "rerun")
        except ComplaintError as complaint:
            print(f"qrerun: {_without_id(complaint)}", file=sys.stderr)
            code = complaint.code
    return code


def qsig(folder: Path, arguments: list[str]) -> int:
    """Signal all processes of running jobs, the login shell above a script included."""
    options, ids = getopt.getopt(arguments, "s:")
    name = dict(options).get("-s", "TERM").removeprefix("SIG")
    ledger, code = book.read(folder), 0
    for text in ids:
        try:
            running = [job["tasks"][i] for _, i, job in _tasks(ledger, text) if job["tasks"][i]["state"] == "R"]
            if not running:
                raise ComplaintError(f"Request invalid for state of job {text}", WRONG_STATE)
            for task in running:
                book.send(task["session"], signal.Signals[f"SIG{name}"])
        except ComplaintError as complaint:
            print(f"qsig: {_without_id(complaint)}", file=sys.stderr)
            code = complaint.code
    return code


def _without_id(complaint: ComplaintError) -> str:
    """What qrerun and qsig say: of a finished job they name no id."""
    return "Job has finished" if complaint.code == HAS_FINISHED else str(complaint)


def _full(text: str) -> str:
    """An id with the name of the server."""
    return text if "." in text else f"{text}.{book.SERVER}"


def _waits(ledger: book.Record, text: str) -> bool:
    """Whether this is the id of a single task that waits."""
    try:
        _, index, job = _found(ledger, text)
    except ComplaintError:
        return False
    return bool(job["array"] and index != "all" and job["tasks"][index]["state"] in "QHW")


def _found(ledger: book.Record, text: str) -> tuple[str, str, book.Record]:
    found = ID.fullmatch(text)
    job = ledger["jobs"].get(found[1]) if found else None
    index = "" if not found or found[2] is None else found[2] or "all"
    known = job is not None and (index in job["tasks"] or (index == "all" and job["array"]))
    if not found or job is None or not known or (found[3] or book.SERVER) != book.SERVER:
        raise ComplaintError(f"Unknown Job Id {_full(text)}", UNKNOWN)
    return found[1], index, job


def _tasks(ledger: book.Record, text: str) -> Iterator[tuple[str, str, book.Record]]:
    number, index, job = _found(ledger, text)
    if job.get("ended") or (index != "all" and job["tasks"][index]["state"] in book.ENDED):
        raise ComplaintError(f"Job has finished {book.name_of(number, index)}", HAS_FINISHED)
    for each in job["tasks"] if index == "all" else [index]:
        yield number, each, job
