"""From a configuration to an answer on disk: load, fit or sample, judge, write."""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.posterior import Posterior
from hpcxpcs.answer.posterior_verdict import quality_of
from hpcxpcs.batch.launcher import under_mpi
from hpcxpcs.config import Config
from hpcxpcs.config.plausible import check_config
from hpcxpcs.data.select import load as load_data
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import FINISHED_BUT_DOUBTFUL, PlanMismatch, Stopped, StoreError
from hpcxpcs.files.atomic import require_place, writing
from hpcxpcs.log.process import ProcessLog, active_log, log_into, process_log
from hpcxpcs.log.reading import tally_of_others
from hpcxpcs.physics.model import Model
from hpcxpcs.pipeline.compile_cache import compile_log
from hpcxpcs.pipeline.crew import crew, is_point_fit
from hpcxpcs.pipeline.loading import known_truth, load_for_run, quality_report
from hpcxpcs.pipeline.plan import begin, plan_for, start_over
from hpcxpcs.pipeline.prepare import OpenRun, fit_data, model_for
from hpcxpcs.pipeline.reporter import LoggingReporter, Reporter, logged
from hpcxpcs.pipeline.settings import configured, fit_threads, run_folder
from hpcxpcs.results.records import Answer, RunRecord, WrittenResults
from hpcxpcs.results.write import write_numbers, write_pictures
from hpcxpcs.runs.claims import Claim, holding, take
from hpcxpcs.runs.plan import new_run_id, refuse_difference
from hpcxpcs.runs.run import PLAN_FILE, Run
from hpcxpcs.runs.status import mark_complete, refuse_complete
from hpcxpcs.workers.mpi import Executor, as_rank_0_has_it
from hpcxpcs.workers.work import SHORTEST_PAUSE, Stop


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
    config = configured(source)
    config.refuse_campaign()
    return load_data(config)


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
    begun = Started.now(command)
    config = configured(source, overrides)
    config.refuse_campaign()
    folder = run_folder(config) if run is None else Path(run)
    require_place(folder / "results")
    with process_log("lead") as log, logged(reporter) as teller:
        log.follow(config.logging)
        for doubt in check_config(config).at_least("warning"):
            teller.warn(doubt)
        fitting = Fitting(config, folder, teller, on_answer, begun)

        def fitted(by: Executor) -> FitRun:
            if is_point_fit(config):
                return fitting.fit_point(log, by.stop, fresh)
            return fitting.sample_posterior(by, fresh)

        if executor is not None:
            return fitted(executor)
        with crew(config, time_limit, teller) as found:
            answer = None if found is None else fitted(found)
        return _on_every_rank(answer)


def _on_every_rank(answer: FitRun | None) -> FitRun:
    """The answer of rank 0 (None on the others) on all ranks, without its way to tell of prepared matrices."""
    if answer is not None and under_mpi():
        answer = replace(answer, data=replace(answer.data, kept=None))
    shared = as_rank_0_has_it(answer)
    assert shared is not None, "a process without other ranks leads"
    return shared


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
    from hpcxpcs.pipeline import gather

    begun, run = Started.now(command), OpenRun.of(Run.open(folder))
    with process_log("gather" if gather_only else "lead") as log, logged(reporter) as teller:
        log.follow(run.config.logging)
        log_into(run)
        data = run.load_data(teller.warn, alone=True)
        refuse_difference(run.plan, plan_for(run.config, data), place=folder)
        if gather_only:
            posterior = gather.gather_available(run, executor, teller, partial=partial)
        else:
            refuse_complete(run)
            posterior = gather.sample_posterior(run, executor, teller)
        fitting = Fitting(run.config, folder, teller, on_answer, begun)
        return fitting.conclude(run, posterior, executor.stop, again=gather_only)


@dataclass(frozen=True)
class Started:
    """When a command was started (UTC, and seconds of the clock that timings use), and its words."""

    at: datetime.datetime
    clock: float
    command: tuple[str, ...]

    @classmethod
    def now(cls, command: Sequence[str]) -> Started:
        """A start at this moment; without words of its own, those of the process."""
        return cls(datetime.datetime.now(datetime.UTC), time.perf_counter(), tuple(command or sys.argv))


@dataclass(frozen=True)
class Fitting:
    """One answer on its way: what is asked for, where it goes, and who hears of it."""

    config: Config
    folder: Path
    reporter: LoggingReporter
    on_answer: Callable[[FitRun], None]
    begun: Started

    def fit_point(self, log: ProcessLog, stop: Stop, fresh: bool) -> FitRun:
        """A point fit; folder and log are taken when the data are read, so that a refused file leaves nothing."""
        config, folder, reporter, run_id = self.config, self.folder, self.reporter, new_run_id()
        if not fresh:
            refuse_posterior(folder)
        with PointRun(folder, stop) as alone:

            def after_reading() -> None:
                alone.claim()
                log.open_in(folder / "logs", run_id)

            if replaces_another(folder / "results", config):
                reporter.warn(
                    f"{folder / 'results'} holds results of another configuration; they will be replaced (--run names "
                    "a folder)"
                )
            timings: dict[str, float] = {}
            reporter.phase(f"reading {config.data_file.name}")
            data = load_for_run(config, folder, reporter.warn)
            if fresh:
                start_over(folder)
            reporter.after_phase = after_reading
            wanted, threads = alone.still_wanted, fit_threads(config)
            point, _, _, model = fit_data(data, config, reporter, timings, threads=threads, still_wanted=wanted)
            alone.require_claim()
            return self._write(run_id, data, model, point, None, timings)

    def sample_posterior(self, executor: Executor, fresh: bool) -> FitRun:
        """The posterior of a new run, or of one that goes on."""
        from hpcxpcs.pipeline import gather  # with it come the samplers, which a point fit has no use for

        data = load_for_run(self.config, self.folder, self.reporter.warn)
        run = OpenRun.of(begin(self.folder, self.config, data, self.reporter, fresh=fresh), data)
        refuse_complete(run)
        log_into(run)
        posterior = gather.sample_posterior(run, executor, self.reporter)
        return self.conclude(run, posterior, executor.stop)

    def conclude(self, run: OpenRun, posterior: Posterior, stop: Stop, *, again: bool = False) -> FitRun:
        """Write the results of a run, `again` if they are there, and note that it is complete."""
        with writing_alone(run, stop):
            if not again:
                refuse_complete(run)
            data = run.load_data()
            point, timings = run.point_fit(self.reporter.warn)
            model = model_for(self.config, data)
            found = self._write(run.plan.run_id, data, model, point, posterior, timings)
            compile_log().tell(run, "results")
            mark_complete(run, posterior.verdict, posterior.words, found.exit_code)
            return found

    def _write(
        self,
        run_id: str,
        data: TwoTime,
        model: Model,
        point: PointFit,
        posterior: Posterior | None,
        timings: dict[str, float],
    ) -> FitRun:
        """Write numbers, tell, then draw: a failing picture never loses a number."""
        config, reporter = self.config, self.reporter
        timings["answer"] = time.perf_counter() - self.begun.clock
        truth = known_truth(config, data)
        quality = quality_of(point, posterior)
        exit_code = FINISHED_BUT_DOUBTFUL if quality == "poor" else 0
        record = RunRecord(
            config=config.to_mapping(),
            fingerprint=config.fingerprint(),
            command=self.begun.command,
            timings=timings,
            exit_code=exit_code,
            truth=truth,
            started=self.begun.at,
            quality=quality_report(config, data, reporter),
            run_id=run_id,
            observed=lambda: observed(self.folder / "logs", run_id, reporter),
        )
        results, answer = self.folder / "results", Answer(point, data, model, record, posterior)
        written = write_numbers(results, answer)
        found = FitRun(point, data, model, config, truth, exit_code, results, written, posterior)
        self.on_answer(found)
        reporter.phase("drawing pictures and writing the report")
        written = write_pictures(
            written,
            answer,
            plots=config.output.plots,
            report=config.output.report,
            fitted_data=config.output.fitted_data,
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


def observed(logs: Path, run_id: str, reporter: LoggingReporter) -> dict[str, Any]:
    """Phases, processes and messages of all processes of a run, from memory and from the logs in a folder.

    The phase that is going on ends here: nothing but the writing of the record follows.
    """
    reporter.end()
    log = active_log()
    if log is None:
        return {}
    return log.tally.joined(tally_of_others(logs, run_id, log.tally.begun)).record()


RENEW_SECONDS = 30.0
"""Between two signs of life, which cost a few file operations each."""


def refuse_posterior(folder: Path) -> None:
    """Refuse a folder with the run of a posterior: it would call results its own that are not."""
    if (folder / PLAN_FILE).exists():
        raise PlanMismatch(
            f"{folder}: holds a run with method {Run.open(folder).plan.method}, whose results a point fit would "
            "replace: choose another folder with --run, or discard that run with --fresh"
        )


RESULTS = "results"
WRITING_LEASE = 900.0
"""Name of the claim on the results, and seconds after which it is void when its owner is gone on another node."""


@contextmanager
def writing_alone(run: Run, stop: Stop) -> Iterator[None]:
    """Keep the results of a run to oneself; waits while another process of the run writes them."""
    while (claim := take(run.claims, RESULTS, lease=WRITING_LEASE)) is None:
        if (reason := stop.should_stop()) is not None:
            raise Stopped(
                f"{run.folder}: stopped while another process writes the results ({reason}); run the same command again"
            )
        time.sleep(SHORTEST_PAUSE)
    try:
        yield
    finally:
        claim.release()


class PointRun:
    """The claim of one point fit on the results of a folder, and the question whether to go on with it.

    The claim is the one of a posterior's results, so that neither writes while the other does.
    """

    def __init__(self, folder: Path, stop: Stop) -> None:
        self.folder = folder
        self._stop = stop
        self._claim: Claim | None = None
        self._asked = self._renewed = time.monotonic()
        self._last_block = 0.0

    def __enter__(self) -> Self:
        self.still_wanted()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._claim is not None:
            self._claim.release()

    def claim(self) -> None:
        """Keep other processes from the results of the folder; StoreError when one has them."""
        if self._claim is not None:
            return
        claims = self.folder / "claims"
        with writing(claims):
            claims.mkdir(parents=True, exist_ok=True)
        self._claim = take(claims, RESULTS, lease=WRITING_LEASE)
        if self._claim is None:
            found = holding(claims, RESULTS)
            who = f" ({found.owner.pid} on {found.owner.host})" if found is not None else ""
            raise StoreError(
                f"{self.folder}: another process{who} is about to write its results: wait until it has ended, or "
                "choose another folder with --run"
            )

    def still_wanted(self) -> None:
        """Raise Stopped when time is up or a signal has come; give a sign of life else.

        What the next step takes is guessed from the two before: the shorter one, because compiling happens once.
        """
        now = time.monotonic()
        block, self._last_block = min(self._last_block, now - self._asked), now - self._asked
        self._asked = now
        if (reason := self._stop.should_stop(block)) is not None:
            before = self.folder / "results"
            kept = f"{before} is as it was before; " if before.exists() else ""
            raise Stopped(
                f"{self.folder}: the point fit was stopped ({reason}); a point fit saves nothing on its way: {kept}the "
                "same command starts it from the beginning"
            )
        if self._claim is not None and now - self._renewed >= RENEW_SECONDS:
            self._renewed = now
            self.require_claim()

    def require_claim(self) -> None:
        """Renew the claim; StoreError when another process has taken it over."""
        if self._claim is not None and not self._claim.renew():
            raise StoreError(
                f"{self.folder}: another process has taken over, because this one gave no sign of life for "
                f"{WRITING_LEASE:g} s: nothing is written"
            )
