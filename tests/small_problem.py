"""A small measurement, and a configuration whose shards take a second each and are judged leniently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.cli.fitting import simulated


def small_problem(
    folder: Path,
    shards: int,
    *,
    name: str = "flow",
    angles: int = 3,
    steps: int = 100,
    seed: int = 42,
    output: dict[str, Any] | None = None,
    **runtime: Any,
) -> Path:
    """Write NAME.hdf (static, 60 frames) and NAME.yaml; two chains per shard with `steps` of warm-up, and of draws."""
    config = simulated(folder, angles=angles, frames=60, name=name)
    settings = yaml.safe_load(config.read_text())
    settings["experimental_data"]["file_path"] = str(config.with_suffix(".hdf"))
    settings["output"] = output or {"plots": False, "report": False, "fitted_data": False}
    settings["optimization"] = {
        "method": "cmc",
        "cmc": {
            "sharding": {"num_shards": shards},
            "per_shard_mcmc": {"num_warmup": steps, "num_samples": steps, "num_chains": 2, "seed": seed},
            "validation": {"max_r_hat": 1.2, "min_ess": 50},
            "certificate": {"on_reject": "report"},
        },
    }
    settings["runtime"] = {"workers": 1, **runtime}
    config.write_text(yaml.safe_dump(settings))
    return config
