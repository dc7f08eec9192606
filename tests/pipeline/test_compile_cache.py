"""The compile cache in processes of its own: used, counted, and repaired when an entry is torn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys, warnings
from hpcxpcs.pipeline.compile_cache import CacheRecorder, compile_cache
warned = []
compile_cache(sys.argv[1], warned.append, check=sys.argv[2] == "check")
import jax
with CacheRecorder() as recorder, warnings.catch_warnings(record=True) as complaints:
    warnings.simplefilter("always")
    answer = jax.jit(lambda x: (x * 3.0).sum())(jax.device_put(2.0))
inside = recorder.use
jax.jit(lambda x: x * 5.0)(jax.device_put(2.0))
print(json.dumps({
    "answer": float(answer), "hits": inside.hits, "misses": inside.misses, "warned": warned,
    "complaints": [str(complaint.message) for complaint in complaints], "after": recorder.use == inside,
}))
"""


def run(folder: Path | str, check: str = "check") -> dict:
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder, check],
        env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


@pytest.fixture
def filled(tmp_path) -> Path:
    """A cache folder with the entries of one run."""
    run(tmp_path)
    return tmp_path


def tear(folder: Path) -> None:
    for path in folder.glob("*/*-cache"):
        path.write_bytes(path.read_bytes()[:100])


def test_given_an_empty_cache_then_everything_is_compiled_and_counted_only_inside_the_block(tmp_path):
    told = run(tmp_path)
    assert (told["answer"], told["hits"]) == (6.0, 0)
    assert told["misses"] >= 1
    assert told["after"]


def test_given_a_filled_cache_then_nothing_is_compiled(filled):
    told = run(filled)
    assert told["misses"] == 0
    assert told["hits"] >= 1
    assert told["warned"] == []


def test_given_torn_entries_then_they_are_replaced_and_the_next_run_compiles_nothing(filled):
    tear(filled)
    second, third = run(filled), run(filled)
    assert second["answer"] == 6.0
    assert second["misses"] >= 1
    assert "torn or altered" in second["warned"][0]
    assert second["complaints"] == []
    assert (third["misses"], third["warned"], third["complaints"]) == (0, [], [])


def test_given_torn_entries_that_nobody_checks_then_jax_compiles_anew_for_ever(filled):
    tear(filled)
    second, third = run(filled, "trust"), run(filled, "trust")
    assert second["misses"] == third["misses"] >= 1
    assert any("compilation cache" in complaint for complaint in third["complaints"])
    assert second["warned"] == third["warned"] == []
