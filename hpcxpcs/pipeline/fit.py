"""From a configuration to an answer on disk: load, fit or sample, judge, write."""

from __future__ import annotations

import datetime
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpcxpcs.config import Config
from hpcxpcs.config.plausible import check_config
from hpcxpcs.data.formats import read_truth
from hpcxpcs.data.select import load as load_data
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.files.atomic import require_place
from hpcxpcs.inference.posterior import Posterior
from hpcxpcs.inference.records import PointFit
from hpcxpcs.physics.model import Model
from hpcxpcs.pipeline.begin import begin, start_over
from hpcxpcs.pipeline.choices import config_of, configured, fit_threads, run_folder
from hpcxpcs.pipeline.compile_log import compile_log
from hpcxpcs.pipeline.crew import crew, is_point_fit
from hpcxpcs.pipeline.executor import Executor
from hpcxpcs.pipeline.loading import loaded
from hpcxpcs.pipeline.observed import observed
from hpcxpcs.pipeline.plan import plan_for
from hpcxpcs.pipeline.point_run import PointRun, refuse_posterior
from hpcxpcs.pipeline.posterior import combined_from_what_is_there, sampled, writing_alone
from hpcxpcs.pipeline.quality import judged
from hpcxpcs.pipeline.reporter import Recorded, Reporter, recorded
from hpcxpcs.pipeline.stage import fitted_point, grid_of, model_of, point_of
from hpcxpcs.results.quality import quality_flag
from hpcxpcs.results.records import Answer, RunRecord, WrittenResults
from hpcxpcs.results.write import write_numbers, write_pictures
from hpcxpcs.runtime.executors.launcher import under_mpi
from hpcxpcs.runtime.executors.mpi import as_rank_0_has_it
from hpcxpcs.runtime.plan import new_run_id, refuse_difference
from hpcxpcs.runtime.preemption import StopRequest
from hpcxpcs.runtime.process_log import ProcessLog, log_into, process_log
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.status import mark_complete, refuse_complete

FINISHED_BUT_DOUBTFUL = 3
"""Exit code of a fit that was written but must not be quoted as it is."""


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
    posterior: Posterior | None = None

    @property
    def ok(self) -> bool:
        """Whether the answer may be quoted: a converged fit of a signal that is there, a posterior not rejected."""
        return self.exit_code == 0


def load(source: Config | Path | str | Mapping[str, Any]) -> TwoTime:
    """The two-time data that a configuration selects (matrices are read when asked for)."""
    return load_data(configured(source))


def fit(
    source: Config | Path | str | Mapping[str, Any],
    *,
    run: Path | str | None = None,
    overrides: Sequence[str] = (),
    reporter: Reporter | None = None,
    on_answer: Callable[[FitRun], None] = lambda answer: None,
    command: Sequence[str] = (),
    fresh: bool = False,
    time_limit: float | None = None,
    executor: Executor | None = None,
) -> FitRun:
    """Fit the data of a configuration and write RUN/results; see FitRun for what comes back.

    `run` is the run folder (default: output.directory/NAME of the configuration). `on_answer` is called when the
    numbers are on disk, before pictures are drawn. With method cmc or exact, a run that was stopped goes on;
    `fresh` discards it first, `time_limit` is in seconds, and `executor` does the tasks (default: worker processes).
    Under MPI all ranks call it alike: rank 0 leads, and alone calls `on_answer`; the answer is returned on all ranks.
    """
    begun = Begun(datetime.datetime.now(datetime.UTC), time.perf_counter(), tuple(command) or tuple(sys.argv))
    config = configured(source, overrides)
    folder = run_folder(config) if run is None else Path(run)
    require_place(folder / "results")
    with process_log("lead") as log, recorded(reporter) as logged:
        log.follow(config.logging)
        for doubt in check_config(config).at_least("warning"):
            logged.warn(doubt)

        def fitted(by: Executor) -> FitRun:
            if is_point_fit(config):
                return _point_fit(config, folder, logged, on_answer, begun, log, by.stop, fresh)
            return _posterior_fit(config, folder, logged, on_answer, begun, by, fresh)

        if executor is not None:
            return fitted(executor)
        with crew(config, time_limit, logged) as found:
            answer = None if found is None else fitted(found)
        return _on_every_rank(answer)


def _on_every_rank(answer: FitRun | None) -> FitRun:
    """The answer of rank 0 (None on the others) on all ranks, without its way to tell of prepared matrices."""
    if answer is not None and under_mpi():
        answer = replace(answer, data=replace(answer.data, kept=None))
    shared = as_rank_0_has_it(answer)
    assert shared is not None, "a process without other ranks leads"
    return shared


@dataclass(frozen=True)
class Begun:
    """When a command was started (UTC, and seconds of the clock that timings use), and its words."""

    at: datetime.datetime
    clock: float
    command: tuple[str, ...]


def _point_fit(
    config: Config,
    folder: Path,
    reporter: Recorded,
    on_answer: Callable[[FitRun], None],
    begun: Begun,
    log: ProcessLog,
    stop: StopRequest,
    fresh: bool,
) -> FitRun:
    """A point fit; folder and log are taken when the data have been read, so that a refused file leaves nothing."""
    results, run_id = folder / "results", new_run_id()
    if not fresh:
        refuse_posterior(folder)
    with PointRun(folder, stop) as alone:

        def after_reading() -> None:
            alone.claim()
            log.open_in(folder / "logs", run_id)

        if replaces_another(results, config):
            reporter.warn(
                f"{results} holds results of another configuration; they will be replaced (--run names a folder)"
            )
        timings: dict[str, float] = {}
        reporter.phase(f"reading {config.data_file.name}")
        data = loaded(config, folder, reporter.warn)
        if fresh:
            start_over(folder)
        reporter.after_phase = after_reading
        wanted, threads = alone.still_wanted, fit_threads(config)
        point, _, _, model = fitted_point(
            data, config, reporter, timings, threads=threads, still_wanted=wanted
        )
        alone.require_claim()
        return _written(config, folder, run_id, data, model, point, None, timings, reporter, on_answer, begun)


def _posterior_fit(
    config: Config,
    folder: Path,
    reporter: Recorded,
    on_answer: Callable[[FitRun], None],
    begun: Begun,
    executor: Executor,
    fresh: bool,
) -> FitRun:
    data = loaded(config, folder, reporter.warn)
    run = begin(folder, config, data, reporter, fresh=fresh)
    refuse_complete(run)
    log_into(run)
    posterior = sampled(run, executor, reporter)
    with writing_alone(run, executor.stop):
        refuse_complete(run)
        return _concluded(run, config, data, posterior, reporter, on_answer, begun)


def continued(
    folder: Path,
    *,
    executor: Executor,
    reporter: Reporter,
    on_answer: Callable[[FitRun], None] = lambda answer: None,
    command: Sequence[str] = (),
    gather_only: bool = False,
    partial: bool = False,
) -> FitRun:
    """Finish the run in a folder with the configuration it was started with, and write its results.

    With `gather_only` nothing is sampled but what the gathering needs, and results are written again if they were;
    `partial` leaves out what is not finished.
    """
    begun = Begun(datetime.datetime.now(datetime.UTC), time.perf_counter(), tuple(command) or tuple(sys.argv))
    run = Run.open(folder)
    config = config_of(run.plan)
    with process_log("gather" if gather_only else "lead") as log, recorded(reporter) as logged:
        log.follow(config.logging)
        log_into(run)
        data = loaded(config, folder, logged.warn)
        refuse_difference(run.plan, plan_for(config, data), place=folder)
        if gather_only:
            posterior = combined_from_what_is_there(run, executor, logged, partial=partial)
        else:
            refuse_complete(run)
            posterior = sampled(run, executor, logged)
        with writing_alone(run, executor.stop):
            if not gather_only:
                refuse_complete(run)
            return _concluded(run, config, data, posterior, logged, on_answer, begun)


def _concluded(
    run: Run,
    config: Config,
    data: TwoTime,
    posterior: Posterior,
    reporter: Recorded,
    on_answer: Callable[[FitRun], None],
    begun: Begun,
) -> FitRun:
    """Write the results of a run and note that it is complete."""
    point, timings = point_of(run, reporter)
    model = model_of(config, data.q, grid_of(data))
    place = (config, run.folder, run.plan.run_id)
    found = _written(*place, data, model, point, posterior, dict(timings), reporter, on_answer, begun)
    compile_log().tell(run, "results")
    mark_complete(run, posterior.verdict, posterior.words, found.exit_code)
    return found


def _written(
    config: Config,
    folder: Path,
    run_id: str,
    data: TwoTime,
    model: Model,
    point: PointFit,
    posterior: Posterior | None,
    timings: dict[str, float],
    reporter: Recorded,
    on_answer: Callable[[FitRun], None],
    begun: Begun,
) -> FitRun:
    """Write numbers, tell, then draw: a failing picture never loses a number."""
    timings["answer"] = time.perf_counter() - begun.clock
    truth = known_truth(config, data)
    doubtful = quality_flag(point) == "poor" if posterior is None else posterior.verdict == "rejected"
    exit_code = FINISHED_BUT_DOUBTFUL if doubtful else 0
    record = RunRecord(
        config=config.to_mapping(),
        fingerprint=config.fingerprint(),
        command=begun.command,
        timings=timings,
        exit_code=exit_code,
        truth=truth,
        started=begun.at,
        quality=judged(config, data, reporter),
        run_id=run_id,
        observed=lambda: observed(folder / "logs", run_id, reporter),
    )
    answer = Answer(point, data, model, record, posterior)
    results, output = folder / "results", config.output
    found = FitRun(
        point, data, model, config, truth, exit_code, results, write_numbers(results, answer), posterior
    )
    on_answer(found)
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


def known_truth(config: Config, data: TwoTime) -> dict[str, Any] | None:
    """The truth of a simulated file, without what cannot be compared with this fit.

    Parameters mean something else under another model, convention or origin of time; contrast and offset belong to
    the q of the truth, and to c2 before any normalisation.
    """
    truth = read_truth(config.data_file)
    if truth is None:
        return None
    hidden = set()
    conventions = config.conventions.model_dump()
    if (
        (data.frames[0] != 1 and config.analyzer_parameters.time_origin != "file")
        or truth.get("model") != config.analysis_mode
        or not data.q_known
        or data.time_unit != "s"
        or any(conventions.get(key) != value for key, value in truth.get("conventions", {}).items())
    ):
        hidden.add("parameters")
    if not math.isclose(truth.get("q", data.q), data.q, rel_tol=1e-3):
        hidden |= {"contrast", "offset"}
    if data.processing.normalization != "none":
        hidden |= {"contrast", "offset"}
    return {name: value for name, value in truth.items() if name not in hidden}
