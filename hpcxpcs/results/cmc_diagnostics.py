"""diagnostics.json: every check of a posterior, with its threshold, its value and its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcxpcs.results.posterior_records import Certificate, Finding, Heterogeneity, Posterior, Shard
from hpcxpcs.results.trust import certificate_words


def diagnostics_record(posterior: Posterior) -> dict[str, Any]:
    """Convergence, sampling efficiency, shards, agreement between them, certificate, modes and compression."""
    return {
        "convergence": _convergence(posterior),
        "sampling_efficiency": _efficiency(posterior),
        "cmc_specific": _shards(posterior),
        "heterogeneity": None if posterior.heterogeneity is None else _heterogeneity(posterior.heterogeneity),
        "certificate": _certificate(posterior),
        "modes": {
            "count": posterior.modes.count,
            "weights": posterior.modes.weights,
            "delta_bic": posterior.modes.delta_bic,
            "words": posterior.modes.words,
        },
    }


def r_hat_of(posterior: Posterior) -> str:
    """Which chains R-hat compares: combined draws have none of their own."""
    return "worst shard" if posterior.route == "consensus" else "chains"


def ess_of(posterior: Posterior) -> str:
    """What the effective sample sizes count."""
    return "importance weights" if posterior.route == "consensus" else "chains"


def _convergence(posterior: Posterior) -> dict[str, Any]:
    thresholds: Mapping[str, Any] = posterior.settings.get("thresholds", {})
    return {
        "passed": posterior.judgement.passed,
        "r_hat_threshold": thresholds.get("max_r_hat"),
        "ess_threshold": thresholds.get("min_ess"),
        "bfmi_threshold": thresholds.get("min_bfmi"),
        "divergence_rate_threshold": thresholds.get("max_divergence_rate"),
        "r_hat_of": r_hat_of(posterior),
        "ess_of": ess_of(posterior),
        "per_parameter_diagnostics": [_per_parameter(posterior, k) for k in range(len(posterior.names))],
        "failed": [_finding(finding) for finding in posterior.judgement.failed],
        "remarks": [_finding(finding) for finding in posterior.judgement.remarks],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "parameter": finding.parameter,
        "value": finding.value,
        "threshold": finding.threshold,
        "recommendation": finding.recommendation,
    }


def _per_parameter(posterior: Posterior, k: int) -> dict[str, Any]:
    summary, name = posterior.summary, posterior.names[k]
    columns = ("r_hat", "ess_bulk", "ess_tail", "mcse_mean", "contraction")
    failed = {finding.parameter for finding in posterior.judgement.failed}
    return {
        "name": name,
        **{column: getattr(summary, column)[k] for column in columns},
        "converged": name not in failed and bool(np.isfinite(summary.r_hat[k])),
    }


def _efficiency(posterior: Posterior) -> dict[str, Any]:
    statistics = posterior.statistics
    steps = np.asarray(statistics.num_steps, dtype=float)
    depth = np.ceil(np.log2(np.maximum(steps, 1.0) + 1.0))
    return {
        "of": statistics.label,
        "acceptance_rate": np.mean(statistics.acceptance),
        "divergences": int(np.count_nonzero(statistics.diverging)),
        "divergence_rate": np.mean(statistics.diverging),
        "tree_depth": {"mean": np.mean(depth), "max": int(np.max(depth))},
        "num_steps": {"mean": np.mean(steps), "max": int(np.max(steps))},
        "bfmi": statistics.bfmi,
        "step_size": statistics.step_size,
    }


def _shards(posterior: Posterior) -> dict[str, Any]:
    accepted = [shard.index for shard in posterior.shards if shard.accepted]
    return {
        "combination_method": posterior.settings.get("combination"),
        "strategy": posterior.settings.get("strategy"),
        "anchor": posterior.settings.get("anchor"),
        "num_shards": len(posterior.shards),
        "accepted": accepted,
        "rejected": [shard.index for shard in posterior.shards if not shard.accepted],
        "contradicting": [shard.index for shard in posterior.shards if shard.distance is not None],
        "shard_summary": [_shard(shard, posterior) for shard in posterior.shards],
    }


def _shard(shard: Shard, posterior: Posterior) -> dict[str, Any]:
    columns = ("index", "pairs", "weight", "distance", "accepted", "reasons", "r_hat", "ess", "divergences", "bfmi")
    return {
        **{column: getattr(shard, column) for column in columns},
        "mean": dict(zip(posterior.names, shard.mean, strict=True)),
        "std": dict(zip(posterior.names, shard.std, strict=True)),
        "attempts": shard.attempts,
        "gradient_evaluations": shard.gradients,
        "execution_time": shard.seconds,
    }


def _heterogeneity(found: Heterogeneity) -> dict[str, Any]:
    columns = zip(found.names, found.q, found.probability, found.i_squared, strict=True)
    return {
        "shards": found.shards,
        "per_parameter": {
            name: {"cochran_q": q, "p_value": p, "i_squared": share, "disagrees": name in found.disagreeing}
            for name, q, p, share in columns
        },
        "joint": {"q": found.joint_q, "degrees_of_freedom": found.joint_freedom, "p_value": found.joint_probability},
        "words": found.words,
    }


def _certificate(posterior: Posterior) -> dict[str, Any]:
    compression = posterior.compression
    return {
        "route": posterior.route,
        "verdict": posterior.verdict,
        "words": posterior.words,
        **(_weights(posterior.certificate) if posterior.certificate is not None else {"checked": False}),
        "compression_error": compression.error,
        "compression_largest_error": compression.largest_error,
        "compression_tolerance": compression.tolerance,
        "compression_within_tolerance": bool(compression.error <= compression.tolerance),
        "compression_checked_points": compression.checked_points,
    }


def _weights(certificate: Certificate) -> dict[str, Any]:
    return {
        "checked": True,
        "word": certificate.word,
        "reason": certificate.reason,
        "k_hat": certificate.k_hat,
        "k_hat_limit": certificate.limit,
        "ess": certificate.ess,
        "distinct_draws": certificate.distinct,
        "draws_outside_support": certificate.nonfinite,
        "mean_shifts": certificate.mean_shift,
        "sd_ratios": certificate.sd_ratio,
        "coordinates": "mean_shifts (in posterior sd) and sd_ratios belong to the sampling coordinates, in order",
        "summary": certificate_words(certificate),
    }
