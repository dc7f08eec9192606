"""From data to a likelihood ready for sampling: what the first process of a run does, once, under a claim."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hpcxpcs.config import Config, ResolvedParameter, resolved_parameters
from hpcxpcs.config.plausible import check_parameters
from hpcxpcs.config.resolve import from_record, recorded
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import DataError
from hpcxpcs.inference.contradiction import described, too_few_to_compare
from hpcxpcs.inference.coordinates import Coordinates, reference_time
from hpcxpcs.inference.measurement import Demand, Measurement, always_wanted, measure
from hpcxpcs.inference.point import fit_in_stages
from hpcxpcs.inference.prepared import Prepared, prepare_full, prepare_shards, restored, stored
from hpcxpcs.inference.records import PointFit
from hpcxpcs.inference.stages import Fitted
from hpcxpcs.inference.verdict import held_at_zero
from hpcxpcs.likelihood.moments import Moments
from hpcxpcs.likelihood.shards import PairSet, partition, shard_moments
from hpcxpcs.likelihood.whitened import Whitened, WhitenedAngle, condensed
from hpcxpcs.likelihood.whitened import stored as stored_angle
from hpcxpcs.physics.model import Model, TimeGrid, build_model
from hpcxpcs.pipeline.begin import PREPARE
from hpcxpcs.pipeline.choices import config_of, memory_budget, point_settings
from hpcxpcs.pipeline.compile_cache import compile_cache
from hpcxpcs.pipeline.loading import held_bytes, loaded
from hpcxpcs.pipeline.quality import refuse_poor
from hpcxpcs.pipeline.reporter import Reporter
from hpcxpcs.pipeline.scale import parameters_of, scale_of
from hpcxpcs.pipeline.stored_fit import pack, unpack
from hpcxpcs.runtime.machine import usable_cores
from hpcxpcs.runtime.run import DONE, Run
from hpcxpcs.runtime.sealed import Sealed, newest_good, read_sealed, write_sealed

OTHER_BYTES = 700_000_000
"""What a fit needs besides matrices: libraries, compiled code, slabs and tiles."""

LIKELIHOOD, POINT, SQUARES = "likelihood", "point fit", "squares"
"""Kinds of the sealed files of this stage."""


def measured(
    data: TwoTime,
    config: Config,
    reporter: Reporter,
    timings: dict[str, float],
    threads: int,
    still_wanted: Demand,
) -> Measurement:
    """Read what is kept in memory of the data."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(max_workers=1) as pool:
        # JAX takes a tenth of a second to wake up: that happens while the file is read.
        awake = pool.submit(jax.devices)
        measurement = measure(
            data,
            held_bytes(config),
            lambda done: reporter.step(done, data.n_phi),
            threads=threads,
            ahead_bytes=memory_budget(config) - OTHER_BYTES,
            still_wanted=still_wanted,
        )
        awake.result()
    timings["read"] = time.perf_counter() - begun
    return measurement


def model_of(config: Config, q: float, grid: TimeGrid) -> Model:
    """The model of a configuration at q (1/Å) on a time axis."""
    conventions = config.conventions
    return build_model(
        config.analysis_mode,
        q=q,
        gap=config.analyzer_parameters.geometry.stator_rotor_gap,
        shear_law=conventions.shear_law,
        integrator=conventions.integrator,
        heterodyne=conventions.heterodyne,
        grid=grid,
    )


def grid_of(data: TwoTime) -> TimeGrid:
    """First time (s), step (s) and number of frames of the data."""
    return TimeGrid(float(data.t[0]), float(data.dt), data.n_frames)


def fitted_point(
    data: TwoTime,
    config: Config,
    reporter: Reporter,
    timings: dict[str, float],
    parameters: Sequence[ResolvedParameter] | None = None,
    *,
    threads: int | None = None,
    still_wanted: Demand = always_wanted,
) -> tuple[PointFit, Fitted, Measurement, Model]:
    """The point fit of data already loaded, with as many threads as there are cores; adds seconds per phase to timings.

    `parameters` are those that a plan has recorded; without them the scale of the data decides. `still_wanted` is
    called between its steps, and ends it by raising.
    """
    refuse_poor(config, data, reporter)
    compile_cache(config.runtime.compilation_cache_dir, reporter.warn)
    model = model_of(config, data.q, grid_of(data))
    scale = scale_of(config, data)
    parameters = parameters or resolved_parameters(config, scale)
    for doubt in check_parameters(parameters, scale).at_least("warning"):
        reporter.warn(doubt)
    measurement = measured(data, config, reporter, timings, threads or usable_cores(), still_wanted)
    point, fitted = fit_in_stages(measurement, model, parameters, point_settings(config), reporter.phase)
    timings.update(point.timings)
    return point, fitted, measurement, model


def prepare(run: Run, reporter: Reporter) -> None:
    """Fit, cut, condense and anchor; the likelihood is written last and says that all is done."""
    config = config_of(run.plan)
    timings: dict[str, float] = {}
    reporter.phase(f"reading {config.data_file.name}")
    data = loaded(config, run.folder, reporter.warn)
    point, fitted, measurement, _ = fitted_point(data, config, reporter, timings, parameters_of(run.plan))
    cutting = f"cutting {run.plan.shards['count']} shards and " if run.plan.method == "cmc" else ""
    reporter.phase(f"{cutting}condensing the likelihood")
    begun = time.perf_counter()
    prepared, warnings = _prepared(run, config, point, fitted, measurement)
    for warning in warnings:
        reporter.warn(warning)
    timings["condense"] = time.perf_counter() - begun
    if fitted.represented.whitened is not None:
        write_squares(run, fitted.represented.whitened)
    arrays, values = pack(point)
    _write(run, run.point / "fit.h5", POINT, arrays, {**values, "phase_seconds": timings})
    arrays, values = stored(prepared)
    values["warnings"], values["parameters"] = warnings, recorded(fitted.sampled)
    grid = grid_of(data)
    arrays |= {"q": np.asarray(data.q), "grid": np.array([grid.start, grid.step, float(grid.count)])}
    _write(run, run.task_file(PREPARE), LIKELIHOOD, arrays, values, PREPARE.name)


def _prepared(
    run: Run, config: Config, point: PointFit, fitted: Fitted, measurement: Measurement
) -> tuple[Prepared, list[str]]:
    """The likelihood ready for sampling, and what its user should know about how it was cut."""
    represented = fitted.represented
    if represented.is_raw:
        raise DataError(
            f"{config.data_file}: these data cannot be compressed to {config.likelihood.tolerance:g} nats, which "
            "sampling needs: raise likelihood.tolerance, or use --method nlsq"
        )
    shards, anchored = run.plan.shards, run.plan.shards["anchor"] == "point_fit"
    count = int(shards["count"]) if run.plan.method == "cmc" else 1
    whole = prepare_full(
        point,
        fitted,
        config.noise.scale == "sampled",
        run.plan.seed,
        1.0 if anchored else float(np.sqrt(count)),
    )
    axis = measurement.axis
    squares = represented.whitened
    frames, first = (axis.count, axis.first_usable) if squares is None else (squares.averages.root.shape[1], 0)
    sets = partition(shards["strategy"], count, frames, run.plan.seed, first=first)
    parts = _parts(measurement, fitted, sets)
    robust = config.optimization.cmc.combination.method == "robust"
    prepared = prepare_shards(whole, parts, count, anchored=anchored, robust=robust)
    cut = sets[0].warning if count > 1 else ""
    alone = too_few_to_compare(count) if robust else ""
    named = described(prepared.contradictions, count, robust=robust)
    rested = [held_at_zero(name) for name in point.rested]
    return prepared, [words for words in (cut, alone, *named, *rested, point.mirrored) if words]


def _parts(measurement: Measurement, fitted: Fitted, sets: Sequence[PairSet]) -> Iterable[Moments]:
    """Moments of the shards: parts of the pairs, or of the whitened squares where these are fitted."""
    represented, model = fitted.represented, fitted.settled.objective.coordinates.model
    if represented.whitened is None or represented.window is None:
        cells = represented.moments.cells
        return shard_moments(measurement.angles, measurement.phi, cells, measurement.axis, sets)
    if len(sets) == 1:
        return [represented.moments]
    return condensed(represented.whitened, model, represented.window, sets)[1]


def _write(
    run: Run,
    path: Path,
    kind: str,
    arrays: Mapping[str, np.ndarray],
    values: Mapping[str, Any],
    name: str = POINT,
) -> None:
    write_sealed(path, Sealed(kind, run.plan.run_id, name, DONE, {}, arrays, values))


def write_squares(run: Run, squares: Whitened) -> None:
    """Keep the whitened squares of every angle, which the condensed likelihood is checked against."""
    arrays = {f"{k}/{name}": array for k, one in enumerate(squares.angles) for name, array in stored_angle(one).items()}
    _write(run, run.data_file(SQUARES), SQUARES, {**arrays, "white": squares.white}, {}, SQUARES)


def squares_of(run: Run, angle: int) -> WhitenedAngle | None:
    """The whitened squares of one angle; None for a likelihood of independent pairs."""
    if not run.data_file(SQUARES).exists():
        return None
    found = read_sealed(run.data_file(SQUARES), kind=SQUARES, run_id=run.plan.run_id).arrays
    start = f"{angle}/"
    own = {name.removeprefix(start): jnp.asarray(array) for name, array in found.items() if name.startswith(start)}
    return WhitenedAngle(**own)


def likelihood_of(run: Run) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
    """Arrays and values of the prepared likelihood."""
    found = read_sealed(run.task_file(PREPARE), kind=LIKELIHOOD, run_id=run.plan.run_id)
    return found.arrays, found.attributes


def prepared_of(run: Run) -> Prepared:
    """The prepared likelihood as it is sampled; its file is read once."""
    arrays, values = likelihood_of(run)
    return restored(arrays, values, _coordinates(run, arrays, values), _parameters(run, values))


def sampled_parameters(run: Run) -> tuple[ResolvedParameter, ...]:
    """The parameters of a prepared run as its posterior has them."""
    return _parameters(run, likelihood_of(run)[1])


def coordinates_of(run: Run) -> Coordinates:
    """The fit coordinates of a prepared run."""
    return _coordinates(run, *likelihood_of(run))


def _parameters(run: Run, values: Mapping[str, Any]) -> tuple[ResolvedParameter, ...]:
    return from_record(run.plan.extra["config"]["analysis_mode"], values["parameters"])


def _coordinates(run: Run, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> Coordinates:
    first, step, count = arrays["grid"]
    grid = TimeGrid(float(first), float(step), int(count))
    model = model_of(config_of(run.plan), float(arrays["q"]), grid)
    fixed = tuple((k, p.fixed) for k, p in enumerate(_parameters(run, values)) if p.fixed is not None)
    return Coordinates(model, reference_time(*map(float, arrays["time_range"])), fixed)


def point_of(run: Run, reporter: Reporter) -> tuple[PointFit, dict[str, float]]:
    """The point fit of a prepared run and its seconds per phase."""
    found = newest_good(run.point / "fit.h5", kind=POINT, run_id=run.plan.run_id, warn=reporter.warn)
    if found is None:
        raise DataError(f"{run.folder}: its point fit is lost: start again with --fresh")
    values = dict(found.attributes)
    timings = values.pop("phase_seconds")
    return unpack(PointFit, found.arrays, values), timings
