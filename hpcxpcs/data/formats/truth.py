"""The known truth of simulated data: stored beside the matrices, never used by a reader of matrices."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcxpcs.data.formats.hdf5 import attribute
from hpcxpcs.data.formats.source import Source, named, opened, text
from hpcxpcs.errors import DataError, FormatError

GROUP = "truth"
NPZ_KEY = "truth_json"
LARGEST_ATTRIBUTE = 60_000
"""HDF5 attributes end at 64 KiB."""


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise DataError(f"truth: cannot store a value of type {type(value).__name__}")


def truth_text(truth: Mapping[str, Any]) -> str:
    """Return the truth as JSON text."""
    told = json.dumps(dict(truth), default=_plain, sort_keys=True)
    if len(told.encode()) > LARGEST_ATTRIBUTE:
        raise DataError(f"truth: {len(told)} characters of JSON do not fit into an HDF5 attribute; leave out arrays")
    return told


def write_truth(file: h5py.File, truth: Mapping[str, Any] | None) -> None:
    """Store the truth as attributes of `/truth` (numbers, texts, lists) and, whole, as attribute `json`."""
    if truth is None:
        return
    group = file.create_group(GROUP)
    told = truth_text(truth)
    for name, value in json.loads(told).items():
        if isinstance(value, str | int | float) or _is_numeric_list(value):
            group.attrs[name] = value
    group.attrs["json"] = np.bytes_(told.encode())


def _is_numeric_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, int | float) for item in value)


def has_truth(path: Path) -> bool:
    """Tell whether a file holds the truth of simulated data, whatever is in it."""
    with named(path), opened(path) as source:
        return _stored(source) is not None


def read_truth(path: Path) -> dict[str, Any] | None:
    """Return the truth stored in a simulated file, or None when it has none."""
    with named(path), opened(path) as source:
        told = _stored(source)
        return None if told is None else _understood(path, told)


def _stored(source: Source) -> Any:
    """The text as the file keeps it, None when there is none."""
    if not isinstance(source, h5py.File):
        return source.get(NPZ_KEY)
    return attribute(source[GROUP], "json") if GROUP in source else None


def _understood(path: Path, stored: Any) -> dict[str, Any]:
    try:
        return dict(json.loads(text(stored)))
    except (ValueError, TypeError, RecursionError) as error:
        raise FormatError(
            f"{path}: the truth of simulated data in the file is damaged; delete {GROUP}, or simulate the file again"
        ) from error
