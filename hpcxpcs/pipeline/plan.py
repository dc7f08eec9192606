"""What a run will compute, decided before anything expensive happens: the plan of RUN/plan.json."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hpcxpcs import __version__
from hpcxpcs.config import Config, DataScale, ResolvedParameter, resolved_parameters
from hpcxpcs.config.resolve import from_record, recorded
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import ConfigError, PlanMismatch
from hpcxpcs.inference.stream import STREAM_VERSION
from hpcxpcs.pipeline.reporter import Reporter
from hpcxpcs.runs.plan import Plan, Task, changed_versions, new_run_id, new_task
from hpcxpcs.runs.run import DONE, PLAN_FILE, Run, discard, state_of
from hpcxpcs.runs.sealed import peek
from hpcxpcs.runs.status import COMPLETE_FILE

RECORD = "parameters"
"""Key of a plan's `extra` under which its parameters are recorded."""


def scale_of(config: Config, data: TwoTime) -> DataScale:
    """The scale of loaded data, from their q and times alone: no matrix is read for it."""
    used = data.t[data.t != 0.0]
    gap = config.analyzer_parameters.geometry.stator_rotor_gap
    return DataScale(float(data.q), float(gap), float(data.dt), float(used[0]), float(used[-1]))


def planned_parameters(plan: Plan) -> tuple[ResolvedParameter, ...]:
    """The parameters of a run as its plan has recorded them: the same in every process, and after every stop."""
    record = plan.extra.get(RECORD)
    if record is None:
        raise PlanMismatch(
            f"this run was begun by hpcxpcs {plan.hpcxpcs_version}, whose plans do not record bounds and priors: "
            "finish it with that version, or start it again with --fresh"
        )
    return from_record(plan.extra["config"]["analysis_mode"], record)


NOT_COMPARED = frozenset(
    {"campaign", "output", "runtime", "logging", "experimental_data", "quality_control", "preprocessing"}
)
"""Sections that may change between two starts of a run; the fingerprint of the data (as processed) must not."""

RECORDED_PACKAGES = ("hpcxpcs", "jax", "jaxlib", "numpyro", "nlsq", "numpy", "scipy", "h5py", "arviz")
"""Packages whose versions a plan records."""


def plan_for(config: Config, data: TwoTime) -> Plan:
    """The plan of a configuration (any method that has a posterior) and its data."""
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
        versions=versions(),
        stream_version=STREAM_VERSION,
        method=config.optimization.method,
        config=compared,
        config_fingerprint=hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest(),
        data={"path": str(config.data_file), "fingerprint": data.fingerprint(), "n_phi": data.n_phi},
        seed=options.per_shard_mcmc.seed,
        shards={"strategy": options.sharding.strategy, "count": count, "anchor": options.anchor},
        chains=chains,
        tasks=_tasks(config.optimization.method, count, chains),
        extra={"config": _located(settings, config), RECORD: recorded(parameters)},
    )


def _tasks(method: str, shards: int, chains: int) -> tuple[Task, ...]:
    """What of a method is shared out from the start; of importance nothing is."""
    return {"cmc": _shard_tasks(shards), "exact": exact_tasks(chains), "importance": ()}[method]


def exact_tasks(chains: int) -> tuple[Task, ...]:
    """One task per chain on the likelihood of all data; they are alike."""
    return tuple(new_task("exact", chain) for chain in range(chains))


def _shard_tasks(shards: int) -> tuple[Task, ...]:
    """One task per shard, all of one cost: only what their checkpoints leave to do makes a difference.

    Shards hold equal numbers of pairs (of 1001 frames in 64 shards within 1 %, within 10 % when cut contiguously), and
    the number does not matter: the points of the condensed likelihood, and with them the cost of a gradient, are those
    of all data.
    """
    return tuple(new_task("shard", index) for index in range(shards))


def _located(settings: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The settings with the data file by its absolute path."""
    place = {"file_path": str(config.data_file), "format": config.experimental_data.format}
    return {**settings, "experimental_data": place}


def versions() -> dict[str, str]:
    """The versions that decide last digits, as plans record them."""
    found = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


MOST_SHARDS, PAIRS_PER_PARAMETER = 4, 2000
"""Of the default count: a condensed gradient costs the same for a shard as for all data, so every shard adds its own
warm-up and draws (bench/posterior.py); each needs data enough to be nearly Gaussian."""


def default_count(pairs: ArrayLike, n_free: int) -> int:
    """The largest square ≤ 4 that leaves each shard 2000 pairs per free parameter, at least 1; pairs (n_phi,)."""
    affordable = float(np.asarray(pairs, dtype=np.float64).sum()) / (PAIRS_PER_PARAMETER * max(1, n_free))
    return int(np.clip(np.floor(np.sqrt(affordable)), 1, np.sqrt(MOST_SHARDS))) ** 2


PREPARE = new_task("prepare", 0)
"""What this stage is called among the tasks of a run; its file is the prepared likelihood."""


def begin(folder: Path, config: Config, data: TwoTime, reporter: Reporter, *, fresh: bool = False) -> Run:
    """Start the run in a folder, or go on with it; PlanMismatch names the first difference."""
    if fresh:
        start_over(folder)
    plan = plan_for(config, data)
    continued = (folder / PLAN_FILE).exists()
    run = Run.create(folder, plan)
    if continued:
        done = sum(state_of(run, task) == "done" for task in run.plan.tasks)
        reporter.phase(f"continuing {folder}: {done} of {len(run.plan.tasks)} tasks are done")
        for change in changed_versions(run.plan, plan):
            reporter.warn(f"since this run was started, {change}")
    return run


def start_over(folder: Path) -> None:
    """Discard the run in a folder, if there is one and nobody works on it; results and logs stay."""
    discard(folder)
    (folder / COMPLETE_FILE).unlink(missing_ok=True)


def is_prepared(run: Run) -> bool:
    """Whether the likelihood of a run is there."""
    header = peek(run.task_file(PREPARE))
    return header is not None and header.status == DONE and header.run_id == run.plan.run_id
