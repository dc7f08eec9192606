"""Templates and JSON Schema are made from the schema, so they cannot disagree with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpcxpcs.config import MODEL_NAMES, config_from_mapping, json_schema, load_config, template
from hpcxpcs.config.parameters import ALIASES
from hpcxpcs.config.schema import Config
from hpcxpcs.config.section import inner_section, leaf_paths
from hpcxpcs.errors import ConfigError


def without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_given_a_model_when_its_template_is_loaded_then_it_is_the_default_configuration(
    model: str, smallest: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(template(model), encoding="utf-8")
    config = load_config(path)
    smallest["analysis_mode"] = model
    smallest["experimental_data"]["file_path"] = config.experimental_data.file_path
    assert config.fingerprint() == config_from_mapping(smallest).fingerprint()
    assert config.output == config_from_mapping(smallest).output
    assert config.runtime == config_from_mapping(smallest).runtime


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_given_a_template_when_written_out_and_read_again_then_unchanged(model: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(template(model), encoding="utf-8")
    config = load_config(path)
    path.write_text(yaml.safe_dump(config.to_mapping()), encoding="utf-8")
    assert load_config(path).to_mapping() == config.to_mapping()


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_given_a_template_when_its_commented_keys_are_uncommented_one_by_one_then_each_is_known(
    model: str, tmp_path: Path
) -> None:
    lines = template(model).splitlines()
    keys = {"data_folder_path", "data_file_name", "phi_range", "constant", "active_parameters"}
    for index, line in enumerate(lines):
        key = line.lstrip().removeprefix("# ").split(":")[0]
        if not line.lstrip().startswith("# ") or key not in keys:
            continue
        keys.discard(key)
        path = tmp_path / "config.yaml"
        path.write_text("\n".join([*lines[:index], line.replace("# ", "", 1), *lines[index + 1 :]]), encoding="utf-8")
        try:
            load_config(path)
        except ConfigError as error:
            assert "is not a known key" not in str(error)
    assert not keys


def test_the_first_line_names_the_schema_for_editors() -> None:
    first = template("static").splitlines()[0]
    assert first == "# yaml-language-server: $schema=./hpcxpcs.schema.json"


def test_given_an_alias_then_the_template_of_its_model() -> None:
    for alias, model in ALIASES.items():
        assert template(alias) == template(model)


def test_given_an_unknown_model_then_the_nearest_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r"'laminr' is not a model .*did you mean 'laminar'"):
        template("laminr")


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_given_a_template_then_every_reader_of_yaml_takes_its_numbers_for_numbers(model: str) -> None:
    bounds = yaml.safe_load(template(model))["parameter_space"]["bounds"]
    numbers = [
        value
        for entry in bounds
        for value in (entry["min"], entry["max"], *list((entry["prior"] or {}).values())[1:])
        if value is not None
    ]
    assert all(isinstance(number, float) for number in numbers)


def test_every_key_has_a_description_that_is_in_the_template() -> None:
    text = " ".join(template("laminar_flow").replace("#", " ").split())
    for path in leaf_paths(Config):
        section = Config
        for part in path[:-1]:
            inner = inner_section(section.model_fields[str(part)])
            assert inner is not None
            section = inner  # type: ignore[assignment]
        description = section.model_fields[str(path[-1])].description
        assert description, path
        in_a_list = {"phi_range", "phi_ranges", "bounds", "constant", "campaign", "joint"} & set(path[:-1])
        assert in_a_list or description in text, path


def properties(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    found: dict[str, Any] = node.get("properties", {})
    return found


def test_given_a_template_then_the_json_schema_knows_every_key_of_it() -> None:
    schema = json_schema()
    for model in MODEL_NAMES:
        pending = [(yaml.safe_load(template(model)), schema)]
        while pending:
            data, node = pending.pop()
            known = properties(schema, node)
            assert not known or set(data) <= set(known)
            pending += [(value, known[key]) for key, value in data.items() if isinstance(value, dict) and key in known]


def test_the_json_schema_refuses_unknown_keys_and_describes_the_known() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    for name, section in schema["$defs"].items():
        assert section["additionalProperties"] is False, name
        for key, node in section["properties"].items():
            assert node.get("description"), (name, key)


def test_the_json_schema_is_plain_json_and_names_what_is_required() -> None:
    schema = json.loads(json.dumps(json_schema(), allow_nan=False))
    assert set(schema["required"]) == {"analysis_mode", "experimental_data", "analyzer_parameters"}
    assert set(schema["properties"]["analysis_mode"]["enum"]) == {*MODEL_NAMES, *ALIASES}
    assert "commented_example" not in json.dumps(schema)
