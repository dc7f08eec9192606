"""From data to a likelihood ready for sampling, which the first process of a run makes, and every other one opens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.fit_verdict import held_at_zero
from hpcxpcs.config import Config, ResolvedParameter, resolved_parameters
from hpcxpcs.config.parameters import Parameter, own_parameters, parameter_named
from hpcxpcs.config.plausible import check_parameters
from hpcxpcs.config.resolve import from_record, recorded
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import DataError, Stopped, TornFile
from hpcxpcs.inference.consensus import contradiction_words, too_few_to_compare
from hpcxpcs.inference.coordinates import Coordinates, reference_time
from hpcxpcs.inference.importance import with_matched_anchor
from hpcxpcs.inference.measurement import Demand, Measurement, always_wanted, measure
from hpcxpcs.inference.peaks import solutions_elsewhere, with_peaks
from hpcxpcs.inference.point import fit_in_stages
from hpcxpcs.inference.prepared import Prepared, prepare_full, prepare_shards, restored, stored
from hpcxpcs.inference.stages import Fitted
from hpcxpcs.likelihood.moments import Moments
from hpcxpcs.likelihood.shards import PairSet, partition, shard_moments
from hpcxpcs.likelihood.whitened import Whitened, WhitenedAngle, arrays_of_angle, condensed
from hpcxpcs.log.levels import log_context
from hpcxpcs.physics.model import MODELS, AngleSets, Model, TimeGrid, build_model
from hpcxpcs.pipeline.compile_cache import compile_cache, compile_log
from hpcxpcs.pipeline.loading import held_bytes, load_for_run, refuse_poor
from hpcxpcs.pipeline.plan import PREPARE, is_prepared, planned_parameters, scale_of
from hpcxpcs.pipeline.reporter import Reporter
from hpcxpcs.pipeline.settings import config_of, memory_budget, point_settings
from hpcxpcs.runs.claims import take
from hpcxpcs.runs.events import append
from hpcxpcs.runs.job import batch_job
from hpcxpcs.runs.run import DONE, Run, set_aside_damaged
from hpcxpcs.runs.sealed import Sealed, newest_good, read_sealed, write_sealed
from hpcxpcs.workers.machine import usable_cores
from hpcxpcs.workers.work import SHORTEST_PAUSE, USUAL_PATIENCE, Pulse, Stop


def pack(record: Any, prefix: str = "") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays (floats included, so that NaN and every bit survive) and JSON values of a record, by dotted name."""
    arrays: dict[str, np.ndarray] = {}
    values: dict[str, Any] = {}
    for entry in fields(record):
        _pack_value(getattr(record, entry.name), prefix + entry.name, arrays, values)
    return arrays, values


def _pack_value(value: Any, name: str, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
    if is_dataclass(value):
        inner, plain = pack(value, f"{name}.")
        arrays |= inner
        values |= plain
    elif isinstance(value, tuple) and value and is_dataclass(value[0]):
        values[f"{name}.count"] = len(value)
        for index, item in enumerate(value):
            _pack_value(item, f"{name}.{index}", arrays, values)
    elif isinstance(value, np.ndarray | float):
        arrays[name] = np.asarray(value)
    elif isinstance(value, dict) and value and all(isinstance(v, float) for v in value.values()):
        values[f"{name}.keys"] = list(value)
        arrays[name] = np.array(list(value.values()))
    else:
        values[name] = value


@cache
def _parts_of(kind: type) -> Mapping[str, type]:
    """The fields of a record that hold records, or tuples of records, and the type of these."""
    found: dict[str, type] = {}
    for name, hint in get_type_hints(kind).items():
        for one in (hint, *get_args(hint)):
            if isinstance(one, type) and is_dataclass(one):
                found[name] = one
    return found


def unpack(kind: type, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any], prefix: str = "") -> Any:
    """The record that `pack` took apart; a field that was not stored takes its default, if it has one."""
    found = {}
    for entry in fields(kind):
        name = prefix + entry.name
        part = _parts_of(kind).get(entry.name)
        counted = part is not None and "count" not in (one.name for one in fields(part))
        if part is not None and counted and f"{name}.count" in values:
            found[entry.name] = tuple(
                unpack(part, arrays, values, f"{name}.{index}.") for index in range(values[f"{name}.count"])
            )
        elif part is not None and any(key.startswith(f"{name}.") for key in (*arrays, *values)):
            found[entry.name] = unpack(part, arrays, values, f"{name}.")
        elif entry.default is MISSING or name in arrays or name in values:
            found[entry.name] = _value(name, arrays, values)
    return kind(**found)


def _value(name: str, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> Any:
    if f"{name}.keys" in values:
        return dict(zip(values[f"{name}.keys"], map(float, arrays[name]), strict=True))
    if name in arrays:
        array = arrays[name]
        return float(array) if array.ndim == 0 and array.dtype.kind == "f" else array
    value = values[name]
    return tuple(value) if isinstance(value, list) else value


OTHER_BYTES = 700_000_000
"""What a fit needs besides matrices: libraries, compiled code, slabs and tiles."""

JOINT_ANGLES = ("phi", "q", "number")
"""What a sealed likelihood of a joint fit knows of every angle."""

LIKELIHOOD, POINT, SQUARES = "likelihood", "point fit", "squares"
"""Kinds of the sealed files of this stage."""


@dataclass(frozen=True)
class OpenRun(Run):
    """A run as one process has it open: what its steps share is read by the first that asks for it, and only once.

    The sealed likelihood is hashed and parsed once, the data file is described once.
    """

    _read: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, run: Run, data: TwoTime | None = None) -> OpenRun:
        """The run itself if it is open; `data` are its data where they were needed before there was a run."""
        opened = run if isinstance(run, OpenRun) else cls(run.folder, run.plan)
        if data is not None:
            opened._read["data"] = data
        return opened

    @cached_property
    def config(self) -> Config:
        """The whole configuration the run was started with."""
        return config_of(self.plan)

    def load_data(self, tell: Callable[[str], None] = lambda text: None, *, alone: bool = False) -> TwoTime:
        """The data of the run; `tell` and `alone` are for the first call, see load_for_run."""
        if "data" not in self._read:
            self._read["data"] = load_for_run(self.config, self.folder, tell, alone=alone)
        found: TwoTime = self._read["data"]
        return found

    @cached_property
    def sealed(self) -> Sealed:
        """The sealed file of the prepared likelihood."""
        return read_sealed(self.task_file(PREPARE), kind=LIKELIHOOD, run_id=self.plan.run_id)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know about how the likelihood was cut."""
        return tuple(self.sealed.attributes.get("warnings", ()))

    @cached_property
    def parameters(self) -> tuple[ResolvedParameter, ...]:
        """The parameters as the posterior has them."""
        model = self.plan.extra["config"]["analysis_mode"]
        return from_record(model, self.sealed.attributes["parameters"])

    @cached_property
    def coordinates(self) -> Coordinates:
        """The fit coordinates."""
        arrays = self.sealed.arrays
        first, step, count = arrays["grid"]
        grid = TimeGrid(float(first), float(step), int(count))
        angles = {name: arrays[f"joint/{name}"] for name in JOINT_ANGLES if f"joint/{name}" in arrays}
        model = model_of(self.config, float(arrays["q"]), grid, angles)
        fixed = tuple((k, p.fixed) for k, p in enumerate(self.parameters) if p.fixed is not None)
        return Coordinates(model, reference_time(*map(float, arrays["time_range"])), fixed)

    @cached_property
    def likelihood(self) -> Prepared:
        """The prepared likelihood as it is sampled."""
        return restored(self.sealed.arrays, self.sealed.attributes, self.coordinates, self.parameters)

    def squares(self, angle: int) -> WhitenedAngle | None:
        """The whitened squares of one angle; None for a likelihood of independent pairs."""
        if not self.data_file(SQUARES).exists():
            return None
        found = read_sealed(self.data_file(SQUARES), kind=SQUARES, run_id=self.plan.run_id).arrays
        start = f"{angle}/"
        own = {name.removeprefix(start): found[name] for name in found if name.startswith(start)}
        return WhitenedAngle(**own)

    def point_fit(self, warn: Callable[[str], None]) -> tuple[PointFit, dict[str, float]]:
        """The point fit and its seconds per phase."""
        found = newest_good(self.point / "fit.h5", kind=POINT, run_id=self.plan.run_id, warn=warn)
        if found is None:
            raise DataError(f"{self.folder}: its point fit is lost: start again with --fresh")
        values = dict(found.attributes)
        timings = values.pop("phase_seconds")
        return unpack(PointFit, found.arrays, values), timings


def read_measurement(
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


def model_for(config: Config, data: TwoTime) -> Model:
    """The model of a configuration for its data."""
    return model_of(config, data.q, grid_of(data), joint_angles(data))


def joint_angles(data: TwoTime) -> dict[str, np.ndarray]:
    """Of a joint fit the phi, q and data set of every angle (n_phi,); empty without."""
    if not data.sets:
        return {}
    return {"phi": np.asarray(data.phi), "q": data.q_of_angle, "number": data.set_of_angle}


def model_of(config: Config, q: float, grid: TimeGrid, angles: Mapping[str, np.ndarray] | None = None) -> Model:
    """The model of a configuration at q (1/Å) on a time axis, and at the `angles` of a joint fit."""
    conventions, sets = config.conventions, None
    own: tuple[Parameter, ...] = ()
    if config.joint is not None:
        names, count = MODELS[config.analysis_mode], config.joint.count
        own = own_parameters(config.analysis_mode, config.joint.free, count)
        free = [parameter_named(name, config.analysis_mode) for name in config.joint.free]
        places = tuple((names.index(name), len(names) + k * (count - 1)) for k, name in enumerate(free))
        sets = AngleSets(
            count=count, own=places, **{name: jnp.asarray(array) for name, array in (angles or {}).items()}
        )
    return build_model(
        config.analysis_mode,
        q=q,
        gap=config.analyzer_parameters.geometry.stator_rotor_gap,
        shear_law=conventions.shear_law,
        integrator=conventions.integrator,
        heterodyne=conventions.heterodyne,
        grid=grid,
        sets=sets,
        own_names=tuple(one.name for one in own),
    )


def grid_of(data: TwoTime) -> TimeGrid:
    """First time (s), step (s) and number of frames of the data."""
    return TimeGrid(float(data.t[0]), float(data.dt), data.n_frames)


def fit_data(
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
    model = model_for(config, data)
    scale = scale_of(config, data)
    parameters = parameters or resolved_parameters(config, scale)
    for doubt in check_parameters(parameters, scale).at_least("warning"):
        reporter.warn(doubt)
    measurement = read_measurement(data, config, reporter, timings, threads or usable_cores(), still_wanted)
    point, fitted = fit_in_stages(measurement, model, parameters, point_settings(config), reporter.phase)
    timings.update(point.timings)
    return point, fitted, measurement, model


def prepare(run: OpenRun, reporter: Reporter) -> None:
    """Fit, cut, condense and anchor; the likelihood is written last and says that all is done."""
    config = run.config
    timings: dict[str, float] = {}
    reporter.phase(f"reading {config.data_file.name}")
    data = run.load_data(reporter.warn, alone=True)
    point, fitted, measurement, _ = fit_data(data, config, reporter, timings, planned_parameters(run.plan))
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
    arrays |= {f"joint/{name}": array for name, array in joint_angles(data).items()}
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
    if run.plan.method == "importance":
        prepared = with_peaks(whole, prepared, solutions_elsewhere(point, fitted))
    if anchored and count > 1:
        prepared = with_matched_anchor(prepared, run.plan.seed)
    cut = sets[0].warning if count > 1 else ""
    alone = too_few_to_compare(count) if robust else ""
    named = contradiction_words(prepared.contradictions, count, robust=robust)
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
    angles = [arrays_of_angle(angle) for angle in squares.angles]
    arrays = {f"{k}/{name}": array for k, angle in enumerate(angles) for name, array in angle.items()}
    _write(run, run.data_file(SQUARES), SQUARES, {**arrays, "white": squares.white}, {}, SQUARES)


def ensure_prepared(run: OpenRun, stop: Stop, reporter: Reporter) -> None:
    """Prepare the likelihood of a run, or wait while another process does."""
    set_aside_damaged_likelihood(run, reporter)
    while not is_prepared(run):
        if (reason := stop.should_stop()) is not None:
            raise Stopped(f"{run.folder}: stopped before sampling began ({reason}); run the same command again")
        claim = take(run.claims, PREPARE.name)
        if claim is None:
            time.sleep(SHORTEST_PAUSE)
            continue
        try:
            with Pulse(run, PREPARE, claim, stop, USUAL_PATIENCE):
                if not is_prepared(run):
                    append(run, "started", task=PREPARE.name, token=claim.owner.token, **batch_job())
                    log = compile_log()
                    with log_context(task=PREPARE.name):
                        prepare(run, reporter)
                    log.tell(run, PREPARE.name)
                    append(run, "done", task=PREPARE.name)
        finally:
            claim.release()


def set_aside_damaged_likelihood(run: OpenRun, reporter: Reporter) -> None:
    """Open the likelihood if it is there; one whose content is not what was written is taken out of the way."""
    if is_prepared(run):
        try:
            _ = run.sealed
        except TornFile:
            set_aside_damaged(run, (PREPARE,), reporter.warn)
