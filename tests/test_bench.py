"""What the benchmarks conclude, and how they account for processes."""

from __future__ import annotations

import sys

import pytest

from bench.posterior import Case, Cost, Forecast, forecast, line, sampling_seconds, when_sharding_pays
from bench.processes import Usage, watched

USAGE = Usage(code=0, begin=0.0, wall=70.0, cpu=50.0, largest=600.0, together=900.0, processes=1, heavy=1)


def cost(ess=2000.0):
    return Cost(Case(4, 1), 60.0, USAGE, "consensus", "certified", ess, 100_000, 10.0, (10.0, 12.0, 10.0, 8.0), 40.0)


def test_given_a_run_on_one_core_then_the_forecast_repeats_it_and_divides_the_tasks():
    found = forecast(cost())
    assert found.answer(1) == pytest.approx(60.0)
    assert found.answer(3) == pytest.approx(40.0)
    assert found.answer(4) == found.answer(100) == pytest.approx(30.0)


def test_given_events_then_sampling_lasts_from_the_first_worker_to_the_last_task():
    def event(second: int, kind: str, **fields: str) -> dict[str, str]:
        return {"ts": f"2030-01-01T00:00:{second:02}+00:00", "event": kind, **fields}

    told = [
        event(0, "started", task="prepare-00000"),
        event(9, "done", task="prepare-00000"),
        event(10, "worker"),
        event(13, "started", task="shard-00000"),
        event(20, "done", task="shard-00000"),
        event(30, "done", task="shard-00001"),
        event(40, "done", task="check-00000"),
    ]
    assert sampling_seconds(told, "shard-") == pytest.approx(20.0)


def test_given_shards_that_are_shorter_than_chains_on_all_data_then_it_is_said_from_which_cores_on():
    words = when_sharding_pays(Forecast("exact", 20.0, 4, 40.0), [Forecast("K = 16", 20.0, 16, 12.0)])
    assert words.startswith("Sharding pays in time with K = 16 from 6 cores on (up to 1.9 times as fast)")


def test_given_shards_as_long_as_chains_then_sharding_is_said_not_to_pay():
    words = when_sharding_pays(Forecast("exact", 20.0, 4, 10.0), [Forecast("K = 16", 20.0, 16, 10.0)])
    assert words.startswith("Sharding does not pay in time")


def test_given_too_few_effective_draws_then_the_line_says_so():
    assert "below" not in line("warm", cost())
    assert line("warm", cost(ess=900.0)).endswith("ESS below 1000")


def test_given_a_command_with_a_child_then_its_time_and_memory_count(tmp_path):
    busy = "while time.process_time() < 0.5: pass"
    child = f"import time; x = bytearray(60_000_000)\n{busy}"
    program = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {child!r}]) or 3)"
    found = watched((sys.executable, "-c", program), {}, tmp_path / "log", interval=0.02)
    assert found.code == 3
    assert found.cpu >= 0.4
    assert found.largest > 60.0 and found.together > 60.0
    assert found.processes == 2
