"""Frames of a detector, read in blocks: HDF5 (dense or sparse), NPY, or an NPZ or zipped NPY with one stack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.arrays import Floats, Integers
from hpcxpcs.data.formats.hdf5 import attribute
from hpcxpcs.data.formats.nexus import FRAME_TIME, MEAN_IMAGE
from hpcxpcs.data.formats.source import Source, dataset, scalar, top_of_tree, values_at
from hpcxpcs.errors import DataError, FormatError, SelectionError
from hpcxpcs.frames.schemas import opened_arrays

USUAL_PLACES = ("entry/data/data", "entry/data", "exchange/data", "data", "frames", "array")
SPARSE = ("frame_ptr", "index", "intensity")
"""Datasets of sparse frames in one group: `frame_ptr` (N + 1,) where each frame begins, `index` (n,) places row·W +
column in the image, `intensity` (n,) counts; the group's attribute `shape`, or its dataset `mask`, tells (H, W)."""
BLOCK_BYTES = 1 << 23
"""Bytes of frames that are read at once: little beside the counts that are kept, much beside a call of HDF5."""


@dataclass(frozen=True)
class Frames:
    """An open stack of N frames (H, W); `frame_time` (s) is None when the file does not tell it."""

    path: Path
    shape: tuple[int, int, int]
    frame_time: float | None
    dense: Any = None
    sparse: tuple[Any, Any, Any] | None = None

    @property
    def rows_at_once(self) -> int:
        """How many frames a block has: whole chunks of the file, about BLOCK_BYTES."""
        pixels = self.shape[1] * self.shape[2]
        itemsize = self.dense.dtype.itemsize if self.dense is not None else 4
        chunk = (getattr(self.dense, "chunks", None) or (1,))[0]
        return max(1, BLOCK_BYTES // (pixels * itemsize) // chunk) * chunk

    def read(self, first: int, last: int, pixels: Integers) -> NDArray[np.float32]:
        """Counts (last - first, n) of some pixels, given as places row·W + column, in the frames from first (0-based).

        DataError names the frame and pixel of a count that is no number, negative, or the mark of a broken pixel.
        """
        if self.sparse is not None:
            counts = self._scattered(first, last, pixels)
        else:
            stored = np.asarray(self.dense[first:last]).reshape(last - first, -1)
            counts = stored.take(pixels, axis=1)
        self._require_counts(counts, first, pixels)
        return counts.astype(np.float32)

    def _scattered(self, first: int, last: int, pixels: Integers) -> NDArray[Any]:
        assert self.sparse is not None
        starts, index, intensity = self.sparse
        begin, end = int(starts[first]), int(starts[last])
        place = np.full(self.shape[1] * self.shape[2], -1, dtype=np.int64)
        place[pixels] = np.arange(len(pixels))
        found = np.asarray(index[begin:end]).astype(np.int64)
        if found.size and not 0 <= found.min() <= found.max() < len(place):
            raise DataError(f"{self.path}: /index of frames {first + 1} to {last} leads outside of the image")
        frame = np.repeat(np.arange(last - first), np.diff(starts[first : last + 1]))
        used = place[found] >= 0
        values = np.asarray(intensity[begin:end])
        counts = np.zeros((last - first, len(pixels)), dtype=np.result_type(values.dtype, np.float32))
        np.add.at(counts, (frame[used], place[found[used]]), values[used])
        return counts

    def _require_counts(self, counts: NDArray[Any], first: int, pixels: Integers) -> None:
        kind, problem = counts.dtype.kind, ""
        if kind == "f":
            wrong = counts if bool(np.isfinite(counts.sum(dtype=np.float64))) else ~np.isfinite(counts)
            problem = "" if wrong is counts else "is no number"
        elif kind == "u" and counts.size and counts.max() == np.iinfo(counts.dtype).max:
            wrong, problem = counts == np.iinfo(counts.dtype).max, "is the mark of a broken or saturated pixel"
        elif kind == "i" and counts.size and counts.min() < 0:
            wrong, problem = counts < 0, "is negative, as marks of broken pixels are"
        if problem and wrong.any():
            frame, column = (int(one[0]) for one in np.nonzero(wrong))
            row, across = divmod(int(pixels[column]), self.shape[2])
            raise DataError(
                f"{self.path}: frame {first + frame + 1}, row {row}, column {across}: {counts[frame, column]} "
                f"{problem}; remove the pixel in the mask, or leave the frame out with --frames"
            )

    def blocks(self, pixels: Integers, first: int, last: int, multiple: int) -> Iterator[NDArray[np.float32]]:
        """Counts of blocks of frames, from `first` to below `last` (0-based), each of a multiple of so many frames."""
        step = max(1, self.rows_at_once // multiple) * multiple
        for begin in range(first, last, step):
            yield self.read(begin, min(begin + step, last), pixels)

    def window(self, first: int, last: int) -> tuple[int, int]:
        """The 0-based range of frames that are named from 1, both used, -1 being the last."""
        end = self.shape[0] if last == -1 else last
        if not 1 <= first <= end <= self.shape[0]:
            raise SelectionError(f"{self.path}: frames {first} to {last} are not among its 1 to {self.shape[0]}")
        return first - 1, end

    def mean_image(self) -> Floats:
        """The mean of all frames (H, W); broken pixels are what they are."""
        total = np.zeros(self.shape[1] * self.shape[2])
        every = np.arange(total.size)
        for begin in range(0, self.shape[0], self.rows_at_once):
            end = min(begin + self.rows_at_once, self.shape[0])
            if self.sparse is not None:
                total += self._scattered(begin, end, every).sum(axis=0, dtype=np.float64)
            else:
                total += np.asarray(self.dense[begin:end]).reshape(end - begin, -1).sum(axis=0, dtype=np.float64)
        return np.asarray(total / self.shape[0]).reshape(self.shape[1:])


@contextmanager
def opened_frames(path: Path, place: str | None = None) -> Iterator[Frames]:
    """Open a stack of frames, at a place in the file or at a usual one."""
    with opened_arrays(path) as source:
        yield _frames_in(path, source, place)


def _frames_in(path: Path, source: Source, place: str | None) -> Frames:
    frame_time = scalar(source, FRAME_TIME) if isinstance(source, h5py.File) else None
    for name in (place,) if place else USUAL_PLACES:
        if name not in source:
            continue
        if isinstance(source, h5py.File) and isinstance(source[name], h5py.Group):
            if all(f"{name}/{part}" in source for part in SPARSE):
                return _sparse(path, source, name, frame_time)
            continue
        found = dataset(source, name)
        if len(found.shape) == 3 or place:
            return _dense(path, found, name, frame_time)
    others = [name for name in source if len(getattr(source[name], "shape", ())) == 3] if not place else []
    if len(others) == 1:
        return _dense(path, dataset(source, others[0]), others[0], frame_time)
    tree = "\n".join(f"  {line}" for line in top_of_tree(source)) or "  nothing at all"
    where = f"/{place}" if place else ", ".join(f"/{name}" for name in USUAL_PLACES)
    raise FormatError(f"{path}: no frames (N, rows, columns) at {where}; name their place (--dataset). It has\n{tree}")


def _dense(path: Path, found: Any, name: str, frame_time: float | None) -> Frames:
    if len(found.shape) != 3 or 0 in found.shape or found.dtype.kind not in "iuf":
        raise FormatError(f"{path}: /{name} is {found.dtype} {tuple(found.shape)}; (N, rows, columns) is needed")
    frames, rows, columns = (int(one) for one in found.shape)
    return Frames(path, (frames, rows, columns), frame_time, dense=found)


def _sparse(path: Path, source: h5py.File, name: str, frame_time: float | None) -> Frames:
    starts = values_at(source, f"{name}/frame_ptr").astype(np.int64)
    index, intensity = (dataset(source, f"{name}/{part}") for part in SPARSE[1:])
    told = attribute(source[name], "shape")
    shape = source[f"{name}/mask"].shape if told is None and f"{name}/mask" in source else told
    if shape is None or len(shape) != 2:
        raise FormatError(f"{path}: /{name} needs an attribute shape, [rows, columns] of its frames")
    if starts.ndim != 1 or len(starts) < 2 or starts[0] != 0 or np.any(np.diff(starts) < 0):
        raise FormatError(f"{path}: /{name}/frame_ptr must rise from 0 with one entry more than frames")
    if not starts[-1] <= len(index) == len(intensity):
        raise FormatError(
            f"{path}: /{name}/frame_ptr ends at {starts[-1]}, but there are {len(index)} index and "
            f"{len(intensity)} intensity"
        )
    return Frames(path, (len(starts) - 1, int(shape[0]), int(shape[1])), frame_time, sparse=(starts, index, intensity))


def read_image(path: Path, place: str | None = None) -> Floats:
    """A mean image (H, W): of frames, of a result file, or as it is stored."""
    with opened_arrays(path) as source:
        for name in (place,) if place else (MEAN_IMAGE, "image", "array"):
            if name in source and len(getattr(source[name], "shape", ())) in (2, 3):
                found = dataset(source, name)
                if len(found.shape) == 2 or (found.shape[0] == 1 and name == MEAN_IMAGE):
                    return np.asarray(found[()], dtype=np.float64).reshape(found.shape[-2:])
        return _frames_in(path, source, place).mean_image()
