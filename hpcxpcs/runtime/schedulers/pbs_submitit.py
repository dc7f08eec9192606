"""PBS for submitit: `submitit.AutoExecutor(folder, cluster="pbs")` calls Python functions in jobs and arrays of PBS.

Job ids are those of PBS (`12.server`, `1234[7].server`). Files of submitit are pickles, which can run code when they
are read: nothing of a run of hpcxpcs goes through them. What PBS has no counterpart for: a warning before the end (a
clock in the job takes its place) and a requeue without operator rights (what is left is handed in as a new job, which
the old one's id goes on to stand for).
"""

from __future__ import annotations

import copy
import shutil
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from submitit.core import core, job_environment, logger, utils

from hpcxpcs.errors import SchedulerProblem
from hpcxpcs.runtime.schedulers.calls import call
from hpcxpcs.runtime.schedulers.jobs import TaskLook
from hpcxpcs.runtime.schedulers.pbs import Pbs, PbsDialect
from hpcxpcs.runtime.schedulers.pbs_environment import PbsPaths
from hpcxpcs.runtime.schedulers.pbs_exits import OVER_WALLTIME
from hpcxpcs.runtime.schedulers.pbs_ids import parse, submitted
from hpcxpcs.runtime.schedulers.pbs_parameters import (
    PbsParameters,
    carried_by_pbs,
    defaults,
    output_options,
    script_text,
)
from hpcxpcs.runtime.schedulers.quoting import shell_word

STATES = {
    "waiting": "PENDING",
    "running": "RUNNING",
    "suspended": "PENDING",
    "done": "COMPLETED",
    "stopped": "FAILED",
    "failed": "FAILED",
    "cancelled": "CANCELLED",
    "gone": "GONE",
}
"""In the words of submitit, which are those of Slurm; GONE is a job that PBS keeps no history of. SUSPENDED would be
taken for an end."""


class PbsInfoWatcher(core.InfoWatcher):
    """Asks PBS for the states of all jobs of a process, in one request."""

    def __init__(self, dialect: PbsDialect = "pbs", delay_s: int = 60) -> None:
        super().__init__(delay_s)
        self._pbs = Pbs(dialect)

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """Return the state of a job, in submitit's words."""
        return self.get_info(job_id, mode=mode).get("State") or "UNKNOWN"

    def update(self) -> None:
        """Ask for all jobs that have not ended."""
        asked = sorted(self._registered - self._finished)
        if not asked:
            return
        self._num_calls += 1
        try:
            self._info_dict.update({job: _info(job, look) for job, look in self._looks(asked)})
        except SchedulerProblem as problem:
            logger.get_logger().warning(f"Call #{self.num_calls} - states may be old: {problem}")
        self._last_status_check = time.time()
        self._finished |= {job for job in asked if self.is_done(job, mode="cache")}

    def _looks(self, asked: Sequence[str]) -> list[tuple[str, TaskLook]]:
        """Pair ids with what PBS says of them; an array as a whole has no state of its own here."""
        found = {(parse(look.job).number, look.index): look for look in self._pbs.look(asked)}
        pairs = [(job, found.get((parse(job).number, parse(job).index))) for job in asked]
        return [(job, look) for job, look in pairs if look is not None]


class PbsJob(core.Job[core.R]):
    """A job or one task of an array. When its time was up, the job that goes on with it stands in for it."""

    dialect: PbsDialect = "pbs"
    watcher = PbsInfoWatcher()
    _cancel_at_deletion = False  # also when the id turns out to be none

    def __init__(self, folder: Path | str, job_id: str, tasks: Sequence[int] = (0,)) -> None:
        parse(job_id)  # one wrong id would spoil the request for all jobs
        super().__init__(folder, job_id, tasks)
        self._paths = PbsPaths(folder, job_id=job_id, task_id=self.task_id)

    @property
    def paths(self) -> PbsPaths:
        """The files of the job."""
        return cast(PbsPaths, self._paths)

    @property
    def current_id(self) -> str:
        """The id of the job that works on this one now."""
        try:
            return (self.paths.resubmissions.read_text().split() or [self.job_id])[-1]
        except OSError:
            return self.job_id

    @property
    def state(self) -> str:
        """State of the job (does not force an update)."""
        return self.watcher.get_state(self.current_id, mode="standard")

    def get_info(self, mode: str = "force") -> dict[str, str]:
        """What PBS says of the job: JobID, State, NodeList, Reason, ExitCode."""
        return self.watcher.get_info(self.current_id, mode=mode)

    def done(self, force_check: bool = False) -> bool:
        """Whether the result is there, or the job and all that went on with it have ended."""
        if not super().done(force_check):
            return False
        if self._sub_jobs or self.paths.result_pickle.exists() or self.current_id == self.job_id:
            return True
        return self.watcher.is_done(self.current_id, mode="force" if force_check else "standard")

    def cancel(self, check: bool = True) -> None:
        """Cancel the job; one that has ended already is no error. Without `check` no failure is."""
        try:
            Pbs(self.dialect).cancel(list(dict.fromkeys([self.job_id, self.current_id])))
        except SchedulerProblem:
            if check:
                raise

    def _interrupt(self, timeout: bool = False) -> None:
        """Have the function save its state and go on in another job, as at the end of its time; for tests.

        A real preemption is not for users to ask for; the time that has passed decides whether it counts as a timeout.
        """
        Pbs(self.dialect).signal([self.current_id], job_environment.JobEnvironment.USR_SIG)


class TorqueJob(PbsJob[core.R]):
    """A job of Torque."""

    dialect: PbsDialect = "torque"
    watcher = PbsInfoWatcher("torque")


class PbsExecutor(core.PicklingExecutor):
    """Runs Python functions as jobs of PBS; `update_parameters` takes the fields of PbsParameters.

    `folder` must be on a file system that the nodes share, `python` is the command that starts Python there (this
    interpreter by default), `dialect` "pbs" for OpenPBS and PBS Professional, or "torque".
    """

    job_class: type[PbsJob[Any]] = PbsJob

    def __init__(
        self,
        folder: Path | str,
        max_num_timeout: int = 3,
        max_pickle_size_gb: float = 1.0,
        python: str | None = None,
        dialect: PbsDialect = "pbs",
    ) -> None:
        super().__init__(folder, max_num_timeout=max_num_timeout, max_pickle_size_gb=max_pickle_size_gb)
        if dialect not in ("pbs", "torque"):
            raise ValueError(f'dialect={dialect!r}: must be "pbs" or "torque"')
        if self.affinity() <= 0:
            raise RuntimeError(
                'Could not detect the programs of PBS ("qsub", "qstat", "qsig"): load its module'
            )
        self.python = shell_word(sys.executable) if python is None else python
        self.dialect: PbsDialect = dialect
        self.job_class = TorqueJob if dialect == "torque" else PbsJob
        self._count: int | None = None

    @classmethod
    def affinity(cls) -> int:
        """2 where PBS is, -1 elsewhere; Grid Engine has a qsub too, but no qsig."""
        return 2 if all(shutil.which(program) for program in ("qsub", "qstat", "qsig")) else -1

    @classmethod
    def _equivalence_dict(cls) -> core.EquivalenceDict:
        return {
            "name": "name",
            "timeout_min": "time",
            "mem_gb": "mem",
            "nodes": "nodes",
            "cpus_per_task": "cpus_per_task",
            "gpus_per_node": "gpus_per_node",
            "tasks_per_node": "tasks_per_node",
        }

    @classmethod
    def _valid_parameters(cls) -> set[str]:
        return set(defaults())

    def _convert_parameters(self, params: dict[str, Any]) -> dict[str, Any]:
        params = super()._convert_parameters(params)
        if isinstance(params.get("mem"), (int, float)):
            params["mem"] = f"{params['mem'] * 1024:.0f}mb"
        return params

    def _internal_update_parameters(self, **kwargs: Any) -> None:
        kwargs = self._convert_parameters(
            kwargs
        )  # submitit's common names mean the same without AutoExecutor
        unknown = sorted(set(kwargs) - set(defaults()))
        if unknown:
            known = "\n  - ".join(
                f"{name} (default: {value!r})" for name, value in sorted(defaults().items())
            )
            raise ValueError(f"Unavailable parameter(s): {unknown}\nValid parameters are:\n  - {known}")
        PbsParameters(**{**self.parameters, **kwargs})  # raises when one of them cannot be
        super()._internal_update_parameters(**kwargs)

    def _internal_process_submissions(
        self, delayed_submissions: list[utils.DelayedSubmission]
    ) -> list[core.Job[Any]]:
        """Submit; several functions become an array, one never does, because PBS refuses arrays of one task."""
        if len(delayed_submissions) == 1:
            return super()._internal_process_submissions(delayed_submissions)
        folder = self._scratch()
        pickles = []
        for delayed in delayed_submissions:
            pickles.append(folder / f"{uuid.uuid4().hex}.pkl")
            delayed.set_timeout(cast(int, self._asked().time), self.max_num_timeout)
            delayed.dump(pickles[-1])
        self._throttle()
        array = copy.copy(self)
        array._count = len(pickles)
        name, uid = array._hand_in(self._submitit_command_str)
        jobs: list[core.Job[Any]] = []
        for index, pickle in enumerate(pickles):
            job = self._job(str(parse(name).task(index)), uid, f"-{index}")
            job.paths.move_temporary_file(pickle, "submitted_pickle")
            jobs.append(job)
        return jobs

    def _submit_command(self, command: str) -> core.Job[Any]:
        name, uid = self._hand_in(command)
        return self._job(name, uid)

    def _hand_in(self, command: str) -> tuple[str, str]:
        """Submit one job or array; returns its id, and the word by which its files can be told."""
        uid = uuid.uuid4().hex
        script = self._script(uid)
        script.write_text(self._make_submission_file_text(command, uid))
        try:
            remedy = "correct the parameters of the executor"
            printed = call(self._make_submission_command(script), remedy=remedy).printed
            return self._get_job_id_from_submission_command(printed), uid
        except SchedulerProblem as problem:
            raise utils.FailedSubmissionError(str(problem)) from problem

    def _job(self, name: str, uid: str, suffix: str = "") -> PbsJob[Any]:
        """Return the job of an id, with names that tell whose they are for the files of its submission."""
        job = self.job_class(folder=self.folder, job_id=name, tasks=list(range(self._num_tasks())))
        job.paths.folder.mkdir(parents=True, exist_ok=True)
        _link(job.paths.submission_file, self._script(uid))
        log = self._log(uid, suffix)
        if carried_by_pbs(log) and not (suffix and self.dialect == "torque"):
            _link(PbsPaths(self.folder, name, 0).scheduler_log, log)
        return job

    @property
    def _submitit_command_str(self) -> str:
        return f"{self.python} -u -m submitit.core._submit {shell_word(str(self.folder))}"

    def _num_tasks(self) -> int:
        return self._asked().tasks

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        script, asked, paths = self._script(uid), self._asked(), utils.JobPaths(self.folder)
        qsub = self._make_submission_command(script)
        again = [
            *asked.options(self.dialect),
            *output_options(self._log(uid, "-again")),
            *self._ending(script),
        ]
        return script_text(asked, command, qsub, again, paths.stdout, paths.stderr)

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        asked = self._asked()
        uid = submission_file_path.stem.rpartition("_")[2]
        array = [] if self._count is None else asked.array(self.dialect, self._count)
        log = self._log(uid, "" if self._count is None else "-^array_index^")
        output = (
            ["-j", "oe", "-o", "/dev/null"] if array and self.dialect == "torque" else output_options(log)
        )
        return ["qsub", *asked.options(self.dialect), *array, *output, *self._ending(submission_file_path)]

    def _ending(self, script: Path) -> list[str]:
        """Say what runs. After -- PBS starts it itself; otherwise a login shell would stand above it.

        That shell dies of every signal to the job. After a TERM what is left has the seconds until KILL (23 on one
        server), after any other it ends with the shell.
        """
        return [str(script)] if self.dialect == "torque" else ["--", "/bin/bash", "-l", str(script)]

    @staticmethod
    def _get_job_id_from_submission_command(string: bytes | str) -> str:
        try:
            return str(submitted(string if isinstance(string, str) else string.decode()))
        except SchedulerProblem as problem:
            raise utils.FailedSubmissionError(str(problem)) from problem

    def _asked(self) -> PbsParameters:
        return PbsParameters(**self.parameters)

    def _scratch(self) -> Path:
        folder: Path = utils.JobPaths.get_first_id_independent_folder(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _script(self, uid: str) -> Path:
        return self._scratch() / f".submission_file_{uid}.sh"

    def _log(self, uid: str, suffix: str) -> Path:
        return self._scratch() / f".pbs_{uid}{suffix}.log"


def _link(link: Path, target: Path) -> None:
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)


def _info(job: str, look: TaskLook) -> dict[str, str]:
    state = "TIMEOUT" if look.exit_code == OVER_WALLTIME else STATES[look.state]
    code = "" if look.exit_code is None else str(look.exit_code)
    return {"JobID": job, "State": state, "NodeList": look.node, "Reason": look.reason, "ExitCode": code}
