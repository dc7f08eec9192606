"""Whether a configuration is ours, homodyne's or heterodyne's, by keys that only one of them has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MARKS = (
    *("metadata.config_version", "phi_filtering", "analysis_settings", "noise_estimation", "plotting"),
    *("temporal", "parameters", "v2_features", "optimization_config", "q_tolerance_fraction"),
    *("parameter_space.model", "parameter_space.priors", "performance", "experimental_data.file_format"),
    *("experimental_data.cache_file_path", "experimental_data.cache_filename_template"),
    *("experimental_data.phi_angles_path", "experimental_data.exchange_key", "experimental_data.data_type"),
    *("initial_parameters.per_angle_scaling", "initial_parameters.units", "optimization.mcmc"),
    *("optimization.streaming", "optimization.stratification", "optimization.sequential"),
    *(
        "optimization.nlsq.anti_degeneracy",
        "optimization.nlsq.hybrid_streaming",
        "optimization.nlsq.workflow",
    ),
    *("optimization.nlsq.loss", "optimization.nlsq.per_angle_mode", "optimization.nlsq.analysis_mode"),
    *("optimization.cmc.per_angle_mode", "optimization.cmc.backend_config", "optimization.cmc.enable"),
    *("data_file", "data_filtering.enabled", "data_filtering.q_range", "hardware", "hmc"),
    *("analyzer_parameters.wavevector_q", "analyzer_parameters.stator_rotor_gap"),
    "experimental_data.apply_diagonal_correction",
    *("optimization.nlsq.quality_validation", "optimization.nlsq.progress", "metadata.parameter_count"),
)
"""Keys that our configurations never have."""
_OF_AN_ENTRY = ("type", "unit", "log_space")
_HETERODYNE_MARKS = (
    *("parameters", "temporal", "optimization.nlsq.analysis_mode", "optimization.nlsq.per_angle_mode"),
    *(
        "optimization.nlsq.enable_anti_degeneracy",
        "optimization.cmc.per_angle",
        "optimization.nlsq.multistart",
    ),
    *("output.output_dir", "analysis", "phi_filtering.include_angles", "phi_filtering.exclude_angles"),
    *(f"analyzer_parameters.{group}" for group in ("reference", "sample", "velocity", "fraction")),
)
_HETERODYNE_MODES = ("two_component", "heterodyne", "static_ref", "static_both")


def dialect_of(data: Mapping[str, Any]) -> str | None:
    """`homodyne` or `heterodyne`; None for a configuration of ours, or one that is nobody's in particular."""
    if "schema_version" in data:
        return None
    marked = any(_has(data, mark) for mark in _MARKS) or any(
        key in entry for entry in _bounds(data) for key in _OF_AN_ENTRY
    )
    if not marked:
        nameless = "analysis_mode" not in data and _names_two_components(data)
        return "heterodyne" if nameless else None
    mode = data.get("analysis_mode")
    if isinstance(mode, str) and mode.strip().lower() not in _HETERODYNE_MODES:
        return "homodyne"
    two = isinstance(mode, str) or any(_has(data, mark) for mark in _HETERODYNE_MARKS)
    return "heterodyne" if two or _names_two_components(data) else "homodyne"


def _has(data: Any, mark: str) -> bool:
    for part in mark.split("."):
        if not isinstance(data, Mapping) or part not in data:
            return False
        data = data[part]
    return True


def _bounds(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    space = data.get("parameter_space")
    entries = space.get("bounds") if isinstance(space, Mapping) else None
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []


def _names_two_components(data: Mapping[str, Any]) -> bool:
    """Whether start values or bounds are about the parameters of two components."""
    initial = data.get("initial_parameters")
    names = initial.get("parameter_names") if isinstance(initial, Mapping) else None
    listed = list(names) if isinstance(names, list) else []
    listed += [entry.get("name") for entry in _bounds(data)]
    return any(isinstance(name, str) and name.endswith(("_ref", "_sample")) for name in listed)
