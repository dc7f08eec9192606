"""What may be asked of the PBS executor of submitit, checked, and turned into options of qsub and a script of bash."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hpcxpcs.runtime.schedulers.pbs import PbsDialect
from hpcxpcs.runtime.schedulers.quoting import shell_word

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{0,14}")
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:/+-]*")
MEMORY = re.compile(r"(\d+)(b|kb|mb|gb|tb)", re.IGNORECASE)
DEPENDENCY = re.compile(r"[a-z]+:[A-Za-z0-9_.@:,\[\]-]+")
CARRIED_BY_PBS = re.compile(r"/[A-Za-z0-9_./+=-]*")
"""Paths that mean the same in every version of qsub, which knows HOST:PATH, lists and several kinds of quotes."""

RANKS = ("SUBMITIT_PBS_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PALS_RANKID")
"""Where a launcher tells a process its number, the first that is set counts."""

CHECKPOINTED = 255
"""Exit code of a process of submitit that has saved its state and will be run again."""


@dataclass(frozen=True)
class PbsParameters:
    """What one job gets; all can be set through `executor.update_parameters`.

    `time` is in minutes and `mem` per node ("4gb"). `launcher` starts all processes of a job on several nodes (e.g.
    `["mpiexec", "-n", "8"]`). `directives` are further options of qsub, `setup` and `teardown` lines of bash, and
    `signal_delay_s` is how many seconds before its time is up a function that can be continued is stopped. Jobs have
    the environment of a login shell: what else they need is for `setup`, or all of it for `directives=["-V"]`.
    """

    name: str = "submitit"
    time: float = 5
    nodes: int = 1
    tasks_per_node: int = 1
    cpus_per_task: int = 1
    gpus_per_node: int = 0
    mem: str | None = None
    queue: str | None = None
    account: str | None = None
    dependency: str | None = None
    array_parallelism: int | None = 256
    signal_delay_s: int = 90
    stderr_to_stdout: bool = False
    launcher: Sequence[str] = ()
    directives: Sequence[str] = ()
    setup: Sequence[str] = ()
    teardown: Sequence[str] = ()

    def __post_init__(self) -> None:
        _match("name", self.name, NAME, "at most 15 letters, digits and _.+-, the first one a letter")
        _match("mem", self.mem, MEMORY, "a whole number with b, kb, mb, gb or tb, e.g. 4gb")
        _match("queue", self.queue, PLAIN_NAME, "a plain name")
        _match("account", self.account, PLAIN_NAME, "a plain name")
        _match("dependency", self.dependency, DEPENDENCY, "as after -W depend=, e.g. afterany:12.server")
        for field in ("nodes", "tasks_per_node", "cpus_per_task", "array_parallelism"):
            _at_least(1, field, getattr(self, field))
        _at_least(0, "gpus_per_node", self.gpus_per_node)
        _at_least(0, "signal_delay_s", self.signal_delay_s)
        if not self.time > 0 or math.isinf(self.time):
            raise ValueError(f"time={self.time!r}: must be a number of minutes above zero")
        for field in ("launcher", "directives", "setup", "teardown"):
            _texts(field, getattr(self, field))
        if self.nodes > 1 and not self.launcher:
            raise ValueError(
                f"nodes={self.nodes}: needs a launcher that starts the processes on all nodes, "
                f'e.g. pbs_launcher=["mpiexec", "-n", "{self.tasks}"]'
            )

    @property
    def tasks(self) -> int:
        """Processes of a job, over all its nodes."""
        return self.nodes * self.tasks_per_node

    def options(self, dialect: PbsDialect) -> list[str]:
        """Return the options of qsub, without those of an array and of the output."""
        words = ["-N", self.name, "-r", "y"]
        for resource in _torque(self) if dialect == "torque" else _select(self):
            words += ["-l", resource]
        for flag, value in (("-q", self.queue), ("-A", self.account)):
            words += [] if value is None else [flag, value]
        words += [] if self.dependency is None else ["-W", f"depend={self.dependency}"]
        return [*words, *self.directives]

    def array(self, dialect: PbsDialect, count: int) -> list[str]:
        """Return the options of an array; PBS takes none of a single task."""
        limit = self.array_parallelism
        at_once = "" if limit is None or limit >= count else f"%{limit}"
        return ["-t" if dialect == "torque" else "-J", f"0-{count - 1}{at_once}"]


def defaults() -> dict[str, Any]:
    """Return {parameter: default}."""
    return {field.name: field.default for field in fields(PbsParameters)}


def output_options(file: Path) -> list[str]:
    """Say where PBS may put its own words, such as that the walltime was exceeded; tasks write their own files."""
    return ["-j", "oe", "-o", str(file) if carried_by_pbs(file) else "/dev/null"]


def carried_by_pbs(file: Path) -> bool:
    """Whether a path means the same to every qsub; ^array_index^ stands for the index of a task."""
    return CARRIED_BY_PBS.fullmatch(str(file).replace("^array_index^", "")) is not None


def script_text(
    parameters: PbsParameters,
    command: str,
    qsub: Sequence[str],
    again: Sequence[str],
    stdout: Path,
    stderr: Path,
) -> str:
    """Write the script of a job.

    `command` is for the shell, `stdout` and `stderr` hold %j and %t for the job's id and the rank, `qsub` is how the
    script is handed in, and `again` how to do so another time for what is left of one task.
    """
    exports = {
        "NODES": parameters.nodes,
        "TASKS": parameters.tasks,
        "TASKS_PER_NODE": parameters.tasks_per_node,
        "WARNING": parameters.signal_delay_s,
        "AGAIN": shlex.join(again),
    }
    lines = [
        "#!/bin/bash",
        "# The call of a Python function, written by submitit's PBS executor and handed in with",
        f"#   {' '.join(map(shell_word, qsub))}",
        "",
        'cd -- "${PBS_O_WORKDIR:-.}" || echo "the folder of the submission is gone, going on in $PWD" >&2',
        "export SUBMITIT_EXECUTOR=pbs",
        "# what is left of a task is handed in again as a new job, and goes on under the old id",
        'export SUBMITIT_PBS_JOB_ID="${SUBMITIT_PBS_GOES_ON_WITH:-$PBS_JOBID}"',
        "unset SUBMITIT_PBS_GOES_ON_WITH SUBMITIT_PBS_RANK  # jobs that this one submits must not inherit them",
        r'export SUBMITIT_PBS_ARRAY="${SUBMITIT_PBS_JOB_ID/\[*\]/[]}"',
        'SUBMITIT_PBS_INDEX="${SUBMITIT_PBS_JOB_ID#*[}"',
        'export SUBMITIT_PBS_INDEX="${SUBMITIT_PBS_INDEX%%]*}"',
        'SUBMITIT_PBS_STARTED="$(date +%s.%N)"',
        "export SUBMITIT_PBS_STARTED",
        *(f"export SUBMITIT_PBS_{name}={shell_word(str(value))}" for name, value in exports.items()),
        "# PBS sends TERM to all processes before it kills them: this shell has to outlive the function",
        "trap : TERM USR1 USR2",
        *(["", "# setup", *parameters.setup] if parameters.setup else []),
        "",
        "# command",
        *_task(parameters, command, stdout, stderr),
        *_start(parameters),
        *(["", "# teardown", *parameters.teardown] if parameters.teardown else []),
        "exit $code",
    ]
    return "\n".join([*lines, ""])


def _start(parameters: PbsParameters) -> list[str]:
    if parameters.launcher:  # other nodes have neither the variables nor the function
        told = '"$(declare -p "${!SUBMITIT_@}"); $(declare -f task); task"'
        return [f"{' '.join(map(shell_word, parameters.launcher))} /bin/bash -c {told}", "code=$?"]
    if parameters.tasks == 1:
        return ["(SUBMITIT_PBS_RANK=0 task)", "code=$?"]
    return [
        "ranks=()",
        f"for ((rank = 0; rank < {parameters.tasks}; rank++)); do",
        "    SUBMITIT_PBS_RANK=$rank task &",
        "    ranks+=($!)",
        "done",
        "code=0",
        'for rank in "${ranks[@]}"; do',
        "    # a signal ends wait, not the process",
        '    until wait "$rank"; ended=$?; ! kill -0 "$rank" 2>/dev/null; do :; done',
        "    if ((ended > code)); then code=$ended; fi",
        "    # the first one has saved its state, to go on later: so the others have to end too",
        f'    if ((rank == ranks[0] && ended == {CHECKPOINTED})); then kill -KILL "${{ranks[@]}}" 2>/dev/null; fi',
        "done",
    ]


def _task(parameters: PbsParameters, command: str, stdout: Path, stderr: Path) -> list[str]:
    number = "0"
    for name in reversed(RANKS):
        number = f"${{{name}:-{number}}}"
    errors = "2>&1" if parameters.stderr_to_stdout else f"2>>{_expanded(stderr)}"
    return [
        *(["# shellcheck disable=SC2329"] if parameters.launcher else []),
        "task() {",
        f'    export SUBMITIT_PBS_RANK="{number}"',
        f"    mkdir -p -- {_expanded(stdout.parent)}",
        f"    exec {command} >>{_expanded(stdout)} {errors}",
        "}",
    ]


def _expanded(pattern: Path) -> str:
    """Return a word of bash for a path that holds the placeholders of submitit."""
    variables = {
        "%j": '"$SUBMITIT_PBS_JOB_ID"',
        "%t": '"$SUBMITIT_PBS_RANK"',
        "%A": '"$SUBMITIT_PBS_ARRAY"',
        "%a": '"$SUBMITIT_PBS_INDEX"',
    }
    parts = re.split("(%[jtAa])", str(pattern))
    return "".join(variables.get(part) or (shell_word(part) if part else "") for part in parts)


def _select(job: PbsParameters) -> list[str]:
    chunk = f"select={job.nodes}:ncpus={job.tasks_per_node * job.cpus_per_task}:mpiprocs={job.tasks_per_node}"
    chunk += f":mem={job.mem}" if job.mem else ""
    chunk += f":ngpus={job.gpus_per_node}" if job.gpus_per_node else ""
    return [chunk, f"walltime={_walltime(job.time)}"]


def _torque(job: PbsParameters) -> list[str]:
    chunk = f"nodes={job.nodes}:ppn={job.tasks_per_node * job.cpus_per_task}"
    chunk += f":gpus={job.gpus_per_node}" if job.gpus_per_node else ""
    number, unit = MEMORY.fullmatch(job.mem or "0b").groups()  # type: ignore[union-attr]
    memory = [f"mem={int(number) * job.nodes}{unit}"] if job.mem else []  # Torque counts the whole job
    return [chunk, f"walltime={_walltime(job.time)}", *memory]


def _walltime(minutes: float) -> str:
    seconds = max(1, math.ceil(minutes * 60))
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _match(field: str, value: str | None, pattern: re.Pattern[str], meaning: str) -> None:
    if value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
        raise ValueError(f"{field}={value!r}: must be {meaning}")


def _at_least(least: int, field: str, value: int | None) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise ValueError(f"{field}={value!r}: must be a whole number of at least {least}")


def _texts(field: str, values: Sequence[str]) -> None:
    if isinstance(values, str) or not all(isinstance(value, str) and "\0" not in value for value in values):
        raise ValueError(f"{field}={values!r}: must be a list of texts")
