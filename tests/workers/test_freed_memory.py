"""Freed memory goes back to the system once a process has grown, and not before."""

from __future__ import annotations

import pytest

from hpcxpcs.workers import machine
from hpcxpcs.workers.machine import WORTHWHILE, return_freed_memory


@pytest.fixture
def resident(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A process of some size, whose memory shrinks to a third when it is trimmed."""
    process = {"now": 1_000_000_000, "trims": 0}

    def trim(pad: int) -> None:
        process["now"] //= 3
        process["trims"] += 1

    monkeypatch.setattr(machine, "resident_memory", lambda: process["now"])
    monkeypatch.setattr(machine, "_trim", lambda: trim)
    monkeypatch.setattr(machine._Last, "resident", 0)
    return process


def test_given_a_process_that_has_grown_then_memory_is_returned(resident):
    return_freed_memory()
    assert resident["trims"] == 1


def test_given_no_growth_since_the_last_time_then_nothing_is_done(resident):
    return_freed_memory()
    resident["now"] += WORTHWHILE - 1
    return_freed_memory()
    assert resident["trims"] == 1


def test_given_growth_after_the_last_time_then_it_is_returned_again(resident):
    return_freed_memory()
    resident["now"] += WORTHWHILE
    return_freed_memory()
    assert resident["trims"] == 2


def test_given_another_c_library_then_nothing_happens(resident, monkeypatch):
    monkeypatch.setattr(machine, "_trim", lambda: None)
    return_freed_memory()
    assert resident["trims"] == 0
