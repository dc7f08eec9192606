"""Plain cubes: one array of matrices with its t, φ and q, in HDF5 (/exchange/… or top level) or NPZ."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.layout import BinInfo, Layout, Stack
from hpcxpcs.data.formats.source import Source, vector
from hpcxpcs.data.formats.truth import NPZ_KEY, truth_text, write_truth
from hpcxpcs.errors import FormatError

NAME = "cube"
LOOKS_FOR = "/exchange/{data, t, phi, q} or c2, t, phi, q (or data, t, phi, q) at the top; t may be missing"

Order = Literal["q_first", "q_last"]


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
)

UNEVEN = 1e-3
"""Largest deviation of a time step from the mean step, as a fraction, that still counts as a uniform grid."""


def _names(source: Source) -> Names | None:
    return next((n for n in FLAVOURS if all(path in source for path in (n.c2, n.phi, n.q))), None)


def detect(source: Source) -> bool:
    """Tell whether the file has an array of matrices with angles and q beside it."""
    return _names(source) is not None


def open_layout(source: Source) -> Layout:
    """Describe the file: every matrix of the cube with its q and φ, whichever axis the bins are on."""
    names = _names(source)
    if names is None:
        raise FormatError(f"the file has no {LOOKS_FOR}")
    cube = source[names.c2]
    order, grid = _arrangement(cube, names.c2)
    q, phi = _per_bin(vector(source, names.q), vector(source, names.phi), grid)
    bins = tuple(
        BinInfo(
            index,
            index + 1,
            float(q[index]),
            float(phi[index]),
            names.c2,
            lead=tuple(map(int, position)) if order == "q_first" else (),
            trail=tuple(map(int, position)) if order == "q_last" else (),
        )
        for index, position in enumerate(np.ndindex(*grid))
    )
    n_frames = int(cube.shape[-1] if order == "q_first" else cube.shape[0])
    dt, dt_source = _time_step(source, names.t, n_frames)
    return Layout(
        format=NAME,
        bins=bins,
        n_frames=n_frames,
        dt=dt,
        dt_source=dt_source,
        dtype=str(cube.dtype),
        compression=getattr(cube, "compression", None) or "none",
        notes=(f"bins are on the {'first' if order == 'q_first' else 'last'} axis",) if grid else (),
        source=source,
    )


def _arrangement(cube: Any, path: str) -> tuple[Order, tuple[int, ...]]:
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
        first_possible = _is_two_time(np.asarray(cube[leading]))
        last_possible = _is_two_time(np.asarray(cube[(slice(None), slice(None), *trailing)]))
        if first_possible == last_possible:
            raise FormatError(f"/{path} has shape {shape}: it cannot be told which axes are the frames")
    if first_possible:
        return "q_first", shape[:-2]
    if last_possible:
        return "q_last", shape[2:]
    raise FormatError(
        f"/{path} has shape {shape}: no two neighbouring axes of equal length, so there are no matrices"
    )


def _is_two_time(matrix: NDArray[Any]) -> bool:
    """Tell whether a square array is symmetric, or has zeros in one triangle."""
    lower, upper = np.tril(matrix, -1), np.triu(matrix, 1)
    return bool(not lower.any() or not upper.any() or np.allclose(lower, upper.T, rtol=1e-4, equal_nan=True))


def _per_bin(q: NDArray[Any], phi: NDArray[Any], grid: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return q and φ with one entry per bin; a (q, φ) grid has them by axis, a list by bin or one for all."""
    if len(grid) == 2 and (len(q), len(phi)) == grid:
        return np.repeat(q, grid[1]), np.tile(phi, grid[0])
    count = int(np.prod(grid, dtype=int))
    if len(q) not in (1, count) or len(phi) not in (1, count):
        raise FormatError(
            f"{len(q)} values of q and {len(phi)} angles do not fit the bin axes {grid} of the matrices"
        )
    return np.broadcast_to(q, count), np.broadcast_to(phi, count)


def _time_step(source: Source, path: str, n_frames: int) -> tuple[float | None, str]:
    if path not in source:
        return None, f"/{path} is missing"
    t = vector(source, path).astype(np.float64)
    if len(t) != n_frames:
        raise FormatError(f"/{path} has {len(t)} times for {n_frames} frames")
    if n_frames < 2:
        return None, f"/{path} has a single time"
    steps = np.diff(t)
    dt = float((t[-1] - t[0]) / (n_frames - 1))
    if not dt > 0 or not np.all(np.abs(steps - dt) <= UNEVEN * dt):
        raise FormatError(
            f"/{path}: the times are not equally spaced (steps {steps.min():g}…{steps.max():g} s)"
        )
    return dt, f"spacing of /{path}"


def write(path: Path, stack: Stack, *, order: Order = "q_first", names: Names = FLAVOURS[0]) -> None:
    """Write a stack as one array with one q and φ per bin; a path with suffix .npz is written as NPZ."""
    matrices = stack.stored_matrices()
    first = next(matrices)
    if path.suffix == ".npz":
        _write_npz(path, stack, np.stack([first, *matrices], axis=0 if order == "q_first" else -1))
        return
    n_bins, n = len(stack.q), len(first)
    with h5py.File(path, "w") as file:
        shape = (n_bins, n, n) if order == "q_first" else (n, n, n_bins)
        options = stack.dataset_options((n_bins, n, n), usual="lzf")
        if order == "q_last":
            options["chunks"] = (*options["chunks"][1:], 1)
        dataset = file.create_dataset(names.c2, shape, dtype=stack.dtype, **options)
        for index, matrix in enumerate(chain([first], matrices)):
            dataset[index if order == "q_first" else (..., index)] = matrix
        file[names.t], file[names.phi], file[names.q] = np.arange(n) * stack.dt, stack.phi, stack.q
        write_truth(file, stack.truth)


def _write_npz(path: Path, stack: Stack, cube: NDArray[Any]) -> None:
    n = cube.shape[1]
    arrays = {"c2": cube, "t": np.arange(n) * stack.dt, "phi": stack.phi, "q": stack.q}
    if stack.truth is not None:
        arrays[NPZ_KEY] = np.array(truth_text(stack.truth))
    save: Callable[..., None] = np.savez if stack.compression == "none" else np.savez_compressed
    save(path, **arrays)
