"""Deadlines from every source, and signals that are noted, in words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from hpcxpcs.workers.preemption import (
    Deadline,
    StopRequest,
    ask_program,
    find_deadline,
    slurm_seconds,
)
from tests.patience import PATIENCE

NOW = 1_700_000_000.0


class Scheduler:
    """Answers every question with one text and remembers what was asked."""

    def __init__(self, answer: str | None) -> None:
        self.answer = answer
        self.asked: list[list[str]] = []

    def __call__(self, arguments: Sequence[str]) -> str | None:
        self.asked.append(list(arguments))
        return self.answer


def silent(arguments: Sequence[str]) -> str | None:
    raise AssertionError(f"nothing should have been asked, but {arguments} was")


def seconds_left(deadline: Deadline | None) -> float:
    assert deadline is not None
    return deadline.remaining()


def pbs_answer(**fields: object) -> str:
    return json.dumps({"pbs_version": "23.06.06", "Jobs": {"12.vm": fields}})


def test_given_no_limit_and_no_job_then_there_is_no_deadline():
    assert find_deadline(None, {}, silent) is None


def test_given_a_time_limit_then_it_is_the_deadline():
    deadline = find_deadline(600.0, {}, silent)
    assert seconds_left(deadline) == pytest.approx(600.0, abs=30.0)
    assert deadline is not None and deadline.source == "--time-limit"


def test_given_the_end_time_of_a_slurm_job_then_nobody_is_asked():
    environ = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(int(NOW) + 900)}
    deadline = find_deadline(None, environ, silent, lambda: NOW)
    assert seconds_left(deadline) == pytest.approx(900.0, abs=30.0)


def test_given_two_limits_then_the_earlier_one_counts():
    environ = {"SLURM_JOB_END_TIME": str(int(NOW) + 900)}
    early = find_deadline(60.0, environ, silent, lambda: NOW)
    late = find_deadline(6000.0, environ, silent, lambda: NOW)
    assert early is not None and late is not None
    assert (early.source, late.source) == ("--time-limit", "SLURM_JOB_END_TIME")


def test_given_a_slurm_job_without_end_time_then_squeue_is_asked_for_the_time_left():
    squeue = Scheduler("1-02:03:04\n")
    deadline = find_deadline(None, {"SLURM_JOB_ID": "7"}, squeue)
    assert squeue.asked == [["squeue", "-h", "-j", "7", "-o", "%L"]]
    assert seconds_left(deadline) == pytest.approx(86400 + 2 * 3600 + 3 * 60 + 4, abs=30.0)


def test_given_a_slurm_array_task_then_it_is_named_by_array_and_index():
    squeue = Scheduler("5:00\n")
    environ = {"SLURM_JOB_ID": "40", "SLURM_ARRAY_JOB_ID": "40", "SLURM_ARRAY_TASK_ID": "3"}
    find_deadline(None, environ, squeue)
    assert squeue.asked[0][3] == "40_3"


@pytest.mark.parametrize("answer", [None, "", "UNLIMITED\n", "NOT_SET\n", "INVALID\n", "5:00\n7:00\n"])
def test_given_a_slurm_answer_without_one_time_then_there_is_no_deadline(answer):
    assert find_deadline(None, {"SLURM_JOB_ID": "7"}, Scheduler(answer)) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("59", 59.0), ("1:00", 60.0), ("01:00:00", 3600.0), ("2-00:00:00", 172800.0),
        ("UNLIMITED", None), ("-1:00", None), ("1:", None), ("", None),
    ],
)  # fmt: skip
def test_given_a_slurm_time_then_it_is_read_in_seconds(text, seconds):
    assert slurm_seconds(text) == seconds


def test_given_a_pbs_job_then_walltime_minus_the_time_since_its_start_is_left():
    started = time.strftime("%a %b %d %H:%M:%S %Y", time.localtime(NOW - 100.0))
    qstat = Scheduler(
        pbs_answer(Resource_List={"walltime": "01:00:00"}, resources_used={"walltime": "00:00:10"}, stime=started)
    )
    deadline = find_deadline(None, {"PBS_JOBID": "12.vm"}, qstat, lambda: NOW)
    assert qstat.asked == [["qstat", "-f", "-F", "json", "12.vm"]]
    assert seconds_left(deadline) == pytest.approx(3500.0, abs=30.0)


def test_given_a_pbs_job_without_a_start_time_then_the_used_walltime_counts():
    qstat = Scheduler(pbs_answer(Resource_List={"walltime": "00:10:00"}, resources_used={"walltime": "00:04:00"}))
    deadline = find_deadline(None, {"PBS_JOBID": "12.vm"}, qstat, lambda: NOW)
    assert seconds_left(deadline) == pytest.approx(360.0, abs=30.0)


def test_given_a_pbs_walltime_that_became_a_number_then_it_is_in_seconds():
    qstat = Scheduler(pbs_answer(Resource_List={"walltime": 90}))
    assert seconds_left(find_deadline(None, {"PBS_JOBID": "12.vm"}, qstat)) == pytest.approx(90.0, abs=30.0)


@pytest.mark.parametrize(
    "answer",
    [None, "", "qstat: unknown option", '{"timestamp": 1}', '{"Jobs": {"12.vm": {}}}', '{"Jobs": []}', "[1]"],
)
def test_given_a_pbs_answer_without_a_walltime_then_there_is_no_deadline(answer):
    assert find_deadline(None, {"PBS_JOBID": "12.vm"}, Scheduler(answer)) is None


def test_given_a_program_that_is_missing_or_fails_then_there_is_no_answer():
    assert ask_program(["hpcxpcs-no-such-program"]) is None
    assert ask_program([sys.executable, "-c", "print('half'); raise SystemExit(3)"]) is None
    assert ask_program([sys.executable, "-c", "print('whole')"]) == "whole\n"


def test_given_time_for_another_block_then_there_is_no_reason_to_stop():
    stop = StopRequest(Deadline(1000.0, "--time-limit"), margin=10.0, clock=lambda: 900.0)
    assert stop.should_stop(50.0) is None


def test_given_too_little_time_for_a_longer_block_then_the_reason_names_the_deadline():
    stop = StopRequest(Deadline(1000.0, "--time-limit"), margin=10.0, clock=lambda: 900.0)
    reason = stop.should_stop(70.0)
    assert reason is not None
    assert "100 s are left (--time-limit)" in reason
    assert "70 s of work" in reason


def test_given_a_deadline_that_is_over_then_even_no_work_is_too_much():
    assert StopRequest(Deadline(10.0, "x"), clock=lambda: 11.0).should_stop() is not None


def test_given_a_block_that_did_not_fit_then_the_same_reason_is_given_to_whoever_asks_next():
    stop = StopRequest(Deadline(1000.0, "--time-limit"), margin=10.0, clock=lambda: 900.0)
    reason = stop.should_stop(80.0)
    assert "--time-limit" in reason
    assert stop.should_stop() == reason


@pytest.mark.parametrize(("seconds", "margin"), [(5.0, 0.5), (100_000.0, 30.0), (-5.0, 0.0)])
def test_given_a_time_limit_then_the_margin_is_a_share_of_it_but_bounded(seconds, margin):
    assert StopRequest(Deadline(seconds, "x"), clock=lambda: 0.0).margin == pytest.approx(margin)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_given_a_stop_signal_then_it_is_noted_by_name_and_the_process_lives(number):
    with StopRequest() as stop:
        before = stop.should_stop(1.0)
        os.kill(os.getpid(), number)
        assert before is None
        assert stop.should_stop(1.0) == f"{number.name} was received"


def test_given_a_second_interrupt_then_it_is_a_keyboard_interrupt():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.should_stop() is not None
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_given_an_interrupt_after_a_warning_signal_then_it_is_only_noted():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.should_stop() == "SIGUSR1 was received"


def test_given_the_end_of_the_block_then_the_earlier_handlers_are_back():
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with StopRequest():
        inside = [signal.getsignal(number) for number in numbers]
    assert [signal.getsignal(number) for number in numbers] == before
    assert all(new != old for new, old in zip(inside, before, strict=True))


def test_given_a_request_from_inside_then_the_first_reason_is_kept():
    stop = StopRequest()
    stop.request("a worker was told to stop")
    stop.request("another reason")
    assert stop.should_stop() == "a worker was told to stop"


def test_given_another_thread_then_only_the_deadline_counts():
    reasons: list[str | None] = []

    def work() -> None:
        with StopRequest(Deadline(1.0, "--time-limit"), clock=lambda: 2.0) as stop:
            reasons.append(stop.should_stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reasons[0] is not None and "--time-limit" in reasons[0]


def test_given_a_terminated_process_between_blocks_then_it_ends_by_itself_with_its_own_exit_code():
    program = (
        "import time\n"
        "from hpcxpcs.workers.preemption import StopRequest\n"
        "with StopRequest() as stop:\n"
        "    print('ready', flush=True)\n"
        "    while stop.should_stop(0.01) is None:\n"
        "        time.sleep(0.01)\n"
        "raise SystemExit(75)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=PATIENCE) == 75
