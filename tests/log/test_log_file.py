"""The file of a log: where it is, how large it gets, and what if it cannot be written."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcxpcs.log import lines, process
from hpcxpcs.log.lines import parsed_line
from tests.log.log_entries import OURS, said


@pytest.fixture(autouse=True)
def no_level_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HPCXPCS_LOG_LEVEL", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "logs"


@pytest.fixture
def log(folder: Path) -> Iterator[process.ProcessLog]:
    with process.process_log("lead") as log:
        log.open_in(folder, "1234abcd")
        yield log


def test_given_lines_before_there_is_a_folder_then_they_are_the_first_in_it_and_know_the_run(
    folder: Path,
) -> None:
    with process.process_log("lead") as log:
        OURS.info("early")
        log.open_in(folder, "1234abcd")
        OURS.info("late")
    assert [(entry["message"], entry["run"]) for entry in said(folder)] == [
        ("early", "1234abcd"),
        ("late", "1234abcd"),
    ]
    assert [path.name for path in folder.iterdir()] == [f"lead-{socket.gethostname()}-{os.getpid()}.jsonl"]


def test_given_no_folder_then_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with process.process_log("lead"):
        OURS.error("nowhere to go")
    assert list(tmp_path.iterdir()) == []


def test_given_the_same_process_again_then_its_log_goes_on(folder: Path) -> None:
    for word in ("first", "second"):
        with process.process_log("worker") as log:
            log.open_in(folder, "1234abcd")
            OURS.info(word)
    assert [entry["message"] for entry in said(folder)] == ["first", "second"]


def test_given_a_relative_folder_when_the_process_goes_elsewhere_then_its_log_stays(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with process.process_log("lead") as log:
        log.open_in(Path("logs"), "1234abcd")
        log.resize(0.002, 5)
        monkeypatch.chdir(tmp_path / "elsewhere")
        for number in range(20):
            OURS.info("line %d", number)
    assert len(said(folder)) == 20 and list((tmp_path / "elsewhere").iterdir()) == []


def test_given_a_torn_line_of_a_killed_process_then_the_next_one_is_whole(folder: Path) -> None:
    folder.mkdir()
    name = lines.log_name("lead", socket.gethostname(), os.getpid())
    (folder / name).write_text('{"time":"2030-01-01T00:00:00.000+00:00","lev')
    with process.process_log("lead") as log:
        log.open_in(folder, "1234abcd")
        OURS.info("whole")
    read = [parsed_line(line) for line in (folder / name).read_bytes().splitlines()]
    assert read[0] is None and "whole" in [entry["message"] for entry in read[1:]]


def test_given_a_full_file_then_the_next_begins_and_the_oldest_goes(log, folder: Path) -> None:
    log.resize(0.002, 2)
    for number in range(60):
        OURS.info("line %d", number)
    files = sorted(folder.iterdir())
    assert [path.name.partition("jsonl")[2] for path in files] == ["", ".1", ".2"]
    assert all(path.stat().st_size <= 2000 for path in files)
    newest, *older = ([json.loads(line)["message"] for line in path.read_bytes().splitlines()] for path in files)
    kept = [*older[1], *older[0], *newest]
    assert kept == [f"line {number}" for number in range(60 - len(kept), 60)]


def test_given_no_generations_to_keep_then_a_full_file_is_begun_anew(log, folder: Path) -> None:
    log.resize(0.002, 0)
    for number in range(60):
        OURS.info("line %d", number)
    (path,) = folder.iterdir()
    assert path.stat().st_size <= 2000 and "line 59" in path.read_text()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_given_a_full_disk_then_it_is_said_once_and_work_goes_on_and_lines_come_back_with_the_room(
    log, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as full:
        full.setattr(lines.os, "write", refuse)
        OURS.info("lost")
        OURS.info("lost too")
    OURS.info("back")
    told = capsys.readouterr().err
    assert told.count("cannot be written") == 1 and os.strerror(code) in told and str(folder) in told
    assert [entry["message"] for entry in said(folder)] == ["back"]


def test_given_room_for_half_a_line_then_later_lines_are_whole(
    log, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    with monkeypatch.context() as nearly_full:
        nearly_full.setattr(lines.os, "write", lambda descriptor, content: real(descriptor, content[:40]))
        OURS.info("torn")
    OURS.info("whole")
    (path,) = folder.iterdir()
    read = [parsed_line(line) for line in path.read_bytes().splitlines()]
    assert read.count(None) == 1 and read[-1] is not None and read[-1]["message"] == "whole"


def test_given_a_place_where_no_folder_can_be_then_it_is_said_once_and_work_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with process.process_log("lead") as log:
        log.open_in(tmp_path / "file" / "logs", "1234abcd")
        OURS.info("one")
        OURS.info("two")
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_given_a_link_in_the_place_of_a_log_then_nothing_is_written_through_it(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir()
    (tmp_path / "elsewhere").write_text("precious")
    (folder / lines.log_name("lead", socket.gethostname(), os.getpid())).symlink_to(tmp_path / "elsewhere")
    with process.process_log("lead") as log:
        log.open_in(folder, "1234abcd")
    assert (tmp_path / "elsewhere").read_text() == "precious"
    assert capsys.readouterr().err.count("cannot be written") == 1
