"""Files become a Config, or one clear error; never a default configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcxpcs.config import Config, config_from_mapping, load_config
from hpcxpcs.errors import ConfigError

Load = Callable[..., Config]


def test_given_the_smallest_file_when_loaded_then_all_else_has_its_default(load: Load) -> None:
    config = load()
    assert config.analyzer_parameters.dt == "auto"
    assert config.analyzer_parameters.end_frame == -1
    assert config.analyzer_parameters.geometry.stator_rotor_gap == 2.0e6
    assert config.scaling.mode == "auto"
    assert config.optimization.nlsq.multi_start == 8
    assert config.output.plots is True


def test_given_numbers_as_text_when_loaded_then_numbers(load: Load) -> None:
    config = load(
        "likelihood: {tolerance: 1e-3}\noptimization: {nlsq: {multi_start: 4.0, tolerance: 1}}\n",
        *(["optimization.nlsq.tolerance=1e-6"]),
    )
    assert config.likelihood.tolerance == 1e-3
    assert config.optimization.nlsq.multi_start == 4
    assert config.optimization.nlsq.tolerance == 1e-6


def test_given_a_relative_data_path_when_loaded_then_it_starts_at_the_config_file(load: Load, tmp_path: Path) -> None:
    config = load()
    assert config.data_file == tmp_path / "data" / "rheo.hdf"
    assert config.source == tmp_path / "config.yaml"


def test_given_folder_and_name_when_loaded_then_they_are_joined(smallest: dict[str, Any], tmp_path: Path) -> None:
    smallest["experimental_data"] = {"data_folder_path": "/beam line/42", "data_file_name": "it's.hdf"}
    assert config_from_mapping(smallest, tmp_path).data_file == Path("/beam line/42/it's.hdf")


def test_given_no_base_when_read_from_a_mapping_then_paths_start_at_the_working_directory(
    smallest: dict[str, Any],
) -> None:
    config = config_from_mapping(smallest)
    assert config.data_file == Path.cwd() / "data" / "rheo.hdf"
    assert config.source is None


@pytest.mark.parametrize("name", ["config.json", "config.txt"])
def test_given_json_when_loaded_then_equal_to_yaml(
    load: Load, load_text: Load, smallest: dict[str, Any], name: str
) -> None:
    text = json.dumps(smallest, indent="\t")
    assert load_text(text, name).to_mapping() == load().to_mapping()


def test_given_json_escapes_when_loaded_then_the_characters(load_text: Load, smallest: dict[str, Any]) -> None:
    smallest["experimental_data"]["file_path"] = "/d/é 😀.hdf"
    assert load_text(json.dumps(smallest), "c.json").data_file == Path("/d/é 😀.hdf")


def test_given_a_byte_order_mark_when_loaded_then_ignored(load_text: Load, smallest: dict[str, Any]) -> None:
    assert load_text(b"\xef\xbb\xbf" + json.dumps(smallest).encode()).analysis_mode == "laminar_flow"


@pytest.mark.parametrize("alias", ["static_isotropic", "static_anisotropic", "Static"])
def test_given_an_alias_of_a_model_when_loaded_then_canonical(smallest: dict[str, Any], alias: str) -> None:
    assert config_from_mapping({**smallest, "analysis_mode": alias}).analysis_mode == "static"


def test_given_an_empty_section_when_loaded_then_its_defaults(load: Load) -> None:
    assert load("output:\nnoise: {}\n").output.directory == "runs"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- 1\n- 2\n", "holds a list"),
        ("hello\n", "holds a single value"),
        ("a: [1, 2\nb: 3\n", ":2: malformed YAML"),
        ("a: 1\n\tb: 2\n", ":2: malformed YAML"),
        ("a: 1\n---\nb: 2\n", ":2: malformed YAML"),
        ("a: \x07\n", "malformed YAML"),
        ("a: *nowhere\n", ":1: malformed YAML"),
        (b"a: \xff\xfe\n", "is not UTF-8 text"),
        (b"\x89HDF\r\n\x1a\n\x00\x00", "is an HDF5 data file"),
        ("a: 1\n".encode("utf-16"), "is not UTF-8 text"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", ":3: b.c: is given in lines 3 and 4"),
        ("? [1, 2]\n: 3\n", "has a key that is not plain text"),
        ("a: !!python/object:os.system {}\n", "malformed YAML|not allowed"),
        ("a: !danger x\n", "a: has the tag !danger, which is not allowed"),
        ("[" * 3000, "nested too deeply"),
        ("a: &a [x]\n" + "".join(f"a{i}: &a{i} [{', '.join(['*a' + str(i - 1) if i else '*a'] * 9)}]\n"
                                 for i in range(8)), "more than 100000 values"),
    ],
)  # fmt: skip
def test_given_an_unusable_file_when_loaded_then_the_error_says_why(
    load_text: Load, content: str | bytes, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_text(content)
    assert "config.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1,}', "c.json:1: malformed JSON"),
        ('{"a": 1,\n "a": 2}', "c.json:1: a: is given in lines 1 and 2"),
        ("[1, 2]", "holds a list"),
        ("", "c.json:1: malformed JSON"),
        ("analysis_mode: static", "c.json:1: malformed JSON"),
        ('{"analysis_mode":' * 90000, "nested too deeply|malformed"),
    ],
)
def test_given_unusable_json_when_loaded_then_the_error_says_why(load_text: Load, content: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_text(content, "c.json")


def test_given_no_such_file_or_a_folder_when_loaded_then_told_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; `hpcxpcs config new"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_given_a_loaded_config_when_changed_then_refused(load: Load) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().scaling.mode = "fourier"


def test_given_a_config_when_written_as_mapping_and_read_then_the_same(load: Load, tmp_path: Path) -> None:
    more = """
parameter_space:
  bounds:
    - {name: D0, min: 200, prior_mu: 3e3, prior_sigma: 1e3}
    - {name: phi0, max: 9, prior: {type: uniform}}
initial_parameters: {fixed_parameters: {phi_0: 1}, values: [1e3, 0, null, 0.1, 0, 0, 0]}
data_filtering: {phi_range: {min: 170, max: -170}, dead_frames: [3, 1]}
runtime: {memory: 2 GiB, compilation_cache_dir: null}
scaling: {mode: constant, constant: {contrast: 0.2, offset: 1}}
"""
    config = load(more)
    again = config_from_mapping(json.loads(json.dumps(config.to_mapping())), tmp_path)
    assert again.to_mapping() == config.to_mapping()
    assert again.fingerprint() == config.fingerprint()
    assert again.data_file == config.data_file


ODD = [
    None,
    True,
    -1,
    0,
    1e308,
    "",
    "x",
    "\x00",
    [],
    [[]],
    {},
    {"a": 1},
    [1, "a", None],
    {"type": "uniform"},
    "1e-3",
]


def every_path(node: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(node, dict):
        return [path, *(found for key, item in node.items() for found in every_path(item, (*path, key)))]
    if isinstance(node, list):
        return [
            path,
            *(found for index, item in enumerate(node) for found in every_path(item, (*path, index))),
        ]
    return [path]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_given_an_odd_value_at_any_key_when_read_then_a_config_or_an_error_that_names_the_key(
    load: Load, odd: object
) -> None:
    full = load(
        "parameter_space: {bounds: [{name: D0, min: 200, prior: {type: normal, mu: 1e3, sigma: 1e3}}]}\n"
        "initial_parameters: {parameter_names: [D0], values: [1e3], fixed_parameters: {phi0: 1}}\n"
        "scaling: {mode: constant, constant: {contrast: 0.2, offset: 1}}\n"
    ).to_mapping()
    for path in every_path(full)[1:]:
        changed = json.loads(json.dumps(full))
        node = changed
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = odd
        try:
            config = config_from_mapping(changed)
        except ConfigError as error:
            assert str(path[0]) in str(error)
        else:
            assert config_from_mapping(config.to_mapping()).fingerprint() == config.fingerprint()
