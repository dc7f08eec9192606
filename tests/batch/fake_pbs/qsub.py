"""qsub: takes a script or, after --, a command; refuses what OpenPBS refuses."""

from __future__ import annotations

import getopt
import os
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from tests.batch.fake_pbs import ledger as book

OPTIONS = "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:P:q:r:S:u:v:VW:z"
ARRAY = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?:%(\d+))?")
USAGE, REFUSED = 2, 1
USAGE_LINES = """\
usage: qsub [-a date_time] [-A account_string] [-c interval]
	[-C directive_prefix] [-e path] [-f ] [-h ] [-I [-X]] [-j oe|eo] [-J X-Y[:Z]]
	[-k keep] [-l resource_list] [-m mail_options] [-M user_list]
	[-N jobname] [-o path] [-p priority] [-P project] [-q queue] [-r y|n]
	[-R o|e|oe] [-S path] [-u user_list] [-W otherattributes=value...]
	[-v variable_list] [-V ] [-z] [script | -- command [arg1 ...]]
       qsub --version"""


class RefusedError(Exception):
    """What is said on stderr, and the exit code."""

    def __init__(self, text: str, code: int = REFUSED) -> None:
        super().__init__(text)
        self.code = code


def main(arguments: list[str]) -> int:
    """Queue a job and print its id."""
    folder = Path(arguments[0])
    try:
        print(_submit(folder, arguments[1:]))
    except RefusedError as refusal:
        print(f"qsub: {refusal}", file=sys.stderr)
        if refusal.code == USAGE:
            print(USAGE_LINES, file=sys.stderr)
        return refusal.code
    return 0


def _submit(folder: Path, arguments: list[str]) -> str:
    options, operands, after_dashes = _parsed(arguments)
    script = None
    if not after_dashes:
        if not operands:
            raise RefusedError("standard input is not read by this fake")
        try:
            script = Path(operands[0]).read_text(errors="surrogateescape")
        except OSError:
            raise RefusedError("script file:: No such file or directory") from None
        options = _directives(script) + options
    job = _job(options, operands if after_dashes else None, Path(operands[0]).name if operands else "STDIN")
    with book.opened(folder) as ledger:
        return _queue(folder, ledger, job, script)


def _parsed(arguments: list[str]) -> tuple[list[tuple[str, str]], list[str], bool]:
    try:
        options, operands = getopt.getopt(arguments, OPTIONS)
    except getopt.GetoptError as error:
        raise RefusedError(f"{error}", USAGE) from None
    read = len(arguments) - len(operands)
    return options, operands, read > 0 and arguments[read - 1] == "--"


def _directives(script: str) -> list[tuple[str, str]]:
    options: list[tuple[str, str]] = []
    for line in script.splitlines():
        if line.startswith("#PBS"):
            options += _parsed(shlex.split(line[4:]))[0]
        elif line.strip() and not line.startswith(("#", ":")):
            break
    return options


def _job(options: list[tuple[str, str]], command: list[str] | None, script_name: str) -> book.Record:
    last = dict(options)  # the command line comes after the script's own
    name = last.get("-N", "STDIN" if command is not None else script_name[:15])
    if re.search(r"\s", name) or not name:
        raise RefusedError("illegal -N value", USAGE)
    resources = _resources([value for flag, value in options if flag == "-l"])
    array = _array(last["-J"]) if "-J" in last else None
    if array and last.get("-r") == "n":
        raise RefusedError(" cannot submit non-rerunable Array Job", USAGE)
    chunk = dict(part.partition("=")[::2] for part in resources.get("select", "1:ncpus=1").split(":")[1:])
    after = _dependencies([value for flag, value in options if flag == "-W"])
    variables = dict(part.partition("=")[::2] for part in last.get("-v", "").split(",") if part)
    variables = {key: value or os.environ.get(key, "") for key, value in variables.items()}
    held = "-h" in last
    first = {
        "state": "H" if after or held else "Q",
        "substate": 22 if after else 20 if held else 10,
        "run_count": 0,
        "exit": None,
    }
    return {
        "name": name,
        "user": os.environ.get("LOGNAME") or os.environ.get("USER") or "user",
        "queue": last.get("-q", ""),
        "command": command,
        "array": array,
        "begun": None,
        "held": held,
        "after": [(kind, re.split(r"[\[.]", other)[0]) for kind, other in after],
        "written": after,
        "known": [],
        "exit": None,
        "substate": None,
        "umask": _umask([value for flag, value in options if flag == "-W"]),
        "tasks": {index: {**first, "session": None} for index in (_indices(array) if array else [""])},
        "resources": resources,
        "cores": int(chunk.get("ncpus", resources.get("ncpus", 1))),
        "processes": int(chunk.get("mpiprocs", 1)) * int(resources.get("select", "1").split(":")[0]),
        "walltime": _seconds(resources.get("walltime", "5:00:00")),
        "join": last.get("-j") in ("oe", "eo"),
        "out": last.get("-o"),
        "err": last.get("-e"),
        "rerunnable": last.get("-r", "y") == "y",
        "variables": variables,
        "exported": dict(os.environ) if "-V" in last else {},
        "path": os.environ.get("PATH", ""),
        "workdir": str(Path.cwd()),
        "created": time.time(),
    }


def _resources(values: list[str]) -> dict[str, str]:
    resources: dict[str, str] = {}
    for part in ",".join(values).split(","):
        key, _, value = part.partition("=")
        if part and not value:
            raise RefusedError("illegal -l value", USAGE)
        resources |= {key: value} if part else {}
    for chunk_level in ("ncpus", "mem"):
        if "select" in resources and chunk_level in resources:
            raise RefusedError(f'"-lresource=" cannot be used with "select" or "place", resource is: {chunk_level}', 5)
    if "select" in resources and not re.fullmatch(r"\d+(:[a-z_]+=[A-Za-z0-9_.]+)*", resources["select"]):
        raise RefusedError("Illegal attribute or resource value Resource_List.select", 166)
    return resources


def _array(text: str) -> dict[str, Any]:
    found = ARRAY.fullmatch(text)
    if found is None or int(found[2]) <= int(found[1]):
        raise RefusedError("illegal -J value", USAGE)
    return {"indices": text.partition("%")[0], "at_once": int(found[4]) if found[4] else None}


def _indices(array: dict[str, Any]) -> list[str]:
    found = ARRAY.fullmatch(array["indices"])
    assert found
    return [str(index) for index in range(int(found[1]), int(found[2]) + 1, int(found[3] or 1))]


def _dependencies(values: list[str]) -> list[tuple[str, str]]:
    after = []
    for value in values:
        if value.startswith("depend="):
            kind, *jobs = value.removeprefix("depend=").split(":")
            if kind not in ("afterany", "afterok", "afternotok") or not jobs:
                raise RefusedError("illegal -W value", USAGE)
            for job in jobs:
                if re.fullmatch(r"\d+(\[\])?(\.\w+)?", job) is None:
                    raise RefusedError("illegal -W value", USAGE)
                after.append((kind, job if "." in job else f"{job}.{book.SERVER}"))
    return after


def _umask(values: list[str]) -> int | None:
    given = [value.removeprefix("umask=") for value in values if value.startswith("umask=")]
    if given and not re.fullmatch("[0-7]{1,4}", given[-1]):
        raise RefusedError("illegal -W value", USAGE)
    return int(given[-1], 8) if given else None


def _seconds(text: str) -> int:
    total = 0
    for part in text.split(":"):
        if not part.isdigit():
            raise RefusedError("Illegal attribute or resource value Resource_List.walltime", 166)
        total = 60 * total + int(part)
    return total


def _queue(folder: Path, ledger: book.Record, job: book.Record, script: str | None) -> str:
    settings = ledger["settings"]
    job["queue"] = job["queue"] or settings["queues"][0]
    if job["queue"] not in settings["queues"]:
        raise RefusedError("Unknown queue", 170)
    if len(job["tasks"]) > settings["max_array_size"]:
        raise RefusedError("Array job exceeds server or queue size limit", 3)
    for _, other in job["after"]:
        job["known"] += [other] if other in ledger["jobs"] else []
    number = str(ledger["next"])
    ledger["next"] += 1
    if script is not None:
        file = folder / "spool" / f"{number}.SC"
        file.write_text(script, errors="surrogateescape")
        file.chmod(0o700)
    ledger["jobs"][number] = job
    book.schedule(folder, ledger)
    return book.name_of(number, "all" if job["array"] else "")
