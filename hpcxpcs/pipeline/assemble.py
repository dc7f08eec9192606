"""The posterior of a run as one record: draws in physical values, what they say, and what was gathered behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import jax.numpy as jnp
import numpy as np

from hpcxpcs.answer.fit import CompressionReport, PointFit
from hpcxpcs.answer.joint import Heterogeneity
from hpcxpcs.answer.posterior import (
    Certificate,
    Evidence,
    Mixing,
    Modes,
    ParameterSummary,
    Posterior,
    SampleStatistics,
    ShardRecord,
    marginals,
)
from hpcxpcs.answer.posterior_verdict import judge_independent
from hpcxpcs.answer.thresholds import GROSS_ERROR, MIXED
from hpcxpcs.arrays import Floats
from hpcxpcs.inference.diagnostics import chain_bfmi, contraction, find_modes, z_against
from hpcxpcs.inference.draws import PhysicalDraws, names_of, physical_draws, prior_std, widened
from hpcxpcs.inference.exchange import exchanged_share
from hpcxpcs.inference.prepared import Prepared
from hpcxpcs.inference.target import log_densities
from hpcxpcs.pipeline.prepare import OpenRun
from hpcxpcs.pipeline.sample import ChainQuality, FinishedChains, physical_values, thresholds_of

HDI_PROBABILITY = 0.95


@dataclass(frozen=True)
class Gathered:
    """What the gathering found: the route taken, its verdict in one word and why, and everything behind it."""

    route: str
    verdict: str
    words: str
    shards: tuple[FinishedChains, ...]
    disagreement: Heterogeneity | None
    certificate: Certificate | None
    chains: tuple[FinishedChains, ...] = ()

    @property
    def passing(self) -> list[FinishedChains]:
        """The accepted shards; all of them where none was."""
        return [shard for shard in self.shards if shard.accepted] or list(self.shards)

    def draws(self) -> Floats:
        """Draws (n, d) of the posterior in whitened coordinates: exact, corrected, or what there is."""
        if self.chains:
            return np.concatenate([chain.flat for chain in self.chains])
        if self.certificate is not None:
            return self.certificate.draws
        return np.concatenate([shard.flat for shard in self.shards])


def verdict_of(run: OpenRun, chains: Sequence[FinishedChains]) -> tuple[str, str]:
    """Verdict and reason for chains on all data."""
    quality = _quality_of_all_data(run, chains)
    found, count = quality.mixing, sum(len(file.z) for file in chains)
    least = min(np.nanmin(found.ess_bulk), np.nanmin(found.ess_tail))
    if quality.judgement.passed:
        return "exact", (
            f"{count} chains on all data agree (R-hat up to {np.max(found.r_hat):.3f}) with at least "
            f"{least:.0f} effective draws"
        )
    return "rejected", f"the chains on all data did not pass: {quality.reasons[0]}"


def _quality_of_all_data(run: OpenRun, chains: Sequence[FinishedChains]) -> ChainQuality:
    z, energy = (np.concatenate([getattr(chain, name) for chain in chains]) for name in ("z", "energy"))
    return ChainQuality.of(run, run.likelihood.full, z, energy, sum(chain.divergences for chain in chains))


def assemble_posterior(
    run: OpenRun,
    point: PointFit,
    gathered: Gathered,
    compression: CompressionReport,
    timings: Mapping[str, float],
) -> Posterior:
    """Everything about a run's posterior in one record."""
    chains, prepared = run.plan.chains, run.likelihood
    z = gathered.draws()
    z = z[: len(z) // chains * chains]
    modes = find_modes(z, seed=run.plan.seed)
    found = _as_wide_as_known(prepared, point, modes, z, (run.plan.seed, 4))
    values = found.values.reshape(chains, -1, found.values.shape[1])
    quality = _quality(run, gathered)
    mixed, judgement = quality.mixing, quality.judgement
    names = names_of(prepared.space)
    units = {p.parameter.name: p.parameter.unit for p in run.parameters}
    verdict, words, warnings = _with_compression(gathered, compression)
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
        widening=found.widening,
        log_posterior=np.asarray(log_densities(prepared.space, prepared.full, jnp.asarray(found.z))).reshape(shape[:2]),
        route=gathered.route,
        verdict=verdict,
        words=words,
        summary=_summary(prepared, point, values, mixed, prior_std(run.parameters, prepared.space.samples_noise)),
        statistics=_statistics(run, gathered),
        shards=tuple(_shard_record(prepared, shard, run.plan.seed) for shard in gathered.shards),
        heterogeneity=gathered.disagreement,
        modes=modes,
        certificate=gathered.certificate,
        compression=compression,
        judgement=judgement,
        recommendations=tuple(dict.fromkeys(f.recommendation for f in (*judgement.failed, *judgement.remarks))),
        warnings=(*warnings, *(gathered.certificate.notes if gathered.certificate else ())),
        settings=_settings(run, gathered.route),
        timings=timings,
        seed=run.plan.seed,
        chains=chains,
        samples=values.shape[1],
    )


def no_evidence(run: OpenRun, point: PointFit, gathered: Gathered) -> str | None:
    """Why a posterior has no evidence; None if it can have one."""
    if gathered.verdict == "rejected":
        return "none: the posterior was rejected"
    if np.any(run.likelihood.weights != 1.0):
        return "none: parts of the data count less than others, and the likelihood is no probability of the data"
    if point.noise is not None and point.noise.model == "speckle":
        return (
            "none: pairs are weighed by the noise of speckles, which is measured on what each model leaves over; "
            "noise.model: independent and noise.sigma: NUMBER make models comparable"
        )
    if point.mirrored and gathered.route != "importance":
        return "none: chains do not see the mirror image of the flow, which fits as well; method importance sees both"
    return None


def evidence_from(certificate: Certificate, constant: float, constant_error: float) -> Evidence:
    """The evidence of the integral that weights have found and of what is missing in it (nats)."""
    if not certificate.valid or not np.isfinite(constant):
        return Evidence(None, None, f"none: the weights do not suffice for it (Pareto k = {certificate.k_hat:.2f})")
    value, error = (
        float(certificate.log_integral + constant),
        float(np.hypot(certificate.log_integral_error, constant_error)),
    )
    return Evidence(value, error, f"ln Z = {value:.2f} ± {error:.2f}, for models of the same data with the same noise")


def _as_wide_as_known(
    prepared: Prepared, point: PointFit, modes: Modes, z: Floats, seed: tuple[int, int]
) -> PhysicalDraws:
    """Draws z (n, d) in physical values, as wide as the noise that pairs share makes them.

    As they were sampled where that is not known: for several peaks one map has no meaning, and where shards count less
    than others the likelihood is not that of the point fit.
    """
    found = physical_draws(prepared.space, prepared.full, z, seed)
    if modes.count > 1 or np.any(prepared.weights != 1.0):
        return found
    return widened(prepared.space, prepared.full, found, point)


def _with_compression(gathered: Gathered, compression: CompressionReport) -> tuple[str, str, tuple[str, ...]]:
    """Verdict, words and warnings with the compression error, which is part of the certificate, taken into account."""
    error, tolerance = compression.error, compression.tolerance
    if error <= tolerance:
        return gathered.verdict, gathered.words, ()
    text = (
        f"the compressed likelihood is off by {error:.2g} nats over the posterior (tolerance {tolerance:g}): "
        "lower likelihood.tolerance and run again with --fresh"
    )
    if error > GROSS_ERROR:
        return "rejected", text, (text,)
    return gathered.verdict, gathered.words, (text,)


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


def _quality(run: OpenRun, gathered: Gathered) -> ChainQuality:
    """How the chains did that the draws rest on."""
    if gathered.chains:
        return _quality_of_all_data(run, gathered.chains)
    if gathered.route == "importance":
        return _quality_of_weights(run, gathered)
    passing = gathered.passing
    worst = np.stack([shard.r_hat for shard in passing]).max(axis=0)
    nothing = np.full(len(worst), np.nan)
    ess = nothing if gathered.certificate is None else np.full(len(worst), gathered.certificate.ess)
    return ChainQuality.judged(
        run,
        Mixing(worst, ess, ess, nothing, nothing),
        divergences=sum(shard.divergences for shard in passing),
        draws=sum(shard.flat.shape[0] for shard in passing),
        bfmi=min(shard.bfmi for shard in passing),
    )


def _quality_of_weights(run: OpenRun, gathered: Gathered) -> ChainQuality:
    """How good independent draws are: there are no chains to disagree, and R-hat is not defined."""
    assert gathered.certificate is not None
    names = names_of(run.likelihood.space)
    nothing, ess = np.full(len(names), np.nan), np.full(len(names), gathered.certificate.ess)
    found = Mixing(nothing, ess, ess, nothing, nothing)
    return ChainQuality(found, 0, np.nan, judge_independent(names, found, thresholds_of(run.config)))


def _summary(prepared: Prepared, point: PointFit, values: Floats, mixed: Mixing, prior: Floats) -> ParameterSummary:
    said = marginals(values, HDI_PROBABILITY)
    free = list(prepared.space.support.coordinates.free)
    scale = [point.noise_scale] if prepared.space.samples_noise else []
    point_value = np.concatenate([point.values[free], scale])
    return ParameterSummary(
        **vars(said),
        hdi_probability=HDI_PROBABILITY,
        r_hat=mixed.r_hat,
        ess_bulk=mixed.ess_bulk,
        ess_tail=mixed.ess_tail,
        mcse_mean=said.std / np.sqrt(mixed.ess_bulk),
        prior_std=prior,
        contraction=contraction(prior, said.std),
        point_value=point_value,
        z=z_against(point_value, said.mean, said.std),
    )


def _statistics(run: OpenRun, gathered: Gathered) -> SampleStatistics | None:
    """The real run that traces are drawn from: the chains on all data, or the accepted shard that mixed worst; None
    where nothing was run."""
    if gathered.route == "importance":
        return None
    if gathered.chains:
        label, target, files = "exact", run.likelihood.full, gathered.chains
    else:
        worst = max(gathered.passing, key=lambda shard: float(np.max(shard.r_hat)))
        label, target, files = f"shard {worst.index}", run.likelihood.shards[worst.index], (worst,)
    energy = np.concatenate([file.energy for file in files])
    return SampleStatistics(
        label=label,
        draws=physical_values(run, target, np.concatenate([file.z for file in files])),
        energy=energy,
        acceptance=np.concatenate([file.acceptance for file in files]),
        num_steps=np.concatenate([file.num_steps for file in files]),
        diverging=np.concatenate([file.diverging for file in files]).astype(bool),
        bfmi=chain_bfmi(energy),
        step_size=np.concatenate([np.atleast_1d(file.step_size) for file in files]),
    )


def _shard_record(prepared: Prepared, shard: FinishedChains, seed: int) -> ShardRecord:
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


def _settings(run: OpenRun, route: str) -> dict[str, object]:
    options = run.config.optimization.cmc
    if route == "importance":
        return {
            "method": run.plan.method,
            "draws": options.certificate.draws,
            "thresholds": {"min_ess": thresholds_of(run.config).min_ess},
        }
    return {
        "method": run.plan.method,
        "warmup": options.per_shard_mcmc.num_warmup,
        "strategy": run.plan.shards["strategy"],
        "shards": run.plan.shards["count"],
        "anchor": run.plan.shards["anchor"],
        "combination": options.combination.method,
        "target_acceptance": options.per_shard_mcmc.target_accept_prob,
        "max_tree_depth": options.per_shard_mcmc.max_tree_depth,
        "thresholds": asdict(thresholds_of(run.config)),
    }
