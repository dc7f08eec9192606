"""Runs inside MPI ranks; tests/mpi/test_wheel.py starts it."""

from __future__ import annotations

import pytest


@pytest.mark.mpi(min_size=2)
def test_given_two_ranks_then_each_sees_both_and_their_sum_is_common():
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    assert world.size == 2
    assert world.allgather(world.rank) == [0, 1]
