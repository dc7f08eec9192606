"""What `qstat` answers, read into TaskLook: JSON of PBS Professional and OpenPBS, plain text of those and of Torque.

The JSON was observed on OpenPBS 23.06.06: "Jobs" is missing when there are none, values are guessed types (a variable
007 comes back as 7, large integers as floats) and broken quotes make some answers no JSON at all; then the plain text
has to do. Of a task that has no record of its own (it never started, was put back into the queue or was deleted while
it waited; without job history every one that has ended) the server makes up an answer from the record of the array:
substate, exit status and comment are the array's, and tell nothing of the task. Such a one lacks run_count and
exec_host. Torque's text is read as its documentation shows it; it has not been tried on a real Torque server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpcxpcs.errors import SchedulerProblem
from hpcxpcs.runtime.schedulers.jobs import TaskLook
from hpcxpcs.runtime.schedulers.pbs_exits import ended_state, exit_words
from hpcxpcs.runtime.schedulers.pbs_ids import PbsId, parse

Answer = Mapping[str, Mapping[str, Any]]
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


def read_json(text: str) -> Answer:
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


def read_text(text: str) -> Answer:
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


def looks(answer: Answer, asked: Sequence[str], *, history: bool = True) -> tuple[TaskLook, ...]:
    """Return every task of the jobs asked for; those that PBS has forgotten are `gone`.

    Without `history` the server keeps no records of ended tasks: what it says of them is not theirs.
    """
    known: dict[int, dict[int | None, Mapping[str, Any]]] = {}
    for name, job in _identified(answer):
        known.setdefault(name.number, {})[name.index] = job
    return tuple(
        look
        for text in dict.fromkeys(asked)
        for look in _of_job(text, known.get(parse(text).number, {}), history)
    )


def _identified(answer: Answer) -> Iterator[tuple[PbsId, Mapping[str, Any]]]:
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


def _without_record(
    job: str, index: int | None, word: str, attributes: Mapping[str, Any], history: bool
) -> TaskLook:
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
