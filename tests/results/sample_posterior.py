"""A posterior of the sample experiment with a known answer, as if four shards had been sampled and combined."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.posterior import (
    Certificate,
    Evidence,
    Finding,
    Judgement,
    Modes,
    ParameterSummary,
    Posterior,
    SampleStatistics,
    ShardRecord,
)
from hpcxpcs.answer.posterior_verdict import judge
from hpcxpcs.inference.consensus import heterogeneity
from hpcxpcs.inference.diagnostics import mixing
from hpcxpcs.results.records import Answer
from tests.results.sample import COMPRESSION, NAMES, PHI, UNITS, sample_answer, sample_fit, sample_scaling

SAMPLED = (*NAMES, "noise_scale")
CHAINS, SAMPLES = 4, 250
SHARDS = 4
MEMORY = 0.4
"""Correlation of a draw with the one before it in the real chains."""


def sample_posterior(fit: PointFit | None = None, seed: int = 5, route: str = "consensus", **changes: Any) -> Posterior:
    """A certified consensus near the sample fit, with shard 2 left out; or exact chains, or weighed draws."""
    fit = fit or sample_fit()
    rng = np.random.default_rng(seed)
    centre, factor = _shape(fit, rng)
    n_phi = len(fit.scaling.contrast)
    draws = centre + rng.normal(size=(CHAINS, SAMPLES, len(SAMPLED))) @ factor.T
    chains = centre + _remembering(rng) @ factor.T
    if route == "exact":
        draws = chains
    contrast, offset = sample_scaling(n_phi)
    posterior = Posterior(
        names=SAMPLED,
        units=(*UNITS, ""),
        draws=draws,
        contrast=contrast + 2e-3 * rng.normal(size=(CHAINS, SAMPLES, n_phi)),
        offset=offset + 1e-3 * rng.normal(size=(CHAINS, SAMPLES, n_phi)),
        widening=np.ones(len(SAMPLED)),
        log_posterior=-900.0 - 0.5 * rng.chisquare(len(SAMPLED), (CHAINS, SAMPLES)),
        route=route,
        verdict="exact" if route == "exact" else "certified",
        words="k̂ = 0.21 is below its limit 0.67, and no mean moved by more than 0.04 standard deviations.",
        summary=summary_of(draws, mixed=chains, point=np.append(fit.values, 1.0)),
        statistics=None
        if route == "importance"
        else _statistics("shard 1" if route == "consensus" else "exact", chains, rng),
        shards=_shards(centre, factor, rng) if route == "consensus" else (),
        heterogeneity=_heterogeneity(centre, factor, rng) if route == "consensus" else None,
        modes=Modes(1, np.ones(1), np.zeros((1, 8)), np.eye(8)[None], -31.0, "the posterior has one peak"),
        certificate=None if route == "exact" else _certificate(),
        compression=COMPRESSION,
        judgement=judge(SAMPLED, mixing(draws), divergences=0, draws=CHAINS * SAMPLES, bfmi=0.9),
        recommendations=(),
        warnings=(),
        settings={
            "method": "importance" if route == "importance" else "cmc",
            "warmup": 500,
            "strategy": "angle_balanced",
            "anchor": "point_fit",
            "combination": "consensus",
            "target_acceptance": 0.9,
            "thresholds": {"max_r_hat": 1.05, "min_ess": 400, "min_bfmi": 0.2, "max_divergence_rate": 0.01},
        },
        timings={"shards": 40.0, "gather": 2.5},
        seed=42,
        chains=CHAINS,
        samples=SAMPLES,
        evidence=Evidence(-905.2, 0.01, "ln Z = -905.20 ± 0.01"),
    )
    if route == "importance":
        summary = posterior.summary
        ess = np.full(len(SAMPLED), 2890.0)
        own = replace(summary, r_hat=np.full(len(SAMPLED), np.nan), ess_bulk=ess, ess_tail=ess)
        posterior = replace(posterior, summary=own, judgement=Judgement(True, ()))
    return replace(posterior, **changes)


def sampled_answer(n_frames: int = 40, phi: tuple[float, ...] = PHI, **changes: Any) -> Answer:
    """The sample answer with a posterior; `changes` replace fields of the posterior or choose its route."""
    answer = sample_answer(n_frames, phi)
    return replace(answer, posterior=sample_posterior(answer.fit, **changes))


def rejected() -> dict[str, Any]:
    """Changes that make a posterior one that must not be quoted."""
    finding = Finding("r_hat", 1.31, 1.05, "beta", "the chains disagree: look at the trace plot")
    return {
        "verdict": "rejected",
        "evidence": Evidence(None, None, "none: the posterior was rejected"),
        "words": "k̂ = 1.4 is above its limit 0.67.",
        "judgement": Judgement(False, (finding,)),
        "recommendations": ("sample all data at once with method exact",),
        "warnings": ("shard 2 was left out",),
    }


def summary_of(draws: np.ndarray, mixed: np.ndarray, point: np.ndarray) -> ParameterSummary:
    """Summary of draws (C,S,n), with the diagnostics of chains that were really run."""
    flat = draws.reshape(-1, draws.shape[-1])
    std = flat.std(axis=0, ddof=1)
    found = mixing(mixed)
    prior = 30.0 * std
    prior[4] = 1.5 * std[4]
    return ParameterSummary(
        mean=flat.mean(axis=0),
        std=std,
        median=np.median(flat, axis=0),
        hdi=np.quantile(flat, (0.025, 0.975), axis=0).T,
        hdi_probability=0.95,
        r_hat=found.r_hat,
        ess_bulk=found.ess_bulk,
        ess_tail=found.ess_tail,
        mcse_mean=found.mcse_mean,
        prior_std=prior,
        contraction=1.0 - std / prior,
        point_value=point,
        z=(flat.mean(axis=0) - point) / std,
    )


def _shape(fit: PointFit, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Centre (n,) and a factor (n,n) of the covariance: D0 and alpha go strongly together."""
    width = np.append(fit.uncertainty, 0.008)
    mixing_matrix = np.eye(len(SAMPLED)) + 0.15 * rng.normal(size=(len(SAMPLED),) * 2)
    mixing_matrix[1, 0] -= 2.5
    mixing_matrix /= np.linalg.norm(mixing_matrix, axis=1, keepdims=True)
    return np.append(fit.values, 1.0) + 0.2 * width, width[:, None] * mixing_matrix


def _remembering(rng: np.random.Generator) -> np.ndarray:
    steps = rng.normal(size=(CHAINS, SAMPLES, len(SAMPLED)))
    for s in range(1, SAMPLES):
        steps[:, s] = MEMORY * steps[:, s - 1] + np.sqrt(1 - MEMORY**2) * steps[:, s]
    return steps


def _statistics(label: str, chains: np.ndarray, rng: np.random.Generator) -> SampleStatistics:
    shape = chains.shape[:2]
    diverging = np.zeros(shape, bool)
    diverging[1, 17] = True
    return SampleStatistics(
        label=label,
        draws=chains,
        energy=905.0 + 0.5 * rng.chisquare(16, shape),
        acceptance=rng.beta(9, 1, shape),
        num_steps=rng.choice([3, 7, 7, 15], shape),
        diverging=diverging,
        bfmi=np.array([0.95, 1.02, 0.88, 1.1]),
        step_size=np.array([0.61, 0.58, 0.63, 0.6]),
    )


def _shards(centre: np.ndarray, factor: np.ndarray, rng: np.random.Generator) -> tuple[ShardRecord, ...]:
    width = np.linalg.norm(factor, axis=1)
    records = []
    for index in range(SHARDS):
        accepted = index != 2
        records.append(
            ShardRecord(
                index=index,
                pairs=569,
                weight=1.0,
                distance=None,
                accepted=accepted,
                reasons=() if accepted else ("R-hat 1.31 of beta",),
                r_hat=1.008 if accepted else 1.31,
                ess=612.0 if accepted else 9.0,
                divergences=0 if accepted else 41,
                bfmi=0.93,
                mean=centre + width * rng.normal(scale=0.3 if accepted else 2.5, size=len(SAMPLED)),
                std=1.1 * width,
                attempts=1 if accepted else 3,
                gradients=14000,
                seconds=8.5,
            )
        )
    return tuple(records)


def _heterogeneity(centre: np.ndarray, factor: np.ndarray, rng: np.random.Generator) -> Any:
    covariance = SHARDS * factor @ factor.T
    estimates = rng.multivariate_normal(centre, covariance, SHARDS, method="cholesky")
    return heterogeneity(SAMPLED, estimates, np.broadcast_to(covariance, (SHARDS, *covariance.shape)))


def _certificate() -> Certificate:
    count = len(SAMPLED)
    return Certificate(
        word="certified",
        reason="the consensus agrees with the full-data posterior: largest shift of a mean 0.04 standard deviations",
        k_hat=0.21,
        limit=0.67,
        ess=2890.0,
        parameter_ess=np.full(count, 2700.0),
        mean_shift=np.linspace(-0.04, 0.03, count),
        sd_ratio=np.linspace(0.98, 1.02, count),
        draws=np.zeros((CHAINS * SAMPLES, count)),
        log_posterior=np.zeros(CHAINS * SAMPLES),
        distinct=930,
        nonfinite=0,
        evaluations=4000,
        rounds=(),
        log_integral=-905.2,
        log_integral_error=0.01,
    )
