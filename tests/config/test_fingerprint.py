"""The fingerprint changes with what can change the answer, and with nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcxpcs.config import Config, config_from_mapping, load_config

FULL: dict[str, Any] = {
    "analysis_mode": "laminar_flow",
    "experimental_data": {"file_path": "data/rheo.hdf", "format": "nexus"},
    "analyzer_parameters": {
        "dt": 0.5,
        "start_frame": 2,
        "end_frame": 100,
        "time_origin": "file",
        "scattering": {"wavevector_q": 0.0054},
        "geometry": {"stator_rotor_gap": 10000.0},
    },
    "data_filtering": {
        "q_tolerance": 0.2,
        "phi_ranges": [{"min": 10.0, "max": 90.0}],
        "dead_frames": [3],
        "non_finite": "mask",
    },
    "conventions": {"shear_law": "homodyne-2", "integrator": "trapezoid", "heterodyne": "heterodyne-2"},
    "scaling": {"mode": "constant", "fourier_order": 3, "constant": {"contrast": 0.25, "offset": 1.0}},
    "noise": {"sigma": 0.01, "scale": "fixed"},
    "parameter_space": {
        "bounds": [{"name": "D0", "min": 200.0, "max": 10000.0, "prior": {"type": "uniform"}}],
    },
    "initial_parameters": {
        "parameter_names": ["D0", "alpha"],
        "values": [1000.0, 0.5],
        "fixed_parameters": {"phi0": 1.0},
    },
    "optimization": {
        "method": "nlsq",
        "nlsq": {
            "multi_start": 4,
            "cmaes": True,
            "max_iterations": 50,
            "tolerance": 1e-6,
            "uncertainty": "model",
            "seed": 1,
        },
    },
    "likelihood": {"tolerance": 0.1},
}  # fmt: skip
OTHER_WORD = {
    "laminar_flow": None,  # other models have other parameters
    "nexus": "cube",
    "file": "window",
    "mask": "refuse",
    "homodyne-2": "couette",
    "trapezoid": "exact",
    "heterodyne-2": "physical",
    "constant": None,  # other modes have no constant
    "fixed": "sampled",
    "D0": "D_offset",
    "alpha": "beta",
    "uniform": None,  # other priors have values
    "nlsq": None,  # the only method
    "model": "robust",
    "data/rheo.hdf": "data/rheo2.hdf",
}


def leaves(node: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], Any]]:
    if isinstance(node, dict):
        return [leaf for key, item in node.items() for leaf in leaves(item, (*path, key))]
    if isinstance(node, list):
        return [leaf for index, item in enumerate(node) for leaf in leaves(item, (*path, index))]
    return [(path, node)]


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return OTHER_WORD[value]
    return value * 1.5 if isinstance(value, float) else value + 1


def changed(path: tuple[str | int, ...]) -> dict[str, Any]:
    copy = json.loads(json.dumps(FULL))
    node = copy
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = another(node[path[-1]])
    return copy


CHANGEABLE = [path for path, value in leaves(FULL) if another(value) is not None]


def test_it_is_a_sha256_in_hex() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", config_from_mapping(FULL).fingerprint())


@pytest.mark.parametrize("path", CHANGEABLE, ids=lambda path: ".".join(map(str, path)))
def test_given_any_other_setting_then_another_fingerprint(path: tuple[str | int, ...]) -> None:
    assert config_from_mapping(changed(path)).fingerprint() != config_from_mapping(FULL).fingerprint()


@given(st.randoms(use_true_random=False))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_given_any_order_of_keys_and_any_spelling_of_numbers_then_the_same_fingerprint(
    tmp_path: Path, random: Any
) -> None:
    as_yaml, as_json = tmp_path / "a.yaml", tmp_path / "a.json"
    shuffled = respelled(FULL, random)
    as_yaml.write_text("# a comment\n" + yaml.safe_dump(shuffled, sort_keys=False))
    as_json.write_text(json.dumps(shuffled))
    expected = config_from_mapping(FULL).fingerprint()
    assert load_config(as_yaml).fingerprint() == load_config(as_json).fingerprint() == expected


def respelled(node: Any, random: Any) -> Any:
    if isinstance(node, dict):
        keys = list(node)
        random.shuffle(keys)
        return {key: respelled(node[key], random) for key in keys}
    if isinstance(node, list):
        return [respelled(item, random) for item in node]
    if isinstance(node, bool) or not isinstance(node, (int, float)):
        return node
    spellings = [node, float(node), repr(float(node)), f"{node:.17e}", f" {node} "]
    return random.choice(spellings)


@pytest.mark.parametrize(
    "section",
    [
        {"output": {"directory": "elsewhere", "plots": False, "report": False, "fitted_data": False}},
        {"runtime": {"memory": "2 GiB", "compilation_cache_dir": None}},
    ],
)
def test_given_other_output_or_runtime_then_the_same_fingerprint(section: dict[str, Any]) -> None:
    assert config_from_mapping({**FULL, **section}).fingerprint() == config_from_mapping(FULL).fingerprint()


@pytest.mark.parametrize(
    "same",
    [
        {
            "initial_parameters": {
                "parameter_names": ["alpha", "D0"],
                "values": [0.5, 1e3],
                "fixed_parameters": {"phi_0": 1},
            }
        },
        {"experimental_data": {"data_folder_path": "data", "data_file_name": "rheo.hdf", "format": "nexus"}},
        {"experimental_data": {"file_path": "./data/rheo.hdf", "format": "nexus"}},
        {"analysis_mode": "laminar", "schema_version": 1},
    ],
)  # fmt: skip
def test_given_another_way_to_say_the_same_then_the_same_fingerprint(same: dict[str, Any]) -> None:
    assert config_from_mapping({**FULL, **same}).fingerprint() == config_from_mapping(FULL).fingerprint()


def test_given_defaults_spelled_out_then_the_same_fingerprint(smallest: dict[str, Any]) -> None:
    config: Config = config_from_mapping(smallest)
    assert config_from_mapping(config.to_mapping()).fingerprint() == config.fingerprint()
