"""The posterior of a run as one record: draws in physical values, what they say, and the evidence behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from hpcxpcs.config import Config
from hpcxpcs.inference.certificate import Certificate
from hpcxpcs.inference.consensus import Combined
from hpcxpcs.inference.diagnostics import (
    Judgement,
    Mixing,
    chain_bfmi,
    contraction,
    judge,
    lowest_bfmi,
    mixing,
    narrowest_interval,
    z_against,
)
from hpcxpcs.inference.draws import Physical, Widened, names_of, physical_draws, prior_std, widened
from hpcxpcs.inference.exchange import exchanged_share
from hpcxpcs.inference.heterogeneity import Heterogeneity
from hpcxpcs.inference.modes import Modes, find_modes
from hpcxpcs.inference.posterior import ParameterSummary, Posterior, SampleStatistics, ShardRecord
from hpcxpcs.inference.prepared import Prepared
from hpcxpcs.inference.records import CompressionReport, PointFit
from hpcxpcs.inference.target import Target, log_densities
from hpcxpcs.likelihood.interpolation import Floats
from hpcxpcs.pipeline.sampling import thresholds_of
from hpcxpcs.pipeline.stage import sampled_parameters
from hpcxpcs.runtime.run import Run
from hpcxpcs.runtime.sealed import Sealed

GROSS_ERROR = 0.5
"""Compression error (nats) from which a posterior is rejected: half a nat moves means by a sizeable part of an sd."""

MIXED = 0.001
"""Share of draws with the components exchanged, in a posterior of two peaks, from which they are two answers in one."""

HDI_PROBABILITY = 0.95


@dataclass(frozen=True)
class ChainFile:
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


def chain_file(index: int, sealed: Sealed) -> ChainFile:
    """The chains in a finished task's file."""
    arrays, values = sealed.arrays, sealed.attributes
    numbers = {name: _numbers(values[name]) for name in ("r_hat", "ess_bulk", "ess_tail")}
    return ChainFile(
        index=index,
        z=arrays["draws/z"],
        energy=arrays["draws/energy"],
        acceptance=arrays["draws/acceptance"],
        num_steps=arrays["draws/num_steps"],
        diverging=arrays["draws/diverging"],
        step_size=arrays["state/adapt_state.step_size"],
        accepted=bool(values["passed"]),
        reasons=tuple(values["reasons"]),
        divergences=int(values["divergences"]),
        bfmi=float(_numbers([values["bfmi"]])[0]),
        attempts=int(values["attempt"]) + 1,
        gradients=int(arrays["counts"][1]),
        seconds=float(values["seconds"]),
        **numbers,
    )


def _numbers(values: Sequence[object]) -> Floats:
    """Numbers from JSON, where NaN is null and infinity a word."""
    return np.array([np.nan if value is None else float(str(value)) for value in values])


@dataclass(frozen=True)
class Evidence:
    """What the gathering found: the route taken, its verdict in one word and why, and everything behind it."""

    route: str
    verdict: str
    words: str
    shards: tuple[ChainFile, ...]
    disagreement: Heterogeneity | None
    consensus: Combined | None
    certificate: Certificate | None
    chains: tuple[ChainFile, ...] = ()

    def draws(self) -> Floats:
        """Draws (n, d) of the posterior in whitened coordinates: exact, corrected, or what there is."""
        if self.chains:
            return np.concatenate([chain.flat for chain in self.chains])
        if self.certificate is not None:
            return self.certificate.draws
        if self.consensus is not None:
            return self.consensus.draws
        return np.concatenate([shard.flat for shard in self.shards])


def verdict_of(config: Config, prepared: Prepared, chains: Sequence[ChainFile]) -> tuple[str, str]:
    """Verdict and reason for chains on all data."""
    found, judgement = _judged(config, prepared, chains)
    count = sum(len(file.z) for file in chains)
    least = min(np.nanmin(found.ess_bulk), np.nanmin(found.ess_tail))
    if judgement.passed:
        return "exact", (
            f"{count} chains on all data agree (R-hat up to {np.max(found.r_hat):.3f}) with at least "
            f"{least:.0f} effective draws"
        )
    worst = judgement.failed[0]
    of = f" of {worst.parameter}" if worst.parameter else ""
    return "rejected", (
        f"the chains on all data did not pass: {worst.name}{of} is {worst.value:.4g}, limit {worst.threshold:g}"
    )


def _judged(config: Config, prepared: Prepared, chains: Sequence[ChainFile]) -> tuple[Mixing, Judgement]:
    values = _values(prepared, prepared.full, np.concatenate([chain.z for chain in chains]))
    found = mixing(values)
    judgement = judge(
        names_of(prepared.space),
        found,
        divergences=sum(chain.divergences for chain in chains),
        draws=int(values.shape[0] * values.shape[1]),
        bfmi=lowest_bfmi(np.concatenate([chain.energy for chain in chains])),
        thresholds=thresholds_of(config),
    )
    return found, judgement


def _values(prepared: Prepared, target: Target, z: Floats) -> Floats:
    """Physical values (C, S, m) of draws z (C, S, d) of a target."""
    flat = physical_draws(prepared.space, target, z.reshape(-1, z.shape[-1]), (0,)).values
    return flat.reshape(*z.shape[:2], -1)


def assembled(
    run: Run,
    config: Config,
    prepared: Prepared,
    point: PointFit,
    evidence: Evidence,
    compression: CompressionReport,
    timings: Mapping[str, float],
) -> Posterior:
    """Everything about a run's posterior in one record."""
    chains = run.plan.chains
    z = evidence.draws()
    z = z[: len(z) // chains * chains]
    modes = find_modes(z, seed=run.plan.seed)
    spread = _spread(prepared, point, modes, z, (run.plan.seed, 4))
    z, found = spread.z, spread.physical
    values = found.values.reshape(chains, -1, found.values.shape[1])
    mixed, judgement = _quality(config, prepared, evidence)
    parameters = sampled_parameters(run)
    names = names_of(prepared.space)
    units = {p.parameter.name: p.parameter.unit for p in parameters}
    verdict, words, warnings = _with_compression(evidence, compression)
    both_labels = mixed_labels(point, modes, found.theta, prepared.space.support.coordinates.t_ref)
    if both_labels is not None:
        verdict, words, warnings = "rejected", both_labels, (*warnings, both_labels)
    shape = (*values.shape[:2], -1)
    return Posterior(
        names=names,
        units=tuple(units.get(name, "") for name in names),
        draws=values,
        contrast=found.contrast.reshape(shape),
        offset=found.offset.reshape(shape),
        widening=spread.widening,
        log_posterior=np.asarray(log_densities(prepared.space, prepared.full, jnp.asarray(z))).reshape(
            shape[:2]
        ),
        route=evidence.route,
        verdict=verdict,
        words=words,
        summary=_summary(
            prepared, point, found, values, mixed, prior_std(parameters, prepared.space.samples_noise)
        ),
        statistics=_statistics(prepared, evidence),
        shards=tuple(_shard_record(prepared, shard, run.plan.seed) for shard in evidence.shards),
        heterogeneity=evidence.disagreement,
        modes=modes,
        certificate=evidence.certificate,
        compression=compression,
        judgement=judgement,
        recommendations=tuple(
            dict.fromkeys(f.recommendation for f in (*judgement.failed, *judgement.remarks))
        ),
        warnings=(*warnings, *(evidence.consensus.notes if evidence.consensus else ())),
        settings=_settings(run, config),
        timings=timings,
        seed=run.plan.seed,
        chains=chains,
        samples=values.shape[1],
    )


def _spread(prepared: Prepared, point: PointFit, modes: Modes, z: Floats, seed: tuple[int, int]) -> Widened:
    """Draws z (n, d) in physical values, as wide as the noise that pairs share makes them.

    As they were sampled where that is not known: for several peaks one map has no meaning, and where shards count less
    than others the likelihood is not that of the point fit.
    """
    found = physical_draws(prepared.space, prepared.full, z, seed)
    if modes.count > 1 or np.any(prepared.weights != 1.0):
        return Widened(z, found, np.ones(found.values.shape[1]))
    return widened(prepared.space, prepared.full, z, found, point)


def _with_compression(evidence: Evidence, compression: CompressionReport) -> tuple[str, str, tuple[str, ...]]:
    """Verdict, words and warnings with the compression error, which is part of the certificate, taken into account."""
    error, tolerance = compression.error, compression.tolerance
    if error <= tolerance:
        return evidence.verdict, evidence.words, ()
    text = (
        f"the compressed likelihood is off by {error:.2g} nats over the posterior (tolerance {tolerance:g}): "
        "lower likelihood.tolerance and run again with --fresh"
    )
    if error > GROSS_ERROR:
        return "rejected", text, (text,)
    return evidence.verdict, evidence.words, (text,)


def mixed_labels(point: PointFit, modes: Modes, theta: Floats, t_ref: float) -> str | None:
    """Why draws theta (n, p) of two components with separate peaks are no single answer; None if they are one."""
    if point.exchange is None or modes.count < 2:
        return None
    share = exchanged_share(theta, point.values, t_ref)
    if share <= MIXED:
        return None
    return (
        f"in {share:.1%} of the draws the two components have each other's names: two answers in one; "
        "fix a parameter that tells the components apart, or narrow its bounds"
    )


def _quality(config: Config, prepared: Prepared, evidence: Evidence) -> tuple[Mixing, Judgement]:
    """Mixing per parameter and judgement of what the draws rest on."""
    if evidence.chains:
        return _judged(config, prepared, evidence.chains)
    passing = [shard for shard in evidence.shards if shard.accepted] or list(evidence.shards)
    worst = np.stack([shard.r_hat for shard in passing]).max(axis=0)
    certificate = evidence.certificate
    count = len(worst)
    ess = np.full(count, np.nan) if certificate is None else np.full(count, certificate.ess)
    nothing = np.full(count, np.nan)
    found = Mixing(worst, ess, ess, nothing, nothing)
    judgement = judge(
        names_of(prepared.space),
        found,
        divergences=sum(shard.divergences for shard in passing),
        draws=sum(shard.flat.shape[0] for shard in passing),
        bfmi=min(shard.bfmi for shard in passing),
        thresholds=thresholds_of(config),
    )
    return found, judgement


def _summary(
    prepared: Prepared, point: PointFit, found: Physical, values: Floats, mixed: Mixing, prior: Floats
) -> ParameterSummary:
    flat = found.values
    mean, std = flat.mean(axis=0), flat.std(axis=0, ddof=1)
    free = list(prepared.space.support.coordinates.free)
    scale = [point.noise_scale] if prepared.space.samples_noise else []
    point_value = np.concatenate([point.values[free], scale])
    return ParameterSummary(
        mean=mean,
        std=std,
        median=np.median(flat, axis=0),
        hdi=narrowest_interval(values, HDI_PROBABILITY),
        hdi_probability=HDI_PROBABILITY,
        r_hat=mixed.r_hat,
        ess_bulk=mixed.ess_bulk,
        ess_tail=mixed.ess_tail,
        mcse_mean=std / np.sqrt(mixed.ess_bulk),
        prior_std=prior,
        contraction=contraction(prior, std),
        point_value=point_value,
        z=z_against(point_value, mean, std),
    )


def _statistics(prepared: Prepared, evidence: Evidence) -> SampleStatistics:
    """The real run that traces are drawn from: the chains on all data, or the accepted shard that mixed worst."""
    if evidence.chains:
        label, target, files = "exact", prepared.full, evidence.chains
    else:
        passing = [shard for shard in evidence.shards if shard.accepted] or list(evidence.shards)
        worst = max(passing, key=lambda shard: float(np.max(shard.r_hat)))
        label, target, files = f"shard {worst.index}", prepared.shards[worst.index], (worst,)
    energy = np.concatenate([file.energy for file in files])
    return SampleStatistics(
        label=label,
        draws=_values(prepared, target, np.concatenate([file.z for file in files])),
        energy=energy,
        acceptance=np.concatenate([file.acceptance for file in files]),
        num_steps=np.concatenate([file.num_steps for file in files]),
        diverging=np.concatenate([file.diverging for file in files]).astype(bool),
        bfmi=chain_bfmi(energy),
        step_size=np.concatenate([np.atleast_1d(file.step_size) for file in files]),
    )


def _shard_record(prepared: Prepared, shard: ChainFile, seed: int) -> ShardRecord:
    target, weight = prepared.shards[shard.index], float(prepared.weights[shard.index])
    distances = {one.position: one.distance for one in prepared.contradictions}
    values = physical_draws(prepared.space, target, shard.flat, (seed, 5, shard.index)).values
    return ShardRecord(
        index=shard.index,
        pairs=round(float(np.asarray(target.pairs).sum()) / weight),
        weight=weight,
        distance=distances.get(shard.index),
        accepted=shard.accepted,
        reasons=shard.reasons,
        r_hat=float(np.max(shard.r_hat)),
        ess=shard.ess,
        divergences=shard.divergences,
        bfmi=shard.bfmi,
        mean=values.mean(axis=0),
        std=values.std(axis=0, ddof=1),
        attempts=shard.attempts,
        gradients=shard.gradients,
        seconds=shard.seconds,
    )


def _settings(run: Run, config: Config) -> dict[str, object]:
    options = config.optimization.cmc
    limits = options.validation
    return {
        "method": run.plan.method,
        "warmup": options.per_shard_mcmc.num_warmup,
        "strategy": run.plan.shards["strategy"],
        "shards": run.plan.shards["count"],
        "anchor": run.plan.shards["anchor"],
        "combination": options.combination.method,
        "target_acceptance": options.per_shard_mcmc.target_accept_prob,
        "max_tree_depth": options.per_shard_mcmc.max_tree_depth,
        "thresholds": {
            "max_r_hat": limits.max_r_hat,
            "min_ess": limits.min_ess,
            "min_bfmi": limits.min_bfmi,
            "max_divergence_rate": limits.max_divergence_rate,
        },
    }
