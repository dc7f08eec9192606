"""Failures are counted over all processes, each attempt once."""

import os

import pytest

from hpcxpcs.files import atomic
from hpcxpcs.runs.run import Run, failed_attempts, forget_failures, read_failures, record_failure
from tests.runs.store import TASK, sample_plan


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", sample_plan())


def test_given_a_failure_then_it_says_what_where_and_who(run):
    assert record_failure(run, TASK, "ValueError: no", owner="token", details="Traceback") == 1
    (failure,) = read_failures(run, TASK)
    assert (failure["task"], failure["cause"], failure["details"]) == (
        "shard-00003",
        "ValueError: no",
        "Traceback",
    )
    assert (failure["owner"], failure["pid"]) == ("token", os.getpid())
    assert (run.failures / "shard-00003" / "1.json").exists()


def test_given_no_failure_then_there_is_none(run):
    assert (failed_attempts(run, TASK), read_failures(run, TASK)) == (0, ())


def test_given_many_failures_then_they_are_in_the_order_in_which_they_happened(run):
    for number in range(11):
        assert record_failure(run, TASK, f"cause {number}") == number + 1
    assert [failure["cause"] for failure in read_failures(run, TASK)] == [f"cause {n}" for n in range(11)]


def test_given_one_attempt_that_several_processes_see_fail_then_it_counts_once(run):
    assert record_failure(run, TASK, "hangs", owner="token") == 1
    assert record_failure(run, TASK, "died", owner="token") == 1
    assert record_failure(run, TASK, "died", owner="another") == 2
    assert [failure["cause"] for failure in read_failures(run, TASK)] == ["hangs", "died"]


def test_given_a_number_that_another_process_has_just_taken_then_the_next_is_used(run, monkeypatch):
    record_failure(run, TASK, "first")
    taken = []

    def take_the_second(step):
        if not taken:
            taken.append(step)
            record_failure(run, TASK, "meanwhile")

    monkeypatch.setattr(atomic, "reached", take_the_second)
    assert record_failure(run, TASK, "second") == 3
    assert [failure["cause"] for failure in read_failures(run, TASK)] == ["first", "meanwhile", "second"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_given_a_failure_that_cannot_be_read_then_it_still_counts(run, content):
    record_failure(run, TASK, "first")
    (run.failures / TASK.name / "2.json").write_bytes(content)
    assert failed_attempts(run, TASK) == 2
    assert "cannot be read" in read_failures(run, TASK)[1]["cause"]


def test_given_other_files_in_the_folder_then_they_are_not_failures(run):
    record_failure(run, TASK, "first")
    (run.failures / TASK.name / "note.json").touch()
    (run.failures / TASK.name / ".2.json.1-a.tmp").touch()
    assert failed_attempts(run, TASK) == 1


def test_given_forgotten_failures_then_counting_starts_again(run):
    record_failure(run, TASK, "first", owner="token")
    forget_failures(run, TASK)
    assert failed_attempts(run, TASK) == 0
    assert record_failure(run, TASK, "again", owner="token") == 1
