"""Compression of two-time matrices into moments: one pass, one slab of rows in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.arrays import Floats
from hpcxpcs.data.matrices import AngleMatrix, Angles, each_in_order
from hpcxpcs.likelihood.cells import ORDER, Cell, TimeAxis, cell_nodes, lagrange_matrix
from hpcxpcs.likelihood.moments import CellGroup, MomentArrays, Moments
from hpcxpcs.likelihood.raw import EVERY_PAIR, Lattice, PairSubset, mask_key, pair_data, pair_weights, slabs

GROUP_SIZES = (ORDER, 2 * ORDER, ORDER * ORDER)
"""Node counts to which cells are padded, so that a few array shapes hold all cells."""

FEWEST_CELLS = 2
"""Cells that a group has room for at least: fits of few nodes, first and refined, then share their compiled code."""

PAD_ROWS = 2
"""A band past the last column continues in the next row's lower triangle (zeros); the last needs a margin."""


Indices = NDArray[np.integer]


@dataclass(frozen=True)
class _CellBasis:
    """Interpolation of one cell: frames (rows, k_t) and lags (lags, k_τ)."""

    cell: Cell
    starts: Floats
    lags: Floats
    start_basis: Floats
    lag_basis: Floats

    @property
    def size(self) -> int:
        return self.starts.size * self.lags.size


def _cell_basis(cell: Cell, axis: TimeAxis) -> _CellBasis:
    starts, lags = cell_nodes(cell, axis)
    frames = axis.times(np.arange(cell.first, cell.stop))
    spans = axis.step * np.arange(cell.lag_first, cell.lag_stop, dtype=np.float64)
    return _CellBasis(cell, starts, lags, lagrange_matrix(frames, starts), lagrange_matrix(spans, lags))


def _squares(basis: Floats) -> Floats:
    """Outer squares of the rows of a basis (rows, k), (rows, k²)."""
    return np.einsum("pi,pj->pij", basis, basis).reshape(basis.shape[0], -1)


@dataclass(frozen=True)
class _Slab:
    """Rows of one angle on a lattice, padded so that a diagonal band is a strided view of values[m, n]."""

    values: Floats
    rows: np.ndarray
    lattice: Lattice

    def band(self, basis: _CellBasis) -> tuple[Floats, Indices, Indices] | None:
        """(view (rows, lags), selected row indices into the cell, lag indices into the cell) of a cell, or None."""
        cell, stride = basis.cell, self.lattice.stride
        low, high = np.searchsorted(self.rows, (cell.first, cell.stop))
        shift = self.lattice.column - self.lattice.row
        k_first = -((shift - cell.lag_first) // stride)
        k_stop = -((shift - cell.lag_stop) // stride)
        width = self.values.shape[1]
        if low >= high or k_first >= k_stop or width == 0:
            return None
        offset = (self.rows[low] - self.lattice.row) // stride
        item = self.values.itemsize
        start = low * width + offset + k_first
        flat = self.values.reshape(-1)[start:]
        view = np.lib.stride_tricks.as_strided(
            flat, (high - low, k_stop - k_first), ((width + 1) * item, item), writeable=False
        )
        return (
            view,
            self.rows[low:high] - cell.first,
            shift + stride * np.arange(k_first, k_stop) - cell.lag_first,
        )


def _slab_values(block: Floats, rows: slice, lattice: Lattice) -> _Slab:
    """Cut a lattice out of rows of a matrix and pad it: bands that run past the last frame then read zeros."""
    cut = lattice.cut(block, rows.start)
    values = np.zeros((cut.shape[0] + PAD_ROWS, cut.shape[1]))
    values[: cut.shape[0]] = cut
    first = rows.start + (lattice.row - rows.start) % lattice.stride
    return _Slab(values, np.arange(first, rows.stop, lattice.stride), lattice)


class _Accumulator:
    """Sums Gram matrices (per distinct mask) and projected data (per angle) over slabs."""

    def __init__(self, bases: Sequence[_CellBasis]) -> None:
        self.bases = bases

    def gram(self, weights: _Slab, into: list[Floats]) -> None:
        """Add Σ w PᵀP of the slab's pairs to every cell."""
        for basis, total in zip(self.bases, into, strict=True):
            found = weights.band(basis)
            if found is not None:
                view, rows, lags = found
                squares = _squares(basis.start_basis[rows]), _squares(basis.lag_basis[lags])
                total += squares[0].T @ view @ squares[1]

    def data(self, values: _Slab, into: list[Floats]) -> None:
        """Add Σ Pᵀ(w d) of the slab's pairs to every cell."""
        for basis, total in zip(self.bases, into, strict=True):
            found = values.band(basis)
            if found is not None:
                view, rows, lags = found
                total += basis.start_basis[rows].T @ view @ basis.lag_basis[lags]


@dataclass
class _Totals:
    """What one angle contributes: its mask class, projected data per cell, Σ w d² and the number of pairs.

    The Gram matrices per cell are there when the angle is the first of its class.
    """

    mask: int
    data: list[Floats]
    gram: list[Floats] | None
    power: float
    pairs: int


def compress(
    angles: Angles,
    phi: Floats,
    cells: Sequence[Cell],
    axis: TimeAxis,
    part: PairSubset = EVERY_PAIR,
) -> Moments:
    """Moments of the pairs of a part for all angles phi (n_phi,), reading each angle's matrix once."""
    return compress_parts(angles, phi, cells, axis, [part])[0]


def compress_parts(
    angles: Angles,
    phi: Floats,
    cells: Sequence[Cell],
    axis: TimeAxis,
    parts: Sequence[PairSubset],
) -> list[Moments]:
    """Moments of each of several parts for all angles phi (n_phi,), reading each angle's matrix once."""
    bases = [_cell_basis(cell, axis) for cell in cells]
    accumulator = _Accumulator(bases)
    masks: dict[bytes | int, int] = {}
    grams: list[list[list[Floats]]] = [[] for _ in parts]
    totals: list[list[_Totals]] = [[] for _ in parts]

    def sums_of(index: int, matrix: AngleMatrix) -> list[_Totals]:
        key = mask_key(matrix)
        name = index if key is None else key
        is_new = name not in masks
        mask = masks.setdefault(name, len(masks))
        sums = [_empty(bases, mask, with_gram=is_new) for _ in parts]
        _compress_angle(accumulator, matrix, parts, sums)
        return sums

    for sums in each_in_order(sums_of, angles, len(phi)):
        for found, kept, total in zip(sums, grams, totals, strict=True):
            if found.gram is not None:
                kept.append(found.gram)
            total.append(found)
    known_phi = np.asarray(phi, dtype=np.float64)
    return [_assemble(bases, axis, known_phi, *found) for found in zip(grams, totals, strict=True)]


def _empty(bases: Sequence[_CellBasis], mask: int, *, with_gram: bool) -> _Totals:
    gram = [np.zeros((b.starts.size**2, b.lags.size**2)) for b in bases] if with_gram else None
    return _Totals(mask, [np.zeros((b.starts.size, b.lags.size)) for b in bases], gram, 0.0, 0)


def _compress_angle(
    accumulator: _Accumulator, matrix: AngleMatrix, parts: Sequence[PairSubset], into: Sequence[_Totals]
) -> None:
    """Add the pairs of each part of one angle to its totals."""
    n_frames = matrix.c2.shape[0]
    for rows in slabs(n_frames):
        weights = pair_weights(matrix, rows)
        values = pair_data(matrix, rows, weights)
        weighted = values * weights if matrix.sigma is not None else values
        for part, total in zip(parts, into, strict=True):
            for lattice, chosen, keep in part.pieces(rows, n_frames):
                inside = slice(chosen.start - rows.start, chosen.stop - rows.start)
                blocks = [weights[inside], values[inside], weighted[inside]]
                if keep is not None:
                    blocks = [np.where(keep, block, 0.0) for block in blocks]
                _add_piece(accumulator, [_slab_values(block, chosen, lattice) for block in blocks], total)


def _add_piece(accumulator: _Accumulator, slabs_: Sequence[_Slab], total: _Totals) -> None:
    """Add weights, data and weighted data of one piece to the totals of its part."""
    weights, values, weighted = slabs_
    accumulator.data(weighted, total.data)
    if total.gram is not None:
        accumulator.gram(weights, total.gram)
    total.power += float(np.vdot(weighted.values, values.values))
    total.pairs += int(np.count_nonzero(weights.values))


def _assemble(
    bases: Sequence[_CellBasis], axis: TimeAxis, phi: Floats, grams: list[list[Floats]], totals: list[_Totals]
) -> Moments:
    """Pack per-cell arrays into padded groups, angles with equal masks side by side."""
    members: list[list[int]] = [[] for _ in grams]
    for angle, total in enumerate(totals):
        members[total.mask].append(angle)
    widest = max(len(m) for m in members)
    place = np.zeros(phi.size, dtype=np.int64)
    padded_phi = np.zeros((len(grams), widest))
    for mask, angles in enumerate(members):
        place[angles] = mask * widest + np.arange(len(angles))
        padded_phi[mask] = phi[angles + [angles[0]] * (widest - len(angles))]
    groups = []
    low = 0
    for size in GROUP_SIZES:
        chosen = [i for i, b in enumerate(bases) if low < b.size <= size]
        low = size
        if chosen:
            groups.append(_group([bases[i] for i in chosen], chosen, size, grams, totals, members, widest))
    power = jnp.asarray([t.power for t in totals])
    arrays = MomentArrays(tuple(groups), jnp.asarray(padded_phi), jnp.asarray(place), power)
    pairs = np.array([t.pairs for t in totals], dtype=np.float64)
    return Moments(tuple(b.cell for b in bases), axis, arrays, pairs)


def _group(
    bases: list[_CellBasis],
    chosen: list[int],
    size: int,
    grams: list[list[Floats]],
    totals: list[_Totals],
    members: list[list[int]],
    widest: int,
) -> CellGroup:
    count = _room(len(bases))
    t1, t2 = np.ones((count, size)), np.full((count, size), 2.0)
    gram = np.zeros((len(grams), count, size, size))
    data = np.zeros((len(grams), widest, count, size))
    for row, (basis, index) in enumerate(zip(bases, chosen, strict=True)):
        used = basis.size
        t1[row, :used] = np.repeat(basis.starts, basis.lags.size)
        t2[row, :used] = (basis.starts[:, None] + basis.lags[None, :]).ravel()
        t1[row, used:], t2[row, used:] = t1[row, 0], t2[row, 0]
        k, m = basis.starts.size, basis.lags.size
        for mask in range(len(grams)):
            full = grams[mask][index].reshape(k, k, m, m).transpose(0, 2, 1, 3).reshape(used, used)
            gram[mask, row, :used, :used] = full
            for place, angle in enumerate(members[mask]):
                data[mask, place, row, :used] = totals[angle].data[index].ravel()
    return CellGroup(*map(jnp.asarray, (t1, t2, gram, data)))


def _room(count: int) -> int:
    """The next of 2, 3, 4, 6, 8, 12, 16, 24 … cells.

    Cells follow the data; array shapes that did so too would have all code compiled anew for every measurement.
    """
    power = 1 << (max(count, FEWEST_CELLS) - 1).bit_length()
    return 3 * power // 4 if count <= 3 * power // 4 and power > FEWEST_CELLS else power
