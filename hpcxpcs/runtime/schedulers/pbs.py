"""PBS: OpenPBS and PBS Professional (`pbs`) and Torque (`torque`), through their programs qsub, qstat, qdel and qsig.

The `pbs` dialect follows what a real OpenPBS 23.06.06 server was seen to do. `torque` follows its documentation and has
not been tried on a real server.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from hpcxpcs.errors import SchedulerProblem
from hpcxpcs.runtime.schedulers.calls import PATIENCE, Said, call
from hpcxpcs.runtime.schedulers.jobs import TaskLook
from hpcxpcs.runtime.schedulers.pbs_answers import Answer, looks, read_json, read_text
from hpcxpcs.runtime.schedulers.pbs_ids import parse, submitted

PbsDialect = Literal["pbs", "torque"]

FORGOTTEN = ("Unknown Job Id", "Job has finished", "Unknown Job")
"""What qstat complains of when a job is not there (exit code 153) or no longer (35)."""

ALREADY_ENDED = (*FORGOTTEN, "Request invalid for state of job")
NO_HISTORY = "not configured to maintain job history"
"""In the complaint of a server that keeps no ended jobs when it is asked for them. OpenPBS prints an answer without any
job beside it and ends with 0, so that only the complaint tells."""

ROUNDS = 3
"""How often waiting tasks are deleted: OpenPBS skipped the last of three in one request, twice, without a word."""


class Pbs:
    """A PBS cluster, as seen from a node on which its programs are installed."""

    def __init__(self, dialect: PbsDialect = "pbs", *, patience: float = PATIENCE) -> None:
        """`patience` is how long a program may take to answer, in seconds."""
        self.name: str = dialect
        self._torque = dialect == "torque"
        self._patience = patience

    def submit(self, script: Path, *, after: str | None = None) -> str:
        """Hand in a script, to start when the job `after` has ended in any way; returns the job's id."""
        said = self._call(self._qsub(script, after), "correct the script, or submit with other options")
        return str(submitted(said.printed))

    def submit_line(self, script: Path, *, after: str | None = None) -> str:
        """The command that `submit` runs, for people to copy."""
        return shlex.join(self._qsub(script, after))

    def look(self, jobs: Sequence[str]) -> tuple[TaskLook, ...]:
        """All tasks of some jobs, in one request (two on a server without job history)."""
        if not jobs:
            return ()
        wanted = list(dict.fromkeys(str(parse(job).whole) for job in jobs))
        if self._torque:
            return looks(self._torque_answer(wanted), jobs)
        answer, history = self._pbs_answer(wanted)
        return looks(answer, jobs, history=history)

    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs, running or waiting; those that have ended already are no error.

        What still waits afterwards is deleted again; SchedulerProblem when it cannot be made to go.
        """
        left = _checked(jobs)
        for _ in range(ROUNDS):
            if not left:
                return
            self._call(["qdel", *left], "try qdel yourself", ALREADY_ENDED)
            left = [_task(look) for look in self.look(jobs) if look.state == "waiting"]
        if left:
            raise SchedulerProblem(f"qdel {' '.join(left)}: accepted, and they still wait: try qdel yourself")

    def signal(self, jobs: Sequence[str], name: str) -> None:
        """Send a signal, e.g. "USR1", to all processes of some running jobs.

        Of a job that was handed in as a script, the login shell above it is reached as well and dies of it.
        """
        if jobs:
            self._call(
                ["qsig", "-s", name.removeprefix("SIG"), *_checked(jobs)],
                "only running jobs can be signalled",
            )

    def _qsub(self, script: Path, after: str | None) -> list[str]:
        dependency = [] if after is None else ["-W", f"depend={self._after(after)}"]
        return ["qsub", *dependency, str(script.absolute())]

    def _after(self, text: str) -> str:
        job = parse(text)
        return f"afteranyarray:{job}" if self._torque and job.array else f"afterany:{job}"

    def _pbs_answer(self, jobs: Sequence[str]) -> tuple[Answer, bool]:
        """What qstat says of jobs, and whether the server keeps records of ended ones."""
        said = self._qstat(["-xf", "-F", "json", "-t", *jobs])
        if NO_HISTORY not in said.complaint:
            return self._pbs_states("-xf", jobs, said.printed), True
        said = self._qstat(["-f", "-F", "json", "-t", *jobs])
        return self._pbs_states("-f", jobs, said.printed), False

    def _pbs_states(self, flags: str, jobs: Sequence[str], text: str) -> Answer:
        try:
            return read_json(text) if text.strip() else {}
        except ValueError:  # a quote in the name of a job is enough
            return _understood(read_text(self._qstat([flags, "-t", *jobs]).printed), text)

    def _torque_answer(self, jobs: Sequence[str]) -> Answer:
        text = self._qstat(["-f", "-1", "-t", *jobs]).printed
        return _understood(read_text(text), text)

    def _qstat(self, arguments: Sequence[str]) -> Said:
        return self._call(["qstat", *arguments], "try the command yourself", (*FORGOTTEN, NO_HISTORY))

    def _call(self, command: Sequence[str], remedy: str, tolerated: Sequence[str] = ()) -> Said:
        return call(command, remedy=remedy, tolerated=tolerated, seconds=self._patience)


def _checked(jobs: Sequence[str]) -> list[str]:
    return [str(parse(job)) for job in jobs]


def _task(look: TaskLook) -> str:
    """The id of a task by which qdel knows it."""
    job = parse(look.job)
    return str(job if look.index is None else job.task(look.index))


def _understood(answer: Mapping[str, Mapping[str, object]], text: str) -> Answer:
    if not answer and text.strip():
        raise SchedulerProblem(
            f"qstat answered what no PBS is known to: {text.strip()[:200]!r}: try qstat -f yourself"
        )
    return answer
