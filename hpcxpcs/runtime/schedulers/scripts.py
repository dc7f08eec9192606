"""Job scripts as text: one template for all schedulers and kinds, readable, to be edited by hand.

A task writes its log itself, while it runs, to RUN/logs/KIND-JOB[_INDEX].log: PBS delivers output only at the end,
Slurm's header lines cannot carry every path, and so all schedulers look the same. What the scheduler itself has to
say (cancelled, killed, out of time) goes into the same file under Slurm and into a file in RUN/logs under PBS; where a
header line cannot carry the path, into the scheduler's own default file in the folder of submission.
"""

from __future__ import annotations

import re
import string
from pathlib import Path

from hpcxpcs.errors import ConfigError
from hpcxpcs.runtime.schedulers.headers import header_lines, own_output
from hpcxpcs.runtime.schedulers.jobs import Dialect, JobKind, JobRequest
from hpcxpcs.runtime.schedulers.quoting import ShellText, shell_word

RESTARTS = 100
"""How often a script puts itself back into the queue: a run that makes no progress ends some day."""
LINE = 100  # characters, after which a command goes on in the next line
TEMPLATES = Path(__file__).parent / "templates"
PURPOSES: dict[JobKind, str] = {
    "array": "Each task takes shards of the run until none is left or its time is up; tasks may start late or again.",
    "gather": "Does what is left of the run, then puts the shards together and writes RUN/results.",
    "mpi": "All ranks share the shards of the run; the first one puts them together and writes RUN/results.",
}
SCHEDULERS: dict[Dialect, str] = {"slurm": "Slurm", "pbs": "PBS", "torque": "Torque"}
UMASK_OF_RUN = r"""umask "$(printf "%04o" $((0777 & ~0$(stat -c "%a" "$RUN"))))" """.strip()
INDEX_VARIABLES: dict[Dialect, str] = {"pbs": "PBS_ARRAY_INDEX", "torque": "PBS_ARRAYID"}


class _Template(string.Template):
    """Holes are written @{name}, because a shell's variables are written with $."""

    delimiter = "@"


def script_name(dialect: Dialect, kind: JobKind) -> str:
    """Return the file name of a script, such as array.sbatch or gather.pbs."""
    return f"{kind}.{'sbatch' if dialect == 'slurm' else 'pbs'}"


def log_task(job: str) -> str:
    """Return what a log, RUN/logs/KIND-….log, is called after: 12_3 for 12_3 and 12[3].server, 12 for 12[].server."""
    return job.partition(".")[0].replace("[", "_").rstrip("]_")


def script_text(dialect: Dialect, request: JobRequest) -> str:
    """Return the bash script of a job; raise ConfigError for a request that no script can carry.

    RUN/logs must exist before Slurm starts the job: it opens its output file first.
    """
    if not request.run.is_absolute():
        raise ConfigError(
            f"run folder {str(request.run)!r}: an absolute path is needed, jobs start elsewhere"
        )
    return filled_template(dialect, request, f"RUN={shell_word(str(request.run))}")


def filled_template(
    dialect: Dialect, request: JobRequest, variables: str, *, header_knows_run: bool = True
) -> str:
    """Return a script whose shell lines `variables` set RUN; its header names the run folder only if it may."""
    name = script_name(dialect, request.kind)
    return _filled(
        "job.bash",
        header="\n".join(header_lines(dialect, request, with_output=header_knows_run)),
        purpose=PURPOSES[request.kind],
        by_hand=_by_hand(dialect, request.kind, name),
        variables=variables,
        scheduler=SCHEDULERS[dialect],
        own_output=own_output(dialect, request, with_output=header_knows_run),
        identity=_identity(dialect),
        umask=_umask(dialect, request),
        kind=request.kind,
        restart=", restart ${SLURM_RESTART_COUNT:-0}" if dialect == "slurm" else "",
        setup="".join(f"{line}\n" for line in [*_setup(request), *_exports(request)]),
        launcher=_launcher_check(dialect, request),
        command=_command(request),
        ending=_filled(f"ending.{'slurm' if dialect == 'slurm' else 'pbs'}.bash", restarts=str(RESTARTS)),
    )


def _filled(template: str, **holes: str) -> str:
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    filled = _Template(text).substitute(holes)
    return filled if template == "job.bash" else filled.rstrip("\n")


def _by_hand(dialect: Dialect, kind: JobKind, name: str) -> str:
    if kind != "gather":
        return f"{'sbatch' if dialect == 'slurm' else 'qsub'} {name}"
    if dialect == "slurm":
        return f"sbatch --dependency=afterany:ID {name}, with the ID that sbatch printed for the array"
    word = "afteranyarray" if dialect == "torque" else "afterany"
    return f"qsub -W depend={word}:'ID[]' {name}, with the ID[] that qsub printed for the array"


def _identity(dialect: Dialect) -> str:
    if dialect == "slurm":
        return "job=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-by-hand-$$}} index=${SLURM_ARRAY_TASK_ID:-}"
    return f"job=${{PBS_JOBID%%[!0-9]*}} index=${{{INDEX_VARIABLES[dialect]}:-}}\njob=${{job:-by-hand-$$}}"


def _umask(dialect: Dialect, request: JobRequest) -> str:
    """PBS starts jobs with a umask of 077, by which nobody else could read the results; Slurm takes over the user's."""
    if request.umask is not None:
        return f"umask {request.umask:04o}   # as where it was submitted\n"
    return "" if dialect == "slurm" else f"{UMASK_OF_RUN}   # files as open to others as the run folder\n"


def _launcher_check(dialect: Dialect, request: JobRequest) -> str:
    """Lines that refuse a launcher on PATH which is that of PBS; one with a path was chosen by somebody."""
    if dialect == "slurm" or not request.launcher or "/" in request.launcher[0]:
        return ""
    first = request.launcher[0]
    program = '"${LAUNCHER[0]}"' if isinstance(first, ShellText) else shell_word(first)
    return _filled("launcher.pbs.bash", program=program) + "\n"


def _setup(request: JobRequest) -> list[str]:
    for line in request.setup:
        if re.search("[\0\r\ud800-\udfff]", line):
            raise ConfigError(f"setup line {line!r} holds a character that no job script can carry")
    return list(request.setup)


def _exports(request: JobRequest) -> list[str]:
    for name in request.environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII):
            raise ConfigError(f"environment: {name!r} is no name of a variable: letters, digits and _ only")
    return [f"export {name}={shell_word(value)}" for name, value in request.environment.items()]


def _command(request: JobRequest) -> str:
    """The launcher and the command, the run folder among its arguments as "$RUN"."""
    if not request.command:
        raise ConfigError("command: a job needs one")
    run = str(request.run)
    arguments = [ShellText('"$RUN"') if word == run else word for word in request.command]
    lines = [""]
    for word in map(shell_word, [*request.launcher, *arguments]):
        if lines[-1] and len(lines[-1]) + len(word) >= LINE:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n    ".join(lines)
