"""Shards: every pair of frames of every angle in exactly one of K parts, and the moments of the parts.

A cut decides from the two frames of a pair alone which shard it belongs to, so every shard holds all angles:

* angle_balanced: pairs whose frames have the same remainders modulo a stride s lie in one class; a shard is one of the
  s² classes where K = s², else several, dealt out so that shards have nearly equal numbers of pairs (within 10 % for
  K ≤ 64 from 100 frames on). Every shard sees all epochs and lags in proportion.
* random: by a hash of seed and frames.
* contiguous: by blocks of first frames with equal numbers of pairs.
* stratified: the pairs of each band of lags and each epoch are dealt out in turn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpcxpcs.arrays import Floats, Integers
from hpcxpcs.data.matrices import Angles
from hpcxpcs.likelihood.cells import Cell, TimeAxis
from hpcxpcs.likelihood.compress import compress_parts
from hpcxpcs.likelihood.moments import Moments
from hpcxpcs.likelihood.raw import EVERY_PAIR, Lattice, Piece

BALANCE = 0.1
"""Largest tolerated distance of a shard's number of pairs from the mean, as a fraction, of a lattice cut."""

FINEST = 8
"""Strides tried go up to this many times √K."""

EPOCHS = 8
"""Ranges of first frames of a stratified cut; its lags are banded by powers of two."""

AT_ONCE = 16
"""Shards compressed in one pass over the matrices: bounds the memory."""


class Cut(ABC):
    """A rule that puts every pair of frames into one shard; `warning` says what is wrong with it, if anything is."""

    warning: ClassVar[str] = ""

    @abstractmethod
    def shard_of(self, first: Integers, second: Integers) -> Integers:
        """Shard of the pairs of frames first < second (broadcast); for other frames the answer means nothing."""

    def lattices(self, index: int) -> tuple[Lattice, ...]:
        """The lattices that make up a shard, none when it is not made of lattices."""
        return ()


@dataclass(frozen=True)
class PairSet:
    """One shard of a cut: a part of the pairs, the same of every angle."""

    index: int
    cut: Cut

    @property
    def warning(self) -> str:
        """What a user should know about shards of this kind; empty when there is nothing."""
        return self.cut.warning

    def contains(self, first: Integers, second: Integers) -> NDArray[np.bool_]:
        """Whether the shard holds the pairs of frames first < second."""
        return self.cut.shard_of(first, second) == self.index

    def pieces(self, rows: slice, n_frames: int) -> Iterator[Piece]:
        """The shard's pairs with first frame in `rows`: its lattices, or a mask."""
        lattices = self.cut.lattices(self.index)
        if lattices:
            yield from (Piece(lattice, rows, None) for lattice in lattices)
            return
        keep = _shards_of_rows(self.cut, rows.start, rows.stop, n_frames) == self.index
        used = np.flatnonzero(keep.any(axis=1))
        if used.size:
            low, high = int(used[0]), int(used[-1]) + 1
            yield Piece(EVERY_PAIR, slice(rows.start + low, rows.start + high), keep[low:high])


@lru_cache(maxsize=1)
def _shards_of_rows(cut: Cut, start: int, stop: int, n_frames: int) -> NDArray[np.int32]:
    """Shard of every pair with first frame in rows start … stop − 1, (rows, N); −1 where the second is not later."""
    first, second = np.arange(start, stop)[:, None], np.arange(n_frames)[None, :]
    return np.where(second > first, cut.shard_of(first, second), -1).astype(np.int32)


@dataclass(frozen=True)
class LatticeCut(Cut):
    """Shard table[i mod stride][j mod stride] for frames i < j."""

    stride: int
    table: tuple[tuple[int, ...], ...]

    def shard_of(self, first: Integers, second: Integers) -> Integers:
        """Shard of the pairs by the remainders of their frames."""
        return np.asarray(self.table)[first % self.stride, second % self.stride]

    def lattices(self, index: int) -> tuple[Lattice, ...]:
        """The classes that were dealt to the shard."""
        places = np.argwhere(np.asarray(self.table) == index)
        return tuple(Lattice(int(row), int(column), self.stride) for row, column in places)


@dataclass(frozen=True)
class RandomCut(Cut):
    """Shard by a hash of (seed, i, j), the same on every machine."""

    count: int
    seed: int

    def shard_of(self, first: Integers, second: Integers) -> Integers:
        """Shard of the pairs by lot."""
        return _lot(self.count, _hashed(_hashed(_hashed(self.seed), first), second))


@dataclass(frozen=True)
class ContiguousCut(Cut):
    """Shard k has the pairs whose first frame lies in edges[k] … edges[k + 1] − 1."""

    edges: tuple[int, ...]
    warning: ClassVar[str] = (
        "contiguous shards see one stretch of time each, and the late ones only short lags: they differ in what they "
        "can determine, and slow dynamics is seen by the early shards alone; angle_balanced has neither defect"
    )

    def shard_of(self, first: Integers, second: Integers) -> Integers:
        """Shard of the pairs by their first frame."""
        inner = np.asarray(self.edges[1:-1], dtype=np.int64)
        return np.searchsorted(inner, first, side="right") + 0 * np.asarray(second)


@dataclass(frozen=True)
class StratifiedCut(Cut):
    """Every `count` successive pairs of a stratum go to different shards, in an order that varies with the seed."""

    count: int
    n_frames: int
    seed: int

    def stratum_of(self, first: Integers, second: Integers) -> tuple[Integers, Integers]:
        """Stratum of the pairs, and their rank in it (by first frame, then by lag)."""
        lag = np.maximum(second - first, 1)
        band = np.frexp(lag)[1].astype(np.int64) - 1
        low = np.int64(1) << np.arange(int(self.n_frames).bit_length())
        epoch_start = np.arange(EPOCHS) * self.n_frames // EPOCHS
        epoch = np.searchsorted(epoch_start, first, side="right") - 1
        beyond = self.n_frames - np.arange(self.n_frames)
        widths = np.clip(beyond[None, :], low[:, None], 2 * low[:, None]) - low[:, None]
        before = np.concatenate([np.zeros((low.size, 1), dtype=np.int64), np.cumsum(widths, axis=1)], axis=1)
        rank = before[band, first] - before[band, epoch_start[epoch]] + lag - low[band]
        return band * EPOCHS + epoch, rank

    def shard_of(self, first: Integers, second: Integers) -> Integers:
        """Shard of the pairs by their turn in their stratum."""
        stratum, rank = self.stratum_of(first, second)
        turn, place = np.divmod(rank, self.count)
        shift = _lot(self.count, _hashed(_hashed(_hashed(self.seed), stratum), turn))
        return (place + shift) % self.count


def _hashed(state: NDArray[np.uint64] | int, word: ArrayLike = 0) -> NDArray[np.uint64]:
    """SplitMix64 of state + golden ratio, with words (non-negative integers) mixed in."""
    values = np.atleast_1d(np.asarray(state, dtype=np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
    values = values ^ np.asarray(word).astype(np.uint64)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _lot(count: int, hashed: NDArray[np.uint64]) -> Integers:
    """A number below `count` from the upper half of each hash."""
    return (((hashed >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32)).astype(np.int64)


def _lattice_cut(count: int, n_frames: int, seed: int, first: int) -> LatticeCut:
    """The coarsest stride whose classes can be dealt out evenly, or the most even one tried."""
    smallest = int(np.ceil(np.sqrt(count)))
    largest = max(smallest, min(n_frames, FINEST * smallest))
    best: tuple[float, LatticeCut] | None = None
    for stride in range(smallest, largest + 1):
        pairs = _class_sizes(stride, n_frames, first)
        table = _dealt(pairs, count)
        load = np.bincount(table.ravel(), weights=pairs.ravel(), minlength=count)
        uneven = float(np.abs(load / max(load.mean(), 1.0) - 1.0).max())
        if best is None or uneven < best[0]:
            best = uneven, LatticeCut(stride, tuple(tuple(map(int, row)) for row in table))
        if uneven <= BALANCE:
            break
    assert best is not None
    return best[1]


def _class_sizes(stride: int, n_frames: int, first: int) -> Integers:
    """Number of pairs i < j of frames first … n_frames − 1 by (i mod stride, j mod stride), (stride, stride)."""
    frames = np.arange(first, n_frames)
    member = np.zeros((frames.size, stride), dtype=np.int64)
    member[np.arange(frames.size), frames % stride] = 1
    later = member.sum(axis=0) - np.cumsum(member, axis=0)
    return member.T @ later


def _dealt(pairs: Integers, count: int) -> Integers:
    """Shard of each class (stride, stride): the largest first, each to the shard that has least.

    A shard that already holds lags of the same remainder stands back by half a class for each of them.
    """
    stride = len(pairs)
    sizes = pairs.ravel()
    row, column = np.divmod(np.arange(stride**2), stride)
    lag = (column - row) % stride
    load, held = np.zeros(count), np.zeros((count, stride))
    dealt = np.empty(stride**2, dtype=np.int64)
    for place in np.lexsort((row, lag, -sizes)):
        shard = int(np.argmin(load + 0.5 * sizes.mean() * held[:, lag[place]]))
        dealt[place] = shard
        load[shard] += sizes[place]
        held[shard, lag[place]] += 1.0
    names, seen = np.unique(dealt, return_index=True)
    renamed = np.empty(count, dtype=np.int64)
    renamed[names[np.argsort(seen)]] = np.arange(names.size)
    return renamed[dealt].reshape(stride, stride)


def _random_cut(count: int, n_frames: int, seed: int, first: int) -> RandomCut:
    return RandomCut(count, seed)


def _contiguous_cut(count: int, n_frames: int, seed: int, first: int) -> ContiguousCut:
    """Blocks of first frames whose edges lie nearest to equal shares of the pairs."""
    below = np.concatenate([[0], np.cumsum(np.arange(n_frames - 1 - first, -1, -1))])
    shares = below[-1] * np.arange(1, count) / count
    inner = first + np.searchsorted(0.5 * (below[:-1] + below[1:]), shares)
    return ContiguousCut((0, *map(int, inner), n_frames))


def _stratified_cut(count: int, n_frames: int, seed: int, first: int) -> StratifiedCut:
    return StratifiedCut(count, n_frames, seed)


_CUTS: dict[str, Callable[[int, int, int, int], Cut]] = {
    "angle_balanced": _lattice_cut,
    "random": _random_cut,
    "contiguous": _contiguous_cut,
    "stratified": _stratified_cut,
}

STRATEGIES = tuple(_CUTS)
"""The names of all ways to cut."""


def partition(strategy: str, count: int, n_frames: int, seed: int, *, first: int = 0) -> tuple[PairSet, ...]:
    """Cut all pairs of n_frames frames into `count` ≥ 1 shards, by one of STRATEGIES.

    `seed` (≥ 0) matters to random and stratified. `first` is the first usable frame (TimeAxis.first_usable): pairs
    before it are not counted when shards are balanced. With more shards than pairs, some are empty.
    """
    if strategy not in _CUTS:
        raise ValueError(f"strategy {strategy!r} is none of {', '.join(STRATEGIES)}")
    if count < 1 or n_frames < 2:
        raise ValueError(f"{count} shards of {n_frames} frames: at least one shard and two frames are needed")
    cut = _CUTS[strategy](count, n_frames, seed, first)
    return tuple(PairSet(index, cut) for index in range(count))


def shard_moments(
    angles: Angles,
    phi: Floats,
    cells: Sequence[Cell],
    axis: TimeAxis,
    sets: Sequence[PairSet],
) -> Iterator[Moments]:
    """Moments of each shard at angles phi (n_phi,), in order; each matrix is read once per AT_ONCE shards."""
    for start in range(0, len(sets), AT_ONCE):
        yield from compress_parts(angles, phi, cells, axis, sets[start : start + AT_ONCE])
