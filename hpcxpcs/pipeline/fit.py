"""From a configuration to an answer on disk: load, fit, judge, write."""

from __future__ import annotations

import datetime
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import jax

from hpcxpcs.config import Config, config_from_mapping, load_config, resolved_parameters
from hpcxpcs.data.formats import read_truth
from hpcxpcs.data.select import load as load_data
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import ConfigError
from hpcxpcs.files.atomic import require_place
from hpcxpcs.inference.measurement import measure
from hpcxpcs.inference.point import fit_point
from hpcxpcs.inference.records import PointFit, PointSettings
from hpcxpcs.physics.model import Model, TimeGrid, build_model
from hpcxpcs.pipeline.compile_cache import compile_cache
from hpcxpcs.results.quality import quality_flag
from hpcxpcs.results.records import Answer, RunRecord, WrittenResults
from hpcxpcs.results.write import write_numbers, write_pictures
from hpcxpcs.runtime.machine import memory_limit, usable_cores

MEMORY_SHARE = 0.6
"""Share of what the job may use that a fit plans with when runtime.memory is auto."""

HELD_SHARE = 0.25
"""Share of the memory budget that matrices may occupy between passes; larger data are read again instead."""

FINISHED_BUT_DOUBTFUL = 3
"""Exit code of a fit that was written but must not be quoted as it is."""


class Reporter(Protocol):
    """Where a run tells what it is doing."""

    def phase(self, text: str) -> None:
        """A new phase begins."""

    def step(self, done: int, total: int) -> None:
        """Progress within the phase."""

    def detail(self, text: str) -> None:
        """What is being worked on within the phase."""

    def warn(self, text: str) -> None:
        """Something the user should know that does not stop the run."""


class Silent:
    """A reporter that says nothing."""

    def phase(self, text: str) -> None:
        """Ignore a phase."""

    def step(self, done: int, total: int) -> None:
        """Ignore progress."""

    def detail(self, text: str) -> None:
        """Ignore a detail."""

    def warn(self, text: str) -> None:
        """Ignore a warning."""


@dataclass(frozen=True)
class FitRun:
    """A finished fit: the answer, what it was made from, and where it was written."""

    point: PointFit
    data: TwoTime
    model: Model
    config: Config
    truth: Mapping[str, Any] | None
    exit_code: int
    results: Path
    written: WrittenResults

    @property
    def ok(self) -> bool:
        """Whether the fit converged inside its bounds on a signal that is there, and may be quoted."""
        return self.exit_code == 0


def configured(source: Config | Path | str | Mapping[str, Any], overrides: Sequence[str] = ()) -> Config:
    """A validated configuration from a file, a mapping, or one that is already validated."""
    if isinstance(source, Config):
        if overrides:
            raise ConfigError("overrides apply to a file or a mapping, not to a validated configuration")
        return source
    if isinstance(source, Mapping):
        return config_from_mapping(dict(source), None)
    return load_config(Path(source), overrides)


def load(source: Config | Path | str | Mapping[str, Any]) -> TwoTime:
    """The two-time data that a configuration selects (matrices are read when asked for)."""
    return load_data(configured(source))


def fit(
    source: Config | Path | str | Mapping[str, Any],
    *,
    run: Path | None = None,
    overrides: Sequence[str] = (),
    reporter: Reporter | None = None,
    on_answer: Callable[[FitRun], None] = lambda answer: None,
    command: Sequence[str] = (),
) -> FitRun:
    """Fit the data of a configuration and write RUN/results; see FitRun and PointFit for what comes back.

    `run` is the run folder (default: output.directory/NAME of the configuration). `on_answer` is called when the
    numbers are on disk, before pictures are drawn.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
    config, reporter = configured(source, overrides), reporter or Silent()
    folder = run or run_folder(config)
    results = folder / "results"
    require_place(results)
    if replaces_another(results, config):
        reporter.warn(f"{results} holds results of another configuration; they will be replaced (--run names a folder)")
    timings: dict[str, float] = {}
    reporter.phase(f"reading {config.data_file.name}")
    data = load_data(config)
    point, model = fit_data(data, config, reporter, timings)
    timings["answer"] = time.perf_counter() - clock
    truth = known_truth(config, data)
    exit_code = FINISHED_BUT_DOUBTFUL if quality_flag(point) == "poor" else 0
    record = RunRecord(
        config=config.to_mapping(),
        fingerprint=config.fingerprint(),
        command=tuple(command) or tuple(sys.argv),
        timings=timings,
        exit_code=exit_code,
        truth=truth,
        started=started,
    )
    answer = Answer(point, data, model, record)
    found = FitRun(
        point, data, model, config, truth, exit_code, results, written=write_numbers(results, answer)
    )
    on_answer(found)
    output = config.output
    reporter.phase("drawing pictures and writing the report")
    written = write_pictures(
        found.written,
        answer,
        plots=output.plots,
        report=output.report,
        fitted_data=output.fitted_data,
        on_progress=reporter.detail,
    )
    return replace(found, written=written)


def replaces_another(results: Path, config: Config) -> bool:
    """Whether a results folder belongs to a configuration that would give another answer."""
    try:
        known = json.loads((results / "provenance.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(known, dict) and known.get("config_fingerprint") != config.fingerprint()


def fit_data(
    data: TwoTime, config: Config, reporter: Reporter, timings: dict[str, float]
) -> tuple[PointFit, Model]:
    """Fit data already loaded, by the method of the configuration (nlsq); adds seconds per phase to timings."""
    if config.optimization.method != "nlsq":
        raise ConfigError(f"optimization.method: {config.optimization.method!r} is not available; use nlsq")
    compile_cache(config.runtime.compilation_cache_dir, reporter.warn)
    model = model_of(config, data)
    parameters = resolved_parameters(config)
    begun = time.perf_counter()
    with ThreadPoolExecutor(max_workers=1) as pool:
        # JAX takes a tenth of a second to wake up: that happens while the file is read.
        awake = pool.submit(jax.devices)
        measurement = measure(
            data,
            int(HELD_SHARE * memory_budget(config)),
            lambda done: reporter.step(done, data.n_phi),
            threads=usable_cores(),
        )
        awake.result()
    timings["read"] = time.perf_counter() - begun
    point = fit_point(measurement, model, parameters, point_settings(config), reporter.phase)
    timings.update(point.timings)
    return point, model


def known_truth(config: Config, data: TwoTime) -> dict[str, Any] | None:
    """The truth of a simulated file, without what cannot be compared with this fit.

    Parameters mean something else under another model, convention or origin of time; contrast and offset belong to
    the q of the truth.
    """
    truth = read_truth(config.data_file)
    if truth is None:
        return None
    hidden = set()
    conventions = config.conventions.model_dump()
    if (
        (data.frames[0] != 1 and config.analyzer_parameters.time_origin != "file")
        or truth.get("model") != config.analysis_mode
        or any(conventions.get(key) != value for key, value in truth.get("conventions", {}).items())
    ):
        hidden.add("parameters")
    if not math.isclose(truth.get("q", data.q), data.q, rel_tol=1e-3):
        hidden |= {"contrast", "offset"}
    return {name: value for name, value in truth.items() if name not in hidden}


def run_folder(config: Config) -> Path:
    """RUN: output.directory with the name of the configuration file."""
    name = config.source.stem if config.source else "run"
    return Path(config.output.directory).expanduser() / name


def memory_budget(config: Config) -> int:
    """Bytes that one process may use: runtime.memory, or a share of what the job has."""
    chosen = config.runtime.memory
    return int(MEMORY_SHARE * memory_limit()) if chosen == "auto" else int(chosen)


def model_of(config: Config, data: TwoTime) -> Model:
    """The model of a configuration at the q and on the time axis of the data."""
    conventions = config.conventions
    return build_model(
        config.analysis_mode,
        q=data.q,
        gap=config.analyzer_parameters.geometry.stator_rotor_gap,
        shear_law=conventions.shear_law,
        integrator=conventions.integrator,
        heterodyne=conventions.heterodyne,
        grid=TimeGrid(float(data.t[0]), float(data.dt), data.n_frames),
    )


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
    )
