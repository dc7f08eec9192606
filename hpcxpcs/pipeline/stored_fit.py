"""A point fit as arrays and plain values, and back: how it outlives the process that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import numpy as np

from hpcxpcs.inference.records import (
    Alternative,
    CompressionReport,
    Exchange,
    NoiseParts,
    PointFit,
    ScalingEstimate,
    SearchReport,
    StartRecord,
)

_PARTS: Mapping[type, Mapping[str, type]] = {
    PointFit: {
        "scaling": ScalingEstimate,
        "compression": CompressionReport,
        "starts": StartRecord,
        "search": SearchReport,
        "alternatives": Alternative,
        "exchange": Exchange,
        "noise": NoiseParts,
    },
}
"""Fields that hold records, or tuples of records, of a known type."""


def pack(record: Any, prefix: str = "") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays (floats included, so that NaN and every bit survive) and JSON values of a record, by dotted name."""
    arrays: dict[str, np.ndarray] = {}
    values: dict[str, Any] = {}
    for field in fields(record):
        _pack_value(getattr(record, field.name), prefix + field.name, arrays, values)
    return arrays, values


def _pack_value(value: Any, name: str, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
    if is_dataclass(value):
        inner, plain = pack(value, f"{name}.")
        arrays |= inner
        values |= plain
    elif isinstance(value, tuple) and value and is_dataclass(value[0]):
        values[f"{name}.count"] = len(value)
        for index, item in enumerate(value):
            _pack_value(item, f"{name}.{index}", arrays, values)
    elif isinstance(value, np.ndarray | float):
        arrays[name] = np.asarray(value)
    elif isinstance(value, dict) and value and all(isinstance(v, float) for v in value.values()):
        values[f"{name}.keys"] = list(value)
        arrays[name] = np.array(list(value.values()))
    else:
        values[name] = value


def unpack(kind: type, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any], prefix: str = "") -> Any:
    """The record that `pack` took apart; a field that was not stored takes its default, if it has one."""
    found = {}
    for field in fields(kind):
        name = prefix + field.name
        part = _PARTS.get(kind, {}).get(field.name)
        if part is not None and f"{name}.count" in values:
            found[field.name] = tuple(
                unpack(part, arrays, values, f"{name}.{index}.") for index in range(values[f"{name}.count"])
            )
        elif part is not None and any(key.startswith(f"{name}.") for key in (*arrays, *values)):
            found[field.name] = unpack(part, arrays, values, f"{name}.")
        elif field.default is MISSING or name in arrays or name in values:
            found[field.name] = _value(name, arrays, values)
    return kind(**found)


def _value(name: str, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> Any:
    if f"{name}.keys" in values:
        return dict(zip(values[f"{name}.keys"], map(float, arrays[name]), strict=True))
    if name in arrays:
        array = arrays[name]
        return float(array) if array.ndim == 0 and array.dtype.kind == "f" else array
    value = values[name]
    return tuple(value) if isinstance(value, list) else value
