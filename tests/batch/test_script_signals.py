"""What a job script does with signals and exit codes: bash, its child and all signals are real.

Stand-ins: scontrol, which writes down how it was called, and sleep, which does not sleep for long.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpcxpcs.batch.scripts import RESTARTS, script_text
from tests.batch.requests import DIALECTS, plain_job
from tests.patience import PATIENCE, until

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def note(number, frame):
    with open(folder / "received", "a") as file:
        file.write(signal.Signals(number).name + " ")
for name in sys.argv[2:]:
    signal.signal(signal.Signals[name], note)
(folder / "pid").write_text(str(os.getpid()))
(folder / "ready").touch()
while not (folder / "end").exists():
    time.sleep(0.01)
print("the program ends", flush=True)
if "SIGUSR1" in sys.argv:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
sys.exit(int((folder / "end").read_text()))
"""
"""A program that notes the signals it is told to, and ends when told so with the code it is told. Like hpcxpcs it goes
back to ignoring USR1, as the script started it: Python's own way out would let that signal end it again."""
SCONTROL = """#!/bin/sh
echo "$*" >> "{folder}/scontrol"
exit {code}
"""
SLEEP = """#!/bin/sh
exec /bin/sleep 0.02
"""
ENVIRONMENTS = {
    "slurm": {"SLURM_JOB_ID": "12"},
    "pbs": {"PBS_JOBID": "12.server"},
    "torque": {"PBS_JOBID": "12.server"},
}
ARRAY_TASK = {"SLURM_JOB_ID": "15", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}


@dataclass
class Job:
    """A script that runs, the folder through which its program talks, and its log."""

    process: subprocess.Popen[str]
    folder: Path
    log: Path

    def ready(self) -> Job:
        until((self.folder / "ready").exists)
        return self

    def send(self, name: str) -> None:
        self.process.send_signal(signal.Signals[name])

    def received(self) -> list[str]:
        noted = self.folder / "received"
        return noted.read_text().split() if noted.exists() else []

    def let_end(self, code: int) -> None:
        (self.folder / "end.new").write_text(str(code))
        (self.folder / "end.new").rename(self.folder / "end")

    def end(self, code: int) -> int:
        """Let the program end with a code; that of the script."""
        self.let_end(code)
        return self.process.wait(PATIENCE)

    def scontrol(self) -> list[str]:
        calls = self.folder / "scontrol"
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Job]]:
    """Start a script as a scheduler does; all that is left of it is killed at the end."""
    jobs: list[Job] = []
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "program.py").write_text(PROGRAM)

    def begin(
        dialect="slurm",
        listens=("SIGTERM", "SIGUSR1"),
        kind="gather",
        environ=None,
        command=(),
        scontrol_code=0,
        **more,
    ) -> Job:
        for name, text in (
            ("scontrol", SCONTROL.format(folder=tmp_path, code=scontrol_code)),
            ("sleep", SLEEP),
        ):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        command = command or (
            sys.executable,
            "-I",
            "-S",
            str(tmp_path / "program.py"),
            str(tmp_path),
            *listens,
        )
        script = tmp_path / "job"
        script.write_text(script_text(plain_job(dialect, tmp_path, *command, kind=kind, tasks=4, **more)))
        environ = {
            "PATH": f"{programs}:/usr/bin:/bin",
            **(ENVIRONMENTS[dialect] if environ is None else environ),
        }
        process = subprocess.Popen(["bash", script], env=environ, text=True, start_new_session=True)
        task = "12_3" if kind == "array" else "12"
        jobs.append(Job(process, tmp_path, tmp_path / "logs" / f"{kind}-{task}.log"))
        return jobs[-1]

    yield begin
    for job in jobs:
        if job.process.poll() is None:
            os.killpg(job.process.pid, signal.SIGKILL)
            job.process.wait()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("code", [0, 1, 3, 75])
def test_given_a_program_that_ends_then_the_job_ends_with_its_code(start, dialect, code):
    assert start(dialect).ready().end(code) == code


def test_given_a_program_that_is_missing_then_the_job_fails_with_the_shells_code(start, tmp_path):
    job = start(command=("/nowhere/hpcxpcs",))
    assert job.process.wait(PATIENCE) == 127
    assert "/nowhere/hpcxpcs" in job.log.read_text()


def test_given_a_program_that_is_killed_then_the_job_says_so(start):
    job = start().ready()
    os.kill(int((job.folder / "pid").read_text()), signal.SIGKILL)
    assert job.process.wait(PATIENCE) == 128 + signal.SIGKILL


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_given_a_signal_to_the_shell_alone_then_the_program_gets_it_once_and_the_shell_waits(start, dialect, name):
    job = start(dialect).ready()
    job.send(name)
    until(lambda: job.received() == [name])
    assert job.process.poll() is None, "the program is still writing its checkpoint"
    assert job.end(75) == 75
    assert job.received() == [name]


def test_given_signals_after_each_other_then_all_are_handed_on(start):
    job = start().ready()
    for count, name in enumerate(["SIGUSR1", "SIGUSR1", "SIGTERM", "SIGUSR1"], start=1):
        job.send(name)
        until(lambda count=count: len(job.received()) == count)
    assert job.end(3) == 3
    assert job.received() == ["SIGUSR1", "SIGUSR1", "SIGTERM", "SIGUSR1"]


def test_given_signals_while_the_program_ends_then_its_code_is_not_lost(start):
    chance = random.Random(3)
    """Eight times, because it takes chance: bash 5.2 forgets one exit code in seven if the script stays by `wait`."""
    for _ in range(8):
        job = start(listens=("SIGUSR1",)).ready()
        job.let_end(3)
        while job.process.poll() is None:
            job.send("SIGUSR1")
            time.sleep(0.002 * chance.random())
        assert job.process.returncode == 3
        for name in ("end", "ready"):
            (job.folder / name).unlink()


def test_given_a_term_to_everything_in_the_job_then_the_shell_still_waits_for_the_program(start):
    job = start().ready()
    os.killpg(job.process.pid, signal.SIGTERM)
    until(lambda: bool(job.received()))
    assert job.process.poll() is None
    assert job.end(75) == 75
    assert job.scontrol() == []
    assert "Terminated" not in job.log.read_text()


def test_given_cont_then_nothing_happens(start):
    job = start(listens=("SIGTERM", "SIGUSR1", "SIGCONT")).ready()
    job.send("SIGCONT")
    job.send("SIGUSR1")
    until(lambda: bool(job.received()))
    assert job.end(0) == 0
    assert job.received() == ["SIGUSR1"]
    assert job.scontrol() == []


def test_given_a_job_that_is_paused_and_goes_on_then_nothing_is_lost(start):
    job = start().ready()
    job.send("SIGSTOP")
    job.send("SIGCONT")
    assert job.end(3) == 3


def test_given_a_warning_before_the_program_listens_then_it_ends_nothing(start):
    job = start(listens=()).ready()
    job.send("SIGUSR1")
    job.send("SIGUSR1")
    assert job.end(0) == 0


def test_given_a_warning_while_modules_are_loaded_then_it_ends_nothing(start, tmp_path):
    wait = f'touch "{tmp_path}/loading"; until [[ -e "{tmp_path}/loaded" ]]; do sleep 0.01; done'
    job = start(setup=(wait,))
    until((tmp_path / "loading").exists)
    job.send("SIGUSR1")
    (tmp_path / "loaded").touch()
    assert job.ready().end(0) == 0


@pytest.mark.parametrize("dialect", DIALECTS)
def test_given_setup_that_fails_then_the_program_is_not_started_and_the_log_says_why(start, dialect):
    job = start(dialect, setup=("source /nowhere/bin/activate",))
    assert job.process.wait(PATIENCE) != 0
    assert "/nowhere/bin/activate" in job.log.read_text()
    assert not (job.folder / "ready").exists()


def test_given_setup_with_unset_variables_then_it_works_as_in_a_login_shell(start):
    assert start(setup=('export A="$NOT_SET_ANYWHERE"',)).ready().end(0) == 0


# ---- back into the queue ----


def test_given_a_stop_before_the_time_limit_then_slurm_is_asked_once_to_run_the_job_again(start):
    job = start().ready()
    assert job.end(75) == 75
    assert job.scontrol() == ["requeue 12"]
    assert "back into the queue" in job.log.read_text()


def test_given_an_array_task_then_slurm_is_asked_for_that_task_only(start):
    job = start(kind="array", environ=ARRAY_TASK).ready()
    assert job.end(75) == 75
    assert job.scontrol() == ["requeue 12_3"]


def test_given_the_warning_of_the_time_limit_then_the_job_goes_back_into_the_queue(start):
    job = start().ready()
    job.send("SIGUSR1")
    until(lambda: bool(job.received()))
    assert job.end(75) == 75
    assert job.scontrol() == ["requeue 12"]


def test_given_a_term_then_slurm_decides_alone(start):
    job = start().ready()
    job.send("SIGTERM")
    until(lambda: bool(job.received()))
    assert job.end(75) == 75
    assert job.scontrol() == []


@pytest.mark.parametrize("code", [0, 1, 3])
def test_given_an_end_that_is_no_stop_then_the_job_does_not_run_again(start, code):
    job = start().ready()
    assert job.end(code) == code
    assert job.scontrol() == []


@pytest.mark.parametrize(("restarts", "calls"), [(RESTARTS - 1, ["requeue 12"]), (RESTARTS, []), (RESTARTS + 7, [])])
def test_given_many_restarts_then_the_job_ends_some_day(start, restarts, calls):
    job = start(environ={**ENVIRONMENTS["slurm"], "SLURM_RESTART_COUNT": str(restarts)}).ready()
    assert job.end(75) == 75
    assert job.scontrol() == calls
    assert ("restarted" in job.log.read_text()) == (not calls)


def test_given_a_slurm_that_refuses_then_the_log_says_what_to_do(start):
    job = start(scontrol_code=1).ready()
    assert job.end(75) == 75
    assert "submit this script again" in job.log.read_text()


@pytest.mark.parametrize("dialect", ["pbs", "torque"])
def test_given_pbs_then_no_job_puts_itself_back(start, dialect):
    job = start(dialect).ready()
    assert job.end(75) == 75
    assert job.scontrol() == []
    assert "the next job continues" in job.log.read_text()


# ---- logs ----


def test_given_a_task_that_runs_twice_then_both_are_in_its_log_and_nothing_is_printed_elsewhere(start, capfd):
    job = start(kind="array", environ=ARRAY_TASK).ready()
    job.end(75)
    for name in ("end", "ready"):
        (job.folder / name).unlink()
    job = start(kind="array", environ={**ARRAY_TASK, "SLURM_RESTART_COUNT": "1"}).ready()
    job.end(0)
    lines = [line.partition(" on ")[0] for line in job.log.read_text().splitlines()]
    assert lines.count("=== array 12_3") == lines.count("the program ends") == 2
    assert capfd.readouterr() == ("", "")


def test_given_a_running_task_then_its_log_is_there_already(start):
    job = start("pbs").ready()
    assert job.log.read_text().startswith("=== gather 12 on ")
    job.end(0)


def test_given_a_run_folder_that_is_gone_then_it_is_not_made_anew(start, tmp_path):
    script = tmp_path / "elsewhere"
    script.write_text(script_text(plain_job("slurm", tmp_path / "gone", "true")))
    ended = subprocess.run(["bash", script], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 1
    assert f"There is no run folder {tmp_path}/gone." in ended.stderr
    assert not (tmp_path / "gone").exists()
