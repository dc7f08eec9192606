"""When to stop: the end of the job, known in advance, and the signals that announce an earlier one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

from hpcxpcs.batch.pbs import read_json
from hpcxpcs.runs.job import slurm_job

PBS_CONFIGURATION = "/etc/pbs.conf"
"""Where every machine of a PBS cluster says where its programs are, unless PBS_CONF_FILE names another file."""


def with_scheduler_programs(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment, with the programs of PBS on PATH: on the nodes of some clusters they are not.

    They are looked for where the job was submitted from and where PBS is installed; PATH itself comes first.
    """
    installed = environ.get("PBS_EXEC") or _pbs_exec(environ)
    folders = [environ.get("PATH", os.defpath), environ.get("PBS_O_PATH", "")]
    folders += [f"{installed}/bin"] if installed else []
    return {**environ, "PATH": os.pathsep.join(folder for folder in folders if folder)}


def _pbs_exec(environ: Mapping[str, str]) -> str:
    try:
        text = Path(environ.get("PBS_CONF_FILE") or PBS_CONFIGURATION).read_text(errors="replace")
    except OSError:
        return ""
    values = [line.partition("=")[2] for line in text.splitlines() if line.startswith("PBS_EXEC=")]
    return values[-1].strip().strip("\"'") if values else ""


STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
BLOCK_SPREAD = 1.5  # blocks of one chain differ in length: trees are deeper in some places than in others
LONGEST_MARGIN = 30.0  # seconds for a checkpoint on a slow file system and the way out
MARGIN_SHARE = 0.1  # of a short time limit, so that something is done before it is over
ANSWER_SECONDS = 15.0  # a scheduler that is slower than this is not asked again

Ask = Callable[[Sequence[str]], str | None]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Deadline:
    """When this process is ended: `at` in seconds of the monotonic clock, `source` in words."""

    at: float
    source: str

    def remaining(self, now: float | None = None) -> float:
        """Seconds left, negative when it is over; `now` in seconds of the monotonic clock."""
        return self.at - (time.monotonic() if now is None else now)


def ask_program(arguments: Sequence[str]) -> str | None:
    """Return what a scheduler's program prints; None when it is absent, fails or keeps silent for long."""
    try:
        answer = subprocess.run(
            list(arguments),
            env=with_scheduler_programs(),
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return answer.stdout if answer.returncode == 0 else None


def find_deadline(
    time_limit: float | None = None,
    environ: Mapping[str, str] = os.environ,
    ask: Ask = ask_program,
    wall_clock: Clock = time.time,
) -> Deadline | None:
    """Return the earlier of `time_limit` (seconds from now) and the end of the batch job; None without both."""
    now = time.monotonic()
    ends = [] if time_limit is None else [Deadline(now + time_limit, "--time-limit")]
    for remaining_of in (_slurm_end_time, _slurm_queue, _pbs_queue):
        if (found := remaining_of(environ, ask, wall_clock())) is not None:
            ends.append(Deadline(now + found[0], found[1]))
            break
    return min(ends, key=lambda deadline: deadline.at, default=None)


def slurm_seconds(text: str) -> float | None:
    """Seconds of Slurm's [days-][[hours:]minutes:]seconds; None for UNLIMITED, INVALID and the like."""
    days, dash, clock = text.strip().rpartition("-")
    if not re.fullmatch(r"\d+(:\d+){0,2}", clock) or (dash and not days.isdigit()):
        return None
    return 86400.0 * int(days or 0) + _clock_seconds(clock)


class StopRequest:
    """Whether to stop at the next opportunity; inside `with`, stop signals are noted instead of ending the process.

    A second SIGINT (Ctrl-C) raises KeyboardInterrupt. Outside the main thread signals cannot be caught: there only
    the deadline and `request` count.
    """

    def __init__(
        self, deadline: Deadline | None = None, *, margin: float | None = None, clock: Clock = time.monotonic
    ) -> None:
        self.deadline = deadline
        self._clock = clock
        self._reason: str | None = None
        self._interrupted = False
        self._previous: dict[signal.Signals, Any] = {}
        if margin is None and deadline is not None:
            margin = min(LONGEST_MARGIN, MARGIN_SHARE * max(0.0, deadline.remaining(clock())))
        self.margin = margin or 0.0

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        while self._previous:
            number, previous = self._previous.popitem()
            signal.signal(number, signal.SIG_DFL if previous is None else previous)

    def request(self, reason: str) -> None:
        """Ask for a stop from inside the program; the first reason is kept."""
        self._reason = self._reason or reason

    def should_stop(self, next_block_seconds: float = 0.0) -> str | None:
        """Return why to stop now, in words, or None when a block of about this many seconds still fits.

        The answer is final: once a reason was given, every later question gets it too.
        """
        if self._reason is None and self.deadline is not None:
            left = self.deadline.remaining(self._clock())
            if left < BLOCK_SPREAD * next_block_seconds + self.margin:
                self.request(  # kept: whoever asks next, with no block in mind, must hear the same
                    f"{max(0.0, left):.0f} s are left ({self.deadline.source}): too short for another "
                    f"{next_block_seconds:.3g} s of work and {self.margin:.3g} s to leave"
                )
        return self._reason

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
        self.request(f"{signal.Signals(number).name} was received")


def _slurm_end_time(environ: Mapping[str, str], ask: Ask, now: float) -> tuple[float, str] | None:
    end = environ.get("SLURM_JOB_END_TIME", "")
    return (int(end) - now, "SLURM_JOB_END_TIME") if end.isdigit() and int(end) > 0 else None


def _slurm_queue(environ: Mapping[str, str], ask: Ask, now: float) -> tuple[float, str] | None:
    """What squeue says; Slurm sets no SLURM_JOB_END_TIME before version 23."""
    if (job := slurm_job(environ)) is None:
        return None
    lines = (ask(["squeue", "-h", "-j", job, "-o", "%L"]) or "").split()
    seconds = slurm_seconds(lines[0]) if len(lines) == 1 else None
    return None if seconds is None else (seconds, f"squeue on job {job}")


def pbs_record(job: str, ask: Ask) -> Mapping[str, Any]:
    """What qstat says of a job, {} when it says nothing; ValueError when that makes no sense."""
    jobs = read_json(ask(["qstat", "-f", "-F", "json", job]) or "{}")
    return jobs.get(job) or next(iter(jobs.values()), {})


def _pbs_queue(environ: Mapping[str, str], ask: Ask, now: float) -> tuple[float, str] | None:
    job = environ.get("PBS_JOBID")
    if not job:
        return None
    try:
        record = pbs_record(job, ask)
        limit = _pbs_seconds(record.get("Resource_List", {}).get("walltime"))
        used = _pbs_seconds(record.get("resources_used", {}).get("walltime"))
    except (ValueError, AttributeError):
        return None
    if limit is None:
        return None
    elapsed = max(used or 0.0, *_since_start(record.get("stime"), now))
    return limit - elapsed, f"qstat on job {job}"


def _since_start(stime: object, now: float) -> Iterator[float]:
    """Seconds since the start that qstat prints in local time; the used walltime it prints is minutes old."""
    yield 0.0
    if isinstance(stime, str):
        try:
            yield now - time.mktime(time.strptime(stime))
        except (ValueError, OverflowError):
            return


def _pbs_seconds(value: object) -> float | None:
    """Seconds of [[hours:]minutes:]seconds; qstat's JSON turns what looks like a number into one."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, str) and re.fullmatch(r"\d+(:\d+){0,2}", value):
        return _clock_seconds(value)
    return None


def _clock_seconds(text: str) -> float:
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60.0 * seconds + int(part)
    return seconds
