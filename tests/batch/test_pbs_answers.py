"""What qstat answers is understood, whatever it does to values.

recorded/openpbs holds real answers of an OpenPBS 23.06.06. guessed_types.json and broken_quotes.json.txt are put
together from what was noted of that server; torque.txt follows Torque's documentation and was recorded from no server.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.batch.jobs import TaskLook
from hpcxpcs.batch.pbs import exit_words, looks, read_json, read_text
from hpcxpcs.errors import SchedulerProblem
from tests.batch.recorded_answers import RECORDED as REAL
from tests.batch.recorded_answers import recorded_calls

RECORDED = Path(__file__).parent / "recorded"


def look(name: str, *jobs: str, history: bool = True) -> list[TaskLook]:
    return list(looks(read_json((REAL / name).read_text()), jobs, history=history))


def without_record() -> str:
    return "deleted; there is no record of its start"


@pytest.mark.parametrize(
    ("name", "job", "states"),
    [
        ("array_queued.json", "154[].vm", "QQQ waiting waiting waiting"),
        ("array_running.json", "1[].vm", "RR running running"),
        ("array_finished.json", "1[].vm", "FF done done"),
        ("array_stopped_75.json", "20[].vm", "FF failed failed"),
        ("array_walltime_exceeded.json", "59[].vm", "FF failed failed"),
        ("array_task_deleted_one_rerun.json", "5[].vm", "RX running cancelled"),
        ("array_task_suspended.json", "98[].vm", "SR suspended running"),
        ("array_throttled_held.json", "68[].vm", "RQQQ running waiting waiting waiting"),
        ("array_cancelled_while_held.json", "68[].vm", "RXXX running cancelled cancelled cancelled"),
        ("array_cancelled.json", "5[].vm", "FF cancelled cancelled"),
        ("array_deleted_waiting.json", "30[].vm", "FF cancelled cancelled"),
        ("array_waiting_task_deleted.json", "70[].vm", "RRQX running running waiting cancelled"),
        ("array_waiting_task_deleted_others_done.json", "71[].vm", "FFFF done done done cancelled"),
        (
            "array_deleted_partly_before_it_ran.json",
            "70[].vm",
            "FFFF cancelled cancelled cancelled cancelled",
        ),
        ("array_preempted_requeued.json", "100[].vm", "QQQQ waiting waiting waiting waiting"),
        ("array_preempted_then_done.json", "100[].vm", "FFFF done done done done"),
        ("array_finished_by_upstream_head_qstat.json", "100[].vm", "FFFF done done done done"),
        ("single_running.json", "155.vm", "R running"),
        ("single_done.json", "155.vm", "F done"),
        ("array_running.json", "2.vm", "H waiting"),
        ("array_deleted_waiting.json", "31.vm", "F cancelled"),
        ("dependency_unknown.json", "113.vm", "F cancelled"),
    ],
)
def test_given_a_real_answer_then_every_task_has_its_own_state(name: str, job: str, states: str) -> None:
    words, *expected = states.split()
    tasks = look(name, job)
    assert [task.word for task in tasks] == list(words)
    assert [task.state for task in tasks] == expected
    array = "[]" in job
    assert [task.index for task in tasks] == (list(range(len(tasks))) if array else [None])
    assert {task.job for task in tasks} == {job}


def test_given_a_real_array_with_waiting_tasks_that_were_deleted_then_its_holes_are_seen() -> None:
    tasks = look("array_sparse_remaining.json", "137[].vm")
    assert [task.index for task in tasks if task.state == "cancelled"] == [3, 5]
    assert {task.state for task in tasks if task.index not in (3, 5)} == {"waiting"}


@pytest.mark.parametrize(
    ("name", "task", "reason", "code"),
    [
        ("array_stopped_75.json", "20[0].vm", "exit code 75", 75),
        ("array_walltime_exceeded.json", "59[0].vm", "ended by PBS: walltime exceeded", -29),
        ("array_cancelled.json", "5[0].vm", "ended by the signal TERM, as qdel does", 271),
        ("array_cancelled.json", "5[1].vm", without_record(), None),
        ("array_waiting_task_deleted_others_done.json", "71[3].vm", without_record(), None),
        ("array_deleted_partly_before_it_ran.json", "70[3].vm", without_record(), None),
        ("array_cancelled.json", "6.vm", "deleted before it ran", None),
        (
            "dependency_unknown.json",
            "113.vm",
            "deleted before it ran, while it waited for afterok:99999.vm@vm",
            None,
        ),
        ("array_task_suspended.json", "98[0].vm", "suspended by the server", None),
        ("array_throttled_held.json", "68[1].vm", "Job held by user on Sat Nov 21 15:37:17 2026", None),
        ("array_throttled_held.json", "69.vm", "held, or waits for another job", None),
        ("array_preempted_requeued.json", "100[2].vm", "", None),
    ],
)
def test_given_a_real_answer_then_the_reason_and_the_exit_code_are_the_tasks_own(
    name: str, task: str, reason: str, code: int | None
) -> None:
    (found,) = look(name, task)
    assert (found.reason, found.exit_code) == (reason, code)


def test_given_no_history_then_ended_tasks_are_gone_because_what_is_told_is_not_theirs() -> None:
    tasks = look("array_without_history.json", "72[].vm", history=False)
    assert [task.state for task in tasks] == ["gone", "gone", "running", "running"]
    assert [task.exit_code for task in tasks] == [None] * 4
    assert tasks[0].reason == "ended; this server keeps no record of how"


@pytest.mark.parametrize("name", ["array_running", "array_finished"])
def test_given_the_text_of_a_real_answer_then_it_reads_as_its_json(name: str) -> None:
    (call,) = recorded_calls(f"{name}.txt")
    assert list(looks(read_text(call.printed), ["1[].vm"])) == look(f"{name}.json", "1[].vm")


def test_given_folded_text_then_lines_are_joined_and_values_may_hold_equal_signs() -> None:
    (call,) = recorded_calls("array_running.txt")
    variables = read_text(call.printed)["1[0].vm"]["Variable_List"]
    assert "PBS_O_PATH=/path/to/venv/bin:/opt/pbs/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/games:" in variables


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (266, "ended by the signal USR1"),
        (265, "ended by the signal KILL, as PBS does some seconds after TERM"),
        (137, "exit code 137: a process in it died of the signal KILL"),
        (-20, "its node was lost, and it was submitted as not to be run again (-r n)"),
    ],
)
def test_given_how_a_job_ended_then_it_is_put_in_words(status: int, words: str) -> None:
    job = read_json((REAL / "single_done.json").read_text())["155.vm"]
    (found,) = looks({"155.vm": {**job, "substate": 93, "Exit_status": status}}, ["155.vm"])
    assert (found.state, found.reason, found.exit_code) == ("failed", words, status)


@pytest.mark.parametrize(
    ("name", "job", "left_out", "states"),
    [
        ("array_throttled_held.json", "68", (1, 2, 3), "rwww"),
        ("array_waiting_task_deleted.json", "70", (2, 3), "rrw-"),
        ("array_sparse_remaining.json", "137", range(10), "www-w-wwww"),
    ],
)
def test_given_a_version_that_does_not_list_waiting_tasks_then_the_array_tells_of_them(
    name: str, job: str, left_out: Iterable[int], states: str
) -> None:
    answer = dict(read_json((REAL / name).read_text()))
    for index in left_out:
        del answer[f"{job}[{index}].vm"]
    words = {"r": "running", "w": "waiting", "-": "gone"}
    assert [task.state for task in looks(answer, [f"{job}[].vm"])] == [words[letter] for letter in states]


def test_given_an_answer_without_jobs_then_they_are_gone() -> None:
    (call,) = recorded_calls("unknown_job.txt")
    (found,) = looks(read_json(call.printed), ["99.vm"])
    assert (found.state, found.exit_code) == ("gone", None)


def test_given_several_jobs_then_those_that_are_missing_are_gone_and_the_order_is_that_of_the_question() -> None:
    found = look("array_cancelled.json", "99.vm", "7.vm", "6.vm", "7.vm")
    assert [(task.job, task.state) for task in found] == [
        ("99.vm", "gone"),
        ("7.vm", "cancelled"),
        ("6.vm", "cancelled"),
    ]


def test_given_one_task_then_only_that_is_looked_at() -> None:
    found = look("array_waiting_task_deleted.json", "70[1].vm", "70[2].vm", "70[9].vm")
    assert [(task.job, task.index, task.state) for task in found] == [
        ("70[].vm", 1, "running"),
        ("70[].vm", 2, "waiting"),
        ("70[].vm", 9, "gone"),
    ]


def test_given_numbers_that_became_floats_then_they_are_whole_again() -> None:
    (found,) = looks(read_json((RECORDED / "guessed_types.json").read_text()), ["41.vm"])
    assert (found.state, found.exit_code) == ("failed", 3) and isinstance(found.exit_code, int)


def test_given_broken_quotes_then_the_answer_is_no_json() -> None:
    with pytest.raises(ValueError):
        read_json((RECORDED / "broken_quotes.json.txt").read_text())


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


@pytest.mark.parametrize("text", ["", "[]", "qstat: error", '{"Jobs": []}', '{"Jobs": {"1.vm": 3}}', "[" * 100_000])
def test_given_no_answer_of_qstat_then_it_is_no_json_of_jobs(text: str) -> None:
    with pytest.raises(ValueError):
        read_json(text)


@given(st.text())
def test_given_any_text_then_reading_it_finds_jobs_or_none_but_does_not_fail(text: str) -> None:
    assert isinstance(read_text(text), dict)


@given(st.integers(min_value=-300, max_value=1000))
def test_given_any_exit_status_but_0_then_there_are_words_for_it(status: int) -> None:
    assert bool(exit_words(status)) == (status != 0)
