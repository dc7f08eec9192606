"""A reporter that also logs: what it shows, and when a phase has ended."""

from __future__ import annotations

import pytest

from hpcxpcs.log.levels import context
from hpcxpcs.log.process import process_log
from hpcxpcs.pipeline.fit import observed
from hpcxpcs.pipeline.reporter import LoggingReporter, logged


class Listener:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def phase(self, text: str) -> None:
        self.told.append(f"phase {text}")

    def step(self, done: int, total: int) -> None:
        self.told.append(f"step {done}/{total}")

    def detail(self, text: str) -> None:
        self.told.append(f"detail {text}")

    def warn(self, text: str) -> None:
        self.told.append(f"warn {text}")


def test_given_a_reporter_then_it_hears_everything_as_it_was_said() -> None:
    listener = Listener()
    with logged(listener) as reporter:
        reporter.phase("reading")
        reporter.step(1, 2)
        reporter.detail("angle 1")
        reporter.warn("dark")
    assert listener.told == ["phase reading", "step 1/2", "detail angle 1", "warn dark"]


def test_given_a_reporter_that_logs_already_then_it_is_used_as_it_is() -> None:
    reporter = LoggingReporter(Listener())
    with logged(reporter) as found:
        assert found is reporter


def test_given_phases_then_lines_know_theirs_and_each_is_measured_once() -> None:
    with process_log("lead") as log, logged(None) as reporter:
        for text in ("reading", "fitting", "reading"):
            reporter.phase(text)
            assert context()["phase"] == text
        reporter.end()
        reporter.end()
        assert "phase" not in context()
        phases = log.tally.record()["phases"]
    assert [(phase["phase"], phase["times"]) for phase in phases] == [("reading", 2), ("fitting", 1)]


def test_given_a_first_phase_that_fails_then_nobody_hears_that_it_was_over() -> None:
    over: list[str] = []
    with pytest.raises(ValueError, match="unreadable"), logged(None) as reporter:
        reporter.after_phase = lambda: over.append("over")
        reporter.phase("reading")
        raise ValueError("unreadable")
    assert over == []
    with logged(None) as reporter:
        reporter.after_phase = lambda: over.append("over")
        reporter.phase("reading")
        assert over == []
        reporter.phase("fitting")
        assert over == ["over"]


def test_given_the_record_of_a_run_then_the_phase_that_goes_on_is_in_it(tmp_path) -> None:
    with process_log("lead") as log, logged(None) as reporter:
        log.open_in(tmp_path, "1234abcd")
        reporter.phase("drawing")
        found = observed(tmp_path, "1234abcd", reporter)
    assert [phase["phase"] for phase in found["phases"]] == ["drawing"]
    assert found["processes"]["count"] == 1 and found["messages"]["complete"]


def test_given_nobody_who_keeps_a_log_then_nothing_is_known(tmp_path) -> None:
    with logged(None) as reporter:
        assert observed(tmp_path, "1234abcd", reporter) == {}
