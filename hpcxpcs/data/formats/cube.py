"""Plain cubes: an array of matrices with t, φ and q, in HDF5 (/exchange/… or top level), NPZ, NPY or a cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.layout import (
    BinInfo,
    Layout,
    Order,
    Place,
    Stack,
    TimeStep,
    arrangement,
    bins_at,
    read_matrix,
    step_of_times,
)
from hpcxpcs.data.formats.source import Source, dataset, place_of, quantity, text, values_at
from hpcxpcs.data.formats.truth import NPZ_KEY, truth_text, write_truth
from hpcxpcs.errors import FormatError

NAME = "cube"
LOOKS_FOR = (
    "/exchange/{data, t, phi, q} or c2, t, phi, q (or data, t, phi, q) at the top; t may be missing; "
    "or homodyne's cache: c2_exp, t1, t2, phi_angles_list, wavevector_q_list"
)


class Names(NamedTuple):
    """Where one flavour of cube keeps its matrices, times (s), angles (degrees) and q (Å⁻¹)."""

    c2: str
    t: str
    phi: str
    q: str


FLAVOURS = (
    Names("exchange/data", "exchange/t", "exchange/phi", "exchange/q"),
    Names("c2", "t", "phi", "q"),
    Names("data", "t", "phi", "q"),
    Names("c2_exp", "t1", "phi_angles_list", "wavevector_q_list"),
)
CACHE = FLAVOURS[-1]
"""The cache files that homodyne writes: matrices already selected, cut to a window, and completed."""
CACHE_METADATA = "cache_metadata_json"
ENOUGH_FRAMES = 500
"""Frames of a matrix that are enough to tell a typical value."""
DOUBLED = 1.75
"""A typical value above this is no offset of 1 with any contrast that is measured."""


def _flavours(source: Source) -> Iterator[Names]:
    return (names for names in FLAVOURS if all(path in source for path in (names.c2, names.phi, names.q)))


def detect(source: Source) -> bool:
    """Tell whether the file has an array of matrices with angles and q beside it."""
    return any(_flavours(source))


def open_layout(source: Source) -> Layout:
    """Describe the file: every matrix of the cube with its q and φ, whichever axis the bins are on."""
    names = next(_flavours(source))
    cube = dataset(source, names.c2)
    order, grid = arrangement(cube, names.c2)
    q_list, phi_list = quantity(source, names.q, "q"), quantity(source, names.phi, "angle")
    q, phi = _per_bin(q_list.values, phi_list.values, grid)
    places = [
        Place(label, names.c2, lead=position) if order == "q_first" else Place(label, names.c2, trail=position)
        for label, position in enumerate(np.ndindex(*grid), start=1)
    ]
    bins = bins_at(places, q, phi)
    n_frames = int(cube.shape[-1] if order == "q_first" else cube.shape[0])
    step = _time_step(source, names.t, n_frames)
    notes = [f"bins are on the {'first' if order == 'q_first' else 'last'} axis"] if grid else []
    if names == CACHE:
        notes += _cache_notes(source, bins[0], n_frames)
    return Layout.of(NAME, source, bins, n_frames, (q_list.unit, phi_list.unit), step, notes=notes)


def _per_bin(q: NDArray[Any], phi: NDArray[Any], grid: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return q and φ with one entry per bin; a (q, φ) grid has them by axis, a list by bin or one for all."""
    if len(grid) == 2 and (len(q), len(phi)) == grid:
        return np.repeat(q, grid[1]), np.tile(phi, grid[0])
    count = int(np.prod(grid, dtype=int))
    if len(q) not in (1, count) or len(phi) not in (1, count):
        raise FormatError(f"{len(q)} values of q and {len(phi)} angles do not fit the bin axes {grid} of the matrices")
    return np.broadcast_to(q, count), np.broadcast_to(phi, count)


def _time_step(source: Source, path: str, n_frames: int) -> TimeStep:
    place = place_of(source, path)
    if path not in source:
        what = "" if place == f"/{path}" else ", which would hold the times (s),"
        return TimeStep(None, f"{place}{what} is missing", "unknown")
    stored = tuple(dataset(source, path).shape)
    if len(stored) > 1 and max(stored) != np.prod(stored):
        raise FormatError(
            f"{place} has shape {stored}: times on a grid, as old caches hold them; a list (N,) is needed: "
            f"keep one axis, or write the file again"
        )
    return step_of_times(quantity(source, path, "time"), place, n_frames)


def _doubled(matrix: NDArray[Any]) -> bool:
    """Tell whether a matrix (N, N) has a typical value near 2 off the diagonal, where 1 is expected."""
    step = -(-len(matrix) // ENOUGH_FRAMES)
    thinned = matrix[::step, ::step]
    values = thinned[np.triu_indices(len(thinned), 1)]
    values = values[np.isfinite(values) & (values != 0)]
    return bool(values.size) and bool(np.median(values) > DOUBLED)


def _cache_notes(source: Source, first: BinInfo, n_frames: int) -> list[str]:
    """Say what a cache cannot be asked: which frames, which q and which time step it was made with."""
    notes = [
        "this is a cache of homodyne: frames count from its own first frame, its time step is the one of the "
        "configuration that wrote it, and the full matrices are as that program completed them"
    ]
    if "t2" in source and not np.array_equal(values_at(source, "t2"), values_at(source, CACHE.t)):
        raise FormatError("/t1 and /t2 differ: the matrices are not on one grid of times")
    if _doubled(read_matrix(source, first)):
        notes.append(
            "warning: values between different frames are near 2, those of a matrix that was full already and had "
            "both halves added up; start from the HDF5 file instead"
        )
    if CACHE_METADATA not in source:
        return notes
    try:
        told = json.loads(text(values_at(source, CACHE_METADATA)))
        start, end, asked = told.get("start_frame"), told.get("end_frame"), told.get("config_wavevector_q")
    except (ValueError, AttributeError) as error:
        raise FormatError(
            f"/{CACHE_METADATA} is not the JSON of a cache ({error}); let homodyne write the cache again"
        ) from error
    if isinstance(start, int) and isinstance(end, int):
        notes.append(f"the cache holds frames {start}…{end} of the measurement")
        if end > 0 and end - start + 1 != n_frames:
            notes.append(f"warning: that would be {end - start + 1} frames, the matrices have {n_frames}")
    if isinstance(asked, int | float):
        notes.append(f"the cache was made for q = {asked:g} 1/Å; the q of its matrices are used")
    return notes


def write(path: Path, stack: Stack, *, order: Order = "q_first", names: Names = FLAVOURS[0]) -> None:
    """Write a stack as one array with one q and φ per bin; a path with suffix .npz is written as NPZ."""
    matrices = stack.stored_matrices()
    first = next(matrices)
    if path.suffix == ".npz":
        _write_npz(path, stack, np.stack([first, *matrices], axis=0 if order == "q_first" else -1))
        return
    with h5py.File(path, "w") as file:
        stored = stack.create(file, names.c2, len(first), order)
        for index, matrix in enumerate(chain([first], matrices)):
            stored[index if order == "q_first" else (..., index)] = matrix
        file[names.t], file[names.phi], file[names.q] = np.arange(len(first)) * stack.dt, stack.phi, stack.q
        write_truth(file, stack.truth)


def _write_npz(path: Path, stack: Stack, cube: NDArray[Any]) -> None:
    n = cube.shape[1]
    arrays = {"c2": cube, "t": np.arange(n) * stack.dt, "phi": stack.phi, "q": stack.q}
    if stack.truth is not None:
        arrays[NPZ_KEY] = np.array(truth_text(stack.truth))
    save: Callable[..., None] = np.savez if stack.compression == "none" else np.savez_compressed
    save(path, **arrays)
