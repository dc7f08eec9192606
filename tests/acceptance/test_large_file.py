"""A file larger than the memory it may use: 400 MB of matrices in a process that may hold a fraction of them.

The 6 GB case is bench/large.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ANGLES, FRAMES = 23, 2080
HELD, STREAMED = "4 GB", "600 MB"
MATRICES = 4 * ANGLES * FRAMES**2


@dataclass(frozen=True)
class Fit:
    """A finished fit: exit code, most memory (bytes), parameters as written, and its run folder."""

    code: int
    memory: int
    parameters: dict[str, Any]
    run: Path


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    command = (
        *(sys.executable, "-m", "hpcxpcs", "simulate", "static", "-o", str(folder / "large.hdf")),
        *("--angles", str(ANGLES), "--frames", str(FRAMES), "--dt", "0.05", "--noise", "0.05", "--seed", "3"),
        *("--config", str(folder / "large.yaml")),
    )
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "large.yaml"


def fitted(config: Path, name: str, *settings: str) -> Fit:
    """Fit the file in a process of its own, numbers only."""
    run = config.parent / name
    words = ("fit", str(config), "--method", "nlsq", "--run", str(run))
    less = ("output.plots=false", "output.report=false", "output.fitted_data=false", *settings)
    options = [word for setting in less for word in ("--set", setting)]
    done = subprocess.run((sys.executable, "-m", "hpcxpcs", *words, *options), stdout=subprocess.DEVNULL, check=False)
    parameters = json.loads((run / "results" / "nlsq" / "parameters.json").read_text())["parameters"]
    memory = json.loads((run / "results" / "summary.json").read_text())["peak_memory_bytes"]
    return Fit(done.returncode, memory, parameters, run)


@pytest.fixture(scope="module")
def streamed(config: Path) -> Fit:
    return fitted(config, "streamed", f"runtime.memory={STREAMED}")


def test_given_less_memory_than_the_file_needs_then_the_fit_is_the_same_to_the_last_digit(config, streamed):
    held = fitted(config, "held", f"runtime.memory={HELD}")
    assert streamed.code == held.code == 0
    assert streamed.parameters == held.parameters
    assert streamed.memory < held.memory - 0.5 * MATRICES


def test_a_process_does_not_hold_what_it_was_told_not_to(streamed):
    assert streamed.memory < 850e6


def test_given_kept_matrices_then_the_next_fit_uses_them_and_finds_the_same(config, streamed):
    before = {file: file.stat().st_ino for file in (streamed.run / "data" / "cache").glob("??/*/c2.bin")}
    again = fitted(config, "streamed", f"runtime.memory={STREAMED}")
    after = {file: file.stat().st_ino for file in (streamed.run / "data" / "cache").glob("??/*/c2.bin")}
    assert len(before) == ANGLES and after == before
    assert again.parameters == streamed.parameters


def test_given_nothing_kept_then_the_fit_is_the_same(config, streamed):
    found = fitted(config, "unkept", f"runtime.memory={STREAMED}", "runtime.data_cache=null")
    assert found.parameters == streamed.parameters
    assert not (found.run / "data" / "cache").exists()
    assert found.memory < 850e6
