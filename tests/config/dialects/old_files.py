"""The published programs' examples as mappings, with changes, and the configurations that they become."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpcxpcs.config import Config, config_from_mapping
from hpcxpcs.config.dialects.recognise import dialect_of
from hpcxpcs.config.dialects.translate import Translation, from_old
from hpcxpcs.config.dialects.work import Record
from hpcxpcs.config.document import Document
from hpcxpcs.errors import ConfigError, OldConfigurationWarning

HERE = Path(__file__).parent
EXAMPLES = ("homodyne_static", "homodyne_laminar", "homodyne_master", "heterodyne_flat", "heterodyne_grouped")


def example(name: str) -> dict[str, Any]:
    """One of the examples as it is."""
    loaded: dict[str, Any] = yaml.safe_load((HERE / f"{name}.yaml").read_text("utf-8"))
    return loaded


def with_changes(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The example with some dotted keys set (or taken out, for ...)."""
    data = example(name)
    for key, value in changes.items():
        here = data
        *sections, last = key.split(".")
        for part in sections:
            here = here.setdefault(part, {})
        if value is ...:
            here.pop(last, None)
        else:
            here[last] = value
    return data


def read(name: str, **changes: Any) -> Config:
    """The configuration that an example with changes (dots written as __) becomes."""
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    with pytest.warns(OldConfigurationWarning):
        return config_from_mapping(with_changes(name, dotted))


def translation_of(old: Document | Mapping[str, Any], *, accept: bool = False) -> Translation:
    """What becomes of an old file, given as it was read or as the mapping it holds."""
    document = old if isinstance(old, Document) else Document(old, "old.yaml")
    dialect = dialect_of(document.data)
    assert dialect is not None
    return from_old(document, HERE, dialect, accept=accept)


def records_of(data: Mapping[str, Any], *, accept: bool = False) -> dict[str, Record]:
    """What becomes of every key of an old file, by its name."""
    return {record.key: record for record in translation_of(data, accept=accept).records}


def refused(name: str, **changes: Any) -> str:
    """The message with which an example with changes is refused."""
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    with warnings.catch_warnings(), pytest.raises(ConfigError) as caught:
        warnings.simplefilter("ignore", OldConfigurationWarning)
        config_from_mapping(with_changes(name, dotted))
    return str(caught.value)


def leaves(data: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all keys that hold no keys themselves."""
    found = []
    for key, value in data.items():
        filled = isinstance(value, dict) and value
        found += leaves(value, (*path, key)) if filled else [(*path, key)]
    return found
