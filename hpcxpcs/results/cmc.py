"""The posterior as files: parameters, quality, diagnostics, draws, under their public names."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hpcxpcs.files.atomic import Fault, atomic_write_bytes
from hpcxpcs.files.json_safe import write_json
from hpcxpcs.results.cmc_diagnostics import diagnostics_record, r_hat_of
from hpcxpcs.results.inference_data import inference_data_file
from hpcxpcs.results.marginals import Marginals, marginals
from hpcxpcs.results.nlsq import dataset_info, labels_of, preprocessing_of, stage_names, utc_now
from hpcxpcs.results.posterior_records import Posterior
from hpcxpcs.results.quality import correlation_words
from hpcxpcs.results.records import SCHEMA_VERSION, Answer
from hpcxpcs.results.samples import samples_archive
from hpcxpcs.results.trust import (
    POSTERIOR_QUALITY_RULE,
    draw_correlations,
    posterior_quality,
    posterior_warnings,
    strongest_pairs,
    trusted,
    weighs_shards,
    z_words,
)


def write_posterior(
    folder: Path, answer: Answer, posterior: Posterior, *, fault: Fault | None = None
) -> tuple[Path, ...]:
    """Write the numbers of a posterior into an existing folder and return the files."""
    records = {
        "parameters.json": parameters_record(answer, posterior),
        "analysis_results_cmc.json": analysis_record(answer, posterior),
        "diagnostics.json": {**heading(answer, posterior), **diagnostics_record(posterior)},
    }
    for name, record in records.items():
        write_json(folder / name, record, fault=fault)
    archives = {
        "samples.npz": samples_archive(posterior, answer.fit.model, stage_names(answer.data)),
        "inference_data.nc": inference_data_file(answer, posterior),
    }
    for name, content in archives.items():
        atomic_write_bytes(folder / name, content, fault=fault)
    return tuple(folder / name for name in (*records, *archives))


def heading(answer: Answer, posterior: Posterior) -> dict[str, Any]:
    """What every record of a posterior begins with."""
    return {
        "schema_version": SCHEMA_VERSION,
        "method": posterior.settings.get("method", "cmc"),
        "timestamp": utc_now(),
        "analysis_mode": answer.fit.model,
        "route": posterior.route,
        "verdict": posterior.verdict,
    }


def parameters_record(answer: Answer, posterior: Posterior) -> dict[str, Any]:
    """The answer: what the posterior says about each parameter and each angle's contrast and offset."""
    fit = answer.fit
    sampled = set(posterior.names)
    return {
        **heading(answer, posterior),
        "words": posterior.words,
        "conventions": dict(fit.conventions),
        **preprocessing_of(answer.data),
        "sampling_summary": sampling_summary(posterior),
        "convergence": _convergence(posterior),
        "parameters": {name: _parameter(answer, posterior, k) for k, name in enumerate(posterior.names)},
        **labels_of(fit),
        "fixed_parameters": {
            name: {"value": fit.values[k], "unit": fit.units[k]}
            for k, name in enumerate(fit.names)
            if name not in sampled
        },
        "scaling": {"mode": fit.scaling.mode, "per_angle": per_angle_draws(answer, posterior)},
    }


def analysis_record(answer: Answer, posterior: Posterior) -> dict[str, Any]:
    """How good the sampling was, what the data were, where the parameters may be, and the point fit beside."""
    names, matrix = draw_correlations(posterior)
    return {
        **heading(answer, posterior),
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
                {**asdict(pair), "words": correlation_words(pair.value)} for pair in strongest_pairs(names, matrix)
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
    parts = {
        name: marginals(draws, posterior.summary.hdi_probability)
        for name, draws in (("contrast", posterior.contrast), ("offset", posterior.offset))
    }
    return [
        {"phi": phi, **{name: _marginal(found, k) for name, found in parts.items()}}
        for k, phi in enumerate(answer.data.phi)
    ]


def _convergence(posterior: Posterior) -> dict[str, Any]:
    summary, statistics = posterior.summary, posterior.statistics
    return {
        "all_converged": posterior.judgement.passed,
        "r_hat_of": r_hat_of(posterior),
        "min_r_hat": np.min(summary.r_hat),
        "max_r_hat": np.max(summary.r_hat),
        "min_ess": min(np.min(summary.ess_bulk), np.min(summary.ess_tail)),
        "accept_rate": np.mean(statistics.acceptance),
        "divergences": int(np.count_nonzero(statistics.diverging)),
        "min_bfmi": np.min(statistics.bfmi),
    }


def _parameter(answer: Answer, posterior: Posterior, k: int) -> dict[str, Any]:
    summary = posterior.summary
    columns = ("mean", "std", "median", "hdi", "r_hat", "ess_bulk", "ess_tail", "mcse_mean", "prior_std", "contraction")
    return {
        **{name: getattr(summary, name)[k] for name in columns},
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
    names = list(answer.fit.names)
    return [answer.fit.lower[names.index(name)], answer.fit.upper[names.index(name)]] if name in names else None


def _comparison(answer: Answer, posterior: Posterior, k: int) -> dict[str, Any]:
    summary, fit, name = posterior.summary, answer.fit, posterior.names[k]
    place = list(fit.names).index(name) if name in fit.names else None
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


def _marginal(found: Marginals, k: int) -> dict[str, Any]:
    return {"mean": found.mean[k], "std": found.std[k], "median": found.median[k], "hdi": found.hdi[k]}
