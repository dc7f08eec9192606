"""A key that nothing reads must not exist: users would set it, and nothing would happen."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

import hpcxpcs
from hpcxpcs.config.field_types import inner_section, leaf_paths
from hpcxpcs.config.schema import Config

# These declare or describe keys; what they mention is not thereby used.
DECLARE_KEYS = {
    "cli/config.py",
    "config/field_types.py",
    "config/logging_sections.py",
    "config/parameter_sections.py",
    "config/posterior_sections.py",
    "config/preprocessing_sections.py",
    "config/quality_sections.py",
    "config/schema.py",
    "config/sections.py",
    "config/template.py",
}
CHECKED_WHEN_READ = {"schema_version"}


def folded_keys() -> set[str]:
    """Keys that become another key while reading (phi_range -> phi_ranges), marked by exclude=True."""
    found, pending = set(), [Config]
    while pending:
        for name, field in pending.pop().model_fields.items():
            inner = inner_section(field)
            if field.exclude:
                found.add(name)
            if inner is not None:
                pending.append(inner)  # type: ignore[arg-type]
    return found


def keys() -> set[str]:
    """The last part of every key of the configuration that something has to read."""
    names = {str(path[-1]) for path in leaf_paths(Config) if not folded_keys() & set(map(str, path))}
    return names - CHECKED_WHEN_READ


def unread(names: Iterable[str], package: Path) -> list[str]:
    """The names that no module of a package reads as an attribute (`section.name`)."""
    read: set[str] = set()
    for path in package.rglob("*.py"):
        if path.relative_to(package).as_posix() not in DECLARE_KEYS:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
            read |= {node.attr for node in attributes if isinstance(node.ctx, ast.Load)}
    return sorted(set(names) - read)


def test_every_key_of_the_configuration_is_read_somewhere() -> None:
    assert unread(keys(), Path(hpcxpcs.__file__).parent) == []


def test_the_keys_are_the_leaves_of_the_schema() -> None:
    assert {"end_frame", "wavevector_q", "multi_start", "fitted_data", "min"} <= keys()
    assert not {"phi_range", "prior_mu", "prior_sigma", "scaling", "schema_version"} & keys()


@pytest.mark.parametrize(
    ("module", "text", "expected"),
    [
        ("data/select.py", "print(config.analyzer_parameters.end_frame)", []),
        ("data/select.py", "last = section.end_frame or 3", []),
        ("data/select.py", "end_frame = 3  # end_frame", ["end_frame"]),
        ("data/select.py", "section.end_frame = 3", ["end_frame"]),
        ("data/select.py", "'section.end_frame'", ["end_frame"]),
        ("data/select.py", "section.end_frames", ["end_frame"]),
        ("config/schema.py", "section.end_frame", ["end_frame"]),
        ("config/template.py", "section.end_frame", ["end_frame"]),
        ("cli/config.py", "section.end_frame", ["end_frame"]),
    ],
)
def test_given_a_package_then_only_reading_an_attribute_elsewhere_counts(
    tmp_path: Path, module: str, text: str, expected: list[str]
) -> None:
    path = tmp_path / module
    path.parent.mkdir()
    path.write_text(text)
    assert unread(["end_frame"], tmp_path) == expected
