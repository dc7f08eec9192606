"""One item of a campaign: fitted as a single run would, kept as a row of the table and as an answer to report on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from hpcxpcs.answer.campaign import ItemParameter, ItemRow
from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.fit_verdict import quality_warnings
from hpcxpcs.answer.posterior import Posterior
from hpcxpcs.answer.posterior_verdict import first_sentence, posterior_warnings, quality_of
from hpcxpcs.answer.thresholds import NORMAL_95
from hpcxpcs.arrays import Floats
from hpcxpcs.config import Config, config_from_mapping
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import (
    FINISHED_BUT_DOUBTFUL,
    ClaimLost,
    EnvironmentProblem,
    HpcxpcsError,
    OutputError,
    Stopped,
    StoreError,
)
from hpcxpcs.files.atomic import writing
from hpcxpcs.files.json_safe import json_safe
from hpcxpcs.physics.model import Model
from hpcxpcs.pipeline.item_g2 import fit_g2_item
from hpcxpcs.pipeline.item_rows import answer_file, keep_row, work_folder
from hpcxpcs.pipeline.items import Item, item_from_record
from hpcxpcs.pipeline.loading import known_truth, load_for_run, quality_report
from hpcxpcs.pipeline.plan import begin
from hpcxpcs.pipeline.prepare import OpenRun, fit_data, model_for, pack, unpack
from hpcxpcs.pipeline.reporter import LoggingReporter, Reporter, Silent, logged
from hpcxpcs.results.cmc import evidence_basis
from hpcxpcs.results.joint import own_values
from hpcxpcs.results.records import Answer, RunRecord
from hpcxpcs.results.table import true_values
from hpcxpcs.results.write import write_numbers, write_pictures
from hpcxpcs.runs.plan import Task, new_task
from hpcxpcs.runs.run import DONE, Run
from hpcxpcs.runs.sealed import Sealed, read_sealed, write_sealed
from hpcxpcs.workers.local import InProcess
from hpcxpcs.workers.machine import usable_cores
from hpcxpcs.workers.work import Outcome, Pulse, TaskFunction, lazily

ANSWER = "item answer"
"""Kind of the sealed file that an item's report is made of."""

THUMBNAIL = 24
"""Squares along a side of an item's picture."""

_NOT_THE_ITEMS_FAULT = (OutputError, EnvironmentProblem, StoreError, ClaimLost)


def item_function(run: Run) -> TaskFunction:
    """What fits the items of a campaign in this process; configurations are read once, and again when it has grown."""
    variants: dict[str, Config] = {}

    def function(at: Run, task: Task, pulse: Pulse) -> Outcome:
        item, settings = item_from_record(at.plan.extra["items"][task.index]), at.plan.extra["variants"]
        known = json.dumps(settings[item.variant], sort_keys=True)
        if known not in variants:
            variants[known] = config_from_mapping(dict(settings[item.variant]))
        return _finish(at, item, item.configure({item.variant: variants[known]}), task, pulse)

    return function


def _finish(run: Run, item: Item, config: Config, task: Task, pulse: Pulse) -> Outcome:
    """Fit an item and keep its row; what is wrong with its data or settings becomes the reason in the row."""
    begun, place = time.perf_counter(), work_folder(run, task)
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    row = ItemRow(
        index=task.index,
        name=item.name,
        labels=item.labels,
        file=str(item.file),
        model=config.analysis_mode,
        method=config.optimization.method,
        state="failed",
    )
    folder = run.results / "items" / item.name
    try:
        with logged(_Beating(pulse)) as reporter:
            if item.analysis == "g2":
                row = replace(row, model=config.g2.model, method=config.g2.method)
                found_row = fit_g2_item(config, row, folder if config.output.items == "full" else None, reporter)
                keep_row(run, task, replace(found_row, seconds=time.perf_counter() - begun), pulse)
                return "done"
            found = _fitted(config, place, reporter, pulse)
    except Stopped:
        return "stopped"
    except _NOT_THE_ITEMS_FAULT:
        raise
    except HpcxpcsError as error:
        keep_row(run, task, replace(row, reason=str(error), seconds=time.perf_counter() - begun), pulse)
        return "failed"
    row = replace(found.describe(row), seconds=time.perf_counter() - begun)
    arrays, values = found.packed()
    write_sealed(answer_file(run, task), Sealed(ANSWER, run.plan.run_id, task.name, DONE, {}, arrays, values))
    if config.output.items == "full":
        write_report(run, task.index, found, LoggingReporter(Silent()))
    keep_row(run, task, row, pulse)
    shutil.rmtree(place, ignore_errors=True)
    return "done"


class _Beating:
    """A reporter for which every sign of progress is a sign of life."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._steps = 0

    def phase(self, text: str) -> None:
        """A new phase."""
        self._steps += 1
        self._pulse.beat({"phase": text})

    def step(self, done: int, total: int) -> None:
        """Progress within the phase."""
        self._pulse.beat({})

    def detail(self, text: str) -> None:
        """Progress that another thread tells: a lost claim is found out at the next phase."""
        try:
            self._pulse.beat({})
        except ClaimLost:
            return

    def warn(self, text: str) -> None:
        """The row has the warnings of the answer, and the log has all."""


@dataclass(frozen=True)
class FittedItem:
    """The answer of an item with what it was made from."""

    config: Config
    data: TwoTime
    model: Model
    point: PointFit
    posterior: Posterior | None
    timings: dict[str, float]

    @property
    def quality(self) -> str:
        """As for a single fit."""
        return quality_of(self.point, self.posterior)

    @property
    def exit_code(self) -> int:
        """That a single fit would end with."""
        return FINISHED_BUT_DOUBTFUL if self.quality == "poor" else 0

    def describe(self, row: ItemRow) -> ItemRow:
        """The row of a table with this answer."""
        point, posterior = self.point, self.posterior
        warnings = quality_warnings(point) if posterior is None else posterior_warnings(posterior, point)
        return replace(
            row,
            state="done",
            quality=self.quality,
            verdict=first_sentence(point, posterior, self.exit_code),
            q=float(self.data.q) if self.data.q_known else np.nan,
            chi_squared=float(point.reduced_chi_squared),
            noise_model="given" if point.noise is None else point.noise.model,
            parameters=self._parameters(),
            log_evidence=None if posterior is None else posterior.log_evidence,
            log_evidence_error=None if posterior is None else posterior.log_evidence_error,
            evidence_basis=self._basis(),
            warnings=tuple(warnings),
            thumbnail=thumbnail(self),
        )

    def _basis(self) -> dict[str, Any]:
        """What the evidence rests on, as JSON values; empty where there is none."""
        if self.posterior is None or self.posterior.evidence is None:
            return {}
        basis = evidence_basis(self.point, self.data, self.posterior)
        return dict(json_safe({**basis, "widening": float(np.max(self.posterior.widening))}))

    def _parameters(self) -> tuple[ItemParameter, ...]:
        truth = true_values(known_truth(self.config, self.data), self.data.phi)
        known = {name: value for name, value in truth.items() if isinstance(value, float)}
        found = [_of_point(self.point, k, known.get(name)) for k, name in enumerate(self.point.names)]
        own = _of_sets(self.point, self.posterior, known)
        if self.posterior is None:
            return (*found, *own)
        sampled = {
            name: _of_posterior(self.posterior, k, known.get(name)) for k, name in enumerate(self.posterior.names)
        }
        kept = [sampled.pop(one.name, one) for one in found]
        return (*kept, *sampled.values(), *own)

    def packed(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON values from which `restored` makes the answer again."""
        arrays, values = pack(self.point, "point.")
        if self.posterior is not None:
            more, plain = pack(self.posterior, "posterior.")
            arrays, values = arrays | more, values | plain
        return arrays, {**values, "phase_seconds": self.timings, "sampled": self.posterior is not None}


def _of_point(point: PointFit, k: int, truth: float | None) -> ItemParameter:
    """A parameter of a point fit; its error is the robust one where there is one."""
    free, at_bound = bool(point.free[k]), bool(point.at_bound[k])
    errors = point.uncertainty if point.robust_uncertainty is None else point.robust_uncertainty
    error = float(errors[k]) if free else np.nan
    value = float(point.values[k])
    nearer = "lower" if value - point.lower[k] < point.upper[k] - value else "upper"
    return ItemParameter(
        name=point.names[k],
        unit=point.units[k],
        value=value,
        error=error,
        low=value - NORMAL_95 * error,
        high=value + NORMAL_95 * error,
        probability=0.95,
        free=free,
        bound=nearer if at_bound else "",
        truth=truth,
    )


def _of_sets(point: PointFit, posterior: Posterior | None, known: Mapping[str, float]) -> Iterator[ItemParameter]:
    """What each data set of a joint fit has of its own, as parameters named after both."""
    for own in own_values(point, posterior):
        assert point.joint is not None
        for k, label in enumerate(point.joint.labels):
            low, high = map(float, own.intervals[k])
            numbers = float(own.values[k]), float(own.errors[k]), low, high, 0.95
            yield ItemParameter(f"{own.name} [{label}]", own.unit, *numbers, free=True, truth=known.get(own.name))


def _of_posterior(posterior: Posterior, k: int, truth: float | None) -> ItemParameter:
    """A sampled parameter: median, standard deviation and narrowest interval."""
    said = posterior.summary
    return ItemParameter(
        name=posterior.names[k],
        unit=posterior.units[k],
        value=float(said.median[k]),
        error=float(said.std[k]),
        low=float(said.hdi[k, 0]),
        high=float(said.hdi[k, 1]),
        probability=float(said.hdi_probability),
        free=True,
        truth=truth,
    )


def _fitted(config: Config, place: Path, reporter: LoggingReporter, pulse: Pulse) -> FittedItem:
    """The answer of a configuration, with checkpoints of a posterior in a folder; Stopped when time is up."""

    def still_wanted() -> None:
        if (reason := pulse.stop_reason()) is not None:
            raise Stopped(reason)

    still_wanted()
    data = load_for_run(config, place, reporter.warn)
    if config.optimization.method == "nlsq":
        timings: dict[str, float] = {}
        threads = usable_cores()
        point, _, _, model = fit_data(data, config, reporter, timings, threads=threads, still_wanted=still_wanted)
        return FittedItem(config, data, model, point, None, timings)
    from hpcxpcs.pipeline.gather import sample_posterior
    from hpcxpcs.pipeline.sample import task_function

    run = OpenRun.of(begin(place, config, data, reporter), data)
    executor = InProcess(lazily(task_function), _StopOf(pulse))
    posterior = sample_posterior(run, executor, reporter)
    point, timings = run.point_fit(reporter.warn)
    return FittedItem(config, data, model_for(config, data), point, posterior, timings)


@dataclass(frozen=True)
class _StopOf:
    """The stop request of the process that has an item in hand."""

    pulse: Pulse

    def should_stop(self, next_block_seconds: float = 0.0) -> str | None:
        """Return why to stop, in words, or None."""
        return self.pulse.stop_reason(next_block_seconds)


def thumbnail(found: FittedItem) -> Floats:
    """Data, fit, and residual over its error, (3, m, m), of the first angle in squares of frames; NaN without data.

    The residual of a square is taken as the mean of independent pairs, so that what frames share stands out.
    """
    matrix = found.data.angle(0)
    count = len(matrix.c2)
    side = min(THUMBNAIL, count)
    edges = np.linspace(0, count, side + 1).round().astype(int)
    good = np.outer(matrix.frame_ok, matrix.frame_ok) & np.isfinite(matrix.c2) & ~np.eye(count, dtype=bool)
    pairs = _in_squares(good.astype(np.float64), edges)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = _in_squares(np.where(good, matrix.c2, 0.0), edges) / pairs
        at = found.data.t[((edges[:-1] + edges[1:]) // 2).clip(0, count - 1)]
        theta, phi = jnp.asarray(found.point.values), jnp.asarray(found.data.asked_angles[0])
        shape = np.asarray(found.model.shape(theta, jnp.asarray(at)[:, None], jnp.asarray(at)[None, :], phi))
        fit = found.point.scaling.offset[0] + found.point.scaling.contrast[0] * shape
        away = (mean - fit) / found.point.sigma[0] * np.sqrt(pairs)
    return np.stack([mean, fit, away]).astype(np.float32)


def _in_squares(values: Floats, edges: np.ndarray) -> Floats:
    """Sums of (N, N) values over squares between edges (m + 1,), (m, m)."""
    rows = np.add.reduceat(values, edges[:-1], axis=0)
    return np.asarray(np.add.reduceat(rows, edges[:-1], axis=1))


def restored(run: Run, index: int, reporter: Reporter) -> FittedItem:
    """The answer of a finished item, with its data described again; no matrix is read for it."""
    item = item_from_record(run.plan.extra["items"][index])
    if item.analysis == "g2":
        raise StoreError(
            f"{run.folder}: of an item of g2 its row is kept: hpcxpcs g2 fit {item.file} makes its report, and "
            "output.items: full (with --changed) that of every item"
        )
    task = new_task("item", index)
    found = read_sealed(answer_file(run, task), kind=ANSWER, run_id=run.plan.run_id)
    variants = [config_from_mapping(dict(settings)) for settings in run.plan.extra["variants"]]
    config = item_from_record(run.plan.extra["items"][index]).configure(variants)
    values = dict(found.attributes)
    timings, sampled = values.pop("phase_seconds"), values.pop("sampled")
    point = unpack(PointFit, found.arrays, values, "point.")
    posterior = unpack(Posterior, found.arrays, values, "posterior.") if sampled else None
    data = load_for_run(config, work_folder(run, task), reporter.warn)
    return FittedItem(config, data, model_for(config, data), point, posterior, timings)


def write_report(
    run: Run, index: int, found: FittedItem, reporter: LoggingReporter, command: Sequence[str] = ()
) -> Path:
    """Write numbers, pictures and report of an item to RUN/results/items/NAME, as a single fit writes its own."""
    config = found.config
    place = run.results / "items" / str(run.plan.extra["items"][index]["name"])
    place.parent.mkdir(parents=True, exist_ok=True)
    record = RunRecord(
        config=config.to_mapping(),
        fingerprint=config.fingerprint(),
        command=tuple(command),
        timings=found.timings,
        exit_code=found.exit_code,
        truth=known_truth(config, found.data),
        quality=quality_report(config, found.data, reporter),
        run_id=run.plan.run_id,
    )
    answer = Answer(found.point, found.data, found.model, record, found.posterior)
    output = config.output
    written = write_numbers(place, answer)
    write_pictures(written, answer, plots=output.plots, report=output.report, fitted_data=output.fitted_data)
    return place
