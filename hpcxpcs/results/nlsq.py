"""The point fit as files: parameters, quality, convergence and covariance, under their public names."""

from __future__ import annotations

import io
import os
import platform
from dataclasses import asdict
from typing import Any

import numpy as np

from hpcxpcs.answer.fit import Alternative, CompressionReport, PointFit
from hpcxpcs.answer.fit_verdict import (
    QUALITY_RULE,
    correlation_matrix,
    noise_meaning,
    noise_words,
    physical_correlations,
    quality_flag,
    quality_warnings,
    strongest_correlations,
    weighed_ratios,
    weighs_speckles,
)
from hpcxpcs.answer.posterior import Posterior
from hpcxpcs.data.preprocess import stages_of
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.files.json_safe import dumps, utc_now
from hpcxpcs.results.joint import own_values
from hpcxpcs.results.records import SCHEMA_VERSION, picked


def point_fit_files(fit: PointFit, data: TwoTime) -> dict[str, bytes]:
    """The files that hold the numbers of a point fit, by name."""
    records = {
        "parameters.json": parameters_record(fit, data),
        "analysis_results_nlsq.json": analysis_record(fit, data),
        "convergence_metrics.json": convergence_record(fit),
    }
    return {
        **{name: dumps(record).encode() for name, record in records.items()},
        "covariance.npz": covariance_archive(fit),
    }


def parameters_record(fit: PointFit, data: TwoTime) -> dict[str, Any]:
    """The answer: each parameter with error bars, unit and bounds, and each angle's contrast and offset."""
    return {
        **heading(fit),
        "conventions": fit.conventions,
        **preprocessing_of(data),
        "convergence_status": fit.status,
        **picked(fit, "chi_squared", "reduced_chi_squared", "noise_scale"),
        "sigma": {
            "source": fit.sigma_source,
            "meaning": noise_meaning(fit),
            "per_angle": per_angle_noise(fit, data),
        },
        "noise": noise_record(fit, data),
        "parameters": {name: _parameter(fit, k) for k, name in enumerate(fit.names)},
        "data_scale": fit.data_scale,
        **sets_record(fit),
        "alternatives": [_alternative(fit, other) for other in fit.alternatives],
        **labels_of(fit),
        "scaling": {
            **picked(fit.scaling, "mode", "widths", "notes"),
            "per_angle": per_angle_scaling(fit, data),
        },
    }


def sets_record(fit: PointFit, posterior: Posterior | None = None) -> dict[str, Any]:
    """The data sets of a joint fit, whether they agree, and what each has of its own; nothing for one data set."""
    if fit.joint is None:
        return {}
    found, agreement = fit.joint, fit.joint.agreement
    columns = zip(agreement.names, agreement.q, agreement.probability, agreement.i_squared, strict=True)
    return {
        "data_sets": {
            "labels": found.labels,
            "q": found.q,
            "agreement": {
                "words": agreement.words,
                "parameters": {name: {"q": q, "p": p, "i_squared": i} for name, q, p, i in columns},
                **picked(agreement, "joint_q", "joint_freedom", "joint_probability"),
            },
            "own": {one.name: asdict(one) for one in own_values(fit, posterior)},
        }
    }


def noise_record(fit: PointFit, data: TwoTime) -> dict[str, Any] | None:
    """The parts of the noise that robust error bars rest on; null where there are none."""
    parts = fit.noise
    if parts is None:
        return None
    each = zip(data.phi, parts.white, parts.shared, parts.smooth, parts.photons, parts.pixels, strict=True)
    names = ("phi", "independent", "shared", "smooth", "photons_per_pixel", "independent_pixels")
    return {
        "model": parts.model,
        "why_not_speckle": parts.why,
        "robust_errors_from": parts.errors_from,
        "words": noise_words(fit),
        "photons_from": parts.photons_from,
        **(_weighed(fit) if weighs_speckles(fit) else {}),
        "expected_reduced_chi_squared": parts.expected_chi_squared,
        "smooth_ratio": {
            "used": parts.smooth_ratio,
            "measured": parts.measured_ratio,
            "products": parts.products,
        },
        "per_angle": [dict(zip(names, values, strict=True)) for values in each],
        "in_the_file": {"photons_per_pixel": parts.counted_photons, "pixels": parts.counted_pixels},
    }


def _weighed(fit: PointFit) -> dict[str, Any]:
    """Of a fit that weighs pairs by their speckles: squares, whiteness, and its error bars over others."""
    assert fit.noise is not None
    ratios = weighed_ratios(fit).items()
    return {
        "frames_per_square": fit.noise.width,
        "whiteness": dict(zip(("smooth", "shared", "independent"), fit.noise.levels, strict=True)),
        "error_over": {name: dict(zip(fit.names, values, strict=True)) for name, values in ratios},
    }


def analysis_record(fit: PointFit, data: TwoTime) -> dict[str, Any]:
    """How well the model describes the data, what the data were, and how the search went."""
    names, correlations = physical_correlations(fit)
    return {
        **heading(fit),
        "fit_quality": {
            **picked(fit, "chi_squared", "reduced_chi_squared", "degrees_of_freedom"),
            "quality_flag": quality_flag(fit),
            "quality_rule": QUALITY_RULE,
        },
        "dataset_info": dataset_info(fit, data),
        "optimization_summary": {
            "convergence_status": fit.status,
            **picked(fit, "message", "iterations", "evaluations"),
            "execution_time": fit.seconds,
            "multi_start": fit.search.asked,
            "n_screened": fit.search.screened,
            "n_starts": fit.search.followed,
            "n_minima": fit.search.minima,
            "n_free_parameters": int(np.count_nonzero(fit.free)),
        },
        "correlations": {
            "names": names,
            "matrix": correlations,
            "strongest": strongest_correlations(names, correlations),
        },
    }


def convergence_record(fit: PointFit) -> dict[str, Any]:
    """How the search converged, what had to be recovered, and every check that the fit went through."""
    warnings = quality_warnings(fit)
    return {
        **heading(fit),
        "convergence": {
            **picked(fit, "status", "message", "iterations", "evaluations"),
            "execution_time": fit.seconds,
            "final_chi_squared": fit.chi_squared,
            "reduced_chi_squared": fit.reduced_chi_squared,
        },
        "recovery_actions": fit.recovery_actions,
        "starts": [
            {**picked(start, "cost", "status"), "values": dict(zip(fit.names, start.values, strict=True))}
            for start in fit.starts
        ],
        "quality_flag": quality_flag(fit),
        "quality_rule": QUALITY_RULE,
        "quality_validation_passed": not warnings,
        "quality_warnings": warnings,
        **picked(fit, "gradient_balance", "condition_number"),
        "compression": _compression(fit.compression),
        "device_info": device_info(),
    }


def covariance_archive(fit: PointFit) -> bytes:
    """An .npz of names (m,), covariance, correlation and, if computed, robust_covariance (m,m each)."""
    arrays = {
        "names": np.array(fit.covariance_names, dtype=np.str_),
        "covariance": np.asarray(fit.covariance, dtype=float),
        "correlation": correlation_matrix(np.asarray(fit.covariance, dtype=float)),
    }
    if fit.robust_covariance is not None:
        arrays["robust_covariance"] = np.asarray(fit.robust_covariance, dtype=float)
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    return content.getvalue()


def dataset_info(fit: PointFit, data: TwoTime) -> dict[str, Any]:
    """Size and origin of the fitted data; each pair of frames counts once."""
    return {
        "n_angles": data.n_phi,
        "n_time_points": data.n_frames,
        "total_data_points": int(np.sum(fit.pairs)),
        "data_points_per_angle": fit.pairs,
        "phi_angles": data.phi,
        "q_value": data.q if data.q_known else None,
        "dt": data.dt,
        "time_unit": data.time_unit,
        "frames": data.frames,
        **preprocessing_of(data),
    }


def preprocessing_of(data: TwoTime) -> dict[str, Any]:
    """What was done to the data before they were fitted, stage by stage; nothing when nothing was."""
    stages = data.provenance.get("preprocessing")
    return {"preprocessing": [dict(stage) for stage in stages]} if stages else {}


def labels_of(fit: PointFit) -> dict[str, Any]:
    """Which of two components is the sample, what decides it, and the solution with their names exchanged."""
    found = fit.exchange
    if found is None:
        return {}
    return {
        "component_labels": {
            "decided_by": found.decided_by,
            "told_by_data": not found.indifferent,
            "chi_squared_difference": found.difference,
            "exchanged": dict(zip(fit.names, found.values, strict=True)),
            "words": found.words,
        }
    }


def stage_names(data: TwoTime) -> list[str]:
    """The stages of preprocessing as archives name them, "stage: method"; empty when nothing was on."""
    return [f"{stage}: {method}" for stage, method, _ in stages_of(data.processing)]


def per_angle_scaling(fit: PointFit, data: TwoTime) -> list[dict[str, Any]]:
    """Contrast and offset of each angle (degrees) with their uncertainties."""
    scaling = fit.scaling
    columns = {
        "contrast": scaling.contrast,
        "contrast_uncertainty": scaling.contrast_uncertainty,
        "contrast_robust_uncertainty": scaling.robust_contrast_uncertainty,
        "offset": scaling.offset,
        "offset_uncertainty": scaling.offset_uncertainty,
        "offset_robust_uncertainty": scaling.robust_offset_uncertainty,
    }
    return [
        {"phi": phi, **set_of(data, k), **{n: None if column is None else column[k] for n, column in columns.items()}}
        for k, phi in enumerate(data.phi)
    ]


def set_of(data: TwoTime, k: int) -> dict[str, str]:
    """The data set that an angle of a joint fit belongs to; nothing for one set."""
    return {"data_set": data.set_labels[data.set_of_angle[k]]} if data.sets else {}


def per_angle_noise(fit: PointFit, data: TwoTime) -> list[dict[str, Any]]:
    """σ (see noise_meaning), number of points and χ² of each angle (degrees)."""
    columns = zip(data.phi, fit.sigma, fit.pairs, fit.chi_squared_per_angle, strict=True)
    return [
        {"phi": phi, **set_of(data, k), "sigma": sigma, "pairs": int(pairs), "chi_squared": chi}
        for k, (phi, sigma, pairs, chi) in enumerate(columns)
    ]


def device_info() -> dict[str, Any]:
    """What computed the fit: JAX's platform and devices, the processor, the cores this process may use."""
    import jax

    return {
        "platform": jax.default_backend(),
        "devices": [str(device) for device in jax.devices()],
        "double_precision": bool(jax.config.jax_enable_x64),
        "processor": platform.processor() or platform.machine(),
        "cores_available": len(os.sched_getaffinity(0)),
    }


def heading(fit: PointFit, method: str = "nlsq") -> dict[str, Any]:
    """What every record begins with."""
    return {
        "schema_version": SCHEMA_VERSION,
        "method": method,
        "timestamp": utc_now(),
        "analysis_mode": fit.model,
    }


def estimate(fit: PointFit, k: int) -> dict[str, Any]:
    """Value, error bars and unit of a parameter."""
    robust = fit.robust_uncertainty
    return {
        "value": fit.values[k],
        "uncertainty": fit.uncertainty[k],
        "robust_uncertainty": None if robust is None else robust[k],
        "unit": fit.units[k],
    }


def _parameter(fit: PointFit, k: int) -> dict[str, Any]:
    return {
        **estimate(fit, k),
        "bounds": [fit.lower[k], fit.upper[k]],
        "bounds_from": [fit.origins[fit.names[k]][side] for side in ("min", "max")],
        "at_bound": bool(fit.at_bound[k]),
        "fixed": bool(not fit.free[k] and not fit.at_bound[k]),
    }


def _alternative(fit: PointFit, other: Alternative) -> dict[str, Any]:
    """The fit without one of two parameters that the data hardly tell apart."""
    return {
        "pair": other.pair,
        "correlation": other.correlation,
        "held_at_zero": other.held,
        "chi_squared_change": other.change,
        "parameters": {
            name: {"value": other.values[k], "uncertainty": other.uncertainty[k]}
            for k, name in enumerate(fit.names)
            if np.isfinite(other.uncertainty[k])
        },
    }


def _compression(report: CompressionReport) -> dict[str, Any]:
    return {
        **picked(report, "provider", "cells", "nodes", "pairs", "error", "largest_error", "tolerance"),
        "within_tolerance": report.within_tolerance,
        **picked(report, "checked_pairs", "checked_points", "rounds"),
    }
