"""Reading data files: HDF5 without locks, NPZ and NPY without pickles, lists in our units, errors a user can act on."""

from __future__ import annotations

import math
import re
import struct
import traceback
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.hdf5 import (
    OneFile,
    attribute,
    checked,
    refuse_elsewhere,
    refuse_outside,
    require_filters,
    values_of,
)
from hpcxpcs.errors import DataError, FormatError
from hpcxpcs.files.places import not_a_file

type Source = h5py.File | Mapping[str, NDArray[Any]]
"""An open file: `"a/b" in source` and `source["a/b"]` work for both kinds."""

ZIP_SIGNATURE = b"PK\x03\x04"
NPY_SIGNATURE = b"\x93NUMPY"
MATLAB_SIGNATURE = b"MATLAB 5"
PICKLE_SIGNATURES = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
NPY_BESIDE = ("q", "phi", "t")
"""What lies beside a stack `a.npy`, as `a.q.npy`, `a.phi.npy` and, if need be, `a.t.npy`."""
NO_PICKLES = (
    "opening it would run whatever code it holds, so hpcxpcs never does; write the numbers as plain arrays "
    "with numpy.savez (for a cache: let the program that wrote it make a new one, or start from its HDF5 file)"
)
DAMAGED_ZIP = (OSError, EOFError, RuntimeError, MemoryError, struct.error, zipfile.BadZipFile, zlib.error)
LARGEST_WHOLE = 2**53
"""Whole numbers below this are exact in every type that files store them in."""
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def signature(path: Path) -> bytes:
    """Return the first eight bytes of a data file, or say why there are none."""
    kind = not_a_file(path)
    if kind is not None:
        raise DataError(f"{path}: is {kind}, not a data file")
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check experimental_data.file_path") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be opened ({getattr(error, 'strerror', None) or error})") from error
    if not head:
        raise FormatError(f"{path}: the file is empty (0 bytes)")
    return head


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open a data file for reading; a failure to read it later becomes a DataError naming the file."""
    head = signature(path)
    if head.startswith((ZIP_SIGNATURE, NPY_SIGNATURE)):
        yield _npz_arrays(path) if head.startswith(ZIP_SIGNATURE) else _npy_arrays(path)
        return
    file = _hdf5_file(path)
    try:
        yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        if not isinstance(error, OSError | RuntimeError | KeyError) and not _raised_by_h5py(error):
            raise
        raise DataError(f"{path}: reading failed, the file is damaged or incomplete ({_first_line(error)})") from error
    finally:
        file.close()


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Put the file's path in front of the message of a DataError that does not name it yet."""
    try:
        yield
    except DataError as error:
        if str(error).startswith(str(path)):
            raise
        raise type(error)(f"{path}: {error}") from error


def _raised_by_h5py(error: BaseException) -> bool:
    """Tell whether an error comes from inside h5py, which reports damage in exceptions of every kind."""
    innermost = list(traceback.walk_tb(error.__traceback__))[-1][0]
    return "h5py" in Path(innermost.f_code.co_filename).parts


def _hdf5_file(path: Path) -> h5py.File:
    try:
        return _without_lock(path)
    except OSError as error:
        if "truncated" in str(error):
            raise FormatError(f"{path}: the HDF5 file is truncated; copy or write it again") from error
        if signature(path).startswith(PICKLE_SIGNATURES):
            raise FormatError(f"{path}: is a pickled Python object; {NO_PICKLES}") from error
        if signature(path).startswith(MATLAB_SIGNATURE):
            raise FormatError(f"{path}: is a MATLAB file; save c2, q, phi and t from it as HDF5 or NPZ") from error
        if not signature(path).startswith(HDF5_SIGNATURE):
            raise FormatError(f"{path}: is neither an HDF5 nor an NPZ file") from error
        raise FormatError(f"{path}: HDF5 cannot open the file ({_first_line(error)})") from error


def _without_lock(path: Path) -> h5py.File:
    """Open without a lock; a file that this process has open with one must be opened the same way again."""
    try:
        return OneFile(path, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        return OneFile(path, "r")


def _npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    arrays, name = {}, ""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            for name in archive.files:
                arrays[name] = archive[name]
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise FormatError(f"{path}: the array {name} holds pickled objects; {NO_PICKLES}") from error
        raise FormatError(f"{path}: the array {name} is broken ({_first_line(error)})") from error
    except DAMAGED_ZIP as error:
        raise FormatError(f"{path}: the NPZ file is truncated or damaged ({_first_line(error)})") from error
    return arrays


class NpyStack(dict[str, NDArray[Any]]):
    """The arrays of a stack `a.npy` and of the files beside it, and its path."""

    def __init__(self, path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
        super().__init__(arrays)
        self.path = path


def _npy_arrays(path: Path) -> NpyStack:
    """Return the stack as "c2" (left on disk until it is read) and the lists that lie beside it."""
    arrays = {"c2": npy_array(path)}
    beside = {name: _beside(path, name) for name in NPY_BESIDE}
    missing = [str(beside[name]) for name in ("q", "phi") if not beside[name].exists()]
    if missing:
        raise FormatError(
            f"{path}: an NPY file holds matrices only; put q (1/Å) and angles (degrees), one per matrix or one "
            f"for all, beside it with numpy.save (missing: {', '.join(missing)})"
        )
    found = {name: npy_array(file) for name, file in beside.items() if file.exists()}
    return NpyStack(path, arrays | found)


def _beside(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}.{name}.npy")


def place_of(source: Source, path: str) -> str:
    """Where a reader finds, or would find, what is at a path: in the file, or in another one beside an NPY stack."""
    return str(_beside(source.path, path)) if isinstance(source, NpyStack) else f"/{path}"


def npy_array(path: Path) -> NDArray[Any]:
    """The array of an NPY file, left on disk until it is read."""
    signature(path)
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        if "Python objects" in str(error) or "allow_pickle" in str(error):
            raise FormatError(f"{path}: the array holds pickled objects; {NO_PICKLES}") from error
        raise FormatError(f"{path}: the NPY file is truncated or damaged ({_first_line(error)})") from error
    if not isinstance(array, np.ndarray):
        raise FormatError(f"{path}: holds no array")
    return array


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def dataset(source: Any, path: str) -> Any:
    """Return the dataset (or array) at a path; it has a shape and can be read in part."""
    if isinstance(source, h5py.Group):
        refuse_elsewhere(source, path)
    if path not in source:
        raise FormatError(f"/{path} is missing")
    item = source[path]
    refuse_outside(item, path)
    require_filters(item, path)
    if getattr(item, "shape", None) is None:
        raise FormatError(f"/{path} is {'a group' if isinstance(item, h5py.Group) else 'empty'}; an array is needed")
    return checked(item, path)


def values_at(source: Any, path: str) -> NDArray[Any]:
    """Return all values of the list or number at a path."""
    return values_of(dataset(source, path), path)


def matrix(source: Any, path: str) -> Any:
    """Return the dataset at a path, which must have two axes and values."""
    item = dataset(source, path)
    if len(item.shape) != 2 or 0 in item.shape:
        raise FormatError(f"/{path} has shape {tuple(item.shape)}; a matrix (N, N) is needed")
    return item


def group(source: Any, path: str) -> h5py.Group:
    """Return the group at a path."""
    if path not in source:
        raise FormatError(f"/{path} is missing")
    item = source[path]
    if not isinstance(item, h5py.Group):
        raise FormatError(f"/{path} is no group; a group is needed")
    return item


def scalar(source: Source, *paths: str) -> float | None:
    """Return the first dataset there is as one number ((1, 1) is squeezed), None when there is none."""
    for path in paths:
        if path not in source:
            continue
        item = dataset(source, path)
        if np.prod(item.shape) != 1:
            raise FormatError(f"/{path}: expected one value, found shape {tuple(item.shape)}")
        value = values_of(item, path).reshape(())
        if value.dtype.kind not in "fiu":
            raise FormatError(f"/{path}: expected a number, found a value of type {value.dtype}")
        number: float = value.item()
        return number
    return None


def vector(source: Source, path: str) -> NDArray[Any]:
    """Return a dataset as a 1-D array, whether it is stored as (n,), (1, n) or (n, 1)."""
    values = values_at(source, path)
    if values.ndim > 1 and max(values.shape) != values.size:
        raise FormatError(f"/{path}: expected a list, found shape {values.shape}")
    return values.reshape(-1)


def whole_numbers(source: Source, path: str) -> NDArray[np.int64]:
    """Return a dataset of whole numbers, of whatever type and shape, as a list (n,)."""
    values = values_at(source, path).reshape(-1)
    if values.dtype.kind not in "fiu":
        raise FormatError(f"/{path} holds values of type {values.dtype}; whole numbers are needed")
    if values.dtype.kind == "f":
        values = values.astype(np.float64)  # the limit is beyond what half precision holds
    if not np.all((values == np.round(values)) & (np.abs(values) < LARGEST_WHOLE)):
        raise FormatError(f"/{path} holds values that are not whole numbers below {LARGEST_WHOLE}")
    return values.astype(np.int64)


def numbered(source: Any, path: str, pattern: str, expected: str) -> dict[int, str]:
    """Return the names in a group by the number in them (text order would put "10" before "2")."""
    found: dict[int, str] = {}
    for name in members(group(source, path)):
        match = re.search(pattern, name)
        if match is None:
            raise FormatError(f"/{path}/{name}: expected {expected}")
        if int(match.group(1)) in found:
            raise FormatError(f"/{path}: {name} and {found[int(match.group(1))]} have the same number")
        found[int(match.group(1))] = name
    if not found:
        raise FormatError(f"/{path} holds no matrices")
    return {number: found[number] for number in sorted(found)}


def members(group: Any) -> list[str]:
    """Return the names in a group as text, whatever bytes a damaged one has."""
    return [name if isinstance(name, str) else name.decode("utf-8", "replace") for name in group]


def _here(group: Any, name: str) -> Any:
    """Return what has a name in a group or mapping; None for what is damaged or in another file."""
    try:
        if isinstance(group, h5py.Group):
            refuse_elsewhere(group, name)
        return group[name]
    except (FormatError, KeyError, OSError, RuntimeError, ValueError):
        return None


def top_of_tree(source: Source, depth: int = 3, limit: int = 40) -> list[str]:
    """List what a file holds near its top, as `/path` for groups and `/path (shape)` for datasets."""
    lines: list[str] = []

    def walk(group: Any, prefix: str, level: int) -> None:
        for name in members(group):
            item = _here(group, name)
            shape = getattr(item, "shape", None)
            lines.append(f"{prefix}/{name}" if shape is None else f"{prefix}/{name} {shape}")
            if isinstance(item, h5py.Group) and level > 1:
                walk(item, f"{prefix}/{name}", level - 1)

    walk(source, "", depth)
    return lines if len(lines) <= limit else [*lines[:limit], f"… and {len(lines) - limit} more"]


Kind = Literal["q", "angle", "time"]

OURS: dict[Kind, str] = {"q": "Å⁻¹", "angle": "degrees", "time": "s"}

_LENGTHS = {"å": 1.0, "a": 1.0, "ang": 1.0, "angstrom": 1.0, "angstroms": 1.0, "nm": 0.1, "m": 1e-10}
_FACTORS: dict[Kind, dict[str, float]] = {
    "q": {
        spelling: factor
        for length, factor in _LENGTHS.items()
        for spelling in (f"{length}-1", f"1/{length}", f"/{length}")
    },
    "angle": {
        **dict.fromkeys(("deg", "degs", "degree", "degrees", "°"), 1.0),
        **dict.fromkeys(("rad", "rads", "radian", "radians"), 180.0 / math.pi),
    },
    "time": {
        **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
        **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1e-3),
        **dict.fromkeys(("us", "μs", "microsecond", "microseconds"), 1e-6),
        **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
    },
}
_EXAMPLES: dict[Kind, str] = {"q": "1/angstrom or 1/nm", "angle": "deg or rad", "time": "s or ms"}
_FILLERS = str.maketrans({"−": "-", "⁻": "-", **dict.fromkeys(" ^*{}()[]_", "")})


class Quantity(NamedTuple):
    """Values (n,) in Å⁻¹, degrees or seconds, and in words the unit they were stored in."""

    values: NDArray[np.float64]
    unit: str


def quantity(
    source: Source, path: str, kind: Kind, *, required: bool = False, elsewhere: str | None = None
) -> Quantity:
    """Return a list of a file in our unit: converted from the one its attribute `units` (or `unit`) states.

    Without the attribute, the unit that the file states `elsewhere` holds, or else the layout's own (which is
    ours), unless it is `required`.
    """
    values = vector(source, path)
    if values.dtype.kind not in "fiu":
        raise FormatError(f"/{path} holds values of type {values.dtype}; numbers are needed")
    stated = stated_unit(source, path) or elsewhere
    if stated is None and required:
        raise FormatError(
            f"/{path} has no attribute units, and its unit is not guessed: state it, for example in Python "
            f"with h5py.File(…, 'r+')['{path}'].attrs['units'] = '{_EXAMPLES[kind].split()[0]}'"
        )
    if stated is None:
        return Quantity(values.astype(np.float64), f"{OURS[kind]} (not stated: that of the layout)")
    factor = factor_of(stated, kind, path)
    told = f"{stated} (stated)" if factor == 1.0 else f"{stated} (stated), converted to {OURS[kind]}"
    return Quantity(values.astype(np.float64) * factor, told)


def factor_of(unit: str, kind: Kind, path: str) -> float:
    """Return by what a number in a unit, however it is spelled, is multiplied to be in Å⁻¹, degrees or s."""
    spelled = unicodedata.normalize("NFKC", unit).strip().lower().translate(_FILLERS)
    if spelled not in _FACTORS[kind]:
        raise FormatError(f"/{path}: the unit {unit!r} is not understood here; use {_EXAMPLES[kind]}")
    return _FACTORS[kind][spelled]


def stated_unit(source: Source, path: str) -> str | None:
    """Return the unit that a dataset's attribute `units` or `unit` states, None when there is none."""
    for name in ("units", "unit"):
        stored = attribute(source[path], name)
        if stored is not None and (unit := text(stored).strip()):
            return unit
    return None


def text(value: Any) -> str:
    """Return an attribute as text, whether it is stored as text, bytes or an array of one of them."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
