"""As many ranks work on a machine as have a core there."""

from __future__ import annotations

from hpcxpcs.workers.mpi import Seat, at_work, waiting_words


def test_given_a_core_each_then_all_ranks_work():
    working = at_work([Seat("a", (0,)), Seat("a", (1,)), Seat("b", (0,)), Seat("b", (1,))])
    assert working == (True,) * 4
    assert waiting_words(working) == ""


def test_given_more_ranks_than_cores_then_the_first_on_each_core_works():
    seats = [Seat("a", (k // 32,)) for k in range(64)]
    working = at_work(seats)
    assert [k for k, works in enumerate(working) if works] == [0, 32]
    assert "2 of 64 ranks work" in waiting_words(working)


def test_given_ranks_that_may_use_the_same_cores_then_there_is_one_for_each_core():
    assert at_work([Seat("a", (0, 1))] * 5) == (True, True, False, False, False)
    assert at_work([Seat("a", (0, 1, 2)), Seat("a", (0, 1, 2)), Seat("a", (2,))]) == (True, True, True)


def test_given_a_number_then_that_many_work_on_each_machine_whatever_their_cores():
    seats = [Seat("a", (0,))] * 3 + [Seat("b", (0,))] * 3
    assert at_work(seats, 2) == (True, True, False, True, True, False)


def test_given_no_core_left_then_the_first_rank_works_all_the_same():
    assert at_work([Seat("a", ()), Seat("a", (0,))]) == (True, True)
