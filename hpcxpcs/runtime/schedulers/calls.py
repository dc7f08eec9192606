"""Calls to a scheduler's programs: with limited patience, and with errors in words."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpcxpcs.errors import SchedulerProblem

PATIENCE = 60.0
"""Seconds that a scheduler may take to answer; a busy one takes ten or twenty."""

TOLD_CHARACTERS = 1000
"""Of a program's complaint that a message repeats."""


UNREACHABLE = (
    "Connection refused",
    "Connection timed out",
    "cannot connect to server",
    "connect to cluster",
    "Unable to contact slurm controller",
    "Socket timed out",
)
"""In the complaints of programs that do not reach their server: nothing is wrong with what was asked for."""


@dataclass(frozen=True)
class Said:
    """What a program printed, and what it had to complain of though it did not fail."""

    printed: str
    complaint: str


def call(
    command: Sequence[str],
    *,
    remedy: str,
    tolerated: Sequence[str] = (),
    seconds: float = PATIENCE,
    environ: Mapping[str, str] = os.environ,
) -> Said:
    """Return what a command says; SchedulerProblem, ending with `remedy`, when it fails.

    A failure with nothing but complaints that contain one of the `tolerated` texts is none.
    """
    try:
        done = subprocess.run(
            list(command),
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise no_answer(command, seconds) from None
    except OSError as error:
        raise not_started(command, error) from None
    complaints = [line for line in done.stderr.splitlines() if line.strip()]
    harmless = complaints and all(any(text in line for text in tolerated) for line in complaints)
    if done.returncode and not harmless:
        raise refused(command, done.returncode, done.stderr or done.stdout, remedy)
    return Said(done.stdout, done.stderr)


def refused(command: Sequence[str], code: int, complaint: str, remedy: str) -> SchedulerProblem:
    """A program ended with an error."""
    said = complaint.strip()[:TOLD_CHARACTERS] or "no word of explanation"
    if any(text in complaint for text in UNREACHABLE):
        remedy = "the scheduler's server is not reached: try again later, or ask those who look after it"
    return SchedulerProblem(f"{shlex.join(command)}: exit code {code}: {said}: {remedy}")


def no_answer(command: Sequence[str], seconds: float) -> SchedulerProblem:
    """A program did not end in time."""
    return SchedulerProblem(
        f"{shlex.join(command)}: no answer within {seconds:g} s: try again when the scheduler is less busy"
    )


def not_started(command: Sequence[str], error: OSError) -> SchedulerProblem:
    """A program could not be started."""
    return SchedulerProblem(
        f"{command[0]}: cannot be started ({error.strerror}): log in to a node from which jobs are submitted, "
        "or load the scheduler's module"
    )
