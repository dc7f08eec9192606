"""Tasks in worker processes on this machine: each runs `hpcxpcs work RUN`, this process only watches over them."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcxpcs.batch.launcher import without_launcher
from hpcxpcs.errors import EnvironmentProblem, Stopped
from hpcxpcs.files.atomic import writing
from hpcxpcs.log.lines import FILE_ONLY
from hpcxpcs.log.process import child_variables
from hpcxpcs.runs.events import append
from hpcxpcs.runs.plan import Task
from hpcxpcs.runs.run import Run, record_failure
from hpcxpcs.runs.sealed import peek
from hpcxpcs.runs.status import open_tasks
from hpcxpcs.workers.machine import cpu_list, topology
from hpcxpcs.workers.placement import Place, child_environment, placement
from hpcxpcs.workers.preemption import StopRequest
from hpcxpcs.workers.work import (
    LOOKS_PER_LEASE,
    USUAL_PATIENCE,
    InHand,
    Member,
    Patience,
    Stop,
    TaskFunction,
    WorkReport,
    in_hand,
    report_on,
    silences,
    task_fields,
    work,
)

WORK_COMMAND = (sys.executable, "-m", "hpcxpcs", "work")
LOOK_SECONDS = 0.1
"""Between two looks at the workers."""

MOST_FALSE_STARTS = 3
"""Workers that end in a row without having claimed a task, after which no more are started."""

LOG_LINES = 5

_log = logging.getLogger(__name__)


@dataclass
class Worker:
    """A worker process, the cores it has and its log."""

    member: Member
    process: subprocess.Popen[bytes]
    place: Place
    log: Path
    cause: str = ""
    asked_to_stop: bool = False

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return "\n".join(lines[-LOG_LINES:])


@dataclass(frozen=True)
class LocalWorkers:
    """Does tasks in up to `workers` processes; one that dies or hangs is replaced, and its task tried elsewhere."""

    workers: int
    stop: StopRequest
    patience: Patience = USUAL_PATIENCE
    command: Sequence[str] = WORK_COMMAND

    def run_tasks(self, run: Run, tasks: Sequence[Task]) -> WorkReport:
        """Do `tasks`, longest first; no worker is left when this returns or raises."""
        crew = _Crew(self, run, tuple(tasks))
        try:
            reason = crew.watch()
        finally:
            crew.end()
        return report_on(run, tasks, reason)


class _Crew:
    """The workers of one list of tasks."""

    def __init__(self, settings: LocalWorkers, run: Run, tasks: tuple[Task, ...]) -> None:
        self.settings = settings
        self.run = run
        self.tasks = tasks
        self.places = list(placement(settings.workers, topology()))
        self.workers: list[Worker] = []
        self.started = 0
        self.false_starts = 0
        self.progress_at_death: dict[str, object] = {}
        self.next_look = 0.0

    def watch(self) -> str | None:
        """Keep workers at work until nothing is left or one of us is asked to stop; return the reason."""
        self._fill()
        reason = None
        while self.workers:
            time.sleep(LOOK_SECONDS)
            ended = [worker for worker in self.workers if worker.process.poll() is not None]
            for worker in ended:
                self.workers.remove(worker)
                self._handle_exit(worker)
            if reason is None and (reason := self.settings.stop.should_stop()) is not None:
                self._forward_stop()
            self._end_silent()
            if ended and reason is None:
                self._fill()
        return reason

    def end(self) -> None:
        """End the workers that are left."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.wait()

    def _fill(self) -> None:
        """Start workers, one per open task at most."""
        wanted = min(self.settings.workers, len(open_tasks(self.run, self.tasks)))
        while len(self.workers) < wanted:
            taken = {worker.place.rank for worker in self.workers}
            place = next(place for place in self.places if place.rank not in taken)
            self.workers.append(self._start(place))

    def _start(self, place: Place) -> Worker:
        self.started += 1
        name = f"worker-{os.getpid()}-{self.started}"
        log = self.run.logs / f"{name}.log"
        with writing(log):
            log.parent.mkdir(exist_ok=True)
            stream = log.open("ab")
        with stream:
            process = subprocess.Popen(
                self._arguments(),
                env={
                    **without_launcher(os.environ),
                    **child_environment(place),
                    **child_variables(self.started),
                },
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # Ctrl-C reaches the leader alone, who forwards it once
            )
        member = Member(f"worker {place.rank + 1} of {place.size}", socket.gethostname(), process.pid)
        append(self.run, "worker", name=member.name, worker_pid=process.pid, log=log.name)
        _log.info("%s begins, on CPUs %s", member, cpu_list(place.cpus), extra={"worker_pid": process.pid})
        return Worker(member, process, place, log)

    def _arguments(self) -> list[str]:
        patience, deadline = self.settings.patience, self.settings.stop.deadline
        arguments = [
            *self.settings.command,
            str(self.run.folder),
            *([] if self.tasks == self.run.plan.tasks else [f"--only={','.join(task.name for task in self.tasks)}"]),
            f"--lease={patience.lease}",
            f"--hang-after={patience.hang_after}",
            f"--leader={os.getpid()}",
        ]
        if deadline is not None:
            arguments.append(f"--time-limit={max(0.0, deadline.remaining()):.1f}")
        return arguments

    def _forward_stop(self) -> None:
        for worker in self.workers:
            worker.asked_to_stop = True
            worker.process.send_signal(signal.SIGTERM)

    def _end_silent(self) -> None:
        """Kill workers whose claims are no longer renewed: they hang in a way they cannot notice themselves."""
        if time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + self.settings.patience.lease / LOOKS_PER_LEASE
        living = {worker.member.pid: worker for worker in self.workers if worker.process.poll() is None}
        members = [worker.member for worker in living.values()]
        for silence in silences(self.run, open_tasks(self.run, self.tasks), members):
            worker = living[silence.member.pid]
            if worker.process.poll() is None:
                worker.cause = str(silence)
                worker.process.kill()

    def _handle_exit(self, worker: Worker) -> None:
        """Note what a worker that has ended was doing, if it has not ended by itself with its work done."""
        code = worker.process.returncode
        if code == Stopped.exit_code:
            self.settings.stop.request(f"{worker.member}: {worker.last_words()}")
        if code in (0, Stopped.exit_code):
            self.false_starts = 0
            return
        cause = worker.cause or f"{worker.member} {_ending(code)}"
        begun = in_hand(self.run, self.tasks, worker.member)
        if begun is None and worker.asked_to_stop and code == -signal.SIGTERM:
            return  # it was still starting, and did not listen to signals yet
        append(self.run, "died", cause=cause, task=begun and begun.task.name, log=worker.log.name)
        doing = {} if begun is None else task_fields(begun.task)
        _log.warning("%s", cause, extra={**FILE_ONLY, "worker_pid": worker.member.pid, **doing})
        if begun is not None:
            self.false_starts = 0
            self._count_death(begun, cause, worker)
        elif open_tasks(self.run, self.tasks):
            self.false_starts += 1
            if self.false_starts >= MOST_FALSE_STARTS:
                raise EnvironmentProblem(
                    f"{cause}, and so did {MOST_FALSE_STARTS - 1} before it, each without a task in hand: "
                    f"{worker.last_words() or 'its log is empty'} (log: {worker.log})"
                )

    def _count_death(self, begun: InHand, cause: str, worker: Worker) -> None:
        """A death counts as a failure of the task when the task got no further than at the last death, if any.

        A worker that is killed from outside again and again must not make a healthy task fail.
        """
        header = peek(self.run.task_file(begun.task))
        progress = None if header is None else (header.length, header.sha256)
        if worker.cause or self.progress_at_death.get(begun.task.name, ...) == progress:
            record_failure(self.run, begun.task, cause, owner=begun.token, details=worker.last_words())
        self.progress_at_death[begun.task.name] = progress


def _ending(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


@dataclass(frozen=True)
class InProcess:
    """Does tasks itself, and waits for those that processes of other jobs are doing."""

    function: TaskFunction
    stop: Stop
    patience: Patience = USUAL_PATIENCE
    workers: int = 1

    def run_tasks(self, run: Run, tasks: Sequence[Task]) -> WorkReport:
        """Do `tasks`, longest first."""
        return work(run, self.function, tasks, self.stop, patience=self.patience)
