"""The log of a process: what a line holds, how loud it is, and what is said first and last."""

from __future__ import annotations

import io
import logging
import os
import socket
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hpcxpcs.cli.terminal import ConsoleLines, PhaseLines
from hpcxpcs.config.sections import Logging
from hpcxpcs.errors import ConfigError, DataError
from hpcxpcs.log import process
from hpcxpcs.log.levels import LEVELS, context, log_context, note
from hpcxpcs.log.lines import FILE_ONLY, TOLD, human_line
from hpcxpcs.log.process import Stopwatch, timed
from tests.log.log_entries import OURS, entries, said

LIBRARY = logging.getLogger("numpyro.infer")


@pytest.fixture(autouse=True)
def no_level_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HPCXPCS_LOG_LEVEL", raising=False)


class Screen(io.StringIO):
    """A stream that is a terminal or not."""

    def __init__(self, *, live: bool = False) -> None:
        super().__init__()
        self.live = live

    def isatty(self) -> bool:
        return self.live


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
def log(folder: Path) -> Iterator[process.ProcessLog]:
    with process.process_log("lead") as log:
        log.open_in(folder, "1234abcd")
        yield log


def test_given_a_record_then_its_line_says_when_who_what_and_where(log, folder: Path) -> None:
    with log_context(task="shard-00003", shard=3, phase="shard"):
        OURS.warning("cost %.1f", 2.5, extra={"cost": 2.5})
    (entry,) = said(folder)
    assert (entry["level"], entry["message"], entry["cost"]) == ("warning", "cost 2.5", 2.5)
    assert (entry["run"], entry["role"], entry["task"], entry["shard"]) == (
        "1234abcd",
        "lead",
        "shard-00003",
        3,
    )
    assert (entry["host"], entry["pid"]) == (socket.gethostname(), os.getpid())
    assert entry["time"].endswith("+00:00") and len(entry["time"].partition(".")[2]) == len("123+00:00")


def test_given_values_that_json_has_not_then_the_line_is_json_all_the_same(folder: Path) -> None:
    values = {
        "nan": float("nan"),
        "infinite": -np.inf,
        "array": np.array([1.0, np.nan]),
        "long_array": np.zeros(1000),
        "path": folder,
        "object": threading.Lock(),
        "key": {object: 1},
    }
    with process.process_log("lead") as log:
        log.open_in(folder, "1234abcd")
        OURS.info("odd", extra=values)
        OURS.info("does %d not fit", "a word")
    odd, unfit = said(folder)
    assert (odd["nan"], odd["infinite"], odd["array"]) == (None, "-Infinity", [1.0, None])
    assert odd["long_array"] == "array of (1000,)" and odd["path"] == str(folder) and "lock" in odd["object"]
    assert "a word" in unfit["message"]


def test_given_an_exception_then_its_traceback_is_in_the_line(log, folder: Path) -> None:
    try:
        raise ValueError("no luck")
    except ValueError:
        OURS.exception("it broke")
    (entry,) = said(folder)
    assert entry["level"] == "error" and "ValueError: no luck" in entry["exception"]
    assert "ValueError: no luck" in human_line(entry)


def test_given_far_too_much_then_the_line_is_cut_and_says_so(log, folder: Path) -> None:
    OURS.info("x" * 100_000, extra={f"field_{k}": "y" * 3000 for k in range(20)})
    (entry,) = said(folder)
    assert entry["cut"] and entry["message"].startswith("xxx") and entry["run"] == "1234abcd"


def test_given_threads_then_each_has_its_own_context_and_silent_ones_that_of_the_main_thread(log, folder: Path) -> None:
    def speaks() -> None:
        with log_context(task="check-00001"):
            OURS.info("mine")
        OURS.info("whose")

    with log_context(task="shard-00000"):
        thread = threading.Thread(target=speaks)
        thread.start()
        thread.join()
        OURS.info("ours")
    OURS.info("nobody's")
    tasks = {entry["message"]: entry.get("task") for entry in said(folder)}
    assert tasks == {"mine": "check-00001", "whose": "shard-00000", "ours": "shard-00000", "nobody's": None}


def test_given_a_context_when_it_ends_then_what_was_noted_in_it_is_forgotten() -> None:
    before = dict(context())
    with log_context(shard=1):
        note(phase="deep inside")
        assert context()["phase"] == "deep inside"
    assert dict(context()) == before


@pytest.mark.parametrize(
    ("level", "ours", "library"),
    [
        ("debug", ["debug", "info", "warning", "error"], ["info", "warning", "error"]),
        ("info", ["info", "warning", "error"], ["warning", "error"]),
        ("warning", ["info", "warning", "error"], ["warning", "error"]),
        ("error", ["info", "warning", "error"], ["warning", "error"]),
    ],
)
def test_given_a_level_then_files_have_info_and_libraries_are_quiet_unless_debug(
    folder: Path, level: str, ours: list[str], library: list[str]
) -> None:
    with process.process_log("lead", level) as log:
        log.open_in(folder, "1234abcd")
        for logger in (OURS, LIBRARY):
            for word in LEVELS:
                getattr(logger, word)("said")
    assert [entry["level"] for entry in said(folder)] == ours
    assert [entry["level"] for entry in said(folder, LIBRARY.name)] == library


def spoken(level: str | None, *, live: bool = False) -> str:
    """What a screen shows of phases, warnings and lines of the log."""
    screen = Screen(live=live)
    shown = PhaseLines(screen)
    with process.process_log("lead", level, ConsoleLines(shown)):
        shown.phase("reading")
        shown.warn("told by the reporter")
        with log_context(run="1234abcd99", rank=2, shard=3):
            OURS.debug("a detail")
            OURS.info("a phase", extra=TOLD)
            OURS.warning("a warning")
            OURS.warning("for the file", extra=FILE_ONLY)
        LIBRARY.info("library talk")
        LIBRARY.warning("library warning")
        OURS.error("an error")
    return screen.getvalue()


def test_given_no_level_then_the_console_shows_phases_warnings_and_errors() -> None:
    lines = spoken(None).splitlines()
    assert lines[0].endswith("reading")
    assert lines[1:] == [
        "hpcxpcs: warning: told by the reporter",
        "hpcxpcs: warning: a warning",
        "hpcxpcs: warning: numpyro.infer: library warning",
        "hpcxpcs: error: an error",
    ]
    assert spoken("info").splitlines()[1:] == lines[1:]


@pytest.mark.parametrize(("level", "heard"), [(None, ["an error"]), ("debug", ["a warning", "an error"])])
def test_given_a_library_whose_own_loggers_are_loud_then_it_is_heard_as_it_should_be(
    level: str | None, heard: list[str]
) -> None:
    screen, solver = Screen(live=False), logging.getLogger("nlsq.optimizer.trf")
    usual = solver.level
    try:
        with process.process_log("lead", level, ConsoleLines(PhaseLines(screen))):
            solver.setLevel(logging.WARNING)
            solver.warning("a warning")
            solver.error("an error")
    finally:
        solver.setLevel(usual)
    assert [line.rpartition(": ")[2] for line in screen.getvalue().splitlines() if "nlsq" in line] == heard


def test_given_debug_then_the_console_shows_every_line_with_its_place_but_none_twice() -> None:
    shown = spoken("debug")
    assert "hpcxpcs: debug: [run=1234abcd rank=2 shard=3] hpcxpcs.inference.point: a detail" in shown
    assert "for the file" in shown and "library talk" in shown and "a phase" not in shown


def test_given_warning_then_phases_are_hidden_but_on_a_terminal() -> None:
    assert "reading" not in spoken("warning") and "a warning" in spoken("warning")
    assert "told by the reporter" in spoken("warning")
    assert "reading" in spoken("warning", live=True)


def test_given_error_then_only_errors_are_shown() -> None:
    assert spoken("error") == "hpcxpcs: error: an error\n"


def test_given_level_here_in_the_environment_and_in_the_configuration_then_the_nearest_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wishes = Logging(level="error", max_size_mb=1, backup_count=1)

    def found(level: str | None) -> str:
        with process.process_log("lead", level) as log:
            log.follow(wishes)
            assert log.file.most_bytes == 1_000_000 and log.file.keep == 1
            return log.level

    assert found(None) == "error"
    monkeypatch.setenv("HPCXPCS_LOG_LEVEL", "WARNING")
    assert found(None) == "warning" and found("debug") == "debug"


def test_given_a_bad_level_in_the_environment_then_it_is_refused_with_the_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HPCXPCS_LOG_LEVEL", "loud")
    expected = r"HPCXPCS_LOG_LEVEL='loud' .* debug, info, warning or error"
    with pytest.raises(ConfigError, match=expected), process.process_log("lead"):
        pass


def test_given_a_configuration_then_its_levels_are_those_of_the_command_line() -> None:
    schema = Logging.model_json_schema()["properties"]["level"]
    assert tuple(schema["enum"]) == LEVELS


def test_given_a_level_then_worker_processes_get_it() -> None:
    with process.process_log("lead", "debug"):
        assert process.child_variables(3) == {"HPCXPCS_LOG_LEVEL": "debug", "HPCXPCS_WORKER": "3"}


def test_given_a_worker_then_its_number_is_its_rank(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCXPCS_WORKER", "3")
    with process.process_log("worker") as log:
        log.open_in(folder, "1234abcd")
        OURS.info("here")
    assert said(folder)[0]["rank"] == 3


def test_given_a_python_warning_then_it_is_logged_and_reaches_the_user_but_at_level_error(
    folder: Path,
) -> None:
    shown: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *place, **more: shown.append(str(message))
        with process.process_log("lead") as log:
            log.open_in(folder, "1234abcd")
            warnings.warn("look out", UserWarning, stacklevel=1)
            log.default_to("error")
            warnings.warn("hidden", UserWarning, stacklevel=1)
    assert shown == ["look out"]
    logged = [(entry["message"], entry["category"], entry["level"]) for entry in said(folder, "py.warnings")]
    assert logged == [("look out", "UserWarning", "warning"), ("hidden", "UserWarning", "warning")]


def test_given_the_end_then_loggers_and_warnings_are_as_they_were(folder: Path) -> None:
    def state() -> list[object]:
        ours, root = logging.getLogger("hpcxpcs"), logging.getLogger()
        levels = [logging.getLogger(name).level for name in ("hpcxpcs", "numpyro", "matplotlib")]
        return [list(ours.handlers), ours.propagate, list(root.handlers), levels, warnings.showwarning]

    before = state()
    with pytest.raises(DataError), process.process_log("lead", "debug") as log:
        log.open_in(folder, "1234abcd")
        assert state() != before
        raise DataError("bad file")
    assert state() == before
    assert process.active_log() is None


def test_given_a_program_that_listens_then_it_hears_what_it_would_have_heard(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with process.process_log("lead"):
        OURS.info("quiet")
        OURS.warning("loud")
        assert [record.message for record in caplog.records] == ["loud"]
        with caplog.at_level(logging.INFO):
            OURS.info("asked for")
        assert "asked for" in caplog.text


@pytest.mark.parametrize(
    ("error", "level"), [(DataError("bad file"), "error"), (ValueError("a defect"), "error"), (None, "info")]
)
def test_given_an_end_then_its_cause_and_what_the_process_has_taken_are_the_last_words(
    folder: Path, error: Exception | None, level: str
) -> None:
    try:
        with process.process_log("lead") as log:
            log.open_in(folder, "1234abcd")
            if error is not None:
                raise error
    except (DataError, ValueError):
        pass
    *_, cause, last = entries(folder)
    assert cause["level"] == level and (error is None or str(error) in cause["message"])
    assert ("exception" in cause) is isinstance(error, ValueError)
    assert last["event"] == "process" and last["peak_memory_bytes"] > 1_000_000


def test_given_a_phase_that_raises_the_peak_then_the_peak_is_its_own_and_else_the_process_s() -> None:
    watch = Stopwatch()
    used = watch.read()
    low = Stopwatch()
    size = used.peak_memory_bytes + 50_000_000
    block = np.ones(size // 8)
    high = low.read()
    assert high.peak_of == "phase" and high.peak_memory_bytes >= size
    assert high.memory_bytes is not None and high.memory_bytes >= block.nbytes
    del block
    after = Stopwatch().read()
    assert after.peak_of == "process"
    assert after.peak_memory_bytes == pytest.approx(high.peak_memory_bytes, rel=0.01)  # the kernel counts in batches
    assert after.memory_bytes is not None and after.memory_bytes < high.memory_bytes


def test_given_a_block_that_fails_then_what_it_took_is_logged_too(log, folder: Path) -> None:
    with pytest.raises(ValueError, match="no luck"), timed("phase of trouble", logger=OURS):
        raise ValueError("no luck")
    (entry,) = said(folder)
    assert entry["event"] == "phase" and entry["of"] == "phase of trouble" and entry["seconds"] >= 0.0
