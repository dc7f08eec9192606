"""Pairs of frames with their data and weights: each unordered pair once, nothing from the diagonal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.twotime import AngleMatrix
from hpcxpcs.likelihood.interpolation import Floats


@dataclass(frozen=True)
class Lattice:
    """The pairs with first frame ≡ row and second frame ≡ column (mod stride); stride 1 is all pairs."""

    row: int = 0
    column: int = 0
    stride: int = 1

    def cut(self, block: Floats, first_row: int) -> Floats:
        """View of the lattice's elements in rows of a matrix (rows, N), the first of which is `first_row`."""
        return block[(self.row - first_row) % self.stride :: self.stride, self.column :: self.stride]

    def pieces(self, rows: slice, n_frames: int) -> Iterator[Piece]:
        """The lattice itself, among any rows."""
        yield Piece(self, rows, None)


class Piece(NamedTuple):
    """Pairs of a lattice with first frame in `rows`; only those in keep (rows, N) when it is given."""

    lattice: Lattice
    rows: slice
    keep: NDArray[np.bool_] | None


class Part(Protocol):
    """Some of the pairs of every angle."""

    def pieces(self, rows: slice, n_frames: int) -> Iterator[Piece]:
        """Disjoint pieces that hold the part's pairs (i < j < n_frames) with first frame in `rows`."""
        ...


EVERY_PAIR = Lattice()


def lattices(stride: int) -> tuple[Lattice, ...]:
    """The stride² lattices that hold every pair exactly once between them."""
    return tuple(Lattice(row, column, stride) for row in range(stride) for column in range(stride))


ALL = slice(None)


def pair_weights(matrix: AngleMatrix, rows: slice, columns: slice = ALL) -> Floats:
    """Weights (rows, columns) of the pairs i < j: 0 where masked, 1/σ² where the file gives σ, else 1."""
    frames = np.arange(matrix.c2.shape[0])
    allowed = frames[None, columns] > frames[rows, None]
    allowed &= matrix.frame_ok[rows, None] & matrix.frame_ok[None, columns]
    if matrix.pair_ok is not None:
        allowed &= matrix.pair_ok[rows, columns]
    if matrix.sigma is None:
        return allowed.astype(np.float64)
    sigma = np.where(allowed, matrix.sigma[rows, columns], 1.0).astype(np.float64)
    return np.where(allowed, sigma**-2.0, 0.0)


def pair_data(matrix: AngleMatrix, rows: slice, weights: Floats, columns: slice = ALL) -> Floats:
    """Data in float64, exactly 0 where the weight is 0 (so that a masked NaN cannot leak)."""
    return np.where(weights > 0.0, matrix.c2[rows, columns], 0.0).astype(np.float64, copy=False)


def mask_key(matrix: AngleMatrix) -> bytes | None:
    """Equal keys mean equal weights; None means weights of its own (per-pair masks or errors)."""
    if matrix.pair_ok is not None or matrix.sigma is not None:
        return None
    return np.packbits(matrix.frame_ok).tobytes()


def slabs(n_frames: int, limit_bytes: int = 16 << 20) -> list[slice]:
    """Row ranges whose float64 slabs of n_frames columns stay below `limit_bytes`."""
    height = max(1, min(n_frames, limit_bytes // (8 * n_frames)))
    return [slice(start, min(start + height, n_frames)) for start in range(0, n_frames, height)]
