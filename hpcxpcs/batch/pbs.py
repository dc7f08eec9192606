"""PBS: OpenPBS and PBS Professional (`pbs`) and Torque (`torque`), through their programs qsub, qstat and qdel.

The `pbs` dialect follows what a real OpenPBS 23.06.06 server was seen to do. `torque` follows its documentation and has
not been tried on a real server.

Of the JSON of `qstat`: "Jobs" is missing when there are none, values are guessed types (a variable 007 comes back as 7,
large integers as floats) and broken quotes make some answers no JSON at all; then the plain text has to do. Of a task
that has no record of its own (it never started, was put back into the queue or was deleted while it waited; without job
history every one that has ended) the server makes up an answer from the record of the array: substate, exit status and
comment are the array's, and tell nothing of the task. Such a one lacks run_count and exec_host.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpcxpcs.batch.jobs import PATIENCE, QueueState, Said, TaskLook, call
from hpcxpcs.errors import SchedulerProblem

_ID = re.compile(
    r"(?P<number>\d+)(?:\[(?P<bracketed>\d*)\]|-(?P<dashed>\d+))?(?:\.(?P<server>[A-Za-z0-9_][A-Za-z0-9_.@:-]*))?"
)


@dataclass(frozen=True)
class PbsId:
    """A job, an array as a whole (`array` without `index`), or one task of an array (`index`)."""

    number: int
    server: str = ""
    index: int | None = None
    array: bool = False
    dashed: bool = False  # as older Torques write a task

    def __post_init__(self) -> None:
        if self.index is not None:
            object.__setattr__(self, "array", True)
        if self.index is None and self.dashed:
            raise ValueError("only a task has a dash in its id")

    def __str__(self) -> str:
        index = "" if self.index is None else str(self.index)
        middle = f"-{index}" if self.dashed else f"[{index}]" if self.array else ""
        return f"{self.number}{middle}" + (f".{self.server}" if self.server else "")

    @property
    def whole(self) -> PbsId:
        """The job as it was submitted: the array of a task, otherwise itself."""
        return replace(self, index=None, dashed=False, array=self.array and not self.dashed)

    def task(self, index: int) -> PbsId:
        """Return the id of an array's task; of the older Torques' form when the array's id has no brackets."""
        return replace(self, index=index, array=True, dashed=not self.array)


def parse(text: str) -> PbsId:
    """Read an id as `qsub`, `qstat` or the environment of a job print it."""
    found = _ID.fullmatch(text.strip())
    if found is None:
        raise SchedulerProblem(
            f"{text!r} is no job id of PBS: those look like 12.server, 1234[].server or 1234[7].server"
        )
    index = found["bracketed"] or found["dashed"]
    return PbsId(
        number=int(found["number"]),
        server=found["server"] or "",
        index=None if index is None or index == "" else int(index),
        array=found["bracketed"] is not None,
        dashed=found["dashed"] is not None,
    )


def submitted(answer: str) -> PbsId:
    """Read the id from what `qsub` prints; sites put greetings before it, so the last line counts."""
    lines = [line for line in answer.splitlines() if line.strip()]
    try:
        return parse(lines[-1] if lines else "")
    except SchedulerProblem:
        raise SchedulerProblem(
            f"qsub printed no job id but {answer.strip()[:200]!r}: look with qstat whether the job is there"
        ) from None


SIGNALLED = 256
"""Exit_status is this plus the signal of which the job's top shell died."""

ENDED_WELL, FAILED, TERMINATED = 92, 93, 91
"""Substates of jobs that have ended."""

OVER_WALLTIME = -29
LOST_NODE = -20
BY_PBS = {
    -1: "PBS could not start it: a file was missing on the node, or could not be copied there",
    -2: "PBS could not start it: something failed on the node before its first command",
    LOST_NODE: "its node was lost, and it was submitted as not to be run again (-r n)",
    -24: "ended by PBS: more cores in use than asked for",
    -25: "ended by PBS: more cores in use on average than asked for",
    -26: "ended by PBS: more virtual memory than asked for",
    -27: "ended by PBS: more memory than asked for",
    -28: "ended by PBS: more CPU time than asked for",
    OVER_WALLTIME: "ended by PBS: walltime exceeded",
}
"""-20 and -29 were observed, the others are from the documentation of PBS Professional."""

SENT_BY = {"TERM": ", as qdel does", "KILL": ", as PBS does some seconds after TERM"}


def exit_words(status: int) -> str:
    """Say what an Exit_status means."""
    if status < 0:
        return BY_PBS.get(status, f"PBS could not start it or ended it (its code {status})")
    if status >= SIGNALLED:
        name = _signal_name(status - SIGNALLED)
        return f"ended by the signal {name}{SENT_BY.get(name, '')}"
    if status > 128:
        return f"exit code {status}: a process in it died of the signal {_signal_name(status - 128)}"
    return f"exit code {status}" if status else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


def ended_state(status: int | None, substate: int | None) -> QueueState:
    """Return how a job ended. One that is deleted while it waits gets the exit status 1, or none at all."""
    if substate == TERMINATED or status == SIGNALLED + signal.SIGTERM:
        return "cancelled"
    if status is None:
        return {ENDED_WELL: "done", FAILED: "failed"}.get(substate or 0, "cancelled")  # type: ignore[return-value]
    return "failed" if status else "done"


JobRecords = Mapping[str, Mapping[str, Any]]
"""{job id: {attribute: value}}"""

WAITING = {
    "Q": "",
    "H": "held, or waits for another job",
    "W": "waits for its start time",
    "T": "moves between queues or to its node",
    "M": "was moved to another server",
}
SUSPENDED = {"S": "suspended by the server", "U": "suspended: its node is in use"}
RUNNING = {"R", "B", "E"}
ENDED = {"F", "X", "C"}  # of an array that goes on: X; Torque: C
ARRAY_BEGAN = "Job Array Began"
"""Begins the comment of an array at work, which its waiting tasks show too; it is no reason to wait."""

PARTS_OF_INDICES = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?(?:%\d+)?")


def read_json(text: str) -> JobRecords:
    """Read `qstat -f -F json`; ValueError when it is no JSON."""
    try:
        answer = json.loads(text, strict=False)  # control characters stand unescaped in job names
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(answer, dict):
        raise ValueError("no object")
    jobs = answer.get("Jobs", {})
    if not isinstance(jobs, dict) or not all(isinstance(job, dict) for job in jobs.values()):
        raise ValueError("Jobs is no object of objects")
    return jobs


def read_text(text: str) -> JobRecords:
    """Read `qstat -f`: a line `Job Id: ID`, then `    name = value`; a tab begins what was folded."""
    jobs: dict[str, dict[str, Any]] = {}
    job: dict[str, Any] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith("Job Id:"):
            job = jobs.setdefault(line.partition(":")[2].strip(), {})
            name = ""
        elif line.startswith("\t"):
            if name:
                job[name] += line[1:]
        elif " = " in line and line.startswith(" "):
            name, _, value = line.strip().partition(" = ")
            job[name] = value
    return jobs


def looks(answer: JobRecords, asked: Sequence[str], *, history: bool = True) -> tuple[TaskLook, ...]:
    """Return every task of the jobs asked for; those that PBS has forgotten are `gone`.

    Without `history` the server keeps no records of ended tasks: what it says of them is not theirs.
    """
    known: dict[int, dict[int | None, Mapping[str, Any]]] = {}
    for name, job in _identified(answer):
        known.setdefault(name.number, {})[name.index] = job
    return tuple(
        look for text in dict.fromkeys(asked) for look in _of_job(text, known.get(parse(text).number, {}), history)
    )


def _identified(answer: JobRecords) -> Iterator[tuple[PbsId, Mapping[str, Any]]]:
    for text, job in answer.items():
        try:
            yield parse(text), job
        except SchedulerProblem:
            continue  # an answer to something else, e.g. of a hook


def _of_job(text: str, known: Mapping[int | None, Mapping[str, Any]], history: bool) -> list[TaskLook]:
    asked, array = parse(text), known.get(None)
    if asked.index is not None:
        job = known.get(asked.index) or _from_array(array, asked.index)
        return [_look(str(asked.whole), asked.index, job, history)]
    tasks = sorted(index for index in {*known, *_indices(array)} if index is not None)
    if not tasks:
        return [_look(text, None, array, history)]
    return [_look(text, index, known.get(index) or _from_array(array, index), history) for index in tasks]


def _indices(array: Mapping[str, Any] | None, name: str = "array_indices_submitted") -> set[int]:
    indices: set[int] = set()
    for part in str((array or {}).get(name, "")).split(","):
        found = PARTS_OF_INDICES.fullmatch(part.strip())
        if found:
            first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
            indices |= set(range(first, last + 1, max(step, 1)))
    return indices


def _from_array(array: Mapping[str, Any] | None, index: int) -> Mapping[str, Any] | None:
    """What an array says of a task that is not listed by itself: not every version lists those that wait."""
    waits = index in _indices(array, "array_indices_remaining")
    return {"job_state": "Q", "comment": (array or {}).get("comment", "")} if waits else None


def _look(job: str, index: int | None, attributes: Mapping[str, Any] | None, history: bool) -> TaskLook:
    if attributes is None:
        return TaskLook(job, index, "gone", "", reason="the scheduler no longer knows it")
    word = str(attributes.get("job_state", "")).strip()
    node = str(attributes.get("exec_host", "")).split("+")[0].split("/")[0].split(":")[0]
    if word in WAITING:
        comment = str(attributes.get("comment", "")).strip()
        reason = WAITING[word] if comment.startswith(ARRAY_BEGAN) else comment or WAITING[word]
        return TaskLook(job, index, "waiting", word, node, reason)
    if word in SUSPENDED:
        return TaskLook(job, index, "suspended", word, node, SUSPENDED[word])
    if word in RUNNING:
        return TaskLook(job, index, "running", word, node)
    if word not in ENDED:
        raise SchedulerProblem(
            f"qstat says that job {job} is in the state {word!r}, which is none of PBS: look at it with qstat -xf"
        )
    if not node and "run_count" not in attributes:
        return _without_record(job, index, word, attributes, history)
    status, substate = _whole(attributes, "Exit_status", "exit_status"), _whole(attributes, "substate")
    state = ended_state(status, substate)
    if state == "cancelled" and status in (None, 0, 1):
        reason = "deleted"
    else:
        reason = str(attributes.get("comment", "")).strip() if status is None else exit_words(status)
    return TaskLook(job, index, state, word, node, reason, status)


def _without_record(job: str, index: int | None, word: str, attributes: Mapping[str, Any], history: bool) -> TaskLook:
    """An ended task that left no record of a start: deleted where records are kept, of unknown end elsewhere."""
    if not history:
        return TaskLook(job, index, "gone", word, reason="ended; this server keeps no record of how")
    if index is not None:
        return TaskLook(job, index, "cancelled", word, reason="deleted; there is no record of its start")
    awaited = str(attributes.get("depend", "")).strip()
    reason = "deleted before it ran" + (f", while it waited for {awaited}" if awaited else "")
    return TaskLook(job, index, "cancelled", word, reason=reason)


def _whole(attributes: Mapping[str, Any], *names: str) -> int | None:
    """Return a whole number that may have become a float or a text on the way."""
    for name in names:
        try:
            return int(float(attributes[name]))
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    return None


FORGOTTEN = ("Unknown Job Id", "Job has finished", "Unknown Job")
"""What qstat complains of when a job is not there (exit code 153) or no longer (35)."""

ALREADY_ENDED = (*FORGOTTEN, "Request invalid for state of job")
NO_HISTORY = "not configured to maintain job history"
"""In the complaint of a server that keeps no ended jobs when it is asked for them. OpenPBS prints an answer without any
job beside it and ends with 0, so that only the complaint tells."""

ROUNDS = 3
"""How often waiting tasks are deleted: OpenPBS skipped the last of three in one request, twice, without a word."""


class Pbs:
    """A PBS cluster, as seen from a node on which its programs are installed."""

    def __init__(self, dialect: str = "pbs", *, patience: float = PATIENCE) -> None:
        """`patience` is how long a program may take to answer, in seconds."""
        self.name = dialect
        self._torque = dialect == "torque"
        self._patience = patience

    def submit(self, script: Path, *, after: str | None = None) -> str:
        """Hand in a script, to start when the job `after` has ended in any way; returns the job's id."""
        said = self._call(self._qsub(script, after), "correct the script, or submit with other options")
        return str(submitted(said.printed))

    def submit_line(self, script: Path, *, after: str | None = None) -> str:
        """The command that `submit` runs, for people to copy."""
        return shlex.join(self._qsub(script, after))

    def look(self, jobs: Sequence[str]) -> tuple[TaskLook, ...]:
        """All tasks of some jobs, in one request (two on a server without job history)."""
        if not jobs:
            return ()
        wanted = list(dict.fromkeys(str(parse(job).whole) for job in jobs))
        records, history = self._records(wanted)
        return looks(records, jobs, history=history)

    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs, running or waiting; those that have ended already are no error.

        What still waits afterwards is deleted again; SchedulerProblem when it cannot be made to go.
        """
        left = [str(parse(job)) for job in jobs]
        for _ in range(ROUNDS):
            if not left:
                return
            self._call(["qdel", *left], "try qdel yourself", ALREADY_ENDED)
            left = [_task(look) for look in self.look(jobs) if look.state == "waiting"]
        if left:
            raise SchedulerProblem(f"qdel {' '.join(left)}: accepted, and they still wait: try qdel yourself")

    def _qsub(self, script: Path, after: str | None) -> list[str]:
        dependency = [] if after is None else ["-W", f"depend={self._after(after)}"]
        return ["qsub", *dependency, str(script.absolute())]

    def _after(self, text: str) -> str:
        job = parse(text)
        return f"afteranyarray:{job}" if self._torque and job.array else f"afterany:{job}"

    def _records(self, jobs: Sequence[str]) -> tuple[JobRecords, bool]:
        """What qstat says of jobs, and whether the server keeps records of ended ones."""
        if self._torque:
            return self._read_text(["-f", "-1", "-t", *jobs]), True
        flags, history = "-xf", True
        said = self._qstat([flags, "-F", "json", "-t", *jobs])
        if NO_HISTORY in said.complaint:
            flags, history = "-f", False
            said = self._qstat([flags, "-F", "json", "-t", *jobs])
        try:
            return read_json(said.printed) if said.printed.strip() else {}, history
        except ValueError:  # a quote in the name of a job is enough
            return self._read_text([flags, "-t", *jobs], said.printed), history

    def _read_text(self, arguments: Sequence[str], unreadable: str = "") -> JobRecords:
        """What qstat says as plain text, after JSON that was `unreadable`."""
        text = self._qstat(arguments).printed
        records = read_text(text)
        text = unreadable or text
        if not records and text.strip():
            raise SchedulerProblem(
                f"qstat answered what no PBS is known to: {text.strip()[:200]!r}: try qstat -f yourself"
            )
        return records

    def _qstat(self, arguments: Sequence[str]) -> Said:
        return self._call(["qstat", *arguments], "try the command yourself", (*FORGOTTEN, NO_HISTORY))

    def _call(self, command: Sequence[str], remedy: str, tolerated: Sequence[str] = ()) -> Said:
        return call(command, remedy=remedy, tolerated=tolerated, seconds=self._patience)


def _task(look: TaskLook) -> str:
    """The id of a task by which qdel knows it."""
    job = parse(look.job)
    return str(job if look.index is None else job.task(look.index))
