"""Reading ahead: the same matrices in the same order, one more of them in memory and no more."""

from __future__ import annotations

import threading
import weakref

import numpy as np
import pytest

from hpcxpcs.data.matrices import AngleMatrix, ReadAhead, chosen, each_in_order, in_order
from hpcxpcs.errors import DataError


def matrix(k: int) -> AngleMatrix:
    return AngleMatrix(np.full((4, 4), float(k)), np.ones(4, dtype=bool))


@pytest.mark.parametrize("at_once", [1, 2])
def test_matrices_come_in_the_order_asked_for(at_once):
    found = [one.c2[0, 0] for one in in_order(ReadAhead(matrix, at_once), [3, 0, 2])]
    assert found == [3.0, 0.0, 2.0]


def test_the_next_matrix_is_read_while_one_is_worked_on():
    begun = [threading.Event() for _ in range(3)]

    def read(k: int) -> AngleMatrix:
        begun[k].set()
        return matrix(k)

    matrices = in_order(ReadAhead(read), range(3))
    next(matrices)
    assert begun[1].wait(30.0)
    assert not begun[2].is_set()


@pytest.mark.parametrize("at_once", [1, 2])
def test_no_more_matrices_are_in_memory_than_are_allowed(at_once):
    alive: weakref.WeakSet[AngleMatrix] = weakref.WeakSet()
    most = 0

    class Tracked(AngleMatrix):
        __hash__ = object.__hash__

    def read(k: int) -> AngleMatrix:
        nonlocal most
        found = Tracked(np.zeros((2, 2)), np.ones(2, dtype=bool))
        alive.add(found)
        most = max(most, len(alive))
        return found

    def work(k: int, one: AngleMatrix) -> int:
        return k

    assert list(each_in_order(work, ReadAhead(read, at_once), 6)) == list(range(6))
    assert most <= at_once


def test_given_a_matrix_that_cannot_be_read_then_those_before_it_come_first():
    def read(k: int) -> AngleMatrix:
        if k == 2:
            raise DataError("angle 2 is damaged")
        return matrix(k)

    seen = []
    with pytest.raises(DataError, match="angle 2"):
        for one in in_order(ReadAhead(read), range(4)):
            seen.append(one.c2[0, 0])
    assert seen == [0.0, 1.0]


def test_given_a_pass_that_is_given_up_then_its_thread_ends():
    before = threading.active_count()
    matrices = in_order(ReadAhead(matrix), range(5))
    next(matrices)
    matrices.close()
    assert threading.active_count() == before


def test_chosen_angles_are_renumbered_and_still_read_ahead():
    some = chosen(ReadAhead(matrix), [4, 1])
    assert isinstance(some, ReadAhead)
    assert [one.c2[0, 0] for one in in_order(some, range(2))] == [4.0, 1.0]
    assert chosen(matrix, [4, 1])(1).c2[0, 0] == 1.0
