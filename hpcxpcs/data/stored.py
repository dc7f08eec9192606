"""Matrices that stay in their file and are read one at a time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.hdf5 import refuse_elsewhere
from hpcxpcs.data.formats.layout import USUAL, BinInfo, read_matrix
from hpcxpcs.data.formats.source import Source, dataset, named, opened
from hpcxpcs.data.matrices import hash_of_arrays
from hpcxpcs.errors import DataError

Sigma = BinInfo | NDArray[np.float64]
"""Where the uncertainties (N, N) of one matrix are, or one number for all its elements."""


@dataclass(frozen=True)
class FileIdentity:
    """A file as it was when it was described: path, size in bytes, time of the last change in ns."""

    path: Path
    size: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """Look at a file now."""
        status = path.stat()
        return cls(path, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Stored:
    """Selected matrices of a file, cut to `frames`; the file is opened for each read and must not change."""

    file: FileIdentity
    bins: tuple[BinInfo, ...]
    frames: slice
    sigmas: tuple[Sigma, ...] | None = None
    dtype: str = "float64"
    _hashes: dict[int, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def c2(self, k: int) -> NDArray[Any]:
        """Read the matrix of angle k, (n, n) as stored."""
        with self._unchanged() as source:
            return read_matrix(source, self.bins[k], self.frames)

    def sigma(self, k: int) -> NDArray[Any] | None:
        """Read the uncertainties of angle k, None when there are none."""
        if self.sigmas is None:
            return None
        where = self.sigmas[k]
        if not isinstance(where, BinInfo):
            return where
        with self._unchanged() as source:
            return read_matrix(source, where, self.frames)

    def content_hash(self) -> str:
        """Return a hash of the selected datasets, from their stored (compressed) bytes where possible."""
        digest = hashlib.sha256()
        for position in range(len(self.bins) + len(self.sigmas or ())):
            digest.update(self._hash(position).encode())
        return digest.hexdigest()

    def angle_hash(self, k: int) -> str:
        """Return a hash of the stored bytes of angle k and its uncertainties."""
        own = [k] if self.sigmas is None else [k, len(self.bins) + k]
        return hashlib.sha256("".join(map(self._hash, own)).encode()).hexdigest()

    def _hash(self, position: int) -> str:
        """The hash of one of the bins, or of the uncertainties after them; worked out once."""
        if position not in self._hashes:
            where = (*self.bins, *(self.sigmas or ()))[position]
            with self._unchanged() as source:
                self._hashes[position] = self._dataset_hash(source, where)
        return self._hashes[position]

    def _dataset_hash(self, source: Source, where: Sigma) -> str:
        if not isinstance(where, BinInfo):
            return hash_of_arrays([where])
        stored = source[where.dataset]
        if where.lead or where.trail or where.form != USUAL or not getattr(stored, "chunks", None):
            return hash_of_arrays([read_matrix(source, where, self.frames)])
        return _hash_of_chunks(stored)

    @contextmanager
    def _unchanged(self) -> Iterator[Source]:
        with named(self.file.path), opened(self.file.path) as source:
            if FileIdentity.of(self.file.path) != self.file:
                raise DataError(f"{self.file.path}: the file has changed since it was opened; start again")
            yield source


def _hash_of_chunks(stored: h5py.Dataset) -> str:
    digest = hashlib.sha256(f"{stored.dtype.str}{stored.shape}{stored.compression}".encode())
    for number in range(stored.id.get_num_chunks()):
        offset = stored.id.get_chunk_info(number).chunk_offset
        digest.update(f"{offset}".encode())
        digest.update(stored.id.read_direct_chunk(offset)[1])
    return digest.hexdigest()


def sigma_locations(
    source: Source, path: str, all_bins: Sequence[BinInfo], chosen: Sequence[BinInfo], n_frames: int
) -> tuple[Sigma, ...]:
    """Find the uncertainties of the chosen bins in a file.

    `path` names a group with one matrix per bin, or a dataset: one number, one per bin, one matrix (N, N),
    or a stack (bins, N, N), where "bins" are all matrices of the file or the chosen ones; or an array shaped
    like the data cube.
    """
    path = path.strip("/")
    chosen = [replace(info, form=info.form.of_uncertainties()) for info in chosen]
    if path not in source:
        raise DataError(f"noise.sigma: the file has no dataset /{path}; give a number, auto, or a path in the file")
    if isinstance(source[path], h5py.Group):
        return _from_group(source[path], path, all_bins, chosen, n_frames)
    item = dataset(source, path)
    shape, square = tuple(item.shape), (n_frames, n_frames)
    if chosen[0].dataset in source and shape == tuple(source[chosen[0].dataset].shape) and len(shape) > 2:
        return tuple(replace(info, dataset=path) for info in chosen)
    if shape == square:
        return tuple(replace(info, dataset=path, lead=(), trail=()) for info in chosen)
    if len(shape) == 3 and shape[1:] == square and shape[0] in (len(all_bins), len(chosen)):
        rows = _rows(shape[0], all_bins, chosen)
        return tuple(replace(info, dataset=path, lead=(row,), trail=()) for info, row in zip(chosen, rows, strict=True))
    size = int(np.prod(shape, dtype=int))
    if len(shape) <= 2 and size in (1, len(all_bins), len(chosen)):
        if item.dtype.kind not in "fiu":
            raise DataError(f"noise.sigma: /{path} holds values of type {item.dtype}; numbers are needed")
        values = np.asarray(item[()], dtype=np.float64).reshape(-1)
        rows = [0] * len(chosen) if size == 1 else _rows(size, all_bins, chosen)
        return tuple(values[row] for row in map(np.asarray, rows))
    raise DataError(
        f"noise.sigma: /{path} has shape {shape}; expected one number, {len(all_bins)} or {len(chosen)} "
        f"numbers, {square}, or ({len(all_bins)} or {len(chosen)}, {n_frames}, {n_frames})"
    )


def _rows(count: int, all_bins: Sequence[BinInfo], chosen: Sequence[BinInfo]) -> list[int]:
    """Return the position of every chosen bin on an axis over all bins, or over the chosen ones."""
    return [info.index for info in chosen] if count == len(all_bins) else list(range(len(chosen)))


def _from_group(
    group: h5py.Group, path: str, all_bins: Sequence[BinInfo], chosen: Sequence[BinInfo], n_frames: int
) -> tuple[Sigma, ...]:
    for name in group:
        refuse_elsewhere(group, name)
    same_names = [info.dataset.rsplit("/", 1)[-1] for info in chosen]
    if not all(name in group for name in same_names):
        members = sorted(group, key=_number)
        if len(members) not in (len(all_bins), len(chosen)):
            raise DataError(
                f"noise.sigma: /{path} has {len(members)} members; expected {len(all_bins)}, one per matrix"
            )
        same_names = [members[row] for row in _rows(len(members), all_bins, chosen)]
    for name in same_names:
        if tuple(dataset(group, name).shape) != (n_frames, n_frames):
            raise DataError(f"noise.sigma: /{path}/{name} has shape {group[name].shape}, not {(n_frames, n_frames)}")
    return tuple(
        replace(info, dataset=f"{path}/{name}", lead=(), trail=())
        for info, name in zip(chosen, same_names, strict=True)
    )


def _number(name: str) -> tuple[int, str]:
    match = re.search(r"(\d+)$", name)
    return (int(match.group(1)) if match else -1, name)
