"""What the processes of a run have said, counted: phases, processes, warnings and errors."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from hpcxpcs.log import reading
from hpcxpcs.log.reading import MOST_PROCESSES, MOST_TEXTS, Tally, tally_of_others

RUN = "1234abcd"


def line(second: int, **fields: Any) -> dict[str, Any]:
    """A line that a process on node1 has written so many seconds after the start."""
    stamp = {"time": f"2030-01-01T00:00:{second:02}.000+00:00", "level": "info", "message": "", "run": RUN}
    return {**stamp, "role": "worker", "host": "node1", "pid": 1, **fields}


def spent(second: int, of: str, seconds: float, peak: int, event: str = "phase", **fields: Any) -> dict[str, Any]:
    """A phase, task or process that has ended."""
    used = {"seconds": seconds, "cpu_seconds": 2.0 * seconds, "process_cpu_seconds": 2.0 * second}
    memory = {"memory_bytes": peak // 2, "peak_memory_bytes": peak, "peak_of": "phase"}
    return line(second, event=event, of=of, **used, **memory, **fields)


def tally(*lines: dict[str, Any]) -> Tally:
    found = Tally()
    for one in lines:
        found.add(one)
    return found


def write(path: Path, *lines: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{json.dumps(one, separators=(',', ':'))}\n" for one in lines))


def test_given_tasks_of_several_processes_then_their_kind_is_one_phase() -> None:
    record = tally(
        spent(2, "reading", 1.0, 100),
        spent(9, "shard-00001", 4.0, 300, "task", pid=2),
        spent(8, "shard-00000", 3.0, 200, "task", pid=1),
    ).record()
    assert [phase["phase"] for phase in record["phases"]] == ["reading", "shard"]
    shard = record["phases"][1]
    assert (shard["times"], shard["seconds"], shard["cpu_seconds"]) == (2, 7.0, 14.0)
    assert (shard["memory_bytes"], shard["peak_memory_bytes"]) == (150, 300)


def test_given_processes_then_each_is_listed_with_what_it_used_the_largest_first() -> None:
    record = tally(
        line(0, event="begin"),
        spent(8, "shard-00000", 3.0, 200, "task"),
        spent(9, "worker", 9.0, 200, "process"),
        line(1, level="error", message="no luck", pid=2, role="lead"),
        spent(3, "reading", 1.0, 500, pid=2, role="lead"),
    ).record()["processes"]
    assert (record["count"], record["peak_memory_bytes"], record["cpu_seconds"]) == (2, 500, 18.0 + 6.0)
    lead, worker = record["listed"]
    assert (lead["role"], lead["errors"], lead["tasks"], lead["seconds"]) == ("lead", 1, 0, 2.0)
    assert (worker["role"], worker["errors"], worker["tasks"], worker["seconds"]) == ("worker", 0, 1, 9.0)


def test_given_far_too_many_then_all_are_counted_and_some_are_shown() -> None:
    grave = [line(1, level="warning", message="x" * 1000, pid=pid) for pid in range(200)]
    record = tally(*grave).record()
    assert record["messages"]["warnings"] == record["processes"]["count"] == 200
    assert len(record["messages"]["texts"]) == MOST_TEXTS and len(record["processes"]["listed"]) == MOST_PROCESSES
    assert len(record["messages"]["texts"][0]["message"]) == reading.LONGEST_TEXT


def test_given_two_tallies_when_joined_then_nothing_is_lost_or_counted_twice() -> None:
    early = tally(spent(1, "reading", 1.0, 100), line(2, level="warning", message="early"))
    late = tally(spent(5, "reading", 2.0, 50), line(6, level="error", message="late"))
    record = late.joined(early).record()
    assert [(phase["times"], phase["seconds"], phase["peak_memory_bytes"]) for phase in record["phases"]] == [
        (2, 3.0, 100)
    ]
    assert record["processes"]["count"] == 2, "one process id, two processes, one after the other"
    assert [text["message"] for text in record["messages"]["texts"]] == ["early", "late"]
    assert (record["messages"]["warnings"], record["messages"]["errors"]) == (1, 1)


def test_given_logs_then_other_runs_other_files_and_our_own_lines_are_left_out(tmp_path: Path) -> None:
    ours = {"host": socket.gethostname(), "pid": os.getpid()}
    bad = {"level": "warning", "message": "bad"}
    write(tmp_path / "logs" / "worker-node1-1.jsonl", line(1, **bad), line(2, **{**bad, "run": "another"}))
    write(tmp_path / "logs" / "worker-node1-1.jsonl.1", line(0, **bad))
    write(tmp_path / "logs" / "lead-here-1.jsonl", line(3, **bad, **ours), line(9, **bad, **ours))
    write(tmp_path / "logs" / "worker-5-1.log", line(1, **bad))
    record = tally_of_others(tmp_path / "logs", RUN, line(5)["time"]).record()
    assert record["messages"]["warnings"] == 3 and record["messages"]["complete"]


def test_given_damage_or_nothing_then_the_rest_is_counted_and_the_record_says_so(tmp_path: Path) -> None:
    write(
        tmp_path / "logs" / "a-1.jsonl",
        line(1, level="error", message="bad"),
        spent(2, "x", 1.0, 1, host=None),
    )
    with (tmp_path / "logs" / "a-1.jsonl").open("ab") as stream:
        stream.write(b'{"event":"phase","level":"info","message":"","run":"1234abcd"}\n{"level":"error","torn\n\xff\n')
    record = tally_of_others(tmp_path / "logs", RUN, "").record()
    assert record["messages"]["errors"] == 1 and not record["messages"]["complete"]
    assert not tally_of_others(tmp_path / "nowhere", RUN, "").complete


def test_given_a_log_that_is_too_long_to_read_then_its_end_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_READ", 1000)
    write(tmp_path / "logs" / "a-1.jsonl", *(line(second, level="error", message="bad") for second in range(50)))
    record = tally_of_others(tmp_path / "logs", RUN, "").record()
    assert 0 < record["messages"]["errors"] < 10 and not record["messages"]["complete"]
