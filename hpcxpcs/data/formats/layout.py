"""What every file layout is described by: bins, axes, the layout itself, and what a writer is given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.arrays import Floats
from hpcxpcs.data.formats.hdf5 import compression
from hpcxpcs.data.formats.qmap import Partition
from hpcxpcs.data.formats.source import Quantity, Source, quantity, scalar
from hpcxpcs.data.formats.source import dataset as dataset_at
from hpcxpcs.errors import DataError, FormatError

Triangle = Literal["upper", "lower"]
Compression = Literal["auto", "lzf", "gzip", "none"]
Reason = Literal["not populated", "not processed"]
Order = Literal["q_first", "q_last"]

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
        return half_of(_raised(matrix) if self.baseline == 0 else matrix, self.triangle)

    def applied(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Return a matrix (N, N) of the usual form as a file of this form stores it (0 where it has nothing)."""
        stored = half_of(matrix - 1 if self.baseline == 0 else matrix, self.triangle)
        return stored[::-1] if self.upside_down else stored

    def of_uncertainties(self) -> Form:
        """Return the form of the uncertainties beside such matrices: they have no baseline."""
        return replace(self, baseline=1)


def half_of(matrix: NDArray[Any], triangle: Triangle | None) -> NDArray[Any]:
    """Return a matrix (N, N) with 0 outside of one triangle, or itself."""
    if triangle is None:
        return matrix
    return np.triu(matrix) if triangle == "upper" else np.tril(matrix)


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
class Place:
    """Where the matrix of a bin is: `file[dataset][(*lead, frames, frames, *trail)]`; `label` counts bins from 1."""

    label: int
    dataset: str
    lead: tuple[int, ...] = ()
    trail: tuple[int, ...] = ()


@dataclass(frozen=True)
class BinInfo:
    """One stored two-time matrix: its q (Å⁻¹), angle (degrees), and where in the file it is, as in Place.

    `index` counts the matrices of the file from 0; `form` undoes the form in which it is stored.
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


def bins_at(places: Iterable[Place], q: Floats, phi: Floats, form: Form = USUAL) -> tuple[BinInfo, ...]:
    """Return the bins whose matrices are at some places, given the q and φ of every label."""
    return tuple(
        BinInfo(k, at.label, float(q[at.label - 1]), float(phi[at.label - 1]), at.dataset, at.lead, at.trail, form)
        for k, at in enumerate(places)
    )


def bins_without(
    used: Iterable[int], q: Floats, phi: Floats, populated: Iterable[int] | None = None
) -> tuple[AbsentBin, ...]:
    """Return the bins but those used, given the q and φ of every label; `populated` have pixels, None if all have."""
    left = set(range(1, len(q) + 1)).difference(used)
    with_pixels = left if populated is None else left.intersection(populated)
    return tuple(
        AbsentBin(
            float(q[label - 1]),
            float(phi[label - 1]),
            "not processed" if label in with_pixels else "not populated",
        )
        for label in sorted(left)
    )


class TimeStep(NamedTuple):
    """The time between frames in s (None when unknown), and in words where it is from and the unit it is stored in."""

    seconds: float | None
    told: str
    unit: str


UNEVEN_STEP = 1e-3
"""Largest deviation of a time step from the mean step, as a fraction, that still counts as a uniform grid."""


def step_of_times(times: Quantity, place: str, n_frames: int) -> TimeStep:
    """Return the step of the times of all frames, which must be ascending and equally spaced."""
    t = times.values
    if len(t) != n_frames:
        raise FormatError(f"{place} has {len(t)} times for {n_frames} frames")
    if n_frames < 2:
        return TimeStep(None, f"{place} has a single time", times.unit)
    with np.errstate(invalid="ignore", over="ignore"):  # times that are no numbers are no even steps
        steps = np.diff(t)
        dt = float((t[-1] - t[0]) / (len(t) - 1))
    if not 0 < dt < np.inf or not np.all(np.abs(steps - dt) <= UNEVEN_STEP * dt):
        raise FormatError(f"{place}: the times are not equally spaced (steps {steps.min():g}…{steps.max():g} s)")
    return TimeStep(dt, f"spacing of {place}", times.unit)


def step_of_frames(
    source: Source, period: str, stride: Sequence[str], average: Sequence[str], notes: list[str], number: str = ""
) -> TimeStep:
    """Return the step of the processed frames: that of the detector's frames x stride x average.

    `stride` and `average` are the paths to look at, `number` is how they are spelled; what is missing is 1, and noted.
    """
    unit, frame_time = "s (that of the layout)", scalar(source, period)
    if frame_time is None or not frame_time > 0:
        return TimeStep(None, f"/{period} is missing" if frame_time is None else f"/{period} is {frame_time}", unit)
    factors = []
    for paths in (stride, average):
        value = scalar(source, *paths)
        if value is None:
            notes.append(f"/{paths[0]} is missing: taken as 1")
        factors.append(1 if value is None else value)
    dt = float(frame_time * factors[0] * factors[1])
    known = dt if math.isfinite(dt) and min(factors) >= 1 else None
    words = f"{period.rsplit('/', 1)[-1]} {frame_time:g} s"
    return TimeStep(known, f"{words} x stride {factors[0]:{number}} x average {factors[1]:{number}}", unit)


def lists_of_bins(source: Source, folder: str, q_name: str, phi_name: str, each: str) -> tuple[Quantity, Quantity]:
    """Return q and φ from two lists in a folder, in stated units, with one entry for each of something."""
    q = quantity(source, f"{folder}/{q_name}", "q", required=True)
    phi = quantity(source, f"{folder}/{phi_name}", "angle", required=True)
    if len(q.values) != len(phi.values):
        raise FormatError(
            f"/{folder}: {q_name} has {len(q.values)} entries, {phi_name} {len(phi.values)}; both need one for {each}"
        )
    return q, phi


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

    @classmethod
    def of(
        cls,
        format: str,
        source: Source,
        bins: tuple[BinInfo, ...],
        n_frames: int,
        units: tuple[str, str],
        step: TimeStep,
        absent: tuple[AbsentBin, ...] = (),
        notes: Iterable[str] = (),
    ) -> Layout:
        """Describe an open file by its bins, the units of q and φ, and its time step."""
        first = dataset_at(source, bins[0].dataset)
        return cls(
            format=format,
            bins=bins,
            n_frames=n_frames,
            dt=step.seconds,
            dt_source=step.told,
            dtype=str(first.dtype),
            compression=compression(first),
            absent=absent,
            notes=tuple(notes),
            units={"q": units[0], "phi": units[1], "time": step.unit},
            source=source,
        )

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
    bin, written where nexus files have them. `partition` is that of a detector, the matrices being those of its dynamic
    bins in order (nexus). `truth` is stored beside the data.
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
    partition: Partition | None = None

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
            array = np.asarray(matrix).astype(self.dtype, copy=False)
            size = array.shape[0] if size is None else size
            if array.shape != (size, size):
                raise DataError(f"Stack: matrix {count} has shape {array.shape}, expected {(size, size)}")
            count += 1
            yield half_of(array, self.stored_triangle)
        if count != len(self.q):
            raise DataError(f"Stack: {count} matrices for {len(self.q)} bins")

    @property
    def stored_triangle(self) -> Triangle | None:
        """The only triangle that is stored, None for full matrices."""
        return self.triangle if self.half else None

    @property
    def all_bins(self) -> tuple[Floats, Floats]:
        """q and φ of all bins, those without a matrix last."""
        extra = np.asarray(self.unprocessed, dtype=np.float64).reshape(-1, 2)
        return np.concatenate([self.q, extra[:, 0]]), np.concatenate([self.phi, extra[:, 1]])

    def ordered_bins(self) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Return q and φ of all bins, ordered by q then φ, and the 1-based label of every matrix among them."""
        q, phi = self.all_bins
        order = np.lexsort((phi, q))
        labels = np.empty(len(order), dtype=np.int64)
        labels[order] = np.arange(1, len(order) + 1)
        return q[order], phi[order], labels[: len(self.q)]

    def create(self, file: h5py.File, path: str, n: int, axis: Order | None, usual: str = "lzf") -> h5py.Dataset:
        """Make the dataset of one matrix (n, n), or of all with an axis of bins; a chunk is one matrix if HDF5 allows.

        `usual` is the compression where none is asked for.
        """
        rows = max(1, min(n, LARGEST_CHUNK // (n * np.dtype(self.dtype).itemsize)))
        shape: tuple[int, ...] = (n, n)
        chunks: tuple[int, ...] = (rows, n)
        if axis == "q_first":
            shape, chunks = (len(self.q), *shape), (1, *chunks)
        elif axis == "q_last":
            shape, chunks = (*shape, len(self.q)), (*chunks, 1)
        name = usual if self.compression == "auto" else self.compression
        return file.create_dataset(
            path,
            shape,
            dtype=self.dtype,
            chunks=chunks,
            compression=None if name == "none" else name,
            compression_opts=6 if name == "gzip" else None,
        )

    def diagonals(self, matrix: NDArray[Any]) -> list[NDArray[Any]]:
        """Return the diagonals, by lag in frames, of a matrix (N, N) that `stored_matrices` gave."""
        upper = matrix.T if self.stored_triangle == "lower" else matrix
        return [upper.diagonal(lag) for lag in range(len(upper))]

    def diagonal_means(self, matrix: NDArray[Any]) -> Floats:
        """Return the mean of every diagonal (N,) of a matrix that `stored_matrices` gave, by lag in frames."""
        return np.array([diagonal.mean(dtype=np.float64) for diagonal in self.diagonals(matrix)])


def arrangement(cube: Any, path: str) -> tuple[Order, tuple[int, ...]]:
    """Tell on which side of the two frame axes the bin axes are, and return their lengths."""
    shape = tuple(cube.shape)
    if len(shape) not in (2, 3, 4) or 0 in shape:
        raise FormatError(
            f"/{path} has shape {shape}; expected (bins, N, N), (q, phi, N, N) or the same with N, N first"
        )
    first_possible, last_possible = shape[-1] == shape[-2], shape[0] == shape[1]
    if len(shape) > 2 and first_possible and last_possible:
        # The middle: cut the wrong way through its edge, a stack of halves looks like a half itself.
        leading, trailing = (tuple(n // 2 for n in axes) for axes in (shape[:-2], shape[2:]))
        first_possible = is_two_time(np.asarray(cube[leading]))
        last_possible = is_two_time(np.asarray(cube[(slice(None), slice(None), *trailing)]))
        if first_possible == last_possible:
            raise FormatError(f"/{path} has shape {shape}: it cannot be told which axes are the frames")
    if first_possible:
        return "q_first", shape[:-2]
    if last_possible:
        return "q_last", shape[2:]
    raise FormatError(f"/{path} has shape {shape}: no two neighbouring axes of equal length, so there are no matrices")


def is_two_time(matrix: NDArray[Any]) -> bool:
    """Tell whether a square array (N, N) is symmetric, or has only zeros and NaN in one triangle."""
    lower, upper = np.tril(matrix, -1), np.triu(matrix, 1)
    with np.errstate(invalid="ignore"):  # a damaged file may hold NaN that signal
        empty = not np.nan_to_num(lower).any() or not np.nan_to_num(upper).any()
        return bool(empty or np.allclose(lower, upper.T, rtol=1e-4, equal_nan=True))


def blank_triangles(matrix: NDArray[Any]) -> tuple[bool, bool]:
    """Tell of the upper and of the lower triangle of a square array whether one value fills it, apart from NaN."""
    above = matrix[np.triu_indices(len(matrix), 1)]
    below = matrix[np.tril_indices(len(matrix), -1)]
    return _filled(above), _filled(below)


def _filled(values: NDArray[Any]) -> bool:
    known = values[~np.isnan(values)]
    return bool((known == known[:1]).all())


def diagonal_from_corner(matrix: NDArray[Any]) -> bool:
    """Tell whether the line t1 = t2 of a square array can run from its first element to its last."""
    return any(blank_triangles(matrix)) or is_two_time(matrix)
