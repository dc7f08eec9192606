"""Inside a job of submitit's PBS executor: where it is, and what to do when it has to stop.

PBS warns of nothing. It sends TERM to all processes of a job when it preempts or deletes it or when its walltime is
over, and KILL some seconds later. So a clock of ours stops a function that can be continued before the walltime is
over; at a TERM before that its state is saved, and PBS decides whether the task runs again: it does so by itself after
a preemption, and must not after qdel.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import ClassVar

from submitit.core import job_environment, logger, utils

from hpcxpcs.errors import SchedulerProblem
from hpcxpcs.runtime.batch_job import with_scheduler_programs
from hpcxpcs.runtime.schedulers.calls import call
from hpcxpcs.runtime.schedulers.pbs_ids import parse, submitted

SECONDS_TO_REQUEUE = 20.0
SECONDS_OF_PBS = 10.0
"""By so much the walltime of PBS may be ahead of our clock, which begins with the script."""

MOST_OF_THE_TIME = 0.8
"""The share of its time that a function gets at least, if the warning should come before."""

LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "PALS_LOCAL_RANKID")


class PbsPaths(utils.JobPaths):
    """Files of a job, with ids like `1234[7].server`; %A is the array's id, %a the index in it."""

    @property
    def submission_file(self) -> Path:
        """The script, which all tasks of an array share."""
        return self.folder / f"{self._whole()}_submission.sh"

    @property
    def resubmissions(self) -> Path:
        """Ids of the jobs that have gone on with this one, a line each; missing when there are none."""
        return self._format_id(self.folder / "%j_resubmitted.txt")

    @property
    def scheduler_log(self) -> Path:
        """What PBS itself had to say, e.g. that the walltime was exceeded; it comes when the job has ended."""
        return self._format_id(self.folder / "%j_pbs.log")

    def _format_id(self, path: Path | str) -> Path:
        text = str(path)
        if self.job_id is None:
            return Path(text)
        if "%a" in text:
            index = parse(self.job_id).index
            if index is None:
                raise ValueError("%a is in the folder path but this is not a job array")
            text = text.replace("%a", str(index))
        text = text.replace("%j", self.job_id).replace("%t", str(self.task_id))
        return Path(text.replace("%A", self._whole()))

    def _whole(self) -> str:
        return "%j" if self.job_id is None else str(parse(self.job_id).whole)


class PbsJobEnvironment(job_environment.JobEnvironment):
    """What a function run by the PBS executor can ask of its job, and how it is continued."""

    _env: ClassVar[dict[str, str]] = {
        "job_id": "SUBMITIT_PBS_JOB_ID",
        "num_tasks": "SUBMITIT_PBS_TASKS",
        "num_nodes": "SUBMITIT_PBS_NODES",
        "node": "SUBMITIT_PBS_NODE",
        "global_rank": "SUBMITIT_PBS_RANK",
        "local_rank": "SUBMITIT_PBS_RANK",
    }

    @property
    def raw_job_id(self) -> str:
        """The id under which the task was submitted, also when another job goes on with it."""
        return os.environ.get(self._env["job_id"]) or os.environ["PBS_JOBID"]

    @property
    def job_id(self) -> str:
        """The id as PBS writes it, e.g. `12.server` or `1234[7].server`."""
        return self.raw_job_id

    @property
    def array_job_id(self) -> str | None:
        """The id of the array, e.g. `1234[].server`; None outside of one."""
        job = parse(self.raw_job_id)
        return None if job.index is None else str(job.whole)

    @property
    def array_task_id(self) -> str | None:
        """The index in the array; None outside of one."""
        job = parse(self.raw_job_id)
        return None if job.index is None else str(job.index)

    @property
    def paths(self) -> PbsPaths:
        """The files of the task."""
        paths = PbsPaths(os.environ["SUBMITIT_FOLDER"], job_id=self.job_id, task_id=self.global_rank)
        if self.global_rank == 0:
            _repair(paths.submitted_pickle)
        return paths

    @property
    def hostnames(self) -> list[str]:
        """The nodes of the job, each once."""
        return self._nodes() or [self.hostname]

    @property
    def local_rank(self) -> int:
        """The rank among the processes of its node: what the launcher says, otherwise nodes are filled in turn."""
        for name in LOCAL_RANKS:
            if name in os.environ:
                return int(os.environ[name])
        return self.global_rank % self._per_node()

    @property
    def node(self) -> int:
        """The number of this node in the job."""
        nodes = self._nodes()
        return nodes.index(self.hostname) if self.hostname in nodes else self.global_rank // self._per_node()

    def _nodes(self) -> list[str]:
        try:
            return list(dict.fromkeys(Path(os.environ["PBS_NODEFILE"]).read_text().split()))
        except (KeyError, OSError):
            return []

    def _per_node(self) -> int:
        return max(1, self.num_tasks // max(1, self.num_nodes))

    def _handle_signals(self, paths: utils.JobPaths, submission: utils.DelayedSubmission) -> None:
        """Stop in time by a clock of our own, and save the state at TERM."""
        if self.global_rank == 0:
            for file in (paths.submitted_pickle, paths.result_pickle):
                _temporary(file).unlink(missing_ok=True)
        handler = PbsSignals(self, paths, submission)
        signal.signal(signal.SIGTERM, handler.ended)
        signal.signal(signal.SIGCONT, handler.bypass)
        signal.signal(self._usr_sig(), handler.warned)
        if self.global_rank == 0 and time_left(submission._timeout_min) is not None:
            _warn_later(self._usr_sig(), submission._timeout_min)

    def _requeue(self, countdown: int) -> None:
        """Have the task run again: by qrerun, which needs operator rights, otherwise as a new job under the old id."""
        signal.signal(
            signal.SIGTERM, signal.SIG_IGN
        )  # inherited: TERM would end these programs in the middle too
        log = logger.get_logger()
        running = os.environ["PBS_JOBID"]
        try:
            _call_from_node(["qrerun", running])
            log.info(f"Requeued job {running} ({countdown} remaining timeouts)")
            return
        except SchedulerProblem as problem:
            log.info(f"qrerun is for operators ({problem}): what is left is handed in as a new job")
        again = shlex.split(os.environ["SUBMITIT_PBS_AGAIN"])
        answer = _call_from_node(["qsub", "-v", f"SUBMITIT_PBS_GOES_ON_WITH={self.job_id}", *again])
        successor = str(submitted(answer))
        with self.paths.resubmissions.open("a") as file:
            file.write(f"{successor}\n")
            file.flush()
            os.fsync(file.fileno())
        log.info(f"Requeued job {self.job_id} as {successor} ({countdown} remaining timeouts)")


class PbsSignals(job_environment.SignalHandler):
    """Saves the state of a function when its job has to end; once, whatever else arrives."""

    def __init__(
        self, env: PbsJobEnvironment, paths: utils.JobPaths, submission: utils.DelayedSubmission
    ) -> None:
        super().__init__(env, paths, submission)
        self._begun = False

    def warned(self, signum: int, frame: FrameType | None = None) -> None:
        """The time is nearly up: hand in what is left."""
        if not self._begun:
            self._begun = self.env.global_rank == 0
            self.checkpoint_and_try_requeue(signum, frame)

    def ended(self, signum: int, frame: FrameType | None = None) -> None:
        """TERM: hand in what is left if the walltime is over, otherwise leave the rest to PBS."""
        minutes = self._delayed._timeout_min
        left = time_left(minutes)
        if left is not None and left <= margin(minutes, SECONDS_OF_PBS):
            self.warned(signum, frame)
        elif not self._begun:
            self._begun = self.env.global_rank == 0
            self.checkpoint_and_exit(signum, frame)


def time_left(minutes: float, environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds until the walltime is over; None outside of a job's script, which notes its start."""
    try:
        return float(environ["SUBMITIT_PBS_STARTED"]) + 60 * minutes - time.time()
    except (KeyError, ValueError):
        return None


def margin(minutes: float, seconds: float) -> float:
    """Seconds before the end of a walltime, at most `seconds` and not so many that little time is left to work."""
    return min(seconds, 60 * minutes * (1 - MOST_OF_THE_TIME))


def _warn_later(signum: int, minutes: float) -> None:
    """Send this process a signal some time before its walltime is over."""
    warning = margin(minutes, float(os.environ.get("SUBMITIT_PBS_WARNING", 90)))
    timer = threading.Timer(max((time_left(minutes) or 0.0) - warning, 0.0), os.kill, (os.getpid(), signum))
    timer.daemon = True
    timer.start()


def _temporary(file: Path) -> Path:
    """The name under which submitit writes a file first."""
    return file.with_suffix(file.suffix + ".save_tmp")


def _repair(file: Path) -> None:
    """Finish a replacement that was killed between its two steps: submitit removes the old file, then renames."""
    if not file.exists():
        with contextlib.suppress(FileNotFoundError):
            _temporary(file).rename(file)


def _call_from_node(command: list[str]) -> str:
    """Run a program of PBS where it may be missing from PATH."""
    said = call(
        command,
        remedy="submit the function again",
        seconds=SECONDS_TO_REQUEUE,
        environ=with_scheduler_programs(),
    )
    return said.printed
