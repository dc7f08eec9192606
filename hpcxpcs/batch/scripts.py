"""Job scripts as text: one template for all schedulers and kinds, readable, to be edited by hand.

A task writes its log itself, while it runs, to RUN/logs/KIND-JOB[_INDEX].log: PBS delivers output only at the end,
Slurm's header lines cannot carry every path, and so all schedulers look the same. What the scheduler itself has to
say (cancelled, killed, out of time) goes into the same file under Slurm and into a file in RUN/logs under PBS; where a
header line cannot carry the path, into the scheduler's own default file in the folder of submission.
"""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Iterable
from pathlib import Path

from hpcxpcs.batch.jobs import Job, JobKind, SchedulerName
from hpcxpcs.errors import ConfigError

PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
MEANT_FOR_A_SHELL = re.compile(r"[$`\\'!]|^~")
"""Single quotes do protect these, but leave open whether that was meant: $'…' says so."""
CURLY_QUOTES = "\u2018\u2019\u201c\u201d\u201a\u201b\u201e\u201f\u2032\u2033\u02ba\u02bc"
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


class ShellText(str):
    """Text that a shell is to read as it is, such as `"$(wc -l < "$PBS_NODEFILE")"`: it is not quoted."""

    __slots__ = ()


def shell_word(text: str) -> str:
    """Return `text` as one word of bash in printable characters on one line; bytes that are no UTF-8 survive too."""
    if isinstance(text, ShellText) or (PLAIN.fullmatch(text) and not re.match(r"\w+=", text)):
        return str(text)
    if "\0" in text:
        raise ConfigError(f"{text!r} holds a zero byte: no command and no path can carry that")
    escaped = "".join(_escape(letter) for letter in text)
    return f"$'{escaped}'" if escaped != text or MEANT_FOR_A_SHELL.search(text) else f"'{text}'"


def header_word(text: str) -> str:
    """Return `text` as one word of a scheduler's header line: in double quotes where there are odd characters."""
    if PLAIN.fullmatch(text):
        return text
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def one_line(text: str, field: str) -> str:
    """Return `text` when a header line can carry it; control characters would end the line or change its meaning."""
    if CONTROL.search(text):
        raise ConfigError(f"{field} {text!r} holds a control character: a header line of a job script cannot")
    return text


def plain_name(text: str, field: str) -> str:
    """Return the name of a queue or an account; schedulers know letters, digits and a few signs in them."""
    if not PLAIN.fullmatch(text) or text.startswith("-"):
        raise ConfigError(f"{field} {text!r}: only letters, digits and _@%+=:,./- can be in its name")
    return text


def _escape(letter: str) -> str:
    if letter in "\\'":
        return "\\" + letter
    if letter == "\n":
        return "\\n"
    if (letter.isprintable() and letter not in CURLY_QUOTES) or letter == " ":
        return letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))


WARNING = 120
"""Seconds before the time limit at which Slurm sends USR1; short jobs get a fifth of their time."""
PBS_NAME_LENGTH = 15


def header_lines(job: Job, *, with_output: bool = True) -> list[str]:
    """Return all header lines, the job's own `directives` last; one of those replaces ours of the same option."""
    _check_numbers(job)
    if job.scheduler == "slurm":
        prefix, options = "#SBATCH", _slurm(job, with_output)
    else:
        prefix, options = "#PBS", _pbs(job, with_output)
    extra = [_directive(line) for line in job.directives]
    replaced = {_option(line) for line in extra}
    kept = [line for line in options if _option(line) not in replaced]
    return [f"{prefix} {line}" for line in [*kept, *extra]]


def own_output(job: Job, *, with_output: bool = True) -> str:
    """Say where the scheduler's own messages go: next to the logs where its header line can carry that path."""
    if job.scheduler == "slurm":
        carried, beside, default = _slurm_carries(job), "the same file", "slurm-….out"
    else:
        carried, beside, default = _pbs_carries(job), "a file beside it, at the end", "NAME.o…"
    return beside if with_output and carried else f"{default} where it was submitted"


def pbs_name(text: str) -> str:
    """Return a job name that every PBS takes: at most 15 letters, digits, _ and -, the first one a letter."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", text)
    return (name if name[:1].isalpha() else f"x{name}")[:PBS_NAME_LENGTH]


def _slurm(job: Job, with_output: bool) -> Iterable[str]:
    resources, many = job.resources, job.kind == "array"
    yield f"--job-name={header_word(one_line(job.name, 'job name'))}"
    if with_output and _slurm_carries(job):
        logs = str(job.logs).replace("%", "%%")
        yield f"--output={header_word(f'{logs}/{job.kind}-{"%A_%a" if many else "%j"}.log')}"
    yield "--open-mode=append"
    yield "--requeue"
    yield f"--signal=B:USR1@{max(1, min(WARNING, resources.walltime // 5))}"
    yield f"--time={_clock(resources.walltime)}"
    yield f"--nodes={resources.nodes}"
    yield f"--ntasks-per-node={resources.processes}"
    yield f"--cpus-per-task={resources.cores}"
    if resources.memory is not None:
        yield f"--mem={_mebibytes(resources.memory)}M"
    if job.queue:
        yield f"--partition={plain_name(job.queue, 'queue')}"
    if job.account:
        yield f"--account={plain_name(job.account, 'account')}"
    if many:
        yield f"--array={_indices(job)}"


def _pbs(job: Job, with_output: bool) -> Iterable[str]:
    resources, cores = job.resources, job.resources.cores * job.resources.processes
    yield f"-N {pbs_name(one_line(job.name, 'job name'))}"
    yield "-S /bin/bash"
    yield "-j oe"
    if with_output and _pbs_carries(job):
        yield f"-o {job.logs}/"
    yield "-r y"
    if job.umask is not None:
        yield f"-W umask={job.umask:04o}"
    if job.scheduler == "torque":
        yield f"-l nodes={resources.nodes}:ppn={cores}"
        if resources.memory is not None:  # Torque counts the whole job
            yield f"-l mem={_mebibytes(resources.memory) * resources.nodes}mb"
    else:
        memory = "" if resources.memory is None else f":mem={_mebibytes(resources.memory)}mb"
        yield f"-l select={resources.nodes}:ncpus={cores}:mpiprocs={resources.processes}{memory}"
    yield f"-l walltime={_clock(resources.walltime)}"
    if job.queue:
        yield f"-q {plain_name(job.queue, 'queue')}"
    if job.account:
        yield f"-A {plain_name(job.account, 'account')}"
    if job.kind == "array" and job.tasks > 1:  # an array of one is refused: it is a plain job
        yield f"{'-t' if job.scheduler == 'torque' else '-J'} {_indices(job)}"


def _slurm_carries(job: Job) -> bool:
    """A backslash in Slurm's file names switches off their %-patterns; a control character ends the line."""
    return not (CONTROL.search(str(job.run)) or "\\" in str(job.run))


def _pbs_carries(job: Job) -> bool:
    """PBS reads HOST:PATH, lists at commas, and differs between versions in the quotes it knows."""
    return bool(PLAIN.fullmatch(str(job.run))) and not re.search("[:,%@=]", str(job.run))


def _check_numbers(job: Job) -> None:
    numbers = {
        "walltime": job.resources.walltime,
        "nodes": job.resources.nodes,
        "processes": job.resources.processes,
        "cores": job.resources.cores,
        "memory": job.resources.memory,
        "tasks": job.tasks,
        "at_once": job.at_once,
    }
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ConfigError(f"{name}: {number} asked for, at least 1 is needed")


def _indices(job: Job) -> str:
    return f"0-{job.tasks - 1}" + (f"%{job.at_once}" if job.at_once else "")


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _mebibytes(size: int) -> int:
    return -(-size // 2**20)


def _directive(line: str) -> str:
    line = one_line(line, "directive").strip()
    if not line.startswith("-"):
        raise ConfigError(f"directive {line!r} is no option: write what follows #SBATCH or #PBS, e.g. -l place=free")
    return line


def _option(line: str) -> str:
    """What a header line sets: "--mem", "-q", and for -l and -W what they name, "-l walltime"."""
    named = re.match(r"(-[lW])\s*([\w.]+)", line)
    if named:
        return f"{named[1]} {named[2]}"
    long = re.match(r"--[\w-]+", line)
    return long[0] if long else line[:2]


RESTARTS = 100
"""How often a script puts itself back into the queue: a run that makes no progress ends some day."""
LINE = 100  # characters, after which a command goes on in the next line
TEMPLATES = Path(__file__).parent / "templates"
PURPOSES: dict[JobKind, str] = {
    "array": "Each task takes shards of the run until none is left or its time is up; tasks may start late or again.",
    "gather": "Does what is left of the run, then puts the shards together and writes RUN/results.",
    "mpi": "All ranks share the shards of the run; the first one puts them together and writes RUN/results.",
}
SCHEDULERS: dict[SchedulerName, str] = {"slurm": "Slurm", "pbs": "PBS", "torque": "Torque"}
UMASK_OF_RUN = r"""umask "$(printf "%04o" $((0777 & ~0$(stat -c "%a" "$RUN"))))" """.strip()
INDEX_VARIABLES: dict[SchedulerName, str] = {"pbs": "PBS_ARRAY_INDEX", "torque": "PBS_ARRAYID"}


class _Template(string.Template):
    """Holes are written @{name}, because a shell's variables are written with $."""

    delimiter = "@"


def script_text(job: Job) -> str:
    """Return the bash script of a job; raise ConfigError for one that no script can carry.

    RUN/logs must exist before Slurm starts the job: it opens its output file first.
    """
    if job.scheduler == "local":
        return _local_text(job)
    if not job.run.is_absolute():
        raise ConfigError(f"run folder {str(job.run)!r}: an absolute path is needed, jobs start elsewhere")
    return filled_template(job, f"RUN={shell_word(str(job.run))}")


def filled_template(job: Job, variables: str, *, header_knows_run: bool = True) -> str:
    """Return a script whose shell lines `variables` set RUN; its header names the run folder only if it may."""
    slurm = job.scheduler == "slurm"
    return _filled(
        "job.bash",
        header="\n".join(header_lines(job, with_output=header_knows_run)),
        purpose=PURPOSES[job.kind],
        by_hand=_by_hand(job),
        variables=variables,
        scheduler=SCHEDULERS[job.scheduler],
        own_output=own_output(job, with_output=header_knows_run),
        identity=_identity(job.scheduler),
        umask=_umask(job),
        kind=job.kind,
        restart=", restart ${SLURM_RESTART_COUNT:-0}" if slurm else "",
        setup="".join(f"{line}\n" for line in [*_setup(job), *_exports(job)]),
        launcher=_launcher_check(job),
        command=_command(job),
        ending=_filled(f"ending.{'slurm' if slurm else 'pbs'}.bash", restarts=str(RESTARTS)),
    )


def _local_text(job: Job) -> str:
    """A script that needs no scheduler, nor any that a queue would understand."""
    exports = "".join(f"export {name}={value}\n" for name, value in job.environment.items())
    return (
        "#!/usr/bin/env bash\n"
        "# Continues the run on this machine to its end; what it says goes to its log.\n"
        f"{exports}exec {shlex.join(job.command)} >> {shlex.quote(str(job.logs / 'local.log'))} 2>&1\n"
    )


def _filled(template: str, **holes: str) -> str:
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    filled = _Template(text).substitute(holes)
    return filled if template == "job.bash" else filled.rstrip("\n")


def _by_hand(job: Job) -> str:
    name = job.script.name
    if job.kind != "gather":
        return f"{'sbatch' if job.scheduler == 'slurm' else 'qsub'} {name}"
    if job.scheduler == "slurm":
        return f"sbatch --dependency=afterany:ID {name}, with the ID that sbatch printed for the array"
    word = "afteranyarray" if job.scheduler == "torque" else "afterany"
    return f"qsub -W depend={word}:'ID[]' {name}, with the ID[] that qsub printed for the array"


def _identity(scheduler: SchedulerName) -> str:
    if scheduler == "slurm":
        return "job=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-by-hand-$$}} index=${SLURM_ARRAY_TASK_ID:-}"
    return f"job=${{PBS_JOBID%%[!0-9]*}} index=${{{INDEX_VARIABLES[scheduler]}:-}}\njob=${{job:-by-hand-$$}}"


def _umask(job: Job) -> str:
    """PBS starts jobs with a umask of 077, by which nobody else could read the results; Slurm takes over the user's."""
    if job.umask is not None:
        return f"umask {job.umask:04o}   # as where it was submitted\n"
    return "" if job.scheduler == "slurm" else f"{UMASK_OF_RUN}   # files as open to others as the run folder\n"


def _launcher_check(job: Job) -> str:
    """Lines that refuse a launcher on PATH which is that of PBS; one with a path was chosen by somebody."""
    if job.scheduler == "slurm" or not job.launcher or "/" in job.launcher[0]:
        return ""
    first = job.launcher[0]
    program = '"${LAUNCHER[0]}"' if isinstance(first, ShellText) else shell_word(first)
    return _filled("launcher.pbs.bash", program=program) + "\n"


def _setup(job: Job) -> list[str]:
    for line in job.setup:
        if re.search("[\0\r\ud800-\udfff]", line):
            raise ConfigError(f"setup line {line!r} holds a character that no job script can carry")
    return list(job.setup)


def _exports(job: Job) -> list[str]:
    for name in job.environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII):
            raise ConfigError(f"environment: {name!r} is no name of a variable: letters, digits and _ only")
    return [f"export {name}={shell_word(value)}" for name, value in job.environment.items()]


def _command(job: Job) -> str:
    """The launcher and the command, the run folder among its arguments as "$RUN"."""
    if not job.command:
        raise ConfigError("command: a job needs one")
    run = str(job.run)
    arguments = [ShellText('"$RUN"') if word == run else word for word in job.command]
    lines = [""]
    for word in map(shell_word, [*job.launcher, *arguments]):
        if lines[-1] and len(lines[-1]) + len(word) >= LINE:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n    ".join(lines)
