"""A small measurement for runs that are handed to a scheduler, and the program as people call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.small_problem import small_problem


def small_config(folder: Path, shards: int = 2) -> Path:
    """config.yaml, of which only the report is drawn; runs go to the folder `runs` beside it."""
    output = {"plots": False, "fitted_data": False, "directory": str(folder / "runs")}
    return small_problem(folder, shards, name="config", angles=2, steps=60, output=output, checkpoint_every=20)


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
        cwd=cwd,
        check=False,
    )
    told = f"{done.stdout}\n{done.stderr}"
    assert code is None or done.returncode == code, f"exit code {done.returncode}: {told}"
    return told


def status_of(run: Path, *options: str) -> dict[str, Any]:
    """What `hpcxpcs status --json` says."""
    return json.loads(hpcxpcs("status", run, "--json", *options).strip())
