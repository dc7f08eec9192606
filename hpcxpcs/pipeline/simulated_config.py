"""A configuration, ready to run, for a simulated file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hpcxpcs.config.load import config_from_mapping
from hpcxpcs.config.parameters import parameters_of

_HEADER = "# Written with the simulated file it names: bounds, priors and starts come from the data.\n"
_REDUNDANT = "# f2 is fixed: f0·exp(f1·(t − f2)) is the same function for any f2, with another f0.\n"


def config_text(truth: Mapping[str, Any], *, data_file: Path, config_file: Path) -> str:
    """YAML text of the configuration for `data_file`, named relative to `config_file`; checked to load."""
    settings = _settings(truth, os.path.relpath(data_file.resolve(), config_file.parent.resolve()))
    config_from_mapping(settings, config_file.parent)
    header = _HEADER + (_REDUNDANT if "f2" in truth["parameters"] else "")
    return header + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _settings(truth: Mapping[str, Any], file_path: str) -> dict[str, Any]:
    table = parameters_of(truth["model"])
    fixed = {name: truth["parameters"][name] for name in ("f2",) if name in truth["parameters"]}
    return {
        "schema_version": 1,
        "analysis_mode": truth["model"],
        "experimental_data": {"file_path": file_path},
        "analyzer_parameters": {
            "dt": truth["dt"],
            "scattering": {"wavevector_q": truth["q"]},
            "geometry": {"stator_rotor_gap": truth["gap"]},
        },
        "conventions": dict(truth["conventions"]),
        "initial_parameters": {
            "parameter_names": [item.name for item in table],
            "fixed_parameters": fixed,
        },
    }
