"""What a batch job may use of a node's memory, by what its scheduler says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpcxpcs.workers import machine
from hpcxpcs.workers.machine import pbs_bytes, pbs_memory

JOB = {"PBS_JOBID": "1234.server"}
GIB = 1024**3


class Server:
    """Answers qstat with a job's resources, and counts how often it is asked."""

    def __init__(self, **resources: Any) -> None:
        self.resources, self.asked = resources, 0

    def __call__(self, words: Sequence[str]) -> str:
        self.asked += 1
        assert list(words) == ["qstat", "-f", "-F", "json", "1234.server"]
        return json.dumps({"Jobs": {"1234.server": {"Resource_List": self.resources}}})


@pytest.mark.parametrize(
    ("text", "size"),
    [("4gb", 4 * GIB), ("131072kb", 128 * 1024**2), ("2GB", 2 * GIB), (1000, 1000), ("512", 512), ("1tb", 1024 * GIB)],
)
def test_sizes_as_pbs_writes_them(text, size):
    assert pbs_bytes(text) == size


@pytest.mark.parametrize("text", [None, "", "8mw", "many", 1.5, True, [1]])
def test_given_something_else_then_it_is_no_size(text):
    assert pbs_bytes(text) is None


def test_given_a_job_on_two_nodes_then_half_of_its_memory_is_on_each():
    assert pbs_memory(JOB, Server(mem="64gb", nodect=2)) == 32 * GIB


def test_the_server_is_asked_once():
    server = Server(mem="8gb", nodect=1)
    assert [pbs_memory(JOB, server) for _ in range(3)] == [8 * GIB] * 3
    assert server.asked == 1


@pytest.mark.parametrize("answer", [None, "", "no json", "[]", '{"Jobs": {}}', '{"Jobs": {"1234.server": {}}}'])
def test_given_an_answer_without_a_size_then_nothing_is_known(answer):
    assert pbs_memory(JOB, lambda words: answer) is None


def test_outside_a_job_nobody_is_asked():
    server = Server(mem="8gb")
    assert pbs_memory({}, server) is None and server.asked == 0


def test_given_a_pbs_job_then_its_request_is_the_limit(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(machine, "pbs_memory", lambda environ: 3 * GIB if environ == JOB else None)
    found = machine.memory(tmp_path, JOB)
    assert (found.limit, found.source) == (min(3 * GIB, psutil.virtual_memory().total), "PBS request")
