"""Opening data files: HDF5 read-only without locks, or NPZ without pickles, with errors a user can act on."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.errors import DataError, FormatError

type Source = h5py.File | Mapping[str, NDArray[Any]]
"""An open file: `"a/b" in source` and `source["a/b"]` work for both kinds."""

ZIP_SIGNATURE = b"PK\x03\x04"
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def signature(path: Path) -> bytes:
    """Return the first eight bytes of a data file, or say why there are none."""
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check experimental_data.file_path") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder, not a data file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror or error})") from error
    if not head:
        raise FormatError(f"{path}: the file is empty (0 bytes)")
    return head


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open a data file for reading; a failure to read it later becomes a DataError naming the file."""
    if signature(path).startswith(ZIP_SIGNATURE):
        yield _npz_arrays(path)
        return
    file = _hdf5_file(path)
    try:
        yield file
    except (OSError, RuntimeError, KeyError) as error:
        raise DataError(
            f"{path}: reading failed, the file is damaged or incomplete ({_first_line(error)})"
        ) from error
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


def _hdf5_file(path: Path) -> h5py.File:
    try:
        return _without_lock(path)
    except OSError as error:
        if "truncated" in str(error):
            raise FormatError(f"{path}: the HDF5 file is truncated; copy or write it again") from error
        if not signature(path).startswith(HDF5_SIGNATURE):
            raise FormatError(f"{path}: is neither an HDF5 nor an NPZ file") from error
        raise FormatError(f"{path}: HDF5 cannot open the file ({_first_line(error)})") from error


def _without_lock(path: Path) -> h5py.File:
    """Open without a lock; a file that this process has open with one must be opened the same way again."""
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        return h5py.File(path, "r")


def _npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        raise FormatError(
            f"{path}: the NPZ file holds pickled objects or a broken array; store plain arrays"
        ) from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(f"{path}: the NPZ file is truncated or damaged ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def scalar(source: Source, *paths: str) -> Any | None:
    """Return the first dataset there is as one Python value ((1, 1) is squeezed), None when there is none."""
    for path in paths:
        if path not in source:
            continue
        value = np.asarray(source[path][()]).squeeze()
        if value.ndim != 0:
            raise FormatError(f"/{path}: expected one value, found shape {value.shape}")
        return value.item()
    return None


def vector(source: Source, path: str) -> NDArray[Any]:
    """Return a dataset as a 1-D array, whether it is stored as (n,), (1, n) or (n, 1)."""
    if path not in source:
        raise FormatError(f"/{path} is missing")
    values = np.asarray(source[path][()])
    if values.ndim > 1 and max(values.shape) != values.size:
        raise FormatError(f"/{path}: expected a list, found shape {values.shape}")
    return values.reshape(-1)


def top_of_tree(source: Source, depth: int = 3, limit: int = 40) -> list[str]:
    """List what a file holds near its top, as `/path` for groups and `/path (shape)` for datasets."""
    lines: list[str] = []

    def walk(group: Any, prefix: str, level: int) -> None:
        for name in group:
            item = group.get(name)
            shape = getattr(item, "shape", None)
            lines.append(f"{prefix}/{name}" if shape is None else f"{prefix}/{name} {shape}")
            if isinstance(item, h5py.Group) and level > 1:
                walk(item, f"{prefix}/{name}", level - 1)

    walk(source, "", depth)
    return lines if len(lines) <= limit else [*lines[:limit], f"… and {len(lines) - limit} more"]
