"""Rank 0 reads the run back: consensus, certificate, all data where needed, the raw check, one posterior."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hpcxpcs.answer.fit import CompressionReport, PointFit
from hpcxpcs.answer.joint import Heterogeneity
from hpcxpcs.answer.posterior import Certificate, Evidence, Posterior
from hpcxpcs.errors import PosteriorError, Stopped, StoreError
from hpcxpcs.inference.certificate import (
    certified,
    certify_proposal,
    combined,
    disagreement,
    log_posterior_of,
    proposal_from,
)
from hpcxpcs.inference.consensus import Part, counted_less
from hpcxpcs.inference.diagnostics import find_modes
from hpcxpcs.inference.draws import physical_draws
from hpcxpcs.inference.evidence import log_constant
from hpcxpcs.inference.importance import weighed_draws
from hpcxpcs.pipeline.assemble import Gathered, assemble_posterior, evidence_from, no_evidence, verdict_of
from hpcxpcs.pipeline.compile_cache import compile_cache, compile_log
from hpcxpcs.pipeline.plan import PREPARE, exact_tasks, is_prepared
from hpcxpcs.pipeline.prepare import OpenRun, ensure_prepared, set_aside_damaged_likelihood
from hpcxpcs.pipeline.reporter import Reporter
from hpcxpcs.pipeline.sample import (
    POINTS,
    FinishedChains,
    check_tasks,
    compression_found,
    finished_chains,
    has_check_points,
    task_function,
    write_check_points,
)
from hpcxpcs.runs.plan import Task, new_task
from hpcxpcs.runs.run import Run, forget_failures, set_aside_damaged, state_of
from hpcxpcs.runs.status import report_progress
from hpcxpcs.workers.local import InProcess
from hpcxpcs.workers.mpi import Executor
from hpcxpcs.workers.work import lazily

LIGHT_CHECK = 4.0e8
"""Evaluations of the raw model (pairs times points) that one process does within some seconds."""

_log = logging.getLogger(__name__)


@dataclass
class Gathering:
    """One pass from finished shards to a posterior; extra tasks are given to the executor as they turn out needed."""

    run: OpenRun
    executor: Executor
    reporter: Reporter
    point: PointFit = field(init=False)
    timings: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        """Read the point fit."""
        compile_log()
        compile_cache(self.run.config.runtime.compilation_cache_dir, self.reporter.warn)
        self.point, self.timings = self.run.point_fit(self.reporter.warn)

    def posterior(self) -> Posterior:
        """The posterior of the run with every reason to trust it or not."""
        find = {"exact": self._exact, "importance": self._importance, "cmc": self._consensus}[self.run.plan.method]
        gathered = find()
        compile_log().tell(self.run, "gather")
        compression = self._checked(gathered)
        evidence = self._evidence(gathered, compression)
        posterior = replace(
            assemble_posterior(self.run, self.point, gathered, compression, self.timings), evidence=evidence
        )
        compile_log().tell(self.run, "gather")
        counted = counted_less(self.run.likelihood.weights)
        words = f"{posterior.words}; all data: {counted}" if counted else posterior.words
        return replace(posterior, words=words, warnings=(*posterior.warnings, *self.run.warnings))

    def _importance(self) -> Gathered:
        self.reporter.phase("drawing around the peaks and weighing with all data")
        begun, options = time.perf_counter(), self.run.config.optimization.cmc.certificate
        limit = None if options.k_hat == "auto" else options.k_hat
        certificate = weighed_draws(self.run.likelihood, draws=options.draws, limit=limit, seed=self.run.plan.seed)
        self._tell(f"{self.run.plan.method}: independent draws", certificate)
        self.timings["certificate"] = time.perf_counter() - begun
        if certificate.valid:
            return Gathered("importance", certificate.word, certificate.reason, (), None, certificate)
        return self._instead(certificate.reason, (), None, certificate)

    def _evidence(self, gathered: Gathered, compression: CompressionReport) -> Evidence:
        """The evidence by the weights of the certificate, or of new draws like those of the chains."""
        why_not = no_evidence(self.run, self.point, gathered)
        if why_not is not None:
            return Evidence(None, None, why_not)
        begun, likelihood, z = time.perf_counter(), self.run.likelihood, gathered.draws()
        certificate = gathered.certificate
        if certificate is None or not certificate.valid:
            self.reporter.phase("weighing draws for the evidence")
            found = find_modes(z, seed=self.run.plan.seed)
            start = proposal_from(found)
            certificate = certify_proposal(start, log_posterior_of(likelihood), seed=self.run.plan.seed)
        constant, error = log_constant(likelihood, z)
        error = float(np.hypot(error, compression.error / np.sqrt(max(compression.checked_points - 1, 1))))
        self.timings["evidence"] = time.perf_counter() - begun
        return evidence_from(certificate, constant + compression.constant, error)

    def _tell(self, what: str, certificate: Certificate) -> None:
        """Log what the weights said."""
        _log.info(
            "%s: %s; Pareto k %.3g, %.4g effective draws",
            *(what, certificate.word, certificate.k_hat, certificate.ess),
            extra={"event": "certificate", "k_hat": certificate.k_hat, "ess": certificate.ess},
        )

    def _consensus(self) -> Gathered:
        shards = self._shard_files()
        found = disagreement(self.run.likelihood)
        passing = [shard for shard in shards if shard.accepted]
        options = self.run.config.optimization.cmc
        count = int(self.run.plan.shards["count"])
        if count == 1 and shards:
            # One shard is all data: its chains need no consensus, and weighing them would only add noise.
            verdict, words = verdict_of(self.run, shards)
            return Gathered("exact", verdict, words, (), None, None, shards)
        if len(passing) < options.validation.min_success_rate * count or not passing:
            why = (
                f"{len(passing)} of {count} shards were accepted, fewer than min_success_rate "
                f"{options.validation.min_success_rate:g} asks for"
            )
            return self._instead(why, shards, found, None)
        self.reporter.phase(f"combining {len(passing)} of {count} shards and weighing them against all data")
        begun = time.perf_counter()
        try:
            certificate = self._weighed(passing)
        except PosteriorError as error:
            return self._instead(str(error), shards, found, None)
        self.timings["certificate"] = time.perf_counter() - begun
        if certificate.word in ("certified", "corrected"):
            return Gathered("consensus", certificate.word, certificate.reason, shards, found, certificate)
        return self._instead(certificate.reason, shards, found, certificate)

    def _weighed(self, passing: Sequence[FinishedChains]) -> Certificate:
        """The consensus of shards, weighed against all data."""
        options, seed = self.run.config.optimization.cmc, self.run.plan.seed
        parts = [Part(shard.index, shard.flat, shard.ess) for shard in passing]
        limit = options.certificate.k_hat
        certificate = certified(
            self.run.likelihood,
            combined(self.run.likelihood, parts, seed=seed),
            draws=options.certificate.draws,
            limit=None if limit == "auto" else limit,
            seed=seed,
        )
        self._tell(f"{len(passing)} shards combined", certificate)
        return certificate

    def _instead(
        self,
        why: str,
        shards: tuple[FinishedChains, ...],
        found: Heterogeneity | None,
        certificate: Certificate | None,
    ) -> Gathered:
        """Without usable draws: sample all data if that is wished, else say so."""
        route, of = (
            ("importance", "weighed draws") if self.run.plan.method == "importance" else ("consensus", "the consensus")
        )
        if self.run.config.optimization.cmc.certificate.on_reject == "report":
            return Gathered(route, "rejected", why, shards, found, certificate)
        self.reporter.warn(f"{why}; all data are sampled instead")
        exact = self._exact()
        words = f"{exact.words} (instead of {of}: {why})"
        return Gathered("exact", exact.verdict, words, shards, found, certificate, exact.chains)

    def _exact(self) -> Gathered:
        tasks = exact_tasks(self.run.plan.chains)
        self.reporter.phase(f"sampling all data with {len(tasks)} chains")
        self._do(tasks)
        chains = tuple(self._file(task) for task in tasks)
        verdict, words = verdict_of(self.run, chains)
        return Gathered("exact", verdict, words, (), None, None, chains)

    def _shard_files(self) -> tuple[FinishedChains, ...]:
        tasks = [new_task("shard", index) for index in range(int(self.run.plan.shards["count"]))]
        found = (finished_chains(self.run, task, self.reporter.warn) for task in tasks)
        return tuple(chains for chains in found if chains is not None)

    def _file(self, task: Task) -> FinishedChains:
        found = finished_chains(self.run, task, self.reporter.warn)
        if found is None:
            raise PosteriorError(f"{self.run.folder}: {task.name} is not finished: run the same command again")
        return found

    def _do(self, tasks: Sequence[Task], *, light: bool = False) -> None:
        """Have tasks done; light ones here, because starting workers would take longer."""
        set_aside_damaged(self.run, tasks, self.reporter.warn)
        executor = InProcess(lazily(task_function), self.executor.stop) if light else self.executor
        with report_progress(self.run, self.reporter.detail):
            report = executor.run_tasks(self.run, tasks)
        if report.failed:
            raise PosteriorError(
                f"{self.run.folder}: {', '.join(report.failed)} failed: see {self.run.failures} and {self.run.logs}"
            )
        if not report.complete:
            reason = report.stopped or f"{', '.join(report.unfinished)} are not finished"
            raise Stopped(f"{self.run.folder}: stopped with everything saved ({reason}); run the same command again")

    def _checked(self, gathered: Gathered) -> CompressionReport:
        """The compression error at draws of this posterior, from the raw pairs of every angle."""
        if not has_check_points(self.run):
            z = gathered.draws()
            chosen = np.linspace(0, len(z) - 1, POINTS).astype(int)
            centre = np.median(z, axis=0)
            points = np.concatenate([centre[None], z[chosen]])
            theta = physical_draws(
                self.run.likelihood.space, self.run.likelihood.full, points, (self.run.plan.seed, 3)
            ).theta
            write_check_points(self.run, theta)
        tasks = check_tasks(self.run)
        self.reporter.phase("checking the compression against the raw pairs")
        pairs = float(np.asarray(self.run.likelihood.data.pairs).sum())
        self._do(tasks, light=pairs * POINTS < LIGHT_CHECK)
        return compression_found(self.run, self.point.compression, tasks, self.reporter.warn)


def unfinished(run: Run) -> tuple[str, ...]:
    """Names of the planned tasks that are neither done nor given up."""
    return tuple(task.name for task in run.plan.tasks if state_of(run, task) not in ("done", "failed"))


def gather_available(run: OpenRun, executor: Executor, reporter: Reporter, *, partial: bool) -> Posterior:
    """Gather a run without sampling its shards; StoreError names what is missing unless `partial`."""
    set_aside_damaged_likelihood(run, reporter)
    set_aside_damaged(run, run.plan.tasks, reporter.warn)
    missing = () if is_prepared(run) else (PREPARE.name,)
    missing = (*missing, *unfinished(run))
    if missing and not (partial and is_prepared(run)):
        raise StoreError(
            f"{run.folder}: {len(missing)} tasks are not finished ({', '.join(missing[:4])}"
            f"{', …' if len(missing) > 4 else ''}): 'hpcxpcs resume {run.folder}' finishes them"
            f"{', --partial goes on without them' if is_prepared(run) else ''}"
        )
    for name in missing:
        reporter.warn(f"{name} is not finished and is left out")
    return Gathering(run, executor, reporter).posterior()


def sample_posterior(run: OpenRun, executor: Executor, reporter: Reporter) -> Posterior:
    """Prepare, sample and gather a run, as far as that has not been done; Stopped when time is up."""
    ensure_prepared(run, executor.stop, reporter)
    set_aside_damaged(run, run.plan.tasks, reporter.warn)
    for task in run.plan.tasks:
        if state_of(run, task) == "failed":
            reporter.warn(f"{task.name} was given up by an earlier command; it is tried again")
            forget_failures(run, task)
    if not run.plan.tasks:
        return Gathering(run, executor, reporter).posterior()
    waiting = [task for task in run.plan.tasks if state_of(run, task) != "done"]
    if waiting:
        kinds = "shards" if run.plan.method == "cmc" else "chains on all data"
        reporter.phase(f"sampling {len(waiting)} {kinds} with {min(executor.workers, len(waiting))} workers")
    with report_progress(run, reporter.detail):
        report = executor.run_tasks(run, run.plan.tasks)
    if report.stopped is not None and report.unfinished:
        raise Stopped(
            f"{run.folder}: stopped with everything saved, {len(report.done)} of {len(run.plan.tasks)} tasks done "
            f"({report.stopped}); run the same command again"
        )
    for name in report.failed:
        reporter.warn(f"{name} was given up after several attempts: see {run.failures / name}")
    return Gathering(run, executor, reporter).posterior()
