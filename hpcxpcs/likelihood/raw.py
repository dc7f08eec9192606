"""The raw pairs as a likelihood: the reference that moments are measured against, and the fallback.

Each unordered pair of frames counts once, with its weight; nothing comes from the diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial, reduce
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from hpcxpcs.arrays import Floats
from hpcxpcs.data.matrices import AngleMatrix, Angles, ReadAhead, each_in_order
from hpcxpcs.likelihood.cells import TimeAxis
from hpcxpcs.likelihood.products import Products, columns, joined
from hpcxpcs.physics.model import Model


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


class PairSubset(Protocol):
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


TILE = 128
"""Frames per side of the square tiles in which a matrix is evaluated."""

BATCH = 64
"""Tiles evaluated per call: bounds the memory whatever the number of frames."""

type Corners = list[tuple[int, int]]
"""Tiles by row and column, in units of their side."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["row_times", "column_times", "data", "weights", "phi"],
    meta_fields=[],
)
@dataclass(frozen=True)
class RawTiles:
    """Rectangles of raw data: row_times (B, R) and column_times (B, Q) in s, data and weights (n_phi, B, R, Q)."""

    row_times: Array
    column_times: Array
    data: Array
    weights: Array
    phi: Array

    def products(self, model: Model, theta: Array, tangents: Array) -> Products:
        """Inner products over every pair of the tiles, one tile at a time."""
        size, n_phi = 2 + tangents.shape[1], self.phi.shape[0]

        def accumulate(total: Products, tile: tuple[Array, Array, Array, Array]) -> tuple[Products, None]:
            rows, cols, data, weights = tile
            basis = columns(model, theta, tangents, rows[None, :, None], cols[None, None, :], self.phi[:, None, None])
            flat = basis.reshape(size, n_phi, -1).swapaxes(0, 1)
            weighted = flat * weights.reshape(n_phi, 1, -1)
            found = Products(
                weighted @ flat.swapaxes(1, 2),
                (weighted @ data.reshape(n_phi, -1, 1))[..., 0],
                jnp.sum(weights * data * data, axis=(1, 2)),
            )
            return joined(total, found), None

        zero = Products(jnp.zeros((n_phi, size, size)), jnp.zeros((n_phi, size)), jnp.zeros(n_phi))
        swapped = (self.row_times, self.column_times, self.data.swapaxes(0, 1), self.weights.swapaxes(0, 1))
        return jax.lax.scan(accumulate, zero, swapped)[0]

    @property
    def pairs(self) -> Floats:
        """Number of pairs with weight per angle, shape (n_phi,)."""
        return np.asarray(jnp.count_nonzero(self.weights, axis=(1, 2, 3)), dtype=np.float64)


@jax.jit
def _tile_products(model: Model, tiles: RawTiles, theta: Array, tangents: Array) -> Products:
    return tiles.products(model, theta, tangents)


@jax.jit
def _tile_products_many(model: Model, tiles: RawTiles, thetas: Array) -> Products:
    none = jnp.zeros((thetas.shape[1], 0))
    return jax.vmap(lambda theta: tiles.products(model, theta, none))(thetas)


@dataclass(frozen=True)
class RawPairs:
    """All raw pairs of a measurement, exact and slow."""

    angles: Angles
    phi: Floats
    axis: TimeAxis
    threads: int = 1

    def products(self, model: Model, theta: Array, tangents: Array) -> Products:
        """Inner products of every angle at theta (p,), tangents (p, k)."""
        return self._joined(lambda tiles: _tile_products(model, tiles, theta, tangents), axis=0)

    def products_many(self, model: Model, thetas: Array) -> Products:
        """Value-only products at thetas (k, p) in one pass over the data: leaves have shape (k, n_phi, …)."""
        return self._joined(lambda tiles: _tile_products_many(model, tiles, thetas), axis=1)

    def _joined(self, evaluate: Callable[[RawTiles], Products], axis: int) -> Products:
        parts = [reduce(joined, found) for found in self.by_angle(lambda index, tiles: evaluate(tiles))]
        return Products(*(jnp.concatenate(leaf, axis=axis) for leaf in zip(*parts, strict=True)))

    def by_angle[T](self, evaluate: Callable[[int, RawTiles], T]) -> Iterator[list[T]]:
        """What `evaluate(angle, tiles)` makes of every batch of tiles, a list per angle; threads share the batches.

        Tiles are too small for XLA to split. Matrices in memory are all worked on at once, others one after the other.
        """
        batches = tile_batches(self.axis)

        def found(index: int, matrix: AngleMatrix, batch: Corners) -> T:
            tiles = filled_tiles(matrix, float(self.phi[index]), self.axis, batch)
            return jax.block_until_ready(evaluate(index, tiles))

        with ThreadPoolExecutor(max_workers=self.threads) as pool:

            def begun(index: int, matrix: AngleMatrix) -> list[Future[T]]:
                futures = [pool.submit(found, index, matrix, batch) for batch in batches]
                if isinstance(self.angles, ReadAhead):
                    wait(futures)
                return futures

            waiting = each_in_order(begun, self.angles, len(self.phi))
            for futures in waiting if isinstance(self.angles, ReadAhead) else list(waiting):
                yield [future.result() for future in futures]


def each_angle[T](evaluate: Callable[[int], T], n_phi: int, threads: int) -> list[T]:
    """evaluate(k) for every angle, several at a time."""
    with ThreadPoolExecutor(max_workers=max(1, min(n_phi, threads))) as pool:
        return list(pool.map(evaluate, range(n_phi)))


def _side(axis: TimeAxis) -> int:
    """Frames per side of a tile: no more than there are."""
    return min(TILE, -(-axis.count // 8) * 8)


def tile_batches(axis: TimeAxis) -> list[Corners]:
    """Rows and columns of all tiles on and above the diagonal, in units of their side, BATCH at a time."""
    blocks = -(-axis.count // _side(axis))
    upper = [(r, c) for r in range(blocks) for c in range(r, blocks)]
    size = min(BATCH, len(upper))
    return [upper[start : start + size] for start in range(0, len(upper), size)]


def filled_tiles(matrix: AngleMatrix, phi: float, axis: TimeAxis, batch: Corners) -> RawTiles:
    """Some tiles of one angle as arrays, padded with weight 0 to as many as the first batch has."""
    side = _side(axis)
    blocks = -(-axis.count // side)
    times = axis.times(np.clip(np.arange(blocks * side), axis.first_usable, axis.count - 1)).reshape(blocks, side)
    size = min(BATCH, blocks * (blocks + 1) // 2)
    data, weights = np.zeros((2, 1, size, side, side))
    row_times, column_times = np.tile(times[0], (2, size, 1))
    for place, (r, c) in enumerate(batch):
        row_times[place], column_times[place] = times[r], times[c]
        _fill_tile(matrix, (r * side, c * side), data[0, place], weights[0, place])
    return RawTiles(*map(jnp.asarray, (row_times, column_times, data, weights, np.array([phi]))))


def _fill_tile(matrix: AngleMatrix, corner: tuple[int, int], data: Floats, weights: Floats) -> None:
    """Copy the pairs of one tile, whose upper left element is `corner`, into data and weights (side, side)."""
    side, count = data.shape[0], matrix.c2.shape[0]
    rows = slice(corner[0], min(corner[0] + side, count))
    columns_ = slice(corner[1], min(corner[1] + side, count))
    found = pair_weights(matrix, rows, columns_)
    height, width = found.shape
    weights[:height, :width] = found
    data[:height, :width] = pair_data(matrix, rows, found, columns_)


def _among(matrix: AngleMatrix, chosen: np.ndarray) -> AngleMatrix:
    """The pairs of some frames with each other, (n, n)."""
    both = np.ix_(chosen, chosen)
    return AngleMatrix(
        matrix.c2[both],
        matrix.frame_ok[chosen],
        None if matrix.pair_ok is None else matrix.pair_ok[both],
        None if matrix.sigma is None else matrix.sigma[both],
    )


def frame_subset(angles: Angles, phi: Floats, axis: TimeAxis, frames: Sequence[int] | np.ndarray) -> RawTiles:
    """The raw pairs among a few chosen frames, of every angle, as one dense tile (for scouting starts)."""
    chosen = np.asarray(frames)
    times = axis.times(chosen)
    data, weights = np.zeros((2, len(phi), 1, chosen.size, chosen.size))
    for index, part in enumerate(each_in_order(lambda _, matrix: _among(matrix, chosen), angles, len(phi))):
        everything = slice(0, chosen.size)
        weights[index, 0] = pair_weights(part, everything)
        data[index, 0] = pair_data(part, everything, weights[index, 0])
    return RawTiles(
        jnp.asarray(times[None]),
        jnp.asarray(times[None]),
        jnp.asarray(data),
        jnp.asarray(weights),
        jnp.asarray(np.asarray(phi, dtype=np.float64)),
    )
