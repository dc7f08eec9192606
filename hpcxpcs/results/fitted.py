"""fitted_data.npz: data, fit and residuals of every pair of frames, written angle by angle."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.files.atomic import Fault, atomic_open, writing
from hpcxpcs.results.comparison import Block, compared
from hpcxpcs.results.nlsq import stage_names
from hpcxpcs.results.records import Answer

MATRICES = ("c2_exp", "c2_theoretical_raw", "c2_theoretical_scaled", "residuals", "residuals_normalized")
"""The (n_phi,N,N) members; the raw theory is the shape f, without contrast and offset."""

SIZE_LIMIT = 4 * 2**30
"""Bytes above which the file is left out: everything in it can be computed again from data and parameters."""


@dataclass(frozen=True)
class Contents:
    """Names of the (n_phi,N,N) members of an archive, and its other members."""

    matrices: tuple[str, ...]
    small: Mapping[str, np.ndarray]


class FittedData:
    """Collects blocks of rows for the matrices of one archive, each in a file of its own until the end."""

    def __init__(self, folder: Path, data: TwoTime, contents: Contents) -> None:
        self.path = folder
        self._small = contents.small
        self._dtype = stored_dtype(data)
        self._array_shape = (data.n_phi, data.n_frames, data.n_frames)
        self._streams = {name: (folder / name).open("xb") for name in contents.matrices}
        for stream in self._streams.values():
            self._write_header(stream)

    def add(self, block: Block, *more: np.ndarray) -> None:
        """Append a block and rows of what is stored besides; blocks come in the order of angles and rows."""
        arrays = (block.c2, block.shape, block.scaled, block.residual, block.normalized, *more)
        with writing(self.path):
            for stream, array in zip(self._streams.values(), arrays, strict=True):
                stream.write(np.ascontiguousarray(array, dtype=self._dtype).data)

    def close(self) -> None:
        """Close the files of the matrices."""
        for stream in self._streams.values():
            stream.close()

    def pack(self, stream: BinaryIO) -> None:
        """Write the archive: the matrices from their files, and the small arrays."""
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name, array in self._small.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
            for name, source in self._streams.items():
                with Path(source.name).open("rb") as matrix, _large_member(archive, name) as member:
                    shutil.copyfileobj(matrix, member, 2**20)

    def _write_header(self, stream: IO[bytes]) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": self._array_shape,
        }
        np.lib.format.write_array_header_2_0(stream, header)


def write_fitted_data(path: Path, answer: Answer, *, fault: Fault | None = None) -> None:
    """Compare data and fit angle by angle and write the archive; memory holds one angle at a time."""
    scaling = answer.fit.scaling
    contents = Contents(MATRICES, small_arrays(answer.data, scaling.contrast, scaling.offset))
    with fitted_data(path, answer.data, contents, fault=fault) as collected:
        for block in compared(answer):
            collected.add(block)


@contextmanager
def fitted_data(
    path: Path, data: TwoTime, contents: Contents, *, fault: Fault | None = None
) -> Iterator[FittedData]:
    """Collect blocks in the body; the archive appears at `path` when the body ends without an error."""
    folder = path.with_name(f".{path.name}.parts")
    with writing(path):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    try:
        with writing(path):
            collected = FittedData(folder, data, contents)
        try:
            yield collected
        finally:
            collected.close()
        with atomic_open(path, fault=fault) as stream, writing(path):
            collected.pack(stream)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def small_arrays(data: TwoTime, contrast: np.ndarray, offset: np.ndarray) -> dict[str, np.ndarray]:
    """The other members: angles (degrees), times (s), q (1/Å), contrast and offset (n_phi,2)."""
    t = np.asarray(data.t, dtype=float)
    stages = stage_names(data)
    return {
        "phi_angles": np.asarray(data.phi, dtype=float),
        "t1": t,
        "t2": t,
        "q": np.array([data.q], dtype=float),
        "per_angle_scaling": np.column_stack([contrast, offset]).astype(float),
        **({"preprocessing": np.array(stages, dtype=np.str_)} if stages else {}),
    }


def stored_dtype(data: TwoTime) -> np.dtype[Any]:
    """Single precision if the data came in single precision, else double."""
    return np.dtype(np.float32 if data.itemsize <= 4 else np.float64)


def reason_to_skip(
    path: Path, data: TwoTime, limit: int = SIZE_LIMIT, matrices: int = len(MATRICES)
) -> str | None:
    """Why an archive of so many matrices should not be written (too large, or no room for it), or None."""
    size = matrices * data.n_phi * data.n_frames**2 * stored_dtype(data).itemsize
    if size > limit:
        return f"it would take {size / 1e9:.1f} GB, more than the limit of {limit / 1e9:.1f} GB"
    free = shutil.disk_usage(path.parent).free
    if 2 * size > free:
        return f"{2 * size / 1e9:.1f} GB are needed to write it, and {free / 1e9:.1f} GB are free on the disk"
    return None


def _large_member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(f"{name}.npy", "w", force_zip64=True)
