"""The posterior as files: parameters, quality, diagnostics, draws, under their public names."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.fit_verdict import correlation_words, strongest_correlations
from hpcxpcs.answer.joint import Heterogeneity
from hpcxpcs.answer.posterior import Certificate, Posterior, ShardRecord
from hpcxpcs.answer.posterior_verdict import (
    POSTERIOR_QUALITY_RULE,
    certificate_words,
    draw_correlations,
    ess_of,
    is_independent,
    posterior_quality,
    posterior_warnings,
    r_hat_of,
    trusted,
    weighs_shards,
    z_words,
)
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.files.json_safe import dumps
from hpcxpcs.results.inference_data import inference_data_file
from hpcxpcs.results.nlsq import dataset_info, heading, labels_of, preprocessing_of, set_of, sets_record, stage_names
from hpcxpcs.results.records import Answer, picked, picked_at

SAMPLES_SCHEMA = (1, 0)


def samples_archive(posterior: Posterior, analysis_mode: str, stages: Sequence[str] = ()) -> bytes:
    """An .npz archive of the arrays below, compressed."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **sample_arrays(posterior, analysis_mode, stages))
    return content.getvalue()


def sample_arrays(
    posterior: Posterior, analysis_mode: str, stages: Sequence[str] = ()
) -> dict[str, np.ndarray[Any, Any]]:
    """The archive's members: draws (C,S,n) with names, contrast and offset (C,S,n_phi), diagnostics (n,).

    `stages` are the names of what preprocessing did to the data.
    """
    summary, (chains, samples, _) = posterior.summary, np.shape(posterior.draws)
    numbers = {
        "posterior_samples": posterior.draws,
        "r_hat": summary.r_hat,
        "ess_bulk": summary.ess_bulk,
        "ess_tail": summary.ess_tail,
        "contrast": posterior.contrast,
        "offset": posterior.offset,
        "log_posterior": posterior.log_posterior,
    }
    counts = {
        "divergences": 0 if posterior.statistics is None else posterior.statistics.divergences,
        "n_phi": np.shape(posterior.contrast)[-1],
        "n_chains": chains,
        "n_samples": samples,
        "seed": posterior.seed,
    }
    words = {"analysis_mode": analysis_mode, "route": posterior.route, "verdict": posterior.verdict}
    return {
        "param_names": np.array(posterior.names, dtype=np.str_),
        "units": np.array(posterior.units, dtype=np.str_),
        **{name: np.asarray(array, dtype=float) for name, array in numbers.items()},
        **{name: np.array([count], dtype=np.int64) for name, count in counts.items()},
        **{name: np.array([text], dtype=np.str_) for name, text in words.items()},
        **({"preprocessing": np.array(stages, dtype=np.str_)} if stages else {}),
        "schema_version": np.array(SAMPLES_SCHEMA, dtype=np.int64),
    }


def posterior_files(answer: Answer, posterior: Posterior) -> dict[str, bytes]:
    """The files that hold the numbers of a posterior, by name."""
    records = {
        "parameters.json": posterior_parameters_record(answer, posterior),
        "analysis_results_cmc.json": posterior_analysis_record(answer, posterior),
        "diagnostics.json": diagnostics_record(answer, posterior),
    }
    return {
        **{name: dumps(record).encode() for name, record in records.items()},
        "samples.npz": samples_archive(posterior, answer.fit.model, stage_names(answer.data)),
        "inference_data.nc": inference_data_file(answer, posterior),
    }


def _heading(answer: Answer, posterior: Posterior) -> dict[str, Any]:
    """What every record of a posterior begins with."""
    return {**heading(answer.fit, posterior.method), **picked(posterior, "route", "verdict")}


def posterior_parameters_record(answer: Answer, posterior: Posterior) -> dict[str, Any]:
    """The answer: what the posterior says about each parameter and each angle's contrast and offset."""
    fit = answer.fit
    sampled = set(posterior.names)
    return {
        **_heading(answer, posterior),
        "words": posterior.words,
        "conventions": fit.conventions,
        **preprocessing_of(answer.data),
        "sampling_summary": sampling_summary(posterior),
        "convergence": _convergence(posterior),
        "parameters": {name: _parameter(answer, posterior, k) for k, name in enumerate(posterior.names)},
        **sets_record(fit, posterior),
        **labels_of(fit),
        "fixed_parameters": {
            name: {"value": fit.values[k], "unit": fit.units[k]}
            for k, name in enumerate(fit.names)
            if name not in sampled
        },
        "scaling": {"mode": fit.scaling.mode, "per_angle": per_angle_draws(answer, posterior)},
    }


def posterior_analysis_record(answer: Answer, posterior: Posterior) -> dict[str, Any]:
    """How good the sampling was, what the data were, where the parameters may be, and the point fit beside."""
    names, matrix = draw_correlations(posterior)
    return {
        **_heading(answer, posterior),
        "sampling_quality": {
            "convergence_status": "converged" if trusted(posterior) and posterior.judgement.passed else "not_converged",
            "quality_flag": posterior_quality(posterior),
            "quality_rule": POSTERIOR_QUALITY_RULE,
            "words": posterior.words,
            "widening": dict(zip(posterior.names, posterior.widening, strict=True)),
            "warnings": posterior_warnings(posterior, answer.fit),
            "recommendations": list(posterior.recommendations),
        },
        "dataset_info": dataset_info(answer.fit, answer.data),
        "sampling_summary": sampling_summary(posterior),
        "parameter_space": {name: _space(answer, posterior, k) for k, name in enumerate(posterior.names)},
        "initial_values": dict(zip(posterior.names, posterior.summary.point_value, strict=True)),
        "comparison_to_nlsq": {name: _comparison(answer, posterior, k) for k, name in enumerate(posterior.names)},
        "correlations": {
            "names": names,
            "matrix": matrix,
            "strongest": [
                {**asdict(pair), "words": correlation_words(pair.value)}
                for pair in strongest_correlations(names, matrix)
            ],
        },
    }


def sampling_summary(posterior: Posterior) -> dict[str, Any]:
    """Size, seed and cost of the sampling (seconds); `settings` are those of the sampler."""
    return {
        "n_samples": posterior.samples,
        "n_warmup": posterior.settings.get("warmup"),
        "n_chains": posterior.chains,
        "total_samples": posterior.chains * posterior.samples,
        "n_shards": len(posterior.shards),
        "seed": posterior.seed,
        "execution_time": posterior.timings.get("total", float(sum(posterior.timings.values()))),
        "timings": dict(posterior.timings),
        "gradient_evaluations": sum(shard.gradients for shard in posterior.shards) or None,
        "settings": dict(posterior.settings),
    }


def per_angle_draws(answer: Answer, posterior: Posterior) -> list[dict[str, Any]]:
    """Contrast and offset of each angle (degrees) with mean, sd, median and interval."""
    columns = ("mean", "std", "median", "hdi")
    parts = posterior.scaling_marginals().items()
    return [
        {"phi": phi, **set_of(answer.data, k), **{name: picked_at(k, found, *columns) for name, found in parts}}
        for k, phi in enumerate(answer.data.phi)
    ]


def _convergence(posterior: Posterior) -> dict[str, Any]:
    summary, statistics = posterior.summary, posterior.statistics
    return {
        "all_converged": posterior.judgement.passed,
        "r_hat_of": r_hat_of(posterior),
        "min_r_hat": np.min(summary.r_hat),
        "max_r_hat": np.max(summary.r_hat),
        "min_ess": summary.fewest_effective,
        "accept_rate": None if statistics is None else np.mean(statistics.acceptance),
        "divergences": None if statistics is None else statistics.divergences,
        "min_bfmi": None if statistics is None else np.min(statistics.bfmi),
    }


def _parameter(answer: Answer, posterior: Posterior, k: int) -> dict[str, Any]:
    summary = posterior.summary
    columns = ("mean", "std", "median", "hdi", "r_hat", "ess_bulk", "ess_tail", "mcse_mean", "prior_std", "contraction")
    return {
        **picked_at(k, summary, *columns),
        "hdi_probability": summary.hdi_probability,
        "unit": posterior.units[k],
        "bounds": _bounds(answer, posterior.names[k]),
    }


def _space(answer: Answer, posterior: Posterior, k: int) -> dict[str, Any]:
    return {
        "unit": posterior.units[k],
        "bounds": _bounds(answer, posterior.names[k]),
        "prior": answer.fit.priors.get(posterior.names[k]),
        "from": answer.fit.origins.get(posterior.names[k]),
        "prior_std": posterior.summary.prior_std[k],
    }


def _bounds(answer: Answer, name: str) -> list[float] | None:
    """Allowed range of a parameter of the model; the noise scale has none in the point fit."""
    k = answer.fit.place(name)
    return None if k is None else [answer.fit.lower[k], answer.fit.upper[k]]


def _comparison(answer: Answer, posterior: Posterior, k: int) -> dict[str, Any]:
    summary, fit, name = posterior.summary, answer.fit, posterior.names[k]
    place = fit.place(name)
    uncertainty = math.nan if place is None else float(fit.uncertainty[place])
    return {
        "nlsq_value": summary.point_value[k],
        "nlsq_uncertainty": uncertainty,
        "posterior_mean": summary.mean[k],
        "posterior_std": summary.std[k],
        "z": summary.z[k],
        "width_ratio": summary.std[k] / uncertainty if uncertainty > 0 else None,
        "words": z_words(float(summary.z[k]), weighted=weighs_shards(posterior)),
    }


def diagnostics_record(answer: Answer, posterior: Posterior) -> dict[str, Any]:
    """Convergence, sampling efficiency, shards, agreement between them, certificate, modes and compression."""
    return {
        **_heading(answer, posterior),
        "convergence": _diagnosed(posterior),
        "sampling_efficiency": _efficiency(posterior),
        "cmc_specific": _shards(posterior),
        "heterogeneity": None if posterior.heterogeneity is None else _heterogeneity(posterior.heterogeneity),
        "certificate": _certificate(posterior),
        "modes": picked(posterior.modes, "count", "weights", "delta_bic", "words"),
        "evidence": _evidence(answer, posterior),
    }


def _evidence(answer: Answer, posterior: Posterior) -> dict[str, Any]:
    """The evidence, and on what it rests: models can be compared where all of that is the same."""
    return {
        **picked(posterior, "log_evidence", "log_evidence_error"),
        "words": "" if posterior.evidence is None else posterior.evidence.words,
        "basis": evidence_basis(answer.fit, answer.data, posterior),
    }


def evidence_basis(fit: PointFit, data: TwoTime, posterior: Posterior) -> dict[str, Any]:
    """What models have in common whose evidence can be compared, and the σ that each was found with."""
    return {
        "data_fingerprint": data.fingerprint(),
        "q": data.q,
        "frames": data.frames,
        "phi": data.phi,
        "noise_model": "independent" if fit.noise is None else fit.noise.model,
        "noise_scale": "sampled" if "noise_scale" in posterior.names else "fixed",
        "scaling": fit.scaling.mode,
        "widths": fit.scaling.widths,
        **picked(fit, "sigma_source", "sigma", "pairs"),
        "chi_squared": fit.chi_squared_per_angle,
    }


def _diagnosed(posterior: Posterior) -> dict[str, Any]:
    thresholds = posterior.settings.get("thresholds", {})
    columns = ("name", "parameter", "value", "threshold", "recommendation")
    return {
        "passed": posterior.judgement.passed,
        "r_hat_threshold": thresholds.get("max_r_hat"),
        "ess_threshold": thresholds.get("min_ess"),
        "bfmi_threshold": thresholds.get("min_bfmi"),
        "divergence_rate_threshold": thresholds.get("max_divergence_rate"),
        "r_hat_of": r_hat_of(posterior),
        "ess_of": ess_of(posterior),
        "per_parameter_diagnostics": [_per_parameter(posterior, k) for k in range(len(posterior.names))],
        "failed": [picked(finding, *columns) for finding in posterior.judgement.failed],
        "remarks": [picked(finding, *columns) for finding in posterior.judgement.remarks],
    }


def _per_parameter(posterior: Posterior, k: int) -> dict[str, Any]:
    summary, name = posterior.summary, posterior.names[k]
    failed = {finding.parameter for finding in posterior.judgement.failed}
    return {
        "name": name,
        **picked_at(k, summary, "r_hat", "ess_bulk", "ess_tail", "mcse_mean", "contraction"),
        "converged": name not in failed and (is_independent(posterior) or bool(np.isfinite(summary.r_hat[k]))),
    }


def _efficiency(posterior: Posterior) -> dict[str, Any] | None:
    statistics = posterior.statistics
    if statistics is None:
        return None
    steps = np.asarray(statistics.num_steps, dtype=float)
    depth = np.ceil(np.log2(np.maximum(steps, 1.0) + 1.0))
    return {
        "of": statistics.label,
        "acceptance_rate": np.mean(statistics.acceptance),
        "divergences": statistics.divergences,
        "divergence_rate": np.mean(statistics.diverging),
        "tree_depth": {"mean": np.mean(depth), "max": int(np.max(depth))},
        "num_steps": {"mean": np.mean(steps), "max": int(np.max(steps))},
        **picked(statistics, "bfmi", "step_size"),
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


def _shard(shard: ShardRecord, posterior: Posterior) -> dict[str, Any]:
    columns = ("index", "pairs", "weight", "distance", "accepted", "reasons", "r_hat", "ess", "divergences", "bfmi")
    return {
        **picked(shard, *columns),
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
        **picked(posterior, "route", "verdict", "words"),
        **(_weights(posterior.certificate) if posterior.certificate is not None else {"checked": False}),
        "compression_error": compression.error,
        "compression_largest_error": compression.largest_error,
        "compression_tolerance": compression.tolerance,
        "compression_within_tolerance": compression.within_tolerance,
        "compression_checked_points": compression.checked_points,
    }


def _weights(certificate: Certificate) -> dict[str, Any]:
    return {
        "checked": True,
        **picked(certificate, "word", "reason", "k_hat"),
        "k_hat_limit": certificate.limit,
        "ess": certificate.ess,
        "distinct_draws": certificate.distinct,
        "draws_outside_support": certificate.nonfinite,
        "mean_shifts": certificate.mean_shift,
        "sd_ratios": certificate.sd_ratio,
        "coordinates": "mean_shifts (in posterior sd) and sd_ratios belong to the sampling coordinates, in order",
        "summary": certificate_words(certificate),
    }
