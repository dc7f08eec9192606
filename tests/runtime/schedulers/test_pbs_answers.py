"""What qstat answers is understood, whatever it does to values.

The files in recorded/ are put together from what was noted of a real OpenPBS 23.06.06 server, field by field; what
nobody looked at is left out. torque.txt follows Torque's documentation and was recorded from no server.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.errors import SchedulerProblem
from hpcxpcs.runtime.schedulers.jobs import TaskLook
from hpcxpcs.runtime.schedulers.pbs_answers import looks, read_json, read_text
from hpcxpcs.runtime.schedulers.pbs_exits import exit_words

RECORDED = Path(__file__).parent / "recorded"


def look(name: str, *jobs: str) -> list[TaskLook]:
    return list(looks(read_json((RECORDED / name).read_text()), jobs))


def test_given_an_array_in_progress_then_every_task_has_its_own_state() -> None:
    tasks = look("array_in_progress.json", "1[].vm")
    assert [task.index for task in tasks] == [0, 1, 2, 3, 4, 5]
    assert [task.state for task in tasks] == ["done", "failed", "running", "running", "waiting", "waiting"]
    assert [task.word for task in tasks] == ["X", "X", "R", "E", "Q", "Q"]
    assert {task.job for task in tasks} == {"1[].vm"}
    assert tasks[1].exit_code == 3 and tasks[1].reason == "exit code 3" and tasks[1].node == "vm"
    assert tasks[4].reason == "Not Running: Job would conflict with reservation or top job"


def test_given_an_array_whose_waiting_tasks_are_not_listed_then_the_array_tells_of_them() -> None:
    tasks = look("array_without_waiting_tasks.json", "1[].vm")
    states = ["done", "running", "waiting", "gone", "waiting", "gone", "waiting", "waiting"]
    assert [task.state for task in tasks] == states


def test_given_an_array_that_has_ended_then_the_deleted_task_is_told_from_the_done_one() -> None:
    done, deleted = look("array_ended.json", "14[].vm")
    assert (done.state, done.exit_code) == ("done", 0)
    assert (deleted.state, deleted.exit_code, deleted.reason) == ("cancelled", 1, "deleted before it ran")


@pytest.mark.parametrize(
    ("job", "state", "reason"),
    [
        ("12.vm", "done", ""),
        ("13.vm", "failed", "exit code 75"),
        ("15.vm", "cancelled", "ended by the signal TERM, as qdel does"),
        ("16.vm", "failed", "ended by the signal USR1"),
        ("17.vm", "failed", "exit code 137: a process in it died of the signal KILL"),
        ("18.vm", "failed", "ended by PBS: walltime exceeded"),
        ("19.vm", "failed", "its node was lost, and it was submitted as not to be run again (-r n)"),
        ("20.vm", "cancelled", "deleted before it ran"),
        ("21.vm", "failed", "ended by the signal KILL, as PBS does some seconds after TERM"),
    ],
)
def test_given_how_a_job_ended_then_it_is_put_in_words(job: str, state: str, reason: str) -> None:
    (found,) = look("ended.json", job)
    assert (found.state, found.reason) == (state, reason)


def test_given_jobs_that_wait_then_the_reason_is_the_servers_or_that_of_the_state() -> None:
    waiting = look("waiting.json", "31.vm", "32.vm", "33.vm", "34.vm")
    assert {task.state for task in waiting} == {"waiting"}
    assert [task.reason for task in waiting] == [
        "Not Running: Insufficient amount of resource: ncpus",
        "held, or waits for another job",
        "waits for its start time",
        "suspended",
    ]


def test_given_an_answer_without_jobs_then_they_are_gone() -> None:
    (found,) = look("nothing.json", "12.vm")
    assert (found.state, found.exit_code) == ("gone", None)


def test_given_several_jobs_then_those_that_are_missing_are_gone_and_the_order_is_that_of_the_question() -> (
    None
):
    found = look("ended.json", "99.vm", "13.vm", "12.vm", "13.vm")
    assert [(task.job, task.state) for task in found] == [
        ("99.vm", "gone"),
        ("13.vm", "failed"),
        ("12.vm", "done"),
    ]


def test_given_one_task_then_only_that_is_looked_at() -> None:
    assert [
        (t.job, t.index, t.state) for t in look("array_in_progress.json", "1[1].vm", "1[5].vm", "1[9].vm")
    ] == [
        ("1[].vm", 1, "failed"),
        ("1[].vm", 5, "waiting"),
        ("1[].vm", 9, "gone"),
    ]


def test_given_numbers_that_became_floats_then_they_are_whole_again() -> None:
    (found,) = look("guessed_types.json", "41.vm")
    assert (found.state, found.exit_code) == ("failed", 3) and isinstance(found.exit_code, int)


def test_given_broken_quotes_then_the_answer_is_no_json() -> None:
    with pytest.raises(ValueError):
        read_json((RECORDED / "broken_quotes.json.txt").read_text())


def test_given_folded_text_then_lines_are_joined_and_values_may_hold_equal_signs() -> None:
    answer = read_text((RECORDED / "folded.txt").read_text())
    assert answer["51.vm"]["Variable_List"] == (
        "PBS_O_HOME=/home/anna,PBS_O_WORKDIR=/home/anna/a long folder that does not fit on one line,"
        'TEXT=a "quoted" word = this'
    )
    (found,) = looks(answer, ["51.vm"])
    assert (found.state, found.node) == ("running", "vm")


def test_given_torques_text_then_its_states_and_exit_codes_are_read() -> None:
    tasks = looks(read_text((RECORDED / "torque.txt").read_text()), ["1234[].server.example.org"])
    assert [(t.index, t.state, t.word) for t in tasks] == [
        (0, "done", "C"),
        (1, "cancelled", "C"),
        (2, "running", "R"),
        (3, "waiting", "Q"),
    ]
    assert tasks[0].node == "node07"


def test_given_a_state_that_pbs_does_not_have_then_the_message_tells_it() -> None:
    with pytest.raises(SchedulerProblem, match=r"job 7\.vm is in the state 'PD'"):
        looks({"7.vm": {"job_state": "PD"}}, ["7.vm"])


@pytest.mark.parametrize(
    "text", ["", "[]", "qstat: error", '{"Jobs": []}', '{"Jobs": {"1.vm": 3}}', "[" * 100_000]
)
def test_given_no_answer_of_qstat_then_it_is_no_json_of_jobs(text: str) -> None:
    with pytest.raises(ValueError):
        read_json(text)


@given(st.text())
def test_given_any_text_then_reading_it_finds_jobs_or_none_but_does_not_fail(text: str) -> None:
    assert isinstance(read_text(text), dict)


@given(st.integers(min_value=-300, max_value=1000))
def test_given_any_exit_status_but_0_then_there_are_words_for_it(status: int) -> None:
    assert bool(exit_words(status)) == (status != 0)
