"""Matrices one after the other, the next one read while one is worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain

from hpcxpcs.data.twotime import AngleMatrix

Angles = Callable[[int], AngleMatrix]
"""Gives the matrix of an angle by its number."""


@dataclass(frozen=True)
class ReadAhead:
    """Angles that are slow to give and too large to keep: `at_once` are in memory in a pass, the one that is worked on
    and, with 2, the next one, which a thread reads."""

    read: Angles
    at_once: int = 2

    def __call__(self, k: int) -> AngleMatrix:
        """Read the matrix of angle k now."""
        return self.read(k)


def in_order(angles: Angles, indices: Iterable[int]) -> Iterator[AngleMatrix]:
    """Yield the matrices of some angles in this order."""
    if not isinstance(angles, ReadAhead) or angles.at_once < 2:
        yield from map(angles, indices)
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read ahead") as pool:
        coming: Future[AngleMatrix] | None = None
        for k in chain(indices, [None]):
            matrix = None if coming is None else coming.result()
            coming = None if k is None else pool.submit(angles.read, k)
            if matrix is not None:
                yield matrix
            del matrix


def each_in_order[T](work: Callable[[int, AngleMatrix], T], angles: Angles, count: int) -> Iterator[T]:
    """Yield work(k, matrix of angle k) for k = 0 … count − 1, and let go of each matrix before another one is read."""
    matrices = in_order(angles, range(count))
    for k in range(count):
        yield work(k, next(matrices))


def chosen(angles: Angles, numbers: Sequence[int]) -> Angles:
    """Some of the angles, renumbered from 0; those that are slow to give stay so."""

    def read(k: int) -> AngleMatrix:
        return angles(numbers[k])

    return replace(angles, read=read) if isinstance(angles, ReadAhead) else read
