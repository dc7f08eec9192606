"""The one JSON writer: what it writes, every strict parser reads."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from hpcxpcs.files.atomic import atomic_write_bytes


def json_safe(value: Any) -> Any:
    """Plain JSON types: NaN becomes null, ±Inf "Infinity" and "-Infinity", arrays become lists."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return json_safe(value.value)
    if isinstance(value, str):
        return _readable(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _finite(float(value))
    return _converted(value)


def dumps(value: Any) -> str:
    """JSON text of any result record, indented, ending in a newline."""
    return json.dumps(json_safe(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a record to `path` atomically."""
    atomic_write_bytes(path, dumps(value).encode())


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """The object that a JSON text holds; None for anything else, such as a line that was left incomplete."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def utc_now(timespec: str = "seconds") -> str:
    """The time as events and records have it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec=timespec)


def _readable(text: str) -> str:
    """A path with bytes that are not UTF-8 holds lone surrogates, which no UTF-8 file can contain."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if not text.isascii() else str(text)


def _finite(number: float) -> float | str | None:
    if math.isnan(number):
        return None
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def _converted(value: Any) -> Any:
    if isinstance(value, PurePath):
        return _readable(str(value))
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {_key(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, AbstractSet):
        return [json_safe(item) for item in sorted(value)]
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [json_safe(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_safe(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value)
    if isinstance(value, np.generic) or hasattr(value, "__array__"):
        return _array(np.asarray(value))
    raise TypeError(f"a {type(value).__name__} has no place in a result file: {value!r}")


def _array(array: np.ndarray) -> Any:
    if array.dtype.kind not in "biufUM" and array.dtype != object:
        raise TypeError(f"an array of {array.dtype} has no place in a result file")
    return json_safe(array.astype(str).tolist() if array.dtype.kind == "M" else array.tolist())


def _key(key: Any) -> str:
    if isinstance(key, str):
        return _readable(key)
    if isinstance(key, Enum):
        return _key(key.value)
    if isinstance(key, bool | int | float | np.number | np.bool_):
        return str(key.item() if isinstance(key, np.generic) else key)
    raise TypeError(f"a {type(key).__name__} cannot name an entry of a result file: {key!r}")
