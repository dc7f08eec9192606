"""The matrix of an angle, and where it comes from: memory, a file, a store on disk, a thread that reads ahead."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.files.array_store import ArrayStore


@dataclass(frozen=True)
class AngleMatrix:
    """One angle: symmetric c2 (N, N), usable frames (N,), usable pairs (N, N) or None, σ (N, N) or None.

    The diagonal of c2 is as stored (shot noise), a pair that is not usable may hold NaN; `frame_ok` is False
    for dead frames and for t = 0.
    """

    c2: NDArray[Any]
    frame_ok: NDArray[np.bool_]
    pair_ok: NDArray[np.bool_] | None = None
    sigma: NDArray[Any] | None = None
    notes: tuple[str, ...] = ()


class Matrices(Protocol):
    """Where matrices come from: memory or a file; each (N, N), as stored, cut to the used frames."""

    @property
    def dtype(self) -> str:
        """Type of the stored numbers; whole numbers become float64 once they are read."""

    def c2(self, k: int) -> NDArray[Any]:
        """Return the matrix of angle k, in an array that the caller may change."""

    def sigma(self, k: int) -> NDArray[Any] | None:
        """Return the uncertainties of angle k, () or (N, N), None when there are none; (N, N) may be changed."""

    def content_hash(self) -> str:
        """Return a hash of all matrices and uncertainties."""

    def angle_hash(self, k: int) -> str | None:
        """Return a hash of what is stored of angle k; None where preparing it again costs nothing to speak of."""


@dataclass(frozen=True)
class InMemory:
    """Matrices that are already here."""

    stack: Sequence[NDArray[Any]]
    sigmas: Sequence[NDArray[Any]] | None = None

    @property
    def dtype(self) -> str:
        """Type of the numbers."""
        return str(self.stack[0].dtype)

    def c2(self, k: int) -> NDArray[Any]:
        """Return a copy of the matrix of angle k, (N, N)."""
        return np.array(self.stack[k])

    def sigma(self, k: int) -> NDArray[Any] | None:
        """Return a copy of the uncertainties of angle k, None when there are none."""
        return None if self.sigmas is None else np.array(self.sigmas[k])

    def content_hash(self) -> str:
        """Return a hash of the arrays."""
        return hash_of_arrays([*self.stack, *(self.sigmas or ())])

    def angle_hash(self, k: int) -> None:
        """Return None: what is in memory is prepared again."""


@dataclass(frozen=True)
class Joined:
    """The matrices of several data sets, one set after the other: `parts` are (matrices, number of angles)."""

    parts: tuple[tuple[Matrices, int], ...]

    @property
    def dtype(self) -> str:
        """Type of the numbers that holds those of all sets."""
        return str(np.result_type(*(np.dtype(part.dtype) for part, _ in self.parts)))

    def c2(self, k: int) -> NDArray[Any]:
        """Return the matrix of angle k of all."""
        part, own = self._place(k)
        return part.c2(own)

    def sigma(self, k: int) -> NDArray[Any] | None:
        """Return the uncertainties of angle k of all."""
        part, own = self._place(k)
        return part.sigma(own)

    def content_hash(self) -> str:
        """Return a hash of all sets."""
        return hashlib.sha256(" ".join(part.content_hash() for part, _ in self.parts).encode()).hexdigest()

    def angle_hash(self, k: int) -> str | None:
        """Return a hash of what is stored of angle k of all."""
        part, own = self._place(k)
        return part.angle_hash(own)

    def _place(self, k: int) -> tuple[Matrices, int]:
        for part, count in self.parts:
            if k < count:
                return part, k
            k -= count
        raise IndexError(k)


def hash_of_arrays(arrays: Iterable[NDArray[Any]]) -> str:
    """Return a hash (hex) of the types, shapes and values of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@cache
def code_version() -> str:
    """Return a hash of all code of this package: a change in any module may change what a prepared matrix is."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@dataclass
class KeptMatrices:
    """A store of prepared matrices; `tell` hears once when there is no room for more."""

    store: ArrayStore
    tell: Callable[[str], None] = lambda text: None
    _full: bool = field(default=False, init=False)

    def key(self, stored: str, settings: Mapping[str, Any]) -> str:
        """Return the name of what is made with some settings (JSON) from bytes with a hash."""
        text = json.dumps([code_version(), stored, dict(settings)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def find(self, key: str) -> AngleMatrix | None:
        """Return a kept matrix, exactly as it was made; None when it has to be made."""
        found = self.store.get(key)
        if found is None:
            return None
        arrays, values = found
        sigma = arrays.get("sigma")
        if sigma is not None and sigma.ndim == 0:
            sigma = np.broadcast_to(sigma, arrays["c2"].shape)
        return AngleMatrix(arrays["c2"], arrays["frame_ok"], arrays.get("pair_ok"), sigma, tuple(values["notes"]))

    def keep(self, key: str, matrix: AngleMatrix, about: Mapping[str, Any]) -> None:
        """Keep a matrix; `about` (JSON) tells people where it comes from. Without room this does nothing."""
        arrays: dict[str, Any] = {"c2": matrix.c2, "frame_ok": matrix.frame_ok}
        if matrix.pair_ok is not None:
            arrays["pair_ok"] = matrix.pair_ok
        if matrix.sigma is not None:
            arrays["sigma"] = matrix.sigma if any(matrix.sigma.strides) else np.array(matrix.sigma[0, 0])
        if self._full:
            return
        if not self.store.put(key, arrays, {"notes": list(matrix.notes), **about}):
            self._full = True
            self.tell(
                f"{self.store.folder}: no room for prepared matrices; they are made anew in every pass "
                "(runtime.data_cache names another folder, runtime.data_cache_limit its size)"
            )


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
