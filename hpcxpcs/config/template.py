"""The commented template of a model and the JSON Schema, both made from the descriptions of the keys."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hpcxpcs.config.parameters import Parameter, model_named, parameters_of
from hpcxpcs.config.scale import dimensionless, needs_data
from hpcxpcs.config.schema import Config
from hpcxpcs.config.section import inner_section, is_section
from hpcxpcs.errors import ConfigError

SCHEMA_FILE_NAME = "hpcxpcs.schema.json"
_WIDTH = 100


def template(model: str) -> str:
    """A YAML configuration for a model (name or alias) with every key, its default and its description."""
    try:
        name = model_named(model)
    except ValueError as error:
        raise ConfigError(f"model: '{model}' {error}") from None
    head = [
        f"# yaml-language-server: $schema=./{SCHEMA_FILE_NAME}",
        f"# Configuration of hpcxpcs for the model {name}. A key that is left out has the value shown.",
        "",
    ]
    special = {
        "analysis_mode": name,
        "bounds": [*_bounds(name)],
        "parameter_names": [parameter.name for parameter in parameters_of(name)],
    }
    return "\n".join([*head, *_section(Config, special, 0)]) + "\n"


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the configuration, for editors."""
    schema = Config.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_without_markers(schema)}


def _without_markers(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_markers(item) for key, item in node.items() if key != "commented_example"}
    if isinstance(node, list):
        return [_without_markers(item) for item in node]
    return node


def _section(section: type[BaseModel], special: Mapping[str, Any], depth: int) -> Iterator[str]:
    """The lines of a section, indented."""
    indent = "  " * depth
    for key, field in section.model_fields.items():
        yield from (f"{indent}# {line}" for line in textwrap.wrap(_description(field), _WIDTH - len(indent)))
        inner = inner_section(field)
        if is_section(field.annotation) and inner is not None:
            yield f"{indent}{key}:"
            yield from _section(inner, special, depth + 1)
        else:
            yield from _key(key, field, special, indent)
        if depth == 0:
            yield ""


def _key(key: str, field: FieldInfo, special: Mapping[str, Any], indent: str) -> Iterator[str]:
    value = special.get(key, _shown_value(field))
    if key == "bounds":
        yield f"{indent}{key}:"
        yield from (f"{indent}  {line}" for line in value)
    elif _example(field) is not None:
        yield f"{indent}# {key}: {_flow(_example(field))}"
    else:
        yield f"{indent}{key}: {_flow(value)}"


def _description(field: FieldInfo) -> str:
    """The description, with the allowed words when the description does not spell them all."""
    text = field.description or ""
    words = [word for word in get_args(field.annotation) if isinstance(word, str)]
    if words and not all(word in text for word in words):
        text = f"{text} ({' | '.join(words)})"
    return text


def _example(field: FieldInfo) -> Any:
    """The example of a key that is shown as a comment, or None."""
    extra = field.json_schema_extra
    return extra.get("commented_example") if isinstance(extra, dict) else None


def _shown_value(field: FieldInfo) -> Any:
    value = field.examples[0] if field.examples else field.get_default(call_default_factory=True)
    if isinstance(value, tuple):
        return [item.model_dump() if isinstance(item, BaseModel) else item for item in value]
    return value


def _bounds(model: str) -> Iterator[str]:
    """One entry per parameter, commented: the data decide unless the user does."""
    for parameter in parameters_of(model):
        unit = f" in {parameter.unit}" if parameter.unit else ""
        yield f"# {parameter.description}{unit}"
        yield f"- {_flow(_bound_entry(parameter))}"


def _bound_entry(parameter: Parameter) -> dict[str, Any]:
    """Bounds and prior in numbers where they have no dimension, and null where they come from the data."""
    if needs_data(parameter):
        return {"name": parameter.name, "min": None, "max": None, "prior": None}
    found = dimensionless(parameter)
    return {"name": parameter.name, "min": found.lower, "max": found.upper, "prior": found.prior.to_mapping()}


def _flow(value: Any) -> str:
    """A value in YAML's one-line style."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, float):
        return _number(value)
    return value if isinstance(value, str) and value else json.dumps(value)


def _number(value: float) -> str:
    """The shortest spelling that every YAML reader takes for a float (1.0e+05, never 1e5)."""
    text = repr(value)
    if abs(value) >= 1e5 or 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:.15e}".split("e")
        mantissa = mantissa.rstrip("0")
        candidate = f"{mantissa}0e{exponent}" if mantissa.endswith(".") else f"{mantissa}e{exponent}"
        text = candidate if float(candidate) == value else text
    return text
