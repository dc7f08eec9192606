"""A configuration, and what it says about the point fit, memory and places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcxpcs.answer.fit import PointSettings
from hpcxpcs.batch.launcher import under_mpi
from hpcxpcs.config import Config, config_from_mapping, load_config
from hpcxpcs.config.parameters import parameter_named
from hpcxpcs.errors import ConfigError
from hpcxpcs.files.places import folder_name
from hpcxpcs.runs.plan import Plan
from hpcxpcs.workers.machine import memory, usable_cores

MEMORY_SHARE = 0.6
"""Share of what the job may use that a fit plans with when runtime.memory is auto."""


def configured(source: Config | Path | str | Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """A validated configuration from a file, a mapping, or one that is already validated."""
    if isinstance(source, Config):
        if overrides:
            raise ConfigError("overrides apply to a file or a mapping, not to a validated configuration")
        return source
    if isinstance(overrides, str):
        raise ConfigError(f"overrides: is one text; a list of KEY=VALUE is needed, such as [{overrides!r}]")
    if isinstance(source, Mapping):
        return config_from_mapping(dict(source), None, overrides)
    if not isinstance(source, str | Path):
        raise ConfigError(
            f"source: is a value of type {type(source).__name__}; a Config, the path of a file or a mapping is needed"
        )
    return load_config(Path(source), overrides)


def config_of(plan: Plan) -> Config:
    """The whole configuration a run was started with, its data file as an absolute path."""
    return config_from_mapping(dict(plan.extra["config"]), None)


def run_folder(config: Config) -> Path:
    """RUN: output.directory with the name of the configuration file."""
    name = folder_name(config.source.stem) if config.source else "run"
    return Path(config.output.directory).expanduser() / name


def memory_budget(config: Config) -> int:
    """Bytes that one process may use: runtime.memory, or a share of what the job has."""
    chosen = config.runtime.memory
    return int(MEMORY_SHARE * memory().limit) if chosen == "auto" else int(chosen)


def worker_count(config: Config) -> int:
    """Worker processes on this machine: runtime.workers, or one per cores_per_worker usable cores."""
    if config.runtime.workers != "auto":
        return config.runtime.workers
    each = 1 if config.runtime.cores_per_worker == "auto" else config.runtime.cores_per_worker
    return max(1, usable_cores() // each)


def fit_threads(config: Config) -> int:
    """Threads of a point fit: as many as there would be workers, at most one per core; under MPI, one per core."""
    return usable_cores() if under_mpi() else min(usable_cores(), worker_count(config))


def _own_of(config: Config) -> tuple[tuple[str, str], ...]:
    """What is free per data set of a joint fit, by canonical names, and how it is quoted."""
    assert config.joint is not None
    return tuple((parameter_named(name, config.analysis_mode), how) for name, how in config.joint.free.items())


def point_settings(config: Config) -> PointSettings:
    """The choices of a configuration that concern the point fit."""
    nlsq, scaling, noise = config.optimization.nlsq, config.scaling, config.noise
    constant = scaling.constant
    return PointSettings(
        scaling=scaling.mode,
        fourier_order=scaling.fourier_order,
        contrast=constant.contrast if constant else None,
        offset=constant.offset if constant else None,
        noise=noise.sigma if isinstance(noise.sigma, float) else None,
        sample_noise_scale=noise.scale == "sampled",
        multi_start=nlsq.multi_start,
        cmaes=nlsq.cmaes,
        max_iterations=nlsq.max_iterations,
        tolerance=nlsq.tolerance,
        robust=nlsq.uncertainty == "robust",
        seed=nlsq.seed,
        compression_tolerance=config.likelihood.tolerance,
        noise_model=noise.model,
        photons=noise.photons,
        pixels=noise.pixels,
        own=() if config.joint is None else _own_of(config),
    )
