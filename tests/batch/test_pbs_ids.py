"""Job ids of PBS are read and written without loss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.batch.pbs import PbsId, parse, submitted
from hpcxpcs.errors import SchedulerProblem

numbers = st.integers(min_value=0, max_value=10**12)
indices = st.integers(min_value=0, max_value=10**6)
servers = st.one_of(
    st.just(""), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,20}(\.[a-z][a-z0-9-]{0,10}){0,3}", fullmatch=True)
)
jobs = st.builds(PbsId, numbers, servers)
arrays = st.builds(PbsId, numbers, servers, array=st.just(True))
tasks = st.builds(PbsId, numbers, servers, index=indices, dashed=st.booleans())


@given(st.one_of(jobs, arrays, tasks))
def test_given_any_id_then_reading_what_is_printed_gives_it_back(job: PbsId) -> None:
    assert parse(str(job)) == job


@given(numbers, servers, indices, st.booleans())
def test_given_an_array_then_its_tasks_lead_back_to_it(number: int, server: str, index: int, brackets: bool) -> None:
    array = PbsId(number, server, array=brackets)
    assert array.task(index).whole == array
    assert parse(str(array.task(index))).index == index


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12.server", PbsId(12, "server")),
        ("12", PbsId(12)),
        ("1234[].server", PbsId(1234, "server", array=True)),
        ("1234[7].server", PbsId(1234, "server", index=7)),
        ("1234-7.server", PbsId(1234, "server", index=7, dashed=True)),
        (" 12.polaris-pbs-01.hsn.cm.example.org\n", PbsId(12, "polaris-pbs-01.hsn.cm.example.org")),
        ("12.a@b", PbsId(12, "a@b")),
    ],
)
def test_given_ids_as_servers_print_them_then_they_are_understood(text: str, expected: PbsId) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize("text", ["", "job", "12_3", "12[x].vm", "12[3", "12.vm; rm -r /", "-12", "12[1-3].vm", "12. "])
def test_given_no_id_then_it_is_refused_with_what_ids_look_like(text: str) -> None:
    with pytest.raises(SchedulerProblem, match=r"no job id of PBS.*1234\[7\]\.server"):
        parse(text)


def test_given_an_id_with_brackets_then_its_task_has_them_too_and_otherwise_a_dash() -> None:
    assert str(parse("1234[].server").task(7)) == "1234[7].server"
    assert str(parse("1234.server").task(7)) == "1234-7.server"


def test_given_a_greeting_before_the_id_then_the_last_line_counts() -> None:
    assert submitted("Welcome to the cluster.\n\n1234[].server\n") == PbsId(1234, "server", array=True)


def test_given_no_id_from_qsub_then_the_message_tells_what_was_printed_and_where_to_look() -> None:
    with pytest.raises(SchedulerProblem, match=r"qsub printed no job id but 'over quota'.*qstat"):
        submitted("over quota")
