"""The first lines of a job script: what a scheduler reads before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hpcxpcs.errors import ConfigError
from hpcxpcs.runtime.schedulers.jobs import Dialect, JobRequest
from hpcxpcs.runtime.schedulers.quoting import CONTROL, PLAIN, header_word, one_line, plain_name

WARNING = 120
"""Seconds before the time limit at which Slurm sends USR1; short jobs get a fifth of their time."""
PBS_NAME_LENGTH = 15


def header_lines(dialect: Dialect, request: JobRequest, *, with_output: bool = True) -> list[str]:
    """Return all header lines, the request's own `directives` last; one of those replaces ours of the same option."""
    _check_numbers(request)
    if dialect == "slurm":
        prefix, options = "#SBATCH", _slurm(request, with_output)
    else:
        prefix, options = "#PBS", _pbs(dialect, request, with_output)
    extra = [_directive(line) for line in request.directives]
    replaced = {_option(line) for line in extra}
    kept = [line for line in options if _option(line) not in replaced]
    return [f"{prefix} {line}" for line in [*kept, *extra]]


def own_output(dialect: Dialect, request: JobRequest, *, with_output: bool = True) -> str:
    """Say where the scheduler's own messages go: next to the logs where its header line can carry that path."""
    if dialect == "slurm":
        carried, beside, default = _slurm_carries(request), "the same file", "slurm-….out"
    else:
        carried, beside, default = _pbs_carries(request), "a file beside it, at the end", "NAME.o…"
    return beside if with_output and carried else f"{default} where it was submitted"


def pbs_name(text: str) -> str:
    """Return a job name that every PBS takes: at most 15 letters, digits, _ and -, the first one a letter."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", text)
    return (name if name[:1].isalpha() else f"x{name}")[:PBS_NAME_LENGTH]


def _slurm(request: JobRequest, with_output: bool) -> Iterable[str]:
    resources, many = request.resources, request.kind == "array"
    yield f"--job-name={header_word(one_line(request.name, 'job name'))}"
    if with_output and _slurm_carries(request):
        logs = str(request.logs).replace("%", "%%")
        yield f"--output={header_word(f'{logs}/{request.kind}-{"%A_%a" if many else "%j"}.log')}"
    yield "--open-mode=append"
    yield "--requeue"
    yield f"--signal=B:USR1@{max(1, min(WARNING, resources.walltime // 5))}"
    yield f"--time={_clock(resources.walltime)}"
    yield f"--nodes={resources.nodes}"
    yield f"--ntasks-per-node={resources.processes}"
    yield f"--cpus-per-task={resources.cores}"
    if resources.memory is not None:
        yield f"--mem={_mebibytes(resources.memory)}M"
    if request.queue:
        yield f"--partition={plain_name(request.queue, 'queue')}"
    if request.account:
        yield f"--account={plain_name(request.account, 'account')}"
    if many:
        yield f"--array={_indices(request)}"


def _pbs(dialect: Dialect, request: JobRequest, with_output: bool) -> Iterable[str]:
    resources, cores = request.resources, request.resources.cores * request.resources.processes
    yield f"-N {pbs_name(one_line(request.name, 'job name'))}"
    yield "-S /bin/bash"
    yield "-j oe"
    if with_output and _pbs_carries(request):
        yield f"-o {request.logs}/"
    yield "-r y"
    if request.umask is not None:
        yield f"-W umask={request.umask:04o}"
    if dialect == "torque":
        yield f"-l nodes={resources.nodes}:ppn={cores}"
        if resources.memory is not None:  # Torque counts the whole job
            yield f"-l mem={_mebibytes(resources.memory) * resources.nodes}mb"
    else:
        memory = "" if resources.memory is None else f":mem={_mebibytes(resources.memory)}mb"
        yield f"-l select={resources.nodes}:ncpus={cores}:mpiprocs={resources.processes}{memory}"
    yield f"-l walltime={_clock(resources.walltime)}"
    if request.queue:
        yield f"-q {plain_name(request.queue, 'queue')}"
    if request.account:
        yield f"-A {plain_name(request.account, 'account')}"
    if request.kind == "array" and request.tasks > 1:  # an array of one is refused: it is a plain job
        yield f"{'-t' if dialect == 'torque' else '-J'} {_indices(request)}"


def _slurm_carries(request: JobRequest) -> bool:
    """A backslash in Slurm's file names switches off their %-patterns; a control character ends the line."""
    return not (CONTROL.search(str(request.run)) or "\\" in str(request.run))


def _pbs_carries(request: JobRequest) -> bool:
    """PBS reads HOST:PATH, lists at commas, and differs between versions in the quotes it knows."""
    return bool(PLAIN.fullmatch(str(request.run))) and not re.search("[:,%@=]", str(request.run))


def _check_numbers(request: JobRequest) -> None:
    numbers = {
        "walltime": request.resources.walltime,
        "nodes": request.resources.nodes,
        "processes": request.resources.processes,
        "cores": request.resources.cores,
        "memory": request.resources.memory,
        "tasks": request.tasks,
        "at_once": request.at_once,
    }
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ConfigError(f"{name}: {number} asked for, at least 1 is needed")


def _indices(request: JobRequest) -> str:
    return f"0-{request.tasks - 1}" + (f"%{request.at_once}" if request.at_once else "")


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _mebibytes(size: int) -> int:
    return -(-size // 2**20)


def _directive(line: str) -> str:
    line = one_line(line, "directive").strip()
    if not line.startswith("-"):
        raise ConfigError(
            f"directive {line!r} is no option: write what follows #SBATCH or #PBS, e.g. -l place=free"
        )
    return line


def _option(line: str) -> str:
    """What a header line sets: "--mem", "-q", and for -l and -W what they name, "-l walltime"."""
    named = re.match(r"(-[lW])\s*([\w.]+)", line)
    if named:
        return f"{named[1]} {named[2]}"
    long = re.match(r"--[\w-]+", line)
    return long[0] if long else line[:2]
