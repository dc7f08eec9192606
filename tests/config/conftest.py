"""A smallest valid configuration, and ways to load variations of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcxpcs.config import Config, load_config
from hpcxpcs.errors import ConfigError

SMALLEST = """\
analysis_mode: laminar_flow
experimental_data: {file_path: data/rheo.hdf}
analyzer_parameters:
  scattering: {wavevector_q: 0.0054}
"""


@pytest.fixture
def smallest() -> dict[str, Any]:
    """The smallest valid configuration as a mapping."""
    return {
        "analysis_mode": "laminar_flow",
        "experimental_data": {"file_path": "data/rheo.hdf"},
        "analyzer_parameters": {"scattering": {"wavevector_q": 0.0054}},
    }


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Config]:
    """Load the smallest configuration plus some YAML text, with overrides."""

    def loaded(more: str = "", *overrides: str) -> Config:
        path = tmp_path / "config.yaml"
        path.write_text(SMALLEST + more, encoding="utf-8")
        return load_config(path, overrides)

    return loaded


@pytest.fixture
def load_text(tmp_path: Path) -> Callable[..., Config]:
    """Load exactly this text (or these bytes, or this object as JSON) from a file of this name."""

    def loaded(content: str | bytes | dict[str, Any], name: str = "config.yaml") -> Config:
        path = tmp_path / name
        if isinstance(content, dict):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_config(path)

    return loaded


@pytest.fixture
def problems(load: Callable[..., Config]) -> Callable[..., list[str]]:
    """The lines of the ConfigError that the smallest configuration plus some YAML text raises."""

    def found(more: str, *overrides: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(more, *overrides)
        lines = str(caught.value).splitlines()
        return [line.strip() for line in (lines[1:] if len(lines) > 1 else lines)]

    return found
