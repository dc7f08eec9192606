"""Overrides of single keys from the command line: `key.sub=value`."""

from __future__ import annotations

from typing import Any

from hpcxpcs.config.document import Document, parse_value
from hpcxpcs.config.problems import KeyPath, dotted
from hpcxpcs.errors import ConfigError


def apply_override(document: Document, override: str) -> None:
    """Put `key.sub=value` into the document; the value is read as YAML."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set {override}: must be KEY=VALUE, for example optimization.nlsq.multi_start=4")
    try:
        value = parse_value(text)
    except ConfigError as error:
        raise ConfigError(f"--set {override}: {error}") from None
    path: KeyPath = ()
    here = document.data
    parts = key.split(".")
    for part in parts[:-1]:
        here, path = _descend(here, part, path, override)
    _assign(here, parts[-1], value, override)
    last = int(parts[-1]) if isinstance(here, list) else parts[-1]
    for known in [known for known in document.lines if known[: len(path) + 1] == (*path, last)]:
        del document.lines[known]
    document.set_on_command_line[(*path, last)] = override


def _descend(here: Any, part: str, path: KeyPath, override: str) -> tuple[Any, KeyPath]:
    """One step down into a section (made when absent) or a list (by index from 0)."""
    if isinstance(here, list):
        index = _index(here, part, override)
        return here[index], (*path, index)
    if here.get(part) is None:
        here[part] = {}
    if not isinstance(here[part], (dict, list)):
        raise ConfigError(f"--set {override}: {dotted((*path, part))} is a value, it has no keys")
    return here[part], (*path, part)


def _assign(here: Any, part: str, value: Any, override: str) -> None:
    if isinstance(here, list):
        here[_index(here, part, override)] = value
    elif isinstance(here, dict):
        here[part] = value
    else:
        raise ConfigError(f"--set {override}: there is no section to put {part} into")


def _index(items: list[Any], part: str, override: str) -> int:
    if not part.isdecimal() or int(part) >= len(items):
        raise ConfigError(f"--set {override}: '{part}' is not an index into a list of {len(items)}")
    return int(part)
