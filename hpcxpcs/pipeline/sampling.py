"""The tasks of a run: NUTS on a shard or on all data, block by block, and the check of an angle's raw pairs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hpcxpcs.config import Config
from hpcxpcs.errors import ClaimLost, StoreError
from hpcxpcs.inference import nuts
from hpcxpcs.inference.diagnostics import Finding, Judgement, Mixing, Thresholds, judge, lowest_bfmi, mixing
from hpcxpcs.inference.draws import names_of, physical_draws
from hpcxpcs.inference.prepared import Prepared
from hpcxpcs.inference.stream import STREAM_VERSION
from hpcxpcs.inference.target import Target
from hpcxpcs.pipeline.choices import config_of
from hpcxpcs.pipeline.compile_cache import compile_cache
from hpcxpcs.pipeline.compile_log import compile_log
from hpcxpcs.pipeline.raw_check import check_angle
from hpcxpcs.pipeline.stage import prepared_of
from hpcxpcs.runtime.pulse import Pulse
from hpcxpcs.runtime.run import DONE, Run
from hpcxpcs.runtime.sealed import Sealed, newest_good, write_sealed
from hpcxpcs.runtime.tasks import Task
from hpcxpcs.runtime.work import Outcome, TaskFunction

CHAINS = "chains"
"""Kind of the sealed files that hold chains, finished or not."""

MOST_RETRIES = 2
"""Times that chains are drawn again with a higher target acceptance before they are kept as they are."""

RETRIED = frozenset({"divergence_rate", "r_hat"})
"""Findings that a higher target acceptance may cure."""

MOVED = 1.0e-9
"""Relative change of a stored log density beyond which a checkpoint belongs to another likelihood."""

_log = logging.getLogger(__name__)


def task_function(run: Run) -> TaskFunction:
    """What does any task of a run in this process; compiled code and the likelihood are loaded once."""
    config, log = config_of(run.plan), compile_log()
    compile_cache(config.runtime.compilation_cache_dir, _log.warning)
    prepared = prepared_of(run)
    sampling = Sampling(run, config, prepared)

    def function(at: Run, task: Task, pulse: Pulse) -> Outcome:
        try:
            return check_angle(at, task, config) if task.kind == "check" else sampling.do(task, pulse)
        finally:
            log.tell(at, task.name)

    return function


def thresholds_of(config: Config) -> Thresholds:
    """What chains must reach to be accepted."""
    limits = config.optimization.cmc.validation
    return Thresholds(limits.max_r_hat, limits.min_ess, limits.min_bfmi, limits.max_divergence_rate)


@dataclass(frozen=True)
class Verdict:
    """How finished chains did, in physical parameters: what is stored beside the draws."""

    mixing: Mixing
    divergences: int
    bfmi: float
    judgement: Judgement

    def attributes(self) -> dict[str, Any]:
        """JSON values of the verdict."""
        return {
            "passed": self.judgement.passed,
            "reasons": [_reason(finding) for finding in self.judgement.failed],
            "divergences": self.divergences,
            "bfmi": self.bfmi,
            "r_hat": [float(value) for value in self.mixing.r_hat],
            "ess_bulk": [float(value) for value in self.mixing.ess_bulk],
            "ess_tail": [float(value) for value in self.mixing.ess_tail],
        }


@dataclass(frozen=True)
class Sampling:
    """Chains of one run: how they start, go on after a stop, and are judged."""

    run: Run
    config: Config
    prepared: Prepared

    def do(self, task: Task, pulse: Pulse) -> Outcome:
        """Draw the chains of a task to their end, from its checkpoint if there is one."""
        while True:
            attempt, chains, spent = self._stored(task)
            chains, seconds, stopped = self._drawn(task, pulse, attempt, chains, spent)
            if stopped:
                return "stopped"
            verdict = self._judged(task, chains)
            _tell(task, attempt, verdict, seconds)
            retry = attempt < MOST_RETRIES and any(f.name in RETRIED for f in verdict.judgement.failed)
            if retry:
                self._publish(task, pulse, attempt + 1, None, seconds, "running", verdict)
                continue
            self._publish(task, pulse, attempt, chains, seconds, DONE, verdict)
            return "done"

    def sampler(self, attempt: int) -> nuts.Sampler:
        """The sampler of an attempt, counted from 0."""
        choices = self.config.optimization.cmc.per_shard_mcmc
        first = nuts.Sampler(
            self.prepared.space, choices.num_warmup, choices.max_tree_depth, choices.target_accept_prob
        )
        return nuts.with_acceptance(first, attempt)

    def target(self, task: Task) -> Target:
        """What a task explores."""
        return self.prepared.full if task.kind == "exact" else self.prepared.shards[task.index]

    @property
    def steps(self) -> int:
        """Steps of a whole chain, warm-up included."""
        choices = self.config.optimization.cmc.per_shard_mcmc
        return choices.num_warmup + choices.num_samples

    def _start(self, task: Task, attempt: int) -> nuts.Chains:
        kind, count = (nuts.EXACT, 1) if task.kind == "exact" else (nuts.SHARD, self.run.plan.chains)
        stream = (self.run.plan.seed, kind, task.index, attempt)
        return nuts.start(self.sampler(attempt), self.target(task), count, stream)

    def _stored(self, task: Task) -> tuple[int, nuts.Chains | None, float]:
        """Attempt, chains and seconds so far, from the task's checkpoint; chains are None where an attempt starts."""
        path = self.run.task_file(task)
        found = newest_good(path, kind=CHAINS, run_id=self.run.plan.run_id, warn=_log.warning)
        if found is None:
            return 0, None, 0.0
        attempt, seconds = int(found.attributes["attempt"]), float(found.attributes["seconds"])
        _require_same_stream(found, path.name)
        if "counts" not in found.arrays:
            return attempt, None, seconds
        chains = nuts.resume(self.sampler(attempt), self.target(task), found.arrays)
        moved = nuts.density_moved(self.sampler(attempt), self.target(task), chains)
        if not moved <= MOVED:
            raise StoreError(
                f"{path}: the log density at the stored positions has changed by {moved:.1e} (relative): the "
                "likelihood is not the one these draws belong to; start again with --fresh"
            )
        return attempt, chains, seconds

    def _drawn(
        self, task: Task, pulse: Pulse, attempt: int, chains: nuts.Chains | None, spent: float
    ) -> tuple[nuts.Chains, float, bool]:
        """Advance chains block by block; returns them, the seconds spent, and whether a stop was asked for."""
        begun = time.monotonic()
        sampler, target = self.sampler(attempt), self.target(task)
        chains = self._start(task, attempt) if chains is None else chains
        every = self.config.runtime.checkpoint_every
        saved, block_seconds = chains.step, 0.0
        while chains.step < self.steps:
            if pulse.stop_reason(block_seconds) is not None:
                if chains.step > saved:
                    self._publish(
                        task, pulse, attempt, chains, spent + time.monotonic() - begun, "running", None
                    )
                return chains, spent + time.monotonic() - begun, True
            clock = time.monotonic()
            count = min(nuts.BLOCK, self.steps - chains.step, saved + every - chains.step)
            chains = nuts.advance(sampler, target, chains, count)
            if chains.step - saved >= every and chains.step < self.steps:
                self._publish(task, pulse, attempt, chains, spent + time.monotonic() - begun, "running", None)
                saved = chains.step
            block_seconds = time.monotonic() - clock
            _log.debug("%s: step %d of %d", task.name, chains.step, self.steps)
            pulse.beat({"done": chains.step, "total": self.steps, "chains": chains.draws.z.shape[0]})
        return chains, spent + time.monotonic() - begun, False

    def _judged(self, task: Task, chains: nuts.Chains) -> Verdict:
        space, z = self.prepared.space, np.asarray(chains.draws.z)
        flat = physical_draws(space, self.target(task), z.reshape(-1, space.size), (self.run.plan.seed,))
        found = mixing(flat.values.reshape(*z.shape[:2], -1))
        divergences = int(np.sum(chains.draws.diverging))
        bfmi = lowest_bfmi(np.asarray(chains.draws.energy))
        judgement = judge(
            names_of(space),
            found,
            divergences=divergences,
            draws=int(z.shape[0] * z.shape[1]),
            bfmi=bfmi,
            thresholds=thresholds_of(self.config),
        )
        return Verdict(found, divergences, bfmi, judgement)

    def _publish(
        self,
        task: Task,
        pulse: Pulse,
        attempt: int,
        chains: nuts.Chains | None,
        seconds: float,
        status: str,
        verdict: Verdict | None,
    ) -> None:
        """Write the task's file; ClaimLost when another process has taken the task over."""
        if not pulse.may_publish():
            raise ClaimLost(f"{self.run.folder}: {task.name} was taken over by another process")
        attributes = {
            "attempt": attempt,
            "seconds": seconds,
            "stream_version": STREAM_VERSION,
            "random_numbers": str(jax.config.jax_default_prng_impl),
            **({} if verdict is None else verdict.attributes()),
        }
        step = 0 if chains is None else chains.step
        progress = {"done": step, "total": self.steps, "attempt": attempt + 1}
        arrays = {} if chains is None else chains.to_arrays()
        write_sealed(
            self.run.task_file(task),
            Sealed(CHAINS, self.run.plan.run_id, task.name, status, progress, arrays, attributes),
        )


def _tell(task: Task, attempt: int, verdict: Verdict, seconds: float) -> None:
    """Log how finished chains did."""
    found = verdict.attributes()
    r_hat, ess = max(found["r_hat"]), min(*found["ess_bulk"], *found["ess_tail"])
    outcome = "accepted" if found["passed"] else f"not accepted: {', '.join(found['reasons'])}"
    _log.info(
        "%s, attempt %d: R-hat %.4g at worst, ESS %.4g at least, %d divergences, BFMI %.3g: %s",
        *(task.name, attempt + 1, r_hat, ess, verdict.divergences, verdict.bfmi, outcome),
        extra={"event": "chains", "attempt": attempt + 1, "sampling_seconds": seconds, **found},
    )


def _reason(finding: Finding) -> str:
    of = f" of {finding.parameter}" if finding.parameter else ""
    return f"{finding.name}{of} is {finding.value:.4g}, limit {finding.threshold:g}"


def _require_same_stream(found: Sealed, name: str) -> None:
    """Refuse a checkpoint whose continuation would draw other numbers."""
    now = {"stream_version": STREAM_VERSION, "random_numbers": str(jax.config.jax_default_prng_impl)}
    for key, value in now.items():
        if found.attributes.get(key) != value:
            raise StoreError(
                f"{name}: its {key.replace('_', ' ')} is {found.attributes.get(key)}, this program's is {value}: "
                "continue with the version that wrote it, or start again with --fresh"
            )


def accepted(found: Sealed) -> bool:
    """Whether the chains of a finished file passed every threshold."""
    return bool(found.attributes["passed"])


def finished_chains(run: Run, task: Task, warn: Callable[[str], None]) -> Sealed | None:
    """The file of a finished task; None when it is not there."""
    found = newest_good(run.task_file(task), kind=CHAINS, run_id=run.plan.run_id, warn=warn)
    return found if found is not None and found.status == DONE else None
