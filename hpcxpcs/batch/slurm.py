"""Slurm: jobs are handed in through submitit, and looked at with squeue, which needs no accounting database."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hpcxpcs.batch.jobs import (
    PATIENCE,
    QueueState,
    TaskLook,
    call,
    no_answer,
    not_started,
    refused,
)
from hpcxpcs.errors import SchedulerProblem

FIELDS = ("ArrayJobID", "ArrayTaskID", "State", "exit_code", "NodeList", "Reason")
SEPARATOR = "|"

WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD"} | {
    "SPECIAL_EXIT",
}
SUSPENDED = {"SUSPENDED"}
ENDED: dict[str, QueueState] = {
    "COMPLETED": "done",
    "BOOT_FAIL": "failed",
    "DEADLINE": "failed",
    "FAILED": "failed",
    "NODE_FAIL": "failed",
    "OUT_OF_MEMORY": "failed",
    "TIMEOUT": "failed",
    "CANCELLED": "cancelled",
    "PREEMPTED": "cancelled",
    "REVOKED": "cancelled",
}
"""What Slurm calls a job that has ended; all that is in none of these lists is alive on its nodes."""

UNKNOWN_JOB = "Invalid job id specified"
ENDED_JOB = "already completing or completed"
"""What Slurm complains of, where there is nothing to do."""

NOT_INHERITED = ("SQUEUE_", "SCANCEL_")
"""Variables by which people make these programs filter, or ask back."""

TIMED_OUT = 124
"""Exit code of coreutils' timeout."""


class Slurm:
    """A Slurm cluster, as seen from a node on which its programs are installed."""

    name = "slurm"

    def submit(self, script: Path, *, after: str | None = None) -> str:
        """Hand in a script, to start when the job `after` has ended in any way; returns the job's id."""
        return _handed_in(script, _sbatch(script, after))

    def submit_line(self, script: Path, *, after: str | None = None) -> str:
        """The command that `submit` runs, for people to copy."""
        return shlex.join(_sbatch(script, after))

    def look(self, jobs: Sequence[str]) -> tuple[TaskLook, ...]:
        """All tasks of some jobs, array tasks one by one, in one request; jobs may be tasks as well (`12_3`).

        Slurm forgets a job some minutes after its end: `gone` are the ids of which it knows nothing. Single tasks
        that are missing beside others of their array cannot be told from tasks that never were.
        """
        if not jobs:
            return ()
        fields = ",".join(f"{field}:{SEPARATOR}" for field in FIELDS)
        command = ["squeue", "-h", "-a", "-r", "-t", "all", "-j", ",".join(jobs), "-O", fields]
        answer = _call(command, "see whether squeue works in your shell", tolerated=[UNKNOWN_JOB])
        return tuple(_with_gone(read_queue(answer), jobs))

    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs or single array tasks (`12_3`); those that have ended or are forgotten are no error."""
        if jobs:
            _call(
                ["scancel", *jobs],
                "jobs of others cannot be cancelled",
                tolerated=[UNKNOWN_JOB, ENDED_JOB],
            )


def read_queue(answer: str) -> Iterator[TaskLook]:
    """Read the lines of a squeue that was asked for FIELDS."""
    for line in answer.splitlines():
        parts = [part.strip() for part in line.split(SEPARATOR)]
        if len(parts) != len(FIELDS) + 1:
            raise SchedulerProblem(
                f"squeue: printed {line!r} where {len(FIELDS)} fields were asked for: "
                "see whether squeue is the original program or a site's own"
            )
        job, index, word, status, nodes, reason, _ = parts
        state = queue_state(word)
        yield TaskLook(
            job=job,
            index=int(index) if index.isdigit() else None,
            state=state,
            word=word,
            node=nodes,
            reason="" if reason == "None" else reason,
            exit_code=_exit_code(status) if state in ENDED.values() else None,
        )


def queue_state(word: str) -> QueueState:
    """The state that Slurm calls `word`; an unknown word is taken for something that happens to a living job."""
    if word in WAITING:
        return "waiting"
    if word in SUSPENDED:
        return "suspended"
    return ENDED.get(word, "running")


def _exit_code(status: str) -> int | None:
    """From a wait status: the code, or as a shell tells it 128 and the number of the signal."""
    try:
        code = os.waitstatus_to_exitcode(int(status))
    except (ValueError, OverflowError):
        return None
    return code if code >= 0 else 128 - code


def _with_gone(found: Iterator[TaskLook], jobs: Sequence[str]) -> Iterator[TaskLook]:
    known = set()
    for look in found:
        known |= {look.job, f"{look.job}_{look.index}"}
        yield look
    for name in dict.fromkeys(jobs):
        if name not in known:
            job, _, index = name.partition("_")
            yield TaskLook(job=job, index=int(index) if index.isdigit() else None, state="gone", word="")


def _call(command: list[str], remedy: str, tolerated: Sequence[str]) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    return call(command, remedy=remedy, tolerated=tolerated, environ=environ).printed


def _sbatch(script: Path, after: str | None) -> list[str]:
    """A dependency that cannot be met any more ends the job, which would wait for ever otherwise."""
    dependency = [] if after is None else [f"--dependency=afterany:{after}", "--kill-on-invalid-dep=yes"]
    return ["sbatch", "--parsable", *dependency, str(script.absolute())]


def _handed_in(script: Path, command: list[str]) -> str:
    """Submit through submitit; what it writes and does not need any more goes to a folder that is removed.

    submitit waits for sbatch without end, hence `timeout`.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    class ScriptExecutor(SlurmExecutor):
        """Hands in a script as it is, instead of one that unpickles and calls a function."""

        def hand_in(self) -> str:
            return str(self._submit_command("").job_id)

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            return text

        def _make_submission_command(self, submission_file_path: Path) -> list[str]:
            return ["timeout", f"{PATIENCE:g}", *command]

        @staticmethod
        def _get_job_id_from_submission_command(string: bytes | str) -> str:
            return _job_id(string if isinstance(string, str) else string.decode())

    text = _script_text(script)
    for program in ("sbatch", "srun", "timeout"):
        if shutil.which(program) is None:
            raise not_started([program], FileNotFoundError(2, "not found"))
    try:
        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stderr(io.StringIO()):
            return ScriptExecutor(scratch).hand_in()
    except FailedJobError as error:
        raise _submission_problem(command, error) from None
    except FailedSubmissionError as error:
        raise SchedulerProblem(f"{shlex.join(command)}: {error}") from None


def _script_text(script: Path) -> str:
    try:
        return script.read_text()
    except OSError as error:
        raise SchedulerProblem(f"{script}: cannot be read ({error.strerror}): hpcxpcs submit writes it anew") from None


def _submission_problem(command: list[str], error: Exception) -> SchedulerProblem:
    cause = error.__cause__
    if not isinstance(cause, subprocess.CalledProcessError):
        return SchedulerProblem(f"{shlex.join(command)}: {error}: try the command in your shell")
    if cause.returncode == TIMED_OUT:
        return SchedulerProblem(
            f"{no_answer(command, PATIENCE)}; the job may have been accepted all the same: look with squeue --me first"
        )
    return refused(command, cause.returncode, cause.stderr or "", "correct the script, or submit with other options")


def _job_id(answer: str) -> str:
    """The id that `sbatch --parsable` prints last, with the name of the cluster or without."""
    last = answer.strip().rpartition("\n")[2].strip()
    found = re.fullmatch(r"(\d+)(;.*)?", last)
    if found is None:
        raise SchedulerProblem(
            f"sbatch: printed {answer!r} instead of a job's id: the job may have been accepted, "
            "look with squeue --me before you submit again"
        )
    return found[1]
