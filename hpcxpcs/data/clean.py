"""From a stored matrix to a trustworthy one: symmetry, dead frames, non-finite values, the diagonal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.errors import DataError

Half = Literal["upper", "lower", "full"]
Policy = Literal["refuse", "mask"]
Repair = Literal["disabled", "conservative", "aggressive"]

FEWEST_FRAMES = 8
"""A matrix with fewer usable frames than this has too few lags to tell a rate from a plateau."""

ROUNDING = 8.0
"""Differences up to this many units of the stored type's precision count as rounding."""


@dataclass(frozen=True)
class Screening:
    """What is masked: dead frames ("auto": all-zero rows, "none", or frame numbers), non-finite values.

    `repair` masks more: what was never filled in (conservative), and what cannot be true (aggressive).
    """

    dead_frames: Literal["auto", "none"] | tuple[int, ...] = "auto"
    non_finite: Policy = "refuse"
    repair: Repair = "disabled"


@dataclass(frozen=True)
class Masks:
    """Dead frames (N,), and usable pairs (N, N) or None when every pair of live frames is usable."""

    dead: NDArray[np.bool_]
    pair_ok: NDArray[np.bool_] | None


def stored_half(matrix: NDArray[Any]) -> Half:
    """Tell from the contents which triangle a matrix is stored in: the other one then is all zeros."""
    below = _has_entries(matrix, below=True)
    above = _has_entries(matrix, below=False)
    if above and not below:
        return "upper"
    return "lower" if below and not above else "full"


def _has_entries(matrix: NDArray[Any], below: bool) -> bool:
    if below:
        return any(matrix[i, :i].any() for i in range(len(matrix) - 1, 0, -1))
    return any(matrix[i, i + 1 :].any() for i in range(len(matrix) - 1))


def symmetric(stored: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Return the whole symmetric matrix of a stored one, and its largest asymmetry (0 for a stored half).

    A half is mirrored; the triangles of a full matrix are averaged. Integers become float64.
    """
    matrix = stored if stored.dtype.kind == "f" else stored.astype(np.float64)
    if stored_half(matrix) != "full":
        whole = matrix + matrix.T
        np.fill_diagonal(whole, matrix.diagonal())
        return whole, 0.0
    with np.errstate(invalid="ignore"):
        difference = np.abs(matrix - matrix.T)
    finite = difference[np.isfinite(difference)]
    return (matrix + matrix.T) / 2, float(finite.max(initial=0.0))


def rounding(matrix: NDArray[Any]) -> float:
    """Return the size of differences between the elements of a matrix that mean nothing but rounding."""
    finite = np.abs(matrix[np.isfinite(matrix)])
    return ROUNDING * float(np.finfo(matrix.dtype).eps) * float(finite.max(initial=0.0))


def silent_frames(matrix: NDArray[Any], *, also_non_finite: bool) -> NDArray[np.bool_]:
    """Return the frames (N,) whose row is zero throughout, off the diagonal (or zero and NaN, if asked)."""
    empty = matrix == 0
    if also_non_finite:
        empty |= ~np.isfinite(matrix)
    np.fill_diagonal(empty, True)
    silent: NDArray[np.bool_] = empty.all(axis=1)
    return silent


def masks(matrix: NDArray[Any], screening: Screening, name: str, first_frame: int) -> Masks:
    """Find dead frames and non-finite pairs, or refuse the matrix; frames count from `first_frame`."""
    n = len(matrix)
    dead = np.zeros(n, dtype=bool)
    if screening.dead_frames == "auto":
        dead = silent_frames(matrix, also_non_finite=screening.non_finite == "mask")
    elif screening.dead_frames != "none":
        inside = [frame - first_frame for frame in screening.dead_frames if 0 <= frame - first_frame < n]
        dead[inside] = True
    bad = ~np.isfinite(matrix)
    np.fill_diagonal(bad, False)
    bad[dead, :] = False
    bad[:, dead] = False
    if not bad.any():
        return Masks(dead, None)
    if screening.non_finite == "refuse":
        i, j = np.argwhere(np.triu(bad))[0] + first_frame
        raise DataError(
            f"{name}: {int(bad.sum()) // 2} pairs of frames hold no finite number, the first is ({i}, {j}); "
            "set data_filtering.non_finite: mask to leave them out"
        )
    empty = _empty_frames(bad, dead)
    bad[empty, :] = False
    bad[:, empty] = False
    return Masks(dead | empty, ~bad if bad.any() else None)


def _empty_frames(bad: NDArray[np.bool_], dead: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the frames without a single finite pair with a frame that is not dead or empty itself."""
    nothing = bad | dead[None, :] | np.eye(len(bad), dtype=bool)
    empty: NDArray[np.bool_] = nothing.all(axis=1) & ~dead
    return empty


def check_variation(matrix: NDArray[Any], usable: NDArray[np.bool_], pairs: Masks, name: str) -> None:
    """Refuse a matrix (N, N) with too few usable frames, or whose usable pairs all hold the same value."""
    if usable.sum() < FEWEST_FRAMES:
        raise DataError(
            f"{name}: only {int(usable.sum())} usable frames of {len(usable)}, {FEWEST_FRAMES} are needed; "
            "use more frames, or leave this angle out with data_filtering.phi_ranges"
        )
    allowed = np.triu(usable[:, None] & usable[None, :], 1)
    if pairs.pair_ok is not None:
        allowed &= pairs.pair_ok
    values = matrix[allowed]
    if values.size == 0:
        raise DataError(f"{name}: no pair of frames holds a finite number")
    if values.max() - values.min() <= rounding(values):
        raise DataError(
            f"{name}: the matrix is constant ({values[0]:g} for every pair), nothing can be fitted; "
            "leave this angle out with data_filtering.phi_ranges"
        )


def repaired_diagonal(matrix: NDArray[Any], dead: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return a matrix in float64, NaN at dead frames, each diagonal element the mean of its two neighbours.

    The diagonal of stored data holds the shot noise of single frames; the ends have one neighbour.
    """
    picture = matrix.astype(np.float64)
    picture[dead, :] = np.nan
    picture[:, dead] = np.nan
    beside = np.full(len(picture) + 1, np.nan)
    beside[1:-1] = picture.diagonal(1)
    neighbours = np.stack([beside[:-1], beside[1:]])
    known = np.isfinite(neighbours)
    total = np.where(known, neighbours, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    np.fill_diagonal(picture, np.where(count > 0, total / np.maximum(count, 1), np.nan))
    picture[dead, dead] = np.nan
    return picture
