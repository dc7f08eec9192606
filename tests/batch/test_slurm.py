"""What Slurm prints, read; and its programs when they are missing, silent or refuse. Real Slurm is in tests/slurm."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcxpcs.batch import jobs, slurm
from hpcxpcs.batch.jobs import TaskLook
from hpcxpcs.batch.slurm import Slurm, queue_state, read_queue
from hpcxpcs.errors import SchedulerProblem
from tests.workers import toy

ROOT = Path(__file__).parents[2]

RECORDED = """\
1|0|COMPLETED|0|n1|None|
1|1|FAILED|19200|n1|NonZeroExitCode|
1|2|RUNNING|0|n2|None|
1|3|PENDING|0||JobArrayTaskLimit|
2|N/A|PENDING|0||Dependency|
3|N/A|CANCELLED|15||None|
"""
"""Lines of Slurm 22.05."""


@pytest.fixture
def pretend(tmp_path, monkeypatch) -> Callable[..., None]:
    """Put a program on the path that is a fake: it does what a line of shell says."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, line: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)

    return make


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "my run's" / "array.sbatch"
    path.parent.mkdir()
    path.write_text("#!/bin/bash\n#SBATCH --array=0-1\ntrue\n")
    return path


def test_given_recorded_lines_then_tasks_states_reasons_and_exit_codes_are_read():
    assert list(read_queue(RECORDED)) == [
        TaskLook("1", 0, "done", "COMPLETED", "n1", "", 0),
        TaskLook("1", 1, "failed", "FAILED", "n1", "NonZeroExitCode", 75),
        TaskLook("1", 2, "running", "RUNNING", "n2"),
        TaskLook("1", 3, "waiting", "PENDING", "", "JobArrayTaskLimit"),
        TaskLook("2", None, "waiting", "PENDING", "", "Dependency"),
        TaskLook("3", None, "cancelled", "CANCELLED", "", "", 128 + 15),
    ]


@pytest.mark.parametrize("line", ["garbage", "1|0|RUNNING", "1|0|RUNNING|0|n1|None|more|", "a table\n-------"])
def test_given_a_line_that_was_not_asked_for_then_it_is_refused_and_shown(line):
    with pytest.raises(SchedulerProblem, match="where 6 fields were asked for"):
        list(read_queue(line))


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("PENDING CONFIGURING REQUEUED REQUEUE_HOLD", "waiting"),
        ("SUSPENDED", "suspended"),
        ("RUNNING COMPLETING STOPPED SIGNALING A_WORD_OF_THE_FUTURE", "running"),
        ("FAILED TIMEOUT NODE_FAIL OUT_OF_MEMORY BOOT_FAIL DEADLINE", "failed"),
        ("CANCELLED PREEMPTED REVOKED", "cancelled"),
        ("COMPLETED", "done"),
    ],
)
def test_given_a_word_of_slurm_then_it_is_one_of_our_states(words, state):
    assert {queue_state(word) for word in words.split()} == {state}


def test_when_many_jobs_are_looked_at_then_it_is_one_request_and_the_forgotten_ones_are_gone(pretend, tmp_path):
    pretend("squeue", f'printf "%s\\n" "$*" >> {tmp_path}/asked; printf "7|0|RUNNING|0|n1|None|\\n"')
    found = Slurm().look(["7", "8", "9_3"])
    assert found == (
        TaskLook("7", 0, "running", "RUNNING", "n1"),
        TaskLook("8", None, "gone", ""),
        TaskLook("9", 3, "gone", ""),
    )
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert asked.startswith("-h -a -r -t all -j 7,8,9_3 -O ")


def test_given_a_filter_of_the_user_then_it_does_not_hide_jobs(pretend, monkeypatch):
    monkeypatch.setenv("SQUEUE_PARTITION", "other")
    pretend("squeue", 'test -z "$SQUEUE_PARTITION" && echo "7|N/A|RUNNING|0|n1|None|"')
    assert [look.state for look in Slurm().look(["7"])] == ["running"]


def test_given_no_jobs_then_nobody_is_asked(pretend):
    for name in ("squeue", "scancel", "scontrol"):
        pretend(name, "exit 1")
    assert Slurm().look([]) == ()
    Slurm().cancel([])


def test_given_a_refusal_then_command_exit_code_complaint_and_remedy_are_named(pretend):
    pretend("scancel", 'echo "scancel: error: Kill job error on job id 7: Access/permission denied" >&2; exit 1')
    with pytest.raises(SchedulerProblem, match=r"scancel 7: exit code 1: .*Access/permission denied: jobs of others"):
        Slurm().cancel(["7"])


def test_given_harmless_complaints_alone_then_they_are_passed_over(pretend):
    pretend(
        "scancel",
        'echo "scancel: error: Kill job error on job id 7: Invalid job id specified" >&2\n'
        'echo "scancel: error: Kill job error on job id 8: Job/step already completing or completed" >&2\nexit 1',
    )
    Slurm().cancel(["7", "8"])


def test_given_a_scheduler_that_keeps_silent_then_it_is_not_waited_for_without_end(pretend):
    pretend("slow", "exec sleep 60")
    with pytest.raises(SchedulerProblem, match=r"slow 1: no answer within 0\.2 s: try again"):
        jobs.call(["slow", "1"], remedy="", seconds=0.2)


def test_given_a_machine_without_the_program_then_the_remedy_is_a_login_node(tmp_path, monkeypatch, script):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerProblem, match=r"squeue: cannot be started .*: log in to a node"):
        Slurm().look(["1"])
    with pytest.raises(SchedulerProblem, match=r"sbatch: cannot be started .*: log in to a node"):
        Slurm().submit(script)


@pytest.mark.parametrize(
    ("answer", "job"), [("12", "12"), ("12;cluster", "12"), ("a word of the site's plugin\n12", "12")]
)
def test_given_an_answer_of_sbatch_then_the_id_is_read_whatever_is_around_it(pretend, script, answer, job):
    pretend("srun", "exit 1")
    pretend("sbatch", f"printf '%s\\n' {shlex.quote(answer)}")
    assert Slurm().submit(script) == job


def test_given_an_answer_without_an_id_then_it_is_shown(pretend, script):
    pretend("srun", "exit 1")
    pretend("sbatch", "echo thank you")
    with pytest.raises(SchedulerProblem, match="sbatch: printed 'thank you' instead of a job's id"):
        Slurm().submit(script)


def test_given_a_refused_script_then_only_the_error_tells_it(pretend, script, capsys):
    pretend("srun", "exit 1")
    pretend("sbatch", 'echo "sbatch: error: invalid partition specified: fast" >&2; exit 1')
    with pytest.raises(SchedulerProblem, match="exit code 1: sbatch: error: invalid partition specified: fast: "):
        Slurm().submit(script)
    assert capsys.readouterr() == ("", "")


def test_given_a_silent_sbatch_then_the_error_says_to_look_before_trying_again(pretend, script, monkeypatch):
    monkeypatch.setattr(slurm, "PATIENCE", 0.2)
    pretend("srun", "exit 1")
    pretend("sbatch", "exec sleep 60")
    with pytest.raises(SchedulerProblem, match=r"no answer within .*: look with squeue --me first"):
        Slurm().submit(script)


def test_given_a_script_then_the_line_to_copy_is_what_submit_runs_and_nothing_is_left_beside_it(
    pretend, script, tmp_path
):
    pretend("srun", "exit 1")
    pretend("sbatch", f'printf "%s\\n" "$@" > {tmp_path}/arguments; echo 5')
    line = Slurm().submit_line(script, after="4")
    Slurm().submit(script, after="4")
    assert shlex.split(line)[1:] == (tmp_path / "arguments").read_text().splitlines()
    assert line.endswith(f"--dependency=afterany:4 --kill-on-invalid-dep=yes {shlex.quote(str(script))}")
    assert list(script.parent.iterdir()) == [script]


def test_given_no_script_then_the_error_names_it(tmp_path):
    with pytest.raises(SchedulerProblem, match=r"missing\.sbatch: cannot be read"):
        Slurm().submit(tmp_path / "missing.sbatch")


@pytest.mark.parametrize(("options", "asked"), [([], True), ([f"--leader={os.getpid()}", "--time-limit=60"], False)])
def test_given_a_process_in_a_job_then_it_asks_for_the_time_left_unless_its_leader_has(
    pretend, tmp_path, options, asked
):
    run = toy.toy_run(tmp_path / "run", 1)
    pretend("squeue", f"touch {tmp_path}/asked; echo 1:00:00")
    subprocess.run(
        [sys.executable, "-m", "tests.workers.toy", str(run.folder), *options],
        env={**os.environ, "SLURM_JOB_ID": "7"}, cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "asked").exists() == asked
