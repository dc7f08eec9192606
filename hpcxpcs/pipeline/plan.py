"""What a run will compute, decided before anything expensive happens: the plan of RUN/plan.json."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from typing import Any

from hpcxpcs import __version__
from hpcxpcs.config import Config, resolved_parameters
from hpcxpcs.config.resolve import recorded
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import ConfigError
from hpcxpcs.inference.stream import STREAM_VERSION
from hpcxpcs.likelihood.shard_count import default_count
from hpcxpcs.pipeline.scale import RECORD, scale_of
from hpcxpcs.runtime.plan import Plan, new_run_id
from hpcxpcs.runtime.tasks import Task, new_task

NOT_COMPARED = frozenset(
    {"output", "runtime", "logging", "experimental_data", "quality_control", "preprocessing"}
)
"""Sections that may change between two starts of a run; the fingerprint of the data (as processed) must not."""

RECORDED_PACKAGES = ("hpcxpcs", "jax", "jaxlib", "numpyro", "nlsq", "numpy", "scipy", "h5py", "arviz")
"""Packages whose versions a plan records."""


def plan_for(config: Config, data: TwoTime) -> Plan:
    """The plan of a configuration (method cmc or exact) and its data."""
    if config.conventions.integrator != "exact":
        raise ConfigError(
            f"conventions.integrator: {config.conventions.integrator} has no posterior, because its shapes cannot be "
            "compressed: set it to exact, or use --method nlsq"
        )
    options = config.optimization.cmc
    parameters = resolved_parameters(config, scale_of(config, data))
    free = sum(parameter.fixed is None for parameter in parameters)
    count = options.sharding.num_shards
    if count == "auto":
        count = default_count(data.n_phi * 0.5 * data.n_frames * (data.n_frames - 1), free)
    chains = options.per_shard_mcmc.num_chains
    settings = config.to_mapping()
    compared = {key: value for key, value in settings.items() if key not in NOT_COMPARED}
    return Plan(
        run_id=new_run_id(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        hpcxpcs_version=__version__,
        versions=_versions(),
        stream_version=STREAM_VERSION,
        method=config.optimization.method,
        config=compared,
        config_fingerprint=hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest(),
        data={"path": str(config.data_file), "fingerprint": data.fingerprint(), "n_phi": data.n_phi},
        seed=options.per_shard_mcmc.seed,
        shards={"strategy": options.sharding.strategy, "count": count, "anchor": options.anchor},
        chains=chains,
        tasks=_sampling_tasks(config.optimization.method, count, chains),
        extra={"config": _located(settings, config), RECORD: recorded(parameters)},
    )


def exact_tasks(plan: Plan) -> tuple[Task, ...]:
    """One task per chain on the likelihood of all data."""
    return tuple(new_task("exact", chain) for chain in range(plan.chains))


def _sampling_tasks(method: str, shards: int, chains: int) -> tuple[Task, ...]:
    """The tasks of a new run, all of one cost: only what their checkpoints leave to do makes a difference.

    Shards hold equal numbers of pairs (of 1001 frames in 64 shards within 1 %, within 10 % when cut contiguously), and
    the number does not matter: the points of the condensed likelihood, and with them the cost of a gradient, are those
    of all data. Chains on all data are alike.
    """
    if method == "exact":
        return tuple(new_task("exact", chain) for chain in range(chains))
    return tuple(new_task("shard", index) for index in range(shards))


def _located(settings: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The settings with the data file by its absolute path."""
    place = {"file_path": str(config.data_file), "format": config.experimental_data.format}
    return {**settings, "experimental_data": place}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
