"""The transport behind the other tests keeps to what a real OpenPBS 23.06.06 server was seen to do; it is not a PBS."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.schedulers.fake_pbs import ledger
from tests.runtime.schedulers.pbs_fixture import FakePbs

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(fake_pbs: FakePbs, tmp_path: Path) -> Run:
    """Run a program of the fake in a folder, from which jobs are submitted."""
    (tmp_path / "submitted").mkdir()

    def run(*words: str, script: str | None = None) -> subprocess.CompletedProcess[str]:
        if script is not None:
            file = tmp_path / "submitted" / "job.sh"
            file.write_text(script)
            words = (*words, str(file))
        return subprocess.run(
            words,
            env=fake_pbs.environment,
            cwd=tmp_path / "submitted",
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def answer(run: Run, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("qstat", *words).stdout)
    return found


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["-J", "0-0"], 2, "illegal -J value"),
        (["-J", "1,3,5"], 2, "illegal -J value"),
        (["-J", "3-1"], 2, "illegal -J value"),
        (["-t", "0-3"], 2, "usage"),
        (["-N", "two words"], 2, "illegal -N value"),
        (["-l", "select=1", "-l", "ncpus=4"], 1, "cannot be used"),
        (["-J", "0-3", "-r", "n"], 2, "rerunable"),
        (["-J", "0-10000"], 1, "size limit"),
        (["-q", "nowhere"], 170, "Unknown queue"),
        (["-W", "depend=afterany:99.vm"], 153, "Unknown Job Id"),
    ],
    ids=str,
)
def test_given_what_a_server_refuses_then_it_is_refused(
    run: Run, words: list[str], code: int, complaint: str
) -> None:
    done = run("qsub", *words, script="exit 0\n")
    assert (done.returncode, done.stdout) == (code, "") and complaint in done.stderr


def test_given_an_array_with_a_step_then_its_tasks_and_their_variables_are_those_of_pbs(
    run: Run, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    script = 'echo "$PWD|$PBS_JOBID|$PBS_ARRAY_ID|$PBS_ARRAY_INDEX|$PBS_ENVIRONMENT|$NCPUS|$TMPDIR|$PBS_O_WORKDIR"\n'
    done = run("qsub", "-N", "steps", "-J", "1-5:2%2", "-l", "select=1:ncpus=3", script=script)
    assert done.stdout == "1[].vm\n"
    fake_pbs.wait("1[].vm")
    home = tmp_path / "pbs" / "home"
    for index in (1, 3, 5):
        words = (tmp_path / "submitted" / f"steps.o1.{index}").read_text().strip().split("|")
        assert words[:6] == [str(home), f"1[{index}].vm", "1[].vm", str(index), "PBS_BATCH", "3"]
        assert f"[{index}]" in words[6] and words[7] == str(tmp_path / "submitted")


def test_given_directives_then_the_command_line_comes_first_and_code_ends_them(
    run: Run, fake_pbs: FakePbs
) -> None:
    fake_pbs.hold()
    run(
        "qsub",
        "-N",
        "mine",
        script="#!/bin/bash\n#PBS -N theirs -q workq\n\n# word\n#PBS -J 0-1\ntrue\n#PBS -J 0-9\n",
    )
    jobs = answer(run, "-xf", "-F", "json", "-t", "1[].vm")["Jobs"]
    assert list(jobs) == ["1[].vm", "1[0].vm", "1[1].vm"]
    assert jobs["1[].vm"]["Job_Name"] == "mine"


def test_given_nothing_to_tell_then_jobs_are_missing_from_the_answer(run: Run) -> None:
    done = run("qstat", "-xf", "-F", "json", "99.vm")
    assert done.returncode == 153 and done.stderr == "qstat: Unknown Job Id 99.vm\n"
    assert sorted(json.loads(done.stdout)) == ["pbs_server", "pbs_version", "timestamp"]


def test_given_an_ended_job_then_without_x_the_exit_code_is_35(run: Run, fake_pbs: FakePbs) -> None:
    run("qsub", script="exit 0\n")
    fake_pbs.settle()
    assert run("qstat", "-f", "1.vm").returncode == 35
    assert run("qdel", "1.vm").returncode == 35
    assert "job_state = F" in run("qstat", "-xf", "1.vm").stdout


def test_given_variables_then_their_types_are_guessed(run: Run, fake_pbs: FakePbs) -> None:
    fake_pbs.hold()
    run("qsub", "-N", "123", "-v", 'A=007,B=1e5,C=true,D=18446744073709551616,E="q"', script="exit 0\n")
    job = answer(run, "-xf", "-F", "json", "1.vm")["Jobs"]["1.vm"]
    values = job["Variable_List"]
    assert (values["A"], values["B"], values["C"], values["E"]) == (7, 100000, True, "q")
    assert isinstance(values["D"], float) and job["Job_Name"] == "123"


def test_given_an_array_in_progress_then_states_are_counted_and_ended_tasks_are_x(
    run: Run, fake_pbs: FakePbs
) -> None:
    run("qsub", "-J", "0-3%2", script='[ "$PBS_ARRAY_INDEX" = 0 ] || sleep 60\n')
    fake_pbs.wait("1[2].vm", "R")
    jobs = answer(run, "-xf", "-F", "json", "-t", "1[].vm")["Jobs"]
    array = jobs["1[].vm"]
    assert array["job_state"] == "B" and array["max_run_subjobs"] == 2
    assert array["array_state_count"].split() == ["Queued:1", "Running:2", "Exiting:0", "Expired:1"]
    assert array["array_indices_remaining"] == 3
    assert (jobs["1[0].vm"]["job_state"], jobs["1[0].vm"]["substate"], jobs["1[0].vm"]["Exit_status"]) == (
        "X",
        92,
        0,
    )
    run("qdel", "1[].vm")
    fake_pbs.settle()
    jobs = answer(run, "-xf", "-F", "json", "-t", "1[].vm")["Jobs"]
    assert [job["job_state"] for job in jobs.values()] == ["F"] * 5
    assert jobs["1[].vm"]["Exit_status"] == 1
    assert [jobs[f"1[{k}].vm"]["Exit_status"] for k in range(4)] == [0, 271, 271, 1]


def test_given_afterok_of_a_failure_then_the_dependent_job_is_deleted_and_afterany_runs(
    run: Run, fake_pbs: FakePbs
) -> None:
    fake_pbs.hold()
    run("qsub", "-J", "0-1", script="exit $PBS_ARRAY_INDEX\n")
    run("qsub", "-W", "depend=afterok:1[].vm", script="exit 0\n")
    run("qsub", "-W", "depend=afterany:1[].vm", script="exit 5\n")
    assert fake_pbs.queue()["2.vm"].state == "H"
    fake_pbs.release()
    fake_pbs.settle()
    queue = fake_pbs.queue()
    assert (queue["2.vm"].exit, queue["2.vm"].run_count) == (None, 0)
    assert (queue["3.vm"].exit, queue["3.vm"].run_count) == (5, 1)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("exit 7", 7),
        ("kill -KILL $$", 137),
        ("python3 -c 'import os; os.kill(os.getpid(), 9)'; exit $?", 137),
    ],
)
def test_given_an_end_then_the_exit_status_is_that_of_the_login_shell(
    run: Run, fake_pbs: FakePbs, body: str, status: int
) -> None:
    run("qsub", script=f"#!/bin/bash\n{body}\n")
    fake_pbs.settle()
    assert fake_pbs.queue()["1.vm"].exit == status


def test_given_a_script_that_traps_term_then_the_login_shell_above_still_ends_the_job(
    run: Run, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    run("qsub", script=f"#!/bin/bash\ntrap : TERM\ntouch {tmp_path}/up\nsleep 60; sleep 60; sleep 60\n")
    wait_for(tmp_path / "up")
    run("qdel", "1.vm")
    fake_pbs.settle()
    assert (fake_pbs.queue()["1.vm"].exit, fake_pbs.queue()["1.vm"].substate) == (271, 91)


def test_given_a_command_after_dashes_then_it_has_the_time_until_kill(
    run: Run, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    stubborn = f"trap 'echo saved > {tmp_path}/saved' TERM; touch {tmp_path}/up; while :; do sleep 0.1; done"
    fake_pbs.set(kill_delay=1.0)
    run("qsub", "--", "/bin/bash", "-c", stubborn)
    wait_for(tmp_path / "up")
    run("qdel", "1.vm")
    fake_pbs.settle()
    assert (tmp_path / "saved").read_text() == "saved\n"
    assert fake_pbs.queue()["1.vm"].exit == 256 + 9


def test_given_a_user_then_qrerun_is_refused_and_an_operator_runs_the_job_again_into_the_same_output(
    run: Run, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    script = (
        f"env | grep -i restart; echo run; [ -e {tmp_path}/up ] || {{ touch {tmp_path}/up; sleep 60; }}\n"
    )
    run("qsub", "-N", "again", script=script)
    wait_for(tmp_path / "up")
    assert run("qrerun", "1.vm").returncode == 159
    fake_pbs.set(operator=True)
    assert run("qrerun", "1.vm").returncode == 0
    fake_pbs.settle()
    assert fake_pbs.queue()["1.vm"].run_count == 2
    assert (tmp_path / "submitted" / "again.o1").read_text() == "run\nrun\n"


def test_given_jobs_that_may_not_run_again_then_qrerun_refuses_and_a_lost_node_ends_them(
    run: Run, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    fake_pbs.set(operator=True)
    run("qsub", "-r", "n", script=f"touch {tmp_path}/up; sleep 60\n")
    wait_for(tmp_path / "up")
    assert run("qrerun", "1.vm").returncode == 190
    fake_pbs.lose_node("1.vm")
    fake_pbs.settle()
    assert fake_pbs.queue()["1.vm"].exit == -20


def test_given_a_walltime_then_its_end_is_told_in_the_errors_and_by_minus_29(
    run: Run, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    fake_pbs.set(walltime_limits=True)
    run("qsub", "-N", "long", "-l", "walltime=1", script="sleep 60\n")
    fake_pbs.settle()
    assert fake_pbs.queue()["1.vm"].exit == -29
    assert "walltime 17 exceeded limit 1" in (tmp_path / "submitted" / "long.e1").read_text()


def test_given_a_server_without_history_then_ended_jobs_vanish_and_x_is_refused(
    run: Run, fake_pbs: FakePbs
) -> None:
    fake_pbs.set(history=False)
    run("qsub", script="exit 0\n")
    fake_pbs.settle()
    assert run("qstat", "-f", "-F", "json", "1.vm").returncode == 153
    assert "history" in run("qstat", "-xf", "-F", "json", "1.vm").stderr


def test_given_output_paths_then_the_index_takes_its_place_when_the_task_has_ended(
    run: Run, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    run(
        "qsub",
        "-J",
        "0-1",
        "-j",
        "oe",
        "-o",
        f"{tmp_path}/out-^array_index^",
        script="echo out; echo err >&2\n",
    )
    fake_pbs.settle()
    assert [(tmp_path / f"out-{index}").read_text() for index in (0, 1)] == ["out\nerr\n"] * 2
    assert not list((tmp_path / "submitted").glob("*.o1*"))


def test_given_the_end_of_a_test_then_no_process_is_left(run: Run, fake_pbs: FakePbs, tmp_path: Path) -> None:
    run("qsub", script=f"setsid sleep 1234 & trap '' TERM; touch {tmp_path}/up; sleep 1234\n")
    wait_for(tmp_path / "up")
    session = fake_pbs.queue()["1.vm"].session
    assert ledger.session_pids(session)
    fake_pbs.stop()
    assert not ledger.session_pids(session)
    mark = f"TMPDIR={fake_pbs.folder}/".encode()
    left = [file for file in Path("/proc").glob("[0-9]*/environ") if mark in environment(file)]
    assert left == []


def environment(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def wait_for(file: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} does not come"
        time.sleep(0.03)
