"""Every problem is named with file, line, key, value, what is allowed, what was meant; all at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcxpcs.config import Config, config_from_mapping
from hpcxpcs.errors import ConfigError

Problems = Callable[..., list[str]]
Load = Callable[..., Config]
# The smallest configuration of conftest.py has 4 lines, so `more` begins at line 5.


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("optimisation: {}", "config.yaml:5: optimisation: is not a known key; did you mean 'optimization'?"),
        ("scaling: {mod: auto}", "config.yaml:5: scaling.mod: is not a known key; did you mean 'mode'?"),
        ("zzz: 1", "known here: schema_version, analysis_mode"),
        ("optimization: {multi_start: 3}", "did you mean optimization.nlsq.multi_start?"),
        (
            "scaling:\n  mode: fourrier",
            'config.yaml:6: scaling.mode: "fourrier" must be one of auto, averaged',
        ),
        ("scaling:\n  mode: fourrier", "did you mean 'fourier'?"),
        ("noise: {sigma: atuo}", "did you mean 'auto'?"),
        ("noise: {sigma: -1}", "noise.sigma: -1 must be greater than 0"),
        ("noise: {sigma: /exchange/sigma, scale: 3}", "noise.scale: 3 must be one of sampled, fixed"),
        ("noise: []", "noise: [] must be a section of keys"),
        ("output: {plots: 1}", "output.plots: 1 must be true or false"),
        ("output: {directory: ' '}", "is empty"),
        ("output: {directory: 3}", "output.directory: 3 must be text"),
        ("likelihood: {tolerance: true}", "likelihood.tolerance: true is not a number"),
        ("likelihood: {tolerance: .nan}", 'likelihood.tolerance: ".nan" is not a finite number'),
        ("likelihood: {tolerance: 0}", "must be greater than 0 (largest accepted error"),
        ("scaling: {mode: fourier, fourier_order: 0}", "scaling.fourier_order: 0 must be at least 1"),
        ("scaling: {mode: constant, constant: {contrast: 0.1}}", "scaling.constant.offset: is missing"),
        ("scaling: {constant: {contrast: 0.1, offset: 1}}", "has no effect with mode auto"),
        ("data_filtering: {dead_frames: nnoe}", "did you mean 'none'?"),
        ("data_filtering: {dead_frames: [0]}", "has a frame below 1"),
        ("data_filtering: {dead_frames: [x]}", "is not a whole number"),
        ("data_filtering: {q_tolerance: -1}", "must be greater than 0"),
        ("optimization: {method: mcmc}", "must be one of nlsq, cmc, exact, importance"),
        ("optimization: {nlsq: {cmaes: 'no'}}", "must be true or false"),
        ("runtime: {memory: 4}", 'write the unit, for example "4 GiB"'),
        ("schema_version: 2", "schema_version: 2 is not a schema version this program reads; it reads 1"),
        ("initial_parameters: {parameter_names: D0}", "must be a list"),
    ],
)
def test_given_one_mistake_when_loaded_then_one_line_that_helps(problems: Problems, more: str, expected: str) -> None:
    found = problems(more + "\n")
    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("dt", 0, "dt: 0 must be greater than 0 (time between frames in s"),
        ("dt", "fast", 'dt: "fast" is not a number; allowed: a number of seconds, auto or frames'),
        ("start_frame", 0, "start_frame: 0 must be at least 1"),
        ("start_frame", 1.5, "start_frame: 1.5 is not a whole number"),
        ("end_frame", 1, "end_frame: 1 must be -1 (the last frame) or greater than start_frame (1)"),
        ("end_frame", -2, "end_frame: -2 must be -1"),
        ("scattering", {"wavevector_q": 0}, "scattering.wavevector_q: 0 must be greater than 0"),
        ("scattering", {"wavevector_q": 54}, "scattering.wavevector_q: 54 must be at most 10 1/Å (magnitude"),
        ("geometry", {"stator_rotor_gap": -1}, "must be at least 1000 (gap between stator and rotor in Å"),
        ("geometry", {"stator_rotor_gap": 2e-4}, "must be at least 1000 (gap between stator and rotor in Å"),
        ("time_origin", "windw", "did you mean 'window'?"),
    ],
)
def test_given_an_impossible_measurement_when_read_then_told_so(
    smallest: dict[str, Any], key: str, value: object, expected: str
) -> None:
    smallest["analyzer_parameters"][key] = value
    with pytest.raises(ConfigError) as caught:
        config_from_mapping(smallest)
    assert str(caught.value).startswith(f"analyzer_parameters.{key}")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, "is missing; give file_path, or data_folder_path and data_file_name"),
        ({"data_file_name": "a"}, "is missing; give file_path, or data_folder_path and data_file_name"),
        ({"file_path": "a", "data_file_name": "b"}, "keep one of the two"),
        ({"file_path": "a", "format": "nexsu"}, "did you mean 'nexus'?"),
    ],
)
def test_given_no_single_data_file_when_read_then_told_so(
    smallest: dict[str, Any], data: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError, match="experimental_data") as caught:
        config_from_mapping({**smallest, "experimental_data": data})
    assert expected in str(caught.value)


def test_given_missing_sections_when_loaded_then_the_missing_keys_are_named(load_text: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("output: {plots: true}\n")
    text = str(caught.value)
    assert "3 problems" in text
    assert "analysis_mode: is missing (model: static" in text
    assert "experimental_data.file_path: is missing" in text
    assert "analyzer_parameters.scattering.wavevector_q: is missing" in text


def test_given_an_unknown_model_when_loaded_then_the_models_and_the_nearest(load_text: Load) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml:1: analysis_mode") as caught:
        load_text("analysis_mode: laminr_flow\n")
    assert "static, laminar_flow, two_component" in str(caught.value)
    assert "did you mean 'laminar_flow'?" in str(caught.value)


MANY_MISTAKES = """\
outptu: {}
scaling:
  mode: fourrier
parameter_space:
  bounds:
    - {name: D0, min: 200, max: 100}
    - {name: v0}
    - {name: phi0, prior: {type: normal, mu: 0}}
initial_parameters:
  fixed_parameters: {alhpa: 1}
"""


def test_given_many_mistakes_when_loaded_then_all_are_listed_in_the_order_of_lines(
    problems: Problems,
) -> None:
    found = problems(MANY_MISTAKES)
    lines = [int(line.split(":")[1]) for line in found]
    assert lines == [5, 7, 10, 11, 12, 14]
    assert "max: 100 must be greater than min (200)" in found[2]
    assert "v0" in found[3]
    assert "two_component has it" in found[3]
    assert "lacks sigma" in found[4]
    assert "did you mean 'alpha'?" in found[5]


def test_given_a_mistake_elsewhere_when_loaded_then_conflicts_of_parameters_are_listed_too(
    problems: Problems,
) -> None:
    found = problems("scaling: {mode: x}\ninitial_parameters: {fixed_parameters: {alpha: 9}}\n")
    assert len(found) == 2
    assert "alpha: 9.0 is outside the bounds -2 ... 2 of alpha" in found[1]


def test_given_json_when_loaded_then_lines_are_named_too(load_text: Load) -> None:
    with pytest.raises(ConfigError, match=r"c\.json:3: scaling\.mode"):
        load_text('{"analysis_mode": "static",\n "scaling": {\n  "mode": 7}}', "c.json")


def test_given_a_long_value_when_refused_then_shortened(problems: Problems) -> None:
    assert len(problems(f"noise: {{scale: {'x' * 5000}}}\n")[0]) < 400


def test_given_an_odd_path_when_a_config_is_refused_then_it_is_named(load_text: Load, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"it's a \$file\.yaml"):
        load_text("a: 1\n", "it's a $file.yaml")
