"""What qstat prints: JSON with its guessed types, or text with folded lines."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from tests.runtime.schedulers.fake_pbs import ledger as book

NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
LARGEST_WHOLE = 2**53
TEXTS = {"Job_Name", "Job_Owner", "comment", "array_state_count"}
WIDTH = 79


def entry(number: str, index: str, job: book.Record) -> dict[str, Any]:
    """Return the attributes of a job, a task or (index "all") an array, as texts."""
    task = job["tasks"].get(
        index, {"state": book.array_state(job), "substate": 10, "exit": None, "run_count": 0}
    )
    fields: dict[str, Any] = {
        "Job_Name": job["name"],
        "Job_Owner": f"{job['user']}@{book.SERVER}",
        "job_state": task["state"],
        "queue": job["queue"],
        "server": book.SERVER,
        "ctime": time.ctime(job["created"]),
        "Join_Path": "oe" if job["join"] else "n",
        "Output_Path": f"{book.SERVER}:{job['out'] or job['workdir']}",
        "Rerunable": str(job["rerunnable"]),
        "Resource_List": job["resources"],
        "substate": str(task["substate"]),
        "Variable_List": {"PBS_O_WORKDIR": job["workdir"], **job["variables"]},
        "project": "_pbs_project_default",
    }
    if task["state"] in ("R", "E", "X", "F") and task.get("run_count"):
        fields |= {"exec_host": f"{book.SERVER}/0", "run_count": str(task["run_count"])}
    if task["exit"] is not None:
        fields["Exit_status"] = str(task["exit"])
    if task.get("comment"):
        fields["comment"] = task["comment"]
    elif task["state"] == "Q":
        fields["comment"] = "Not Running: Insufficient amount of resource: ncpus"
    if index == "all":
        fields |= _of_array(job)
    elif index:
        fields |= {"array_id": book.name_of(number, "all"), "array_index": index}
    return fields


def _of_array(job: book.Record) -> dict[str, Any]:
    states = [task["state"] for task in job["tasks"].values()]
    counts = {"Queued": "QHW", "Running": "R", "Exiting": "E", "Expired": "XF"}
    left = [index for index, task in job["tasks"].items() if task["state"] in "QHW"]
    fields = {
        "array": "True",
        "array_state_count": " ".join(f"{name}:{sum(s in of for s in states)}" for name, of in counts.items())
        + " ",
        "array_indices_submitted": job["array"]["indices"],
        "array_indices_remaining": ",".join(left) or "-",
    }
    if job["array"].get("at_once"):
        fields["max_run_subjobs"] = str(job["array"]["at_once"])
    if book.array_state(job) == "F":
        fields["Exit_status"] = str(int(any(task["exit"] for task in job["tasks"].values())))
        fields["substate"] = "93" if fields["Exit_status"] == "1" else "92"
    return fields


def as_json(entries: dict[str, dict[str, Any]]) -> str:
    """Print as `-F json` does: "Jobs" is missing when nothing matches."""
    answer: dict[str, Any] = {
        "timestamp": int(time.time()),
        "pbs_version": "23.06.06",
        "pbs_server": book.SERVER,
    }
    if entries:
        answer["Jobs"] = {
            name: {key: _guessed(key, value) for key, value in e.items()} for name, e in entries.items()
        }
    return json.dumps(answer, indent=4)


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
