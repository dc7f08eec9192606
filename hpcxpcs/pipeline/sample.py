"""The tasks of a run: NUTS on a shard or on all data, block by block, and the check of an angle's raw pairs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from hpcxpcs.answer.fit import CompressionReport
from hpcxpcs.answer.posterior import Judgement, Mixing
from hpcxpcs.answer.posterior_verdict import Thresholds, judge
from hpcxpcs.arrays import Floats
from hpcxpcs.config import Config
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import ClaimLost, StoreError
from hpcxpcs.inference import nuts
from hpcxpcs.inference.diagnostics import lowest_bfmi, mixing
from hpcxpcs.inference.draws import names_of, physical_draws
from hpcxpcs.inference.stream import STREAM_VERSION
from hpcxpcs.inference.target import Space, Target, products_at
from hpcxpcs.likelihood.cells import TimeAxis
from hpcxpcs.likelihood.gaussian import marginal_log_likelihood
from hpcxpcs.likelihood.products import Products
from hpcxpcs.likelihood.raw import RawPairs
from hpcxpcs.likelihood.whitened import at_each
from hpcxpcs.physics.model import Model
from hpcxpcs.pipeline.compile_cache import compile_cache, compile_log
from hpcxpcs.pipeline.prepare import OpenRun
from hpcxpcs.runs.plan import Task, new_task
from hpcxpcs.runs.run import DONE, Run
from hpcxpcs.runs.sealed import Sealed, newest_good, read_sealed, write_sealed
from hpcxpcs.workers.machine import usable_cores
from hpcxpcs.workers.work import Outcome, Pulse, TaskFunction

CHAINS = "chains"
"""Kind of the sealed files that hold chains, finished or not."""

MOST_RETRIES = 2
"""Times that chains are drawn again with a higher target acceptance before they are kept as they are."""

RETRIED = frozenset({"divergence_rate", "r_hat"})
"""Findings that a higher target acceptance may cure."""

DENSITY_MOVED = 1.0e-9
"""Relative change of a stored log density beyond which a checkpoint belongs to another likelihood."""

_log = logging.getLogger(__name__)


def task_function(run: Run) -> TaskFunction:
    """What does any task of a run in this process; compiled code and the likelihood are loaded once."""
    opened, log = OpenRun.of(run), compile_log()
    compile_cache(opened.config.runtime.compilation_cache_dir, _log.warning)

    def function(at: Run, task: Task, pulse: Pulse) -> Outcome:
        try:
            return check_angle(opened, task) if task.kind == "check" else Sampling(opened, task, pulse).finish()
        finally:
            log.tell(at, task.name)

    return function


def thresholds_of(config: Config) -> Thresholds:
    """What chains must reach to be accepted."""
    limits = config.optimization.cmc.validation
    return Thresholds(limits.max_r_hat, limits.min_ess, limits.min_bfmi, limits.max_divergence_rate)


def physical_values(run: OpenRun, target: Target, z: Floats) -> Floats:
    """Values (C, S, m) of the named parameters at draws z (C, S, d) of a target."""
    flat = physical_draws(run.likelihood.space, target, z.reshape(-1, z.shape[-1]), (0,)).values
    return flat.reshape(*z.shape[:2], -1)


@dataclass(frozen=True)
class ChainQuality:
    """How chains did, in physical parameters, against the thresholds of the run."""

    mixing: Mixing
    divergences: int
    bfmi: float
    judgement: Judgement

    @classmethod
    def judged(cls, run: OpenRun, found: Mixing, *, divergences: int, draws: int, bfmi: float) -> ChainQuality:
        """The quality of `draws` transitions."""
        names, limits = names_of(run.likelihood.space), thresholds_of(run.config)
        judgement = judge(names, found, divergences=divergences, draws=draws, bfmi=bfmi, thresholds=limits)
        return cls(found, divergences, bfmi, judgement)

    @classmethod
    def of(cls, run: OpenRun, target: Target, z: Floats, energy: Floats, divergences: int) -> ChainQuality:
        """The quality of chains z (C, S, d) of a target with their energies (C, S)."""
        found = mixing(physical_values(run, target, z))
        draws = int(z.shape[0] * z.shape[1])
        return cls.judged(run, found, divergences=divergences, draws=draws, bfmi=lowest_bfmi(energy))

    @property
    def reasons(self) -> list[str]:
        """What failed, in words."""
        return [
            f"{one.name}{f' of {one.parameter}' if one.parameter else ''} is {one.value:.4g}, limit {one.threshold:g}"
            for one in self.judgement.failed
        ]

    def attributes(self) -> dict[str, Any]:
        """The JSON values that are stored beside the draws."""
        return {
            "passed": self.judgement.passed,
            "reasons": self.reasons,
            "divergences": self.divergences,
            "bfmi": self.bfmi,
            "r_hat": [float(value) for value in self.mixing.r_hat],
            "ess_bulk": [float(value) for value in self.mixing.ess_bulk],
            "ess_tail": [float(value) for value in self.mixing.ess_tail],
        }


class Sampling:
    """The chains of one task: how they start, go on after a stop, and are judged."""

    def __init__(self, run: OpenRun, task: Task, pulse: Pulse) -> None:
        self.run, self.task, self.pulse = run, task, pulse
        self.choices = run.config.optimization.cmc.per_shard_mcmc
        self.target = run.likelihood.full if task.kind == "exact" else run.likelihood.shards[task.index]
        self.steps = self.choices.num_warmup + self.choices.num_samples
        self.attempt, self.seconds = 0, 0.0
        self.chains = self._stored()

    def finish(self) -> Outcome:
        """Draw the chains to their end, from the task's checkpoint if there is one, and keep what was accepted."""
        while (chains := self._drawn()) is not None:
            energy, divergences = np.asarray(chains.draws.energy), int(np.sum(chains.draws.diverging))
            quality = ChainQuality.of(self.run, self.target, np.asarray(chains.draws.z), energy, divergences)
            self._tell(quality)
            if self.attempt >= MOST_RETRIES or not any(f.name in RETRIED for f in quality.judgement.failed):
                self._publish(chains, DONE, quality)
                return "done"
            self.attempt, self.chains = self.attempt + 1, None
            self._publish(None, "running", quality)
        return "stopped"

    @property
    def _sampler(self) -> nuts.Sampler:
        """The sampler of this attempt."""
        choices, space = self.choices, self.run.likelihood.space
        first = nuts.Sampler(space, choices.num_warmup, choices.max_tree_depth, choices.target_accept_prob)
        return nuts.with_acceptance(first, self.attempt)

    def _started(self) -> nuts.Chains:
        kind, count = (nuts.EXACT, 1) if self.task.kind == "exact" else (nuts.SHARD, self.run.plan.chains)
        stream = (self.run.plan.seed, kind, self.task.index, self.attempt)
        return nuts.start(self._sampler, self.target, count, stream)

    def _stored(self) -> nuts.Chains | None:
        """The chains of the task's checkpoint, with its attempt and seconds; None where an attempt starts."""
        path = self.run.task_file(self.task)
        found = newest_good(path, kind=CHAINS, run_id=self.run.plan.run_id, warn=_log.warning)
        if found is None:
            return None
        self.attempt, self.seconds = int(found.attributes["attempt"]), float(found.attributes["seconds"])
        _require_same_stream(found, path.name)
        if "counts" not in found.arrays:
            return None
        chains = nuts.resume_chains(self._sampler, self.target, found.arrays)
        moved = nuts.density_moved(self._sampler, self.target, chains)
        if not moved <= DENSITY_MOVED:
            raise StoreError(
                f"{path}: the log density at the stored positions has changed by {moved:.1e} (relative): the "
                "likelihood is not the one these draws belong to; start again with --fresh"
            )
        return chains

    def _drawn(self) -> nuts.Chains | None:
        """The chains advanced block by block to their end; None when a stop was asked for before."""
        begun = time.monotonic() - self.seconds
        sampler, every = self._sampler, self.run.config.runtime.checkpoint_every
        chains = self._started() if self.chains is None else self.chains
        saved, block_seconds = chains.step, 0.0
        while chains.step < self.steps:
            if self.pulse.stop_reason(block_seconds) is not None:
                self.seconds = time.monotonic() - begun
                if chains.step > saved:
                    self._publish(chains, "running")
                return None
            clock = time.monotonic()
            count = min(nuts.BLOCK, self.steps - chains.step, saved + every - chains.step)
            chains = nuts.advance(sampler, self.target, chains, count)
            self.seconds = time.monotonic() - begun
            if chains.step - saved >= every and chains.step < self.steps:
                self._publish(chains, "running")
                saved = chains.step
            block_seconds = time.monotonic() - clock
            _log.debug("%s: step %d of %d", self.task.name, chains.step, self.steps)
            self.pulse.beat({"done": chains.step, "total": self.steps, "chains": chains.draws.z.shape[0]})
        return chains

    def _publish(self, chains: nuts.Chains | None, status: str, quality: ChainQuality | None = None) -> None:
        """Write the task's file; ClaimLost when another process has taken the task over."""
        if not self.pulse.may_publish():
            raise ClaimLost(f"{self.run.folder}: {self.task.name} was taken over by another process")
        attributes = {
            "attempt": self.attempt,
            "seconds": self.seconds,
            **_stream(),
            **({} if quality is None else quality.attributes()),
        }
        step = 0 if chains is None else chains.step
        progress = {"done": step, "total": self.steps, "attempt": self.attempt + 1}
        arrays = {} if chains is None else chains.to_arrays()
        run_id, path = self.run.plan.run_id, self.run.task_file(self.task)
        write_sealed(path, Sealed(CHAINS, run_id, self.task.name, status, progress, arrays, attributes))

    def _tell(self, quality: ChainQuality) -> None:
        """Log how the chains did."""
        found, attempt = quality.attributes(), self.attempt + 1
        r_hat, ess = max(found["r_hat"]), min(*found["ess_bulk"], *found["ess_tail"])
        outcome = "accepted" if found["passed"] else f"not accepted: {', '.join(found['reasons'])}"
        _log.info(
            "%s, attempt %d: R-hat %.4g at worst, ESS %.4g at least, %d divergences, BFMI %.3g: %s",
            *(self.task.name, attempt, r_hat, ess, quality.divergences, quality.bfmi, outcome),
            extra={"event": "chains", "attempt": attempt, "sampling_seconds": self.seconds, **found},
        )


def _stream() -> dict[str, Any]:
    """What decides which numbers are drawn next."""
    return {"stream_version": STREAM_VERSION, "random_numbers": str(jax.config.jax_default_prng_impl)}


def _require_same_stream(found: Sealed, name: str) -> None:
    """Refuse a checkpoint whose continuation would draw other numbers."""
    for key, value in _stream().items():
        if found.attributes.get(key) != value:
            raise StoreError(
                f"{name}: its {key.replace('_', ' ')} is {found.attributes.get(key)}, this program's is {value}: "
                "continue with the version that wrote it, or start again with --fresh"
            )


@dataclass(frozen=True)
class FinishedChains:
    """Finished chains of one task: z (C, S, d), the sampler's statistics (C, S), and how they were judged."""

    index: int
    z: Floats
    energy: Floats
    acceptance: Floats
    num_steps: Floats
    diverging: Floats
    step_size: Floats
    accepted: bool
    reasons: tuple[str, ...]
    r_hat: Floats
    ess_bulk: Floats
    ess_tail: Floats
    divergences: int
    bfmi: float
    attempts: int
    gradients: int
    seconds: float

    @property
    def flat(self) -> Floats:
        """All draws (C·S, d)."""
        return self.z.reshape(-1, self.z.shape[-1])

    @property
    def ess(self) -> float:
        """Smallest effective sample size of any parameter."""
        return float(min(np.min(self.ess_bulk), np.min(self.ess_tail)))


def finished_chains(run: Run, task: Task, warn: Callable[[str], None]) -> FinishedChains | None:
    """The chains in a finished task's file; None when it is not there."""
    found = newest_good(run.task_file(task), kind=CHAINS, run_id=run.plan.run_id, warn=warn)
    if found is None or found.status != DONE:
        return None
    arrays, values = found.arrays, found.attributes
    return FinishedChains(
        index=task.index,
        z=arrays["draws/z"],
        energy=arrays["draws/energy"],
        acceptance=arrays["draws/acceptance"],
        num_steps=arrays["draws/num_steps"],
        diverging=arrays["draws/diverging"],
        step_size=arrays["state/adapt_state.step_size"],
        accepted=bool(values["passed"]),
        reasons=tuple(values["reasons"]),
        r_hat=_numbers(values["r_hat"]),
        ess_bulk=_numbers(values["ess_bulk"]),
        ess_tail=_numbers(values["ess_tail"]),
        divergences=int(values["divergences"]),
        bfmi=float(_numbers([values["bfmi"]])[0]),
        attempts=int(values["attempt"]) + 1,
        gradients=int(arrays["counts"][1]),
        seconds=float(values["seconds"]),
    )


def _numbers(values: Sequence[object]) -> Floats:
    """Numbers from JSON, where NaN is null and infinity a word."""
    return np.array([np.nan if value is None else float(str(value)) for value in values])


POINTS = 16
"""Draws of the posterior at which the raw pairs are evaluated, besides its centre."""

CHECK_COST = 0.1
"""Cost of checking an angle, relative to sampling a shard; the same for all, as masked pairs are evaluated too."""

DRAWS, RAW = "check points", "raw products"
"""Kinds of the sealed files of the check."""


def check_tasks(run: Run) -> tuple[Task, ...]:
    """One task per angle."""
    return tuple(new_task("check", angle, cost=CHECK_COST) for angle in range(int(run.plan.data["n_phi"])))


def write_check_points(run: Run, thetas: Floats) -> None:
    """Keep the parameter sets (m, p) of the check, the first of which the others are compared with."""
    path = run.data_file("check")
    write_sealed(path, Sealed(DRAWS, run.plan.run_id, DRAWS, DONE, {}, {"thetas": thetas}, {}))


def has_check_points(run: Run) -> bool:
    """Whether the parameter sets of the check have been chosen."""
    return newest_good(run.data_file("check"), kind=DRAWS, run_id=run.plan.run_id, warn=lambda text: None) is not None


def check_angle(run: OpenRun, task: Task) -> Outcome:
    """Evaluate the raw pairs of one angle, or its whitened squares, at the points of the check."""
    points = read_sealed(run.data_file("check"), kind=DRAWS, run_id=run.plan.run_id).arrays["thetas"]
    model, squares = run.coordinates.model, run.squares(task.index)
    products = (
        _of_pairs(run.load_data(), model, task.index, points) if squares is None else at_each(model, squares, points)
    )
    arrays = {name: np.asarray(leaf) for name, leaf in products._asdict().items()}
    write_sealed(run.task_file(task), Sealed(RAW, run.plan.run_id, task.name, DONE, {}, arrays, {}))
    return "done"


def _of_pairs(data: TwoTime, model: Model, k: int, thetas: Floats) -> Products:
    """Products of the raw pairs of angle k at parameter sets thetas (m, p), leaves (m, 1, …)."""
    axis = TimeAxis(float(data.t[0]), float(data.dt), data.n_frames)
    phi = data.asked_angles[k : k + 1]
    raw = RawPairs(lambda _: data.angle(k), phi, axis, usable_cores())
    return raw.products_many(model, jnp.asarray(thetas))


def compression_found(
    run: OpenRun,
    before: CompressionReport,
    tasks: Sequence[Task],
    warn: Callable[[str], None],
) -> CompressionReport:
    """The report of the point fit with the error found on the raw pairs of all checked angles."""
    thetas = read_sealed(run.data_file("check"), kind=DRAWS, run_id=run.plan.run_id).arrays["thetas"]
    found = {t.index: newest_good(run.task_file(t), kind=RAW, run_id=run.plan.run_id, warn=warn) for t in tasks}
    there = {k: sealed.arrays for k, sealed in found.items() if sealed is not None}
    if not there:
        raise StoreError(f"{run.folder}: no angle's raw pairs were checked: run the same command again")
    difference = _difference(run.likelihood.space, run.likelihood.data, thetas, there)
    relative, drawn = difference - difference[0], difference[1:]
    pairs = np.asarray(run.likelihood.data.pairs)
    return replace(
        before,
        error=float(np.std(relative)),
        largest_error=float(np.abs(relative).max()),
        checked_pairs=int(pairs[list(there)].sum()),
        checked_points=len(thetas),
        constant=float(logsumexp(-drawn)) - math.log(len(drawn)),
    )


def _difference(space: Space, data: Target, thetas: Floats, raw: Mapping[int, Mapping[str, np.ndarray]]) -> Floats:
    """Compressed − raw log-likelihood (m,); unchecked angles count like checked ones."""
    packed = [products_at(space, data, jnp.asarray(theta)) for theta in thetas]
    stacked = [np.stack(leaf) for leaf in zip(*packed, strict=True)]
    mixed = [leaf.copy() for leaf in stacked]
    for angle, arrays in raw.items():
        for name, leaf in zip(Products._fields, mixed, strict=True):
            leaf[:, angle] = arrays[name][:, 0]
    values = [_marginals(data, Products(*map(jnp.asarray, leaves))) for leaves in (stacked, mixed)]
    return (np.asarray(values[0]) - np.asarray(values[1])) * len(data.pairs) / len(raw)


@jax.jit
def _marginals(data: Target, products: Products) -> jax.Array:
    def one(its: Products) -> jax.Array:
        return marginal_log_likelihood(data.scaling, its, data.sigma, data.pairs)

    return jax.vmap(one)(products)
