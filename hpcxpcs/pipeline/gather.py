"""Rank 0 reads the run back: consensus, certificate, all data where needed, the raw check, one posterior."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hpcxpcs.config import Config
from hpcxpcs.errors import PosteriorError, Stopped
from hpcxpcs.inference.certificate import Certificate
from hpcxpcs.inference.combination import ShardDraws, certified, combined, disagreement
from hpcxpcs.inference.consensus import Combined
from hpcxpcs.inference.contradiction import counted_less
from hpcxpcs.inference.draws import physical_draws
from hpcxpcs.inference.heterogeneity import Heterogeneity
from hpcxpcs.inference.posterior import Posterior
from hpcxpcs.inference.prepared import Prepared
from hpcxpcs.inference.records import CompressionReport, PointFit
from hpcxpcs.pipeline.choices import config_of
from hpcxpcs.pipeline.compile_cache import compile_cache
from hpcxpcs.pipeline.compile_log import compile_log
from hpcxpcs.pipeline.executor import Executor
from hpcxpcs.pipeline.plan import exact_tasks
from hpcxpcs.pipeline.posterior_record import ChainFile, Evidence, assembled, chain_file, verdict_of
from hpcxpcs.pipeline.raw_check import (
    POINTS,
    check_tasks,
    compression_found,
    has_check_points,
    write_check_points,
)
from hpcxpcs.pipeline.reporter import Reporter
from hpcxpcs.pipeline.sampling import finished_chains, task_function
from hpcxpcs.pipeline.stage import likelihood_of, point_of, prepared_of
from hpcxpcs.runtime.executors.in_process import InProcess
from hpcxpcs.runtime.progress import telling
from hpcxpcs.runtime.run import Run, set_aside_damaged
from hpcxpcs.runtime.tasks import Task, new_task
from hpcxpcs.runtime.work import lazily

LIGHT_CHECK = 4.0e8
"""Evaluations of the raw model (pairs times points) that one process does within some seconds."""

_log = logging.getLogger(__name__)


@dataclass
class Gathering:
    """One pass from finished shards to a posterior; extra tasks are given to the executor as they turn out needed."""

    run: Run
    executor: Executor
    reporter: Reporter
    config: Config = field(init=False)
    prepared: Prepared = field(init=False)
    point: PointFit = field(init=False)
    timings: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        """Read the prepared likelihood and the point fit."""
        compile_log()
        self.config = config_of(self.run.plan)
        compile_cache(self.config.runtime.compilation_cache_dir, self.reporter.warn)
        self.prepared = prepared_of(self.run)
        self.point, self.timings = point_of(self.run, self.reporter)

    def posterior(self) -> Posterior:
        """The posterior of the run with every reason to trust it or not."""
        evidence = self._exact() if self.run.plan.method == "exact" else self._consensus()
        compile_log().tell(self.run, "gather")
        compression = self._checked(evidence)
        posterior = assembled(
            self.run, self.config, self.prepared, self.point, evidence, compression, self.timings
        )
        compile_log().tell(self.run, "gather")
        cut_warnings = tuple(likelihood_of(self.run)[1].get("warnings", ()))
        counted = counted_less(self.prepared.weights)
        words = f"{posterior.words}; all data: {counted}" if counted else posterior.words
        return replace(posterior, words=words, warnings=(*posterior.warnings, *cut_warnings))

    def _consensus(self) -> Evidence:
        shards = self._shard_files()
        found = disagreement(self.prepared)
        passing = [shard for shard in shards if shard.accepted]
        options = self.config.optimization.cmc
        count = int(self.run.plan.shards["count"])
        if count == 1 and shards:
            # One shard is all data: its chains need no consensus, and weighing them would only add noise.
            verdict, words = verdict_of(self.config, self.prepared, shards)
            return Evidence("exact", verdict, words, (), None, None, None, shards)
        if len(passing) < options.validation.min_success_rate * count or not passing:
            why = (
                f"{len(passing)} of {count} shards were accepted, fewer than min_success_rate "
                f"{options.validation.min_success_rate:g} asks for"
            )
            return self._instead(why, shards, found, None, None)
        self.reporter.phase(f"combining {len(passing)} of {count} shards and weighing them against all data")
        begun = time.perf_counter()
        try:
            consensus, certificate = self._weighed(passing)
        except PosteriorError as error:
            return self._instead(str(error), shards, found, None, None)
        self.timings["certificate"] = time.perf_counter() - begun
        if certificate.word in ("certified", "corrected"):
            return Evidence(
                "consensus", certificate.word, certificate.reason, shards, found, consensus, certificate
            )
        return self._instead(certificate.reason, shards, found, consensus, certificate)

    def _weighed(self, passing: Sequence[ChainFile]) -> tuple[Combined, Certificate]:
        options, seed = self.config.optimization.cmc, self.run.plan.seed
        draws = [ShardDraws(shard.index, shard.flat, shard.ess) for shard in passing]
        consensus = combined(self.prepared, draws, seed=seed)
        limit = options.certificate.k_hat
        certificate = certified(
            self.prepared,
            consensus,
            draws=options.certificate.draws,
            limit=None if limit == "auto" else limit,
            seed=seed,
        )
        _log.info(
            "%d shards combined: %s; Pareto k %.3g, %.4g effective draws",
            *(len(passing), certificate.word, certificate.k_hat, certificate.ess),
            extra={"event": "certificate", "k_hat": certificate.k_hat, "ess": certificate.ess},
        )
        return consensus, certificate

    def _instead(
        self,
        why: str,
        shards: tuple[ChainFile, ...],
        found: Heterogeneity | None,
        consensus: Combined | None,
        certificate: Certificate | None,
    ) -> Evidence:
        """Without a usable consensus: sample all data if that is wished, else say so."""
        if self.config.optimization.cmc.certificate.on_reject == "report":
            return Evidence("consensus", "rejected", why, shards, found, consensus, certificate)
        self.reporter.warn(f"{why}; all data are sampled instead")
        exact = self._exact()
        words = f"{exact.words} (instead of the consensus: {why})"
        return Evidence("exact", exact.verdict, words, shards, found, consensus, certificate, exact.chains)

    def _exact(self) -> Evidence:
        tasks = exact_tasks(self.run.plan)
        self.reporter.phase(f"sampling all data with {len(tasks)} chains")
        self._do(tasks)
        chains = tuple(self._file(task) for task in tasks)
        verdict, words = verdict_of(self.config, self.prepared, chains)
        return Evidence("exact", verdict, words, (), None, None, None, chains)

    def _shard_files(self) -> tuple[ChainFile, ...]:
        count = int(self.run.plan.shards["count"])
        found = []
        for index in range(count):
            sealed = finished_chains(self.run, new_task("shard", index), self.reporter.warn)
            if sealed is not None:
                found.append(chain_file(index, sealed))
        return tuple(found)

    def _file(self, task: Task) -> ChainFile:
        sealed = finished_chains(self.run, task, self.reporter.warn)
        if sealed is None:
            raise PosteriorError(
                f"{self.run.folder}: {task.name} is not finished: run the same command again"
            )
        return chain_file(task.index, sealed)

    def _do(self, tasks: Sequence[Task], *, light: bool = False) -> None:
        """Have tasks done; light ones here, because starting workers would take longer."""
        set_aside_damaged(self.run, tasks, self.reporter.warn)
        executor = InProcess(lazily(task_function), self.executor.stop) if light else self.executor
        with telling(self.run, self.reporter.detail):
            report = executor.run_tasks(self.run, tasks)
        if report.failed:
            raise PosteriorError(
                f"{self.run.folder}: {', '.join(report.failed)} failed: see {self.run.failures} and {self.run.logs}"
            )
        if not report.complete:
            reason = report.stopped or f"{', '.join(report.unfinished)} are not finished"
            raise Stopped(
                f"{self.run.folder}: stopped with everything saved ({reason}); run the same command again"
            )

    def _checked(self, evidence: Evidence) -> CompressionReport:
        """The compression error at draws of this posterior, from the raw pairs of every angle."""
        if not has_check_points(self.run):
            z = evidence.draws()
            chosen = np.linspace(0, len(z) - 1, POINTS).astype(int)
            centre = np.median(z, axis=0)
            points = np.concatenate([centre[None], z[chosen]])
            theta = physical_draws(
                self.prepared.space, self.prepared.full, points, (self.run.plan.seed, 3)
            ).theta
            write_check_points(self.run, theta)
        tasks = check_tasks(self.run)
        self.reporter.phase("checking the compression against the raw pairs")
        pairs = float(np.asarray(self.prepared.data.pairs).sum())
        self._do(tasks, light=pairs * POINTS < LIGHT_CHECK)
        return compression_found(self.run, self.prepared, self.point.compression, tasks, self.reporter.warn)
