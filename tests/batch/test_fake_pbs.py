"""The transport behind the other tests keeps to what a real OpenPBS 23.06.06 server was seen to do; it is not a PBS."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.batch.fake_pbs import ledger
from tests.batch.pbs_fixture import FakePbs
from tests.batch.recorded_answers import RECORDED, recorded_calls
from tests.patience import PATIENCE

Run = Callable[..., subprocess.CompletedProcess[str]]

TOLD = (
    "job_state",
    "substate",
    "Exit_status",
    "array_state_count",
    "array_indices_remaining",
    "depend",
    "run_count",
)
"""What is compared with a real server's answers, letter by letter."""


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
        (["-l", "select=1", "-l", "ncpus=4"], 5, "cannot be used"),
        (["-J", "0-3", "-r", "n"], 2, "rerunable"),
        (["-J", "0-10000"], 3, "size limit"),
        (["-q", "nowhere"], 170, "Unknown queue"),
        (["-W", "depend=afterok:abc"], 2, "illegal -W value"),
        (["-l", "walltime=abc"], 166, "Illegal attribute or resource value Resource_List.walltime"),
    ],
    ids=str,
)
def test_given_what_a_server_refuses_then_it_is_refused(run: Run, words: list[str], code: int, complaint: str) -> None:
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


def test_given_directives_then_the_command_line_comes_first_and_code_ends_them(run: Run, fake_pbs: FakePbs) -> None:
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


class Waiting:
    """What a task of the scenarios below does: it ends when its file is there, with what is written in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        file = f'"{folder}/$PBS_ARRAY_INDEX"'
        self.script = f"while [ ! -e {file} ]; do sleep 0.03; done; exit $(< {file})\n"

    def end(self, *codes: int, first: int = 0) -> None:
        for index, code in enumerate(codes, first):
            part = self.folder / f"new-{index}"
            part.write_text(str(code))
            part.rename(self.folder / str(index))


@pytest.fixture
def tasks(tmp_path: Path) -> Waiting:
    (tmp_path / "ends").mkdir()
    return Waiting(tmp_path / "ends")


def told(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What is compared, with ids counted from 1, one node, and reasons by their first word."""
    numbers = sorted({int(name.partition(".")[0].partition("[")[0]) for name in answer["Jobs"]})
    renamed = {f"{number}": str(place + 1) for place, number in enumerate(numbers)}

    def told_of(job: dict[str, Any]) -> dict[str, Any]:
        found = {key: job[key] for key in TOLD if key in job}
        if "depend" in found:
            kind, _, other = found["depend"].partition(":")
            found["depend"] = f"{kind}:{renamed.get(other.partition('[')[0], other)}"
        made_up = {"array_id": "array_id" in job, "exec_host": "exec_host" in job}
        return found | made_up | {"subjob": job.get("comment") == "Subjob finished"}

    jobs = {}
    for name, job in answer["Jobs"].items():
        number = name.partition(".")[0].partition("[")[0]
        jobs[name.replace(number, renamed[number], 1)] = told_of(job)
    return jobs


def recorded(name: str) -> dict[str, dict[str, Any]]:
    """The same of a real answer; `depend` of arrays, which says who waits for them, is left out."""
    found = json.loads((RECORDED / name).read_text())
    for job in found["Jobs"].values():
        if job.get("depend", "").startswith("before"):
            del job["depend"]
    return told(found)


def submit_array(run: Run, script: str, *words: str) -> None:
    assert run("qsub", *words, script=script).stdout == "1[].vm\n"


def now(run: Run, *words: str) -> dict[str, dict[str, Any]]:
    return told(answer(run, *(words or ("-xf",)), "-F", "json", "-t", "1[].vm"))


def test_given_an_array_that_waits_then_it_is_told_as_by_a_real_server(run: Run, fake_pbs: FakePbs) -> None:
    fake_pbs.hold()
    submit_array(run, "exit 0\n", "-J", "0-2%1")
    assert now(run) == recorded("array_queued.json")


def test_given_an_array_at_work_and_done_then_it_is_told_as_by_a_real_server(
    run: Run, fake_pbs: FakePbs, tasks: Waiting
) -> None:
    submit_array(run, tasks.script, "-J", "0-1")
    run("qsub", "-W", "depend=afterany:1[].vm", script="exit 0\n")
    fake_pbs.wait("1[].vm", "R")
    expected = recorded("array_running.json")
    assert told(answer(run, "-xf", "-F", "json", "-t", "1[].vm", "2.vm")) == expected
    tasks.end(0, 0)
    fake_pbs.settle()
    expected = recorded("array_finished.json")
    assert told(answer(run, "-xf", "-F", "json", "-t", "1[].vm", "2.vm")) == expected


def test_given_an_array_that_stopped_then_it_is_told_as_by_a_real_server(
    run: Run, fake_pbs: FakePbs, tasks: Waiting
) -> None:
    submit_array(run, tasks.script, "-J", "0-1")
    tasks.end(75, 75)
    fake_pbs.settle()
    expected = recorded("array_stopped_75.json")
    assert now(run) == {name: job for name, job in expected.items() if name != "2.vm"}


def test_given_a_waiting_task_that_is_deleted_then_it_is_told_as_by_a_real_server(
    run: Run, fake_pbs: FakePbs, tasks: Waiting
) -> None:
    fake_pbs.set(slots=2)
    submit_array(run, tasks.script, "-J", "0-3")
    fake_pbs.wait("1[1].vm", "R")
    run("qdel", "1[3].vm")
    assert now(run) == recorded("array_waiting_task_deleted.json")
    tasks.end(0, 0, 0)
    fake_pbs.settle()
    assert now(run) == recorded("array_waiting_task_deleted_others_done.json")


def test_given_an_array_that_is_deleted_then_it_is_told_as_by_a_real_server(
    run: Run, fake_pbs: FakePbs, tasks: Waiting
) -> None:
    fake_pbs.set(slots=2)
    submit_array(run, tasks.script, "-J", "0-3")
    fake_pbs.wait("1[1].vm", "R")
    run("qdel", "1[].vm")
    fake_pbs.settle()
    assert now(run) == recorded("array_deleted_partly_before_it_ran.json")


def test_given_an_array_that_is_deleted_while_it_waits_then_it_is_told_as_by_a_real_server(
    run: Run, fake_pbs: FakePbs
) -> None:
    fake_pbs.hold()
    submit_array(run, "exit 0\n", "-J", "0-1")
    run("qsub", "-W", "depend=afterany:1[].vm", script="exit 0\n")
    run("qdel", "2.vm", "1[].vm")
    found = told(answer(run, "-xf", "-F", "json", "-t", "1[].vm", "2.vm"))
    assert found == recorded("array_deleted_waiting.json")


def test_given_preempted_tasks_then_they_are_told_as_by_a_real_server(
    run: Run, fake_pbs: FakePbs, tasks: Waiting
) -> None:
    submit_array(run, tasks.script, "-J", "0-3")
    fake_pbs.wait("1[].vm", "R")
    fake_pbs.hold()
    for index in range(4):
        fake_pbs.preempt(f"1[{index}].vm")
    fake_pbs.wait("1[].vm", "Q")
    assert now(run) == recorded("array_preempted_requeued.json")
    fake_pbs.release()
    tasks.end(0, 0, 0, 0)
    fake_pbs.settle()
    assert now(run) == recorded("array_preempted_then_done.json")


def test_given_a_walltime_that_is_over_then_it_is_told_as_by_a_real_server(run: Run, fake_pbs: FakePbs) -> None:
    fake_pbs.set(walltime_limits=True)
    submit_array(run, "sleep 60\n", "-J", "0-1", "-l", "walltime=1")
    fake_pbs.settle()
    assert now(run) == recorded("array_walltime_exceeded.json")


def test_given_no_history_then_ended_tasks_of_an_array_at_work_are_told_as_by_a_real_server(
    run: Run, fake_pbs: FakePbs, tasks: Waiting
) -> None:
    fake_pbs.set(history=False)
    submit_array(run, tasks.script, "-J", "0-3")
    tasks.end(0, 3)
    fake_pbs.wait("1[0].vm")
    fake_pbs.wait("1[1].vm")
    fake_pbs.wait("1[3].vm", "R")
    assert now(run, "-f") == recorded("array_without_history.json")


def test_given_a_job_that_waits_for_an_unknown_one_then_it_ends_at_once_as_on_a_real_server(
    run: Run, fake_pbs: FakePbs
) -> None:
    assert run("qsub", "-W", "depend=afterok:99999.vm", script="exit 0\n").returncode == 0
    assert told(answer(run, "-xf", "-F", "json", "1.vm")) == recorded("dependency_unknown.json")


def test_given_complaints_then_they_are_those_of_a_real_server(run: Run, fake_pbs: FakePbs) -> None:
    fake_pbs.set(slots=8)
    run("qsub", "-J", "0-1", script="exit 0\n")
    run("qsub", script="exit 0\n")
    fake_pbs.settle()
    for _ in range(2):
        run("qsub", script="exit 0\n")
    run("qsub", "-J", "0-1", script="sleep 60\n")  # 5[] as in the recorded calls
    fake_pbs.wait("5[].vm", "R")
    for name in (
        "qdel_errors.txt",
        "qsig_errors.txt",
        "qrerun_errors.txt",
        "unknown_job.txt",
        "not_history.txt",
    ):
        for call in recorded_calls(name):
            done = run(*call.words)
            assert (done.returncode, done.stderr) == (call.code, call.complaint), call
            assert sorted(json.loads(done.stdout or "{}")) == sorted(json.loads(call.printed or "{}"))


def test_given_three_waiting_tasks_in_one_qdel_then_the_last_is_skipped_as_on_a_real_server(
    run: Run, fake_pbs: FakePbs
) -> None:
    fake_pbs.hold()
    submit_array(run, "exit 0\n", "-J", "0-3")
    done = run("qdel", *(f"1[{index}].vm" for index in (1, 2, 3)))
    assert (done.returncode, done.stderr) == (0, "")
    assert [task.state for task in fake_pbs.queue().values()] == ["Q", "X", "X", "Q"]


def test_given_jobs_then_their_files_are_theirs_alone_unless_another_umask_is_asked_for(
    run: Run, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    for name, words in (("own", ()), ("shared", ("-W", "umask=022"))):
        run("qsub", *words, script=f"touch {tmp_path}/{name}\n")
    fake_pbs.settle()
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("own", "shared")]
    assert modes == [0o600, 0o644]


def test_given_variables_then_their_types_are_guessed(run: Run, fake_pbs: FakePbs) -> None:
    fake_pbs.hold()
    run("qsub", "-N", "123", "-v", 'A=007,B=1e5,C=true,D=18446744073709551616,E="q"', script="exit 0\n")
    job = answer(run, "-xf", "-F", "json", "1.vm")["Jobs"]["1.vm"]
    values = job["Variable_List"]
    assert (values["A"], values["B"], values["C"], values["E"]) == (7, 100000, True, "q")
    assert isinstance(values["D"], float) and job["Job_Name"] == "123"


def test_given_an_array_in_progress_then_states_are_counted_and_ended_tasks_are_x(run: Run, fake_pbs: FakePbs) -> None:
    run("qsub", "-J", "0-3%2", script='[ "$PBS_ARRAY_INDEX" = 0 ] || sleep 60\n')
    fake_pbs.wait("1[2].vm", "R")
    jobs = answer(run, "-xf", "-F", "json", "-t", "1[].vm")["Jobs"]
    array = jobs["1[].vm"]
    assert array["job_state"] == "B" and array["max_run_subjobs"] == 2
    assert array["array_state_count"] == "Queued:1 Running:2 Exiting:0 Expired:0"
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


def test_given_a_deleted_job_then_children_outlive_the_login_shell_until_they_are_killed(
    run: Run, fake_pbs: FakePbs, tmp_path: Path
) -> None:
    save = f"trap 'sleep 1; echo saved > {tmp_path}/saved; exit 75' TERM; touch {tmp_path}/up; sleep 60 & wait"
    fake_pbs.set(kill_delay=23.0)
    run("qsub", script=f"#!/bin/bash\n{save}\n")
    wait_for(tmp_path / "up")
    run("qdel", "1.vm")
    fake_pbs.settle()
    assert (tmp_path / "saved").read_text() == "saved\n"
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
    script = f"env | grep -i restart; echo run; [ -e {tmp_path}/up ] || {{ touch {tmp_path}/up; sleep 60; }}\n"
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


def test_given_a_server_without_history_then_ended_jobs_vanish_and_x_tells_nothing_of_any(
    run: Run, fake_pbs: FakePbs
) -> None:
    fake_pbs.set(history=False)
    run("qsub", script="exit 0\n")
    fake_pbs.settle()
    assert run("qstat", "-f", "-F", "json", "1.vm").returncode == 153
    run("qsub", "-J", "0-1", script="sleep 60\n")
    fake_pbs.wait("2[].vm", "R")
    asked, *_ = recorded_calls("no_history.txt")
    done = run("qstat", "-xf", "-F", "json", "-t", "2[].vm")
    assert (done.returncode, done.stderr) == (asked.code, asked.complaint.replace("72[]", "2[]"))
    assert sorted(json.loads(done.stdout)) == sorted(json.loads(asked.printed))
    assert len(answer(run, "-f", "-F", "json", "-t", "2[].vm")["Jobs"]) == 3


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


def wait_for(file: Path, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} does not come"
        time.sleep(0.03)
