"""A small measurement for runs that are handed to a scheduler, and the program as people call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cli.fitting import simulated

SECONDS = 240
"""No wait of these tests is longer; on an idle machine they are a tenth of it."""


def small_config(folder: Path, shards: int = 2) -> Path:
    """Two angles of 60 frames, chains so short that a shard takes a second; the configuration is config.yaml."""
    config = simulated(folder, angles=2, frames=60, name="config")
    settings = yaml.safe_load(config.read_text())
    settings["experimental_data"]["file_path"] = str(config.with_suffix(".hdf"))
    settings["output"] = {"plots": False, "fitted_data": False, "directory": str(folder / "runs")}
    settings["optimization"] = {
        "method": "cmc",
        "cmc": {
            "sharding": {"num_shards": shards},
            "per_shard_mcmc": {"num_warmup": 60, "num_samples": 60, "num_chains": 2},
            "validation": {"max_r_hat": 1.2, "min_ess": 50},
            "certificate": {"on_reject": "report"},
        },
    }
    settings["runtime"] = {"workers": 1, "checkpoint_every": 20}
    config.write_text(yaml.safe_dump(settings))
    return config


def hpcxpcs(
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    code: int | None = 0,
) -> str:
    """Run `hpcxpcs ARGUMENTS` in a process of its own; returns what it prints, stderr after stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "hpcxpcs", *map(str, arguments)],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=cwd,
        check=False,
    )
    told = f"{done.stdout}\n{done.stderr}"
    assert code is None or done.returncode == code, f"exit code {done.returncode}: {told}"
    return told


def status_of(run: Path, *options: str) -> dict[str, Any]:
    """What `hpcxpcs status --json` says."""
    return json.loads(hpcxpcs("status", run, "--json", *options).strip())


def until(true: Callable[[], object], what: str = "it") -> None:
    """Wait until something is true."""
    give_up = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < give_up, f"{what} did not happen"
        time.sleep(0.1)
