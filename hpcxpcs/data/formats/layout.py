"""The records every file layout is described by: bins, the layout itself, and what a writer is given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.source import dataset as dataset_at
from hpcxpcs.errors import DataError

Triangle = Literal["upper", "lower"]
Compression = Literal["auto", "lzf", "gzip", "none"]
Reason = Literal["not populated", "not processed"]

LARGEST_CHUNK = 2**32 - 1
"""HDF5 refuses chunks of 4 GiB and more (in bytes)."""


@dataclass(frozen=True)
class Form:
    """How stored matrices are turned into c2(t1, t2) with level 1 and t = 0 in the first row and column.

    `baseline` is the stored value of full decorrelation; `upside_down` means that t = 0 is in the last row;
    `triangle` is the one that holds values, whatever fills the other, None when contents tell.
    """

    baseline: Literal[0, 1] = 1
    upside_down: bool = False
    triangle: Triangle | None = None

    def rows(self, frames: slice, n: int) -> slice:
        """Return which of the n stored rows hold some frames."""
        if not self.upside_down:
            return frames
        start, stop, _ = frames.indices(n)
        return slice(n - max(start, stop), n - start)

    def undone(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return the usual form (n, n) of a stored matrix cut to the same frames on both axes."""
        matrix = stored[::-1] if self.upside_down else stored
        if self.baseline == 0:
            matrix = _raised(matrix)
        if self.triangle is None:
            return matrix
        return np.triu(matrix) if self.triangle == "upper" else np.tril(matrix)

    def applied(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Return a matrix (N, N) of the usual form as a file of this form stores it (0 where it has nothing)."""
        stored = matrix - 1 if self.baseline == 0 else matrix
        if self.triangle is not None:
            stored = np.triu(stored) if self.triangle == "upper" else np.tril(stored)
        return stored[::-1] if self.upside_down else stored

    def of_uncertainties(self) -> Form:
        """Return the form of the uncertainties beside such matrices: they have no baseline."""
        return replace(self, baseline=1)


def _raised(stored: NDArray[Any]) -> NDArray[Any]:
    """Return a matrix (n, n) of baseline 0 with baseline 1; frames that hold nothing but 0 stay empty."""
    matrix = stored + 1
    empty = stored == 0
    np.fill_diagonal(empty, True)
    silent = empty.all(axis=0) & empty.all(axis=1)
    matrix[silent, :] = 0
    matrix[:, silent] = 0
    return matrix


USUAL = Form()


@dataclass(frozen=True)
class BinInfo:
    """One stored two-time matrix: its q (Å⁻¹), angle (degrees), and where in the file it is.

    `index` counts the matrices of the file from 0, `label` is the file's own 1-based bin number. The matrix
    is `file[dataset][(*lead, frames, frames, *trail)]`, in the form that `form` undoes.
    """

    index: int
    label: int
    q: float
    phi: float
    dataset: str
    lead: tuple[int, ...] = ()
    trail: tuple[int, ...] = ()
    form: Form = USUAL


@dataclass(frozen=True)
class AbsentBin:
    """A (q, φ) bin that the file's partition names but for which it holds no matrix."""

    q: float
    phi: float
    reason: Reason


@dataclass(frozen=True)
class Layout:
    """What a file holds: its bins, frames (count), and time step (s, None when the file does not say).

    `units` says in words in which units q, phi and time are stored.
    """

    format: str
    bins: tuple[BinInfo, ...]
    n_frames: int
    dt: float | None
    dt_source: str
    dtype: str
    compression: str
    absent: tuple[AbsentBin, ...] = ()
    notes: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    source: Any = field(default=None, repr=False, compare=False)

    def read(self, info: BinInfo, frames: slice = slice(None)) -> NDArray[Any]:
        """Read one matrix (n, n) in the usual form, cut to `frames`; works while the file is open."""
        matrix = read_matrix(self.source, info, frames)
        if matrix.shape[0] != matrix.shape[1]:
            raise DataError(f"/{info.dataset} holds {matrix.shape}; a matrix (N, N) is needed")
        return matrix


def read_matrix(source: Any, info: BinInfo, frames: slice = slice(None)) -> NDArray[Any]:
    """Read the matrix of one bin, (n, n) in the usual form, from an open file, cut to `frames` on both axes.

    The array is the caller's own.
    """
    dataset = dataset_at(source, info.dataset)
    axes = len(info.lead) + 2 + len(info.trail)
    if len(dataset.shape) != axes:
        raise DataError(f"/{info.dataset} has shape {tuple(dataset.shape)}; {axes} axes are needed")
    if dataset.dtype.kind not in "fiu":
        raise DataError(f"/{info.dataset} holds values of type {dataset.dtype}; real numbers are needed")
    rows = info.form.rows(frames, int(dataset.shape[len(info.lead)]))
    stored = np.array(dataset[(*info.lead, rows, frames, *info.trail)], copy=isinstance(dataset, np.ndarray) or None)
    return stored if info.form == USUAL else info.form.undone(stored)


@dataclass(frozen=True)
class Stack:
    """What a writer stores: symmetric matrices (n_bins, N, N), q (Å⁻¹), angles (degrees), dt (s).

    `c2` may be any iterable of (N, N) arrays in bin order, consumed once and one by one. q and phi have
    one entry per bin; (q, φ) combinations that do not occur become bins without pixels (holes in the bin
    numbering of nexus files). `unprocessed` lists (q, φ) bins that have pixels but no matrix (nexus, legacy).
    `frame_time` (s) defaults to dt / (stride × average). `half` stores one triangle with zeros in the other;
    `compression` "auto" is what real files of the format use; `matrix_scalars` writes scalars as (1, 1), as
    averaged nexus files do. `photons` (N,) are the mean counts per pixel of every frame and `pixels` the pixels of a
    bin, written where nexus files have them. `truth` is stored beside the data.
    """

    c2: Iterable[NDArray[Any]]
    q: NDArray[np.float64]
    phi: NDArray[np.float64]
    dt: float
    frame_time: float | None = None
    stride: int = 1
    average: int = 1
    truth: Mapping[str, Any] | None = None
    half: bool = True
    triangle: Triangle = "upper"
    compression: Compression = "auto"
    dtype: str = "float32"
    unprocessed: Sequence[tuple[float, float]] = ()
    matrix_scalars: bool = False
    photons: NDArray[np.float64] | None = None
    pixels: int | None = None

    def __post_init__(self) -> None:
        """Normalise q and phi to 1-D float64 of equal length and check that the times agree."""
        q, phi = (np.atleast_1d(np.asarray(values, dtype=np.float64)) for values in (self.q, self.phi))
        if q.ndim != 1 or q.shape != phi.shape or q.size == 0:
            raise DataError(f"Stack: q {q.shape} and phi {phi.shape} must be 1-D with one entry per matrix")
        if not (math.isfinite(self.dt) and self.dt > 0):
            raise DataError(f"Stack: dt must be a positive number of seconds, not {self.dt!r}")
        frame_time = self.dt / (self.stride * self.average) if self.frame_time is None else self.frame_time
        if not math.isclose(frame_time * self.stride * self.average, self.dt, rel_tol=1e-9):
            raise DataError(
                f"Stack: frame_time {frame_time} s x stride {self.stride} x average {self.average} "
                f"is not dt {self.dt} s"
            )
        object.__setattr__(self, "q", q)
        object.__setattr__(self, "phi", phi)
        object.__setattr__(self, "frame_time", frame_time)

    def stored_matrices(self) -> Iterator[NDArray[Any]]:
        """Yield every matrix (N, N) in the form the file stores it: dtype, and one triangle when `half`."""
        count, size = 0, None
        for matrix in self.c2:
            array = np.asarray(matrix).astype(self.dtype)
            size = array.shape[0] if size is None else size
            if array.shape != (size, size):
                raise DataError(f"Stack: matrix {count} has shape {array.shape}, expected {(size, size)}")
            count += 1
            yield self._stored_form(array)
        if count != len(self.q):
            raise DataError(f"Stack: {count} matrices for {len(self.q)} bins")

    def _stored_form(self, array: NDArray[Any]) -> NDArray[Any]:
        if not self.half:
            return array
        return np.triu(array) if self.triangle == "upper" else np.tril(array)

    def dataset_options(self, shape: tuple[int, ...], usual: str) -> dict[str, Any]:
        """Return h5py's chunk and compression options: one chunk per (N, N) matrix where HDF5 allows it."""
        name = usual if self.compression == "auto" else self.compression
        itemsize = np.dtype(self.dtype).itemsize
        rows = max(1, min(shape[-2], LARGEST_CHUNK // (shape[-1] * itemsize)))
        options: dict[str, Any] = {"chunks": (*(1,) * (len(shape) - 2), rows, shape[-1])}
        if name == "gzip":
            options |= {"compression": "gzip", "compression_opts": 6}
        elif name == "lzf":
            options |= {"compression": "lzf"}
        return options

    def diagonal_means(self, matrix: NDArray[Any]) -> NDArray[np.float64]:
        """Return the mean of every diagonal (N,) of a matrix that `stored_matrices` gave, by lag in frames."""
        upper = matrix.T if self.half and self.triangle == "lower" else matrix
        return np.array([upper.diagonal(lag).mean(dtype=np.float64) for lag in range(len(upper))])
