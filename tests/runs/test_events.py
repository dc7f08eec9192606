"""Events are whole lines, whoever writes and whoever is killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcxpcs.runs.events import LINE_BYTES, append, read_events
from hpcxpcs.runs.run import Run
from tests.patience import PATIENCE
from tests.runs.store import sample_plan

ROOT = Path(__file__).parents[2]
MANY = """
import sys
from pathlib import Path
from hpcxpcs.runs.events import append
from hpcxpcs.runs.run import Run

run = Run.open(Path(sys.argv[1]))
for number in range(200):
    append(run, "block", writer=sys.argv[2], number=number, text="x" * 500)
"""


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", sample_plan())


def test_given_events_then_each_says_when_and_who_and_what(run):
    assert append(run, "start", task="shard-00001")
    assert append(run, "block", draws=50, rate=1.5)
    first, second = read_events(run.events)
    assert (first["event"], first["task"], first["pid"]) == ("start", "shard-00001", os.getpid())
    assert first["ts"].endswith("+00:00")
    assert first["host"]
    assert (second["draws"], second["rate"]) == (50, 1.5)


def test_given_no_events_then_there_are_none(run):
    assert read_events(run.events) == ()


@pytest.mark.parametrize("torn", [b'{"ts": "2026', b'{"event": "a"}\n\xff\xfe\x00', b"[1]\n", b'{"no": 1}\n', b"\n\n"])
def test_given_a_torn_line_then_it_is_passed_over_and_the_next_event_is_not_lost(run, torn):
    append(run, "before")
    with run.events.open("ab") as stream:
        stream.write(torn)
    append(run, "after")
    found = [event["event"] for event in read_events(run.events)]
    assert (found[0], found[-1]) == ("before", "after")
    assert len(found) == 2 + (b'"event"' in torn)


@pytest.mark.parametrize("text", ["x" * 10_000, "é" * 3000, "\n" * 5000])
def test_given_a_long_event_then_the_line_is_cut_and_says_so(run, text):
    append(run, "failed", task="shard-00001", text=text)
    lines = run.events.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1
    assert len(lines[0]) <= LINE_BYTES
    event = json.loads(lines[0])
    assert (event["task"], event["cut"]) == ("shard-00001", True)
    assert text.startswith(event["text"])


def test_given_an_event_that_cannot_be_shortened_then_what_happened_is_still_there(run):
    append(run, "block", numbers=list(range(5000)))
    (event,) = read_events(run.events)
    assert (event["event"], event["cut"]) == ("block", True)


def test_given_a_log_that_cannot_be_written_then_work_goes_on(run):
    run.events.mkdir()
    assert append(run, "start") is False


def test_given_fields_named_like_the_stamp_then_the_stamp_wins(run):
    append(run, "start", pid=-1, ts="never")
    (event,) = read_events(run.events)
    assert event["pid"] == os.getpid()
    assert event["ts"] != "never"


def test_given_a_long_log_then_its_end_can_be_read_alone(run):
    for number in range(100):
        append(run, "block", number=number)
    found = [event["number"] for event in read_events(run.events, most_bytes=1000)]
    assert found == list(range(100 - len(found), 100))
    assert 1 < len(found) < 20


def test_given_many_processes_that_append_at_once_then_no_line_is_lost_or_mixed(run):
    writers = [subprocess.Popen([sys.executable, "-c", MANY, str(run.folder), name], cwd=ROOT) for name in "abcd"]
    assert [writer.wait(timeout=PATIENCE) for writer in writers] == [0] * 4
    found = read_events(run.events)
    lines = [line for line in run.events.read_bytes().splitlines() if line]
    assert len(lines) == len(found) == 800
    for name in "abcd":
        assert [event["number"] for event in found if event["writer"] == name] == list(range(200))
