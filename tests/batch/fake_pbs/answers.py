"""What qstat prints: JSON with its guessed types, or text with folded lines."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from tests.batch.fake_pbs import ledger as book

NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
LARGEST_WHOLE = 2**53
TEXTS = {"Job_Name", "Job_Owner", "comment", "array_state_count"}
ENDINGS = {92: " and finished", 93: " and failed", 91: f" and terminated by user@{book.SERVER}"}
NOT_RUNNING = "Not Running: Insufficient amount of resource: ncpus"
ARRAYS_OWN = {
    "array",
    "array_indices_remaining",
    "array_indices_submitted",
    "array_state_count",
    "max_run_subjobs",
    "project",
}
WIDTH = 79


def entry(number: str, index: str, ledger: book.Record) -> dict[str, Any]:
    """Return the attributes of a job, a task or (index "all") an array, as texts.

    Of a task without a record of its own they are those of the array.
    """
    job = ledger["jobs"][number]
    if index == "all":
        return _as_submitted(number, ledger, book.array_state(job)) | _of_array(job, ledger)
    task = job["tasks"][index]
    if job["array"] and not book.has_record(ledger, task):
        return _made_up(number, ledger, task)
    fields = _common(job, task["state"]) if job["array"] else _as_submitted(number, ledger, task["state"])
    fields["substate"] = str(task["substate"])
    if task["run_count"] and task["state"] in ("R", "E", "X", "F"):
        ended = ENDINGS.get(task["substate"], "")
        on = f"Job run at {_minute(task['started'])} on ({book.SERVER}:ncpus={job['cores']})"
        fields |= {
            "exec_host": f"{book.SERVER}/0",
            "run_count": str(task["run_count"]),
            "comment": on + ended,
        }
        fields |= {"session_id": str(task["session"] or 0), "stime": time.ctime(task["started"])}
    elif task["state"] == "Q":
        fields["comment"] = NOT_RUNNING
    if task["exit"] is not None:
        fields["Exit_status"] = str(task["exit"])
    if job["array"]:
        fields |= {"array_id": book.name_of(number, "all"), "array_index": index}
    return fields


def _common(job: book.Record, state: str) -> dict[str, Any]:
    """What every record has."""
    return {
        "Job_Name": job["name"],
        "Job_Owner": f"{job['user']}@{book.SERVER}",
        "job_state": state,
        "queue": job["queue"],
        "server": book.SERVER,
        "ctime": time.ctime(job["created"]),
        "Join_Path": "oe" if job["join"] else "n",
        "Output_Path": f"{book.SERVER}:{job['out'] or job['workdir']}",
        "Rerunable": str(job["rerunnable"]),
        "Resource_List": job["resources"],
        "Variable_List": {"PBS_O_WORKDIR": job["workdir"], **job["variables"]},
        "project": "_pbs_project_default",
    }


def _as_submitted(number: str, ledger: book.Record, state: str) -> dict[str, Any]:
    """What jobs and arrays have, and tasks do not."""
    job = ledger["jobs"][number]
    waits = state == "H" or (state == "F" and not any(task["run_count"] for task in job["tasks"].values()))
    fields = _common(job, state) | {"Hold_Types": "s" if waits and job["after"] else "u" if waits else "n"}
    if waits and job["after"]:
        fields["depend"] = ",".join(f"{kind}:{other}@{book.SERVER}" for kind, other in job["written"])
    return fields


def _of_array(job: book.Record, ledger: book.Record) -> dict[str, Any]:
    """What only arrays have; ended tasks are counted where nothing else is known of them."""
    tasks = job["tasks"].values()
    silent = [task for task in tasks if task["state"] in "XF" and not book.has_record(ledger, task)]
    counts = {"Queued": "QHW", "Running": "R", "Exiting": "E"}
    states = {name: sum(task["state"] in of for task in tasks) for name, of in counts.items()}
    states["Expired"] = len(silent)
    left = [int(index) for index, task in job["tasks"].items() if task["state"] in "QHW"]
    fields = {
        "array": "True",
        "array_state_count": " ".join(f"{name}:{count}" for name, count in states.items()),
        "array_indices_submitted": job["array"]["indices"],
        "array_indices_remaining": _ranges(left),
        "substate": _array_substate(job),
    }
    if job["array"].get("at_once"):
        fields["max_run_subjobs"] = str(job["array"]["at_once"])
    if job["exit"] is not None:
        fields["Exit_status"] = str(job["exit"])
    if job["begun"]:
        ended = ENDINGS.get(job["substate"], "")
        fields |= {
            "comment": f"Job Array Began at {_minute(job['begun'])}{ended}",
            "stime": time.ctime(job["begun"]),
        }
    elif book.array_state(job) == "Q":
        fields["comment"] = NOT_RUNNING
    return fields


def _made_up(number: str, ledger: book.Record, task: book.Record) -> dict[str, Any]:
    """What is said of a task without a record of its own: that of its array, with another state."""
    of_array = entry(number, "all", ledger)
    fields = {key: value for key, value in of_array.items() if key not in ARRAYS_OWN}
    if task["state"] in book.ENDED:
        return fields | {"job_state": task["state"], "comment": "Subjob finished"}
    return fields | {"job_state": task["state"], "substate": str(task["substate"])}


def _array_substate(job: book.Record) -> str:
    if job.get("ended"):
        return str(job["substate"])
    return "70" if job["begun"] else str(next(iter(job["tasks"].values()))["substate"])


def _ranges(indices: list[int]) -> str:
    """Write indices as a server does: 0-2,4,6-9; - for none."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and index == parts[-1][-1] + 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts) or "-"


def _minute(moment: float) -> str:
    return time.strftime("%a %b %d at %H:%M", time.localtime(moment))


def as_json(entries: dict[str, dict[str, Any]]) -> str:
    """Print as `-F json` does: "Jobs" is missing when nothing matches."""
    answer: dict[str, Any] = {
        "timestamp": int(time.time()),
        "pbs_version": "23.06.06",
        "pbs_server": book.SERVER,
    }
    if entries:
        answer["Jobs"] = {name: {key: _guessed(key, value) for key, value in e.items()} for name, e in entries.items()}
    return json.dumps(answer, indent=4, separators=(",", ":"))


def _guessed(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {inner: _guessed(inner, text) for inner, text in value.items()}
    if key in TEXTS:
        return value
    if value.lower() in ("true", "false") and key != "Rerunable" and key != "array":
        return value.lower() == "true"
    if NUMBER.fullmatch(value):
        number = float(value)
        return int(number) if number.is_integer() and abs(number) < LARGEST_WHOLE else number
    return value.replace('"', "")


def as_text(entries: dict[str, dict[str, Any]]) -> str:
    """Print as `-f` does: long lines go on after a tab."""
    lines: list[str] = []
    for name, fields in entries.items():
        lines.append(f"Job Id: {name}")
        for key, value in fields.items():
            if key == "Variable_List":
                lines += _folded(f"    {key} = " + ",".join(f"{a}={b}" for a, b in value.items()))
            elif isinstance(value, dict):
                for inner, text in value.items():
                    lines += _folded(f"    {key}.{inner} = {text}")
            else:
                lines += _folded(f"    {key} = {value}")
        lines.append("")
    return "\n".join(lines)


def _folded(line: str) -> list[str]:
    pieces = [line[:WIDTH]]
    for start in range(WIDTH, len(line), WIDTH - 8):
        pieces.append("\t" + line[start : start + WIDTH - 8])
    return pieces
