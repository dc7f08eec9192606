"""From a stored matrix to a trustworthy one: symmetry, dead frames, non-finite values, the diagonal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

TILE = 512
"""Side of the square tiles in which a matrix is made symmetric."""

SLAB_ELEMENTS = 2**21
"""Elements of a matrix that are looked at together: what is made of them stays small beside the matrix."""

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

    def usable(self, rows: slice, above: int | None = 0) -> NDArray[np.bool_]:
        """Tell which pairs (m, N) of the frames in some rows with frames more than `above` later are usable.

        None: earlier ones, too.
        """
        usable = ~self.dead[rows, None] & ~self.dead[None, :]
        if self.pair_ok is not None:
            usable &= self.pair_ok[rows]
        usable[on_diagonal(rows)] = False
        if above is not None:
            usable &= np.arange(len(self.dead))[None, :] > np.arange(rows.start, rows.stop)[:, None] + above
        return usable


def on_diagonal(rows: slice) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where the diagonal of a matrix is in some of its rows."""
    frames = np.arange(rows.start, rows.stop)
    return frames - rows.start, frames


def stored_half(matrix: NDArray[Any]) -> Half:
    """Tell from the contents which triangle a matrix is stored in: the other one then has only zeros and NaN."""
    with np.errstate(invalid="ignore"):  # a damaged file may hold NaN that signal
        below, above = _has_entries(matrix, below=True), _has_entries(matrix, below=False)
    if above and not below:
        return "upper"
    return "lower" if below and not above else "full"


def _has_entries(matrix: NDArray[Any], below: bool) -> bool:
    if below:
        return any(_holds_data(matrix[i, :i]) for i in range(len(matrix) - 1, 0, -1))
    return any(_holds_data(matrix[i, i + 1 :]) for i in range(len(matrix) - 1))


def _holds_data(values: NDArray[Any]) -> bool:
    return bool(values.any() and (np.isfinite(values) & (values != 0)).any())


def symmetric(stored: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Return the whole symmetric matrix of a stored one (N, N), and its largest asymmetry (0 for a stored half).

    A half is mirrored; the triangles of a full matrix are averaged. Floats are changed in place, integers become a
    float64 array of their own.
    """
    matrix = stored if stored.dtype.kind == "f" else stored.astype(np.float64)
    half, asymmetry = stored_half(matrix), 0.0
    for rows, columns in upper_tiles(len(matrix), TILE):
        above, below = matrix[rows, columns], matrix[columns, rows]
        if half == "full":
            other = below.T
            with np.errstate(invalid="ignore", over="ignore"):
                difference = np.abs(above - other)
                whole = (above + other) / 2
            asymmetry = max(asymmetry, float(difference[np.isfinite(difference)].max(initial=0.0)))
        elif rows == columns:
            kept = np.triu(above) if half == "upper" else np.tril(above)
            with np.errstate(invalid="ignore"):  # a damaged file may hold NaN that signal
                whole = kept + kept.T
            np.fill_diagonal(whole, above.diagonal())
        else:
            whole = above if half == "upper" else below.T
        above[...] = whole
        below[...] = whole.T
    return matrix, asymmetry


def upper_tiles(n: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the square tiles that hold the diagonal of a matrix (n, n) and what is above it."""
    edges = [slice(start, min(start + side, n)) for start in range(0, n, side)]
    return ((rows, columns) for k, rows in enumerate(edges) for columns in edges[k:])


def row_slabs(n: int, height: int | None = None) -> Iterator[slice]:
    """Rows of a matrix (n, n), few enough that what is made of them needs little memory."""
    height = max(1, SLAB_ELEMENTS // max(1, n)) if height is None else height
    return (slice(start, min(start + height, n)) for start in range(0, n, height))


def rounding(matrix: NDArray[Any]) -> float:
    """Return the size of differences between the elements of an array (m, n) that mean nothing but rounding."""
    parts = (matrix[rows] for rows in row_slabs(len(matrix), max(1, SLAB_ELEMENTS // max(1, matrix.shape[1]))))
    largest = max((float(np.abs(part[np.isfinite(part)]).max(initial=0.0)) for part in parts), default=0.0)
    return ROUNDING * float(np.finfo(matrix.dtype).eps) * largest


def silent_frames(matrix: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the frames (N,) whose row, off the diagonal, holds nothing but zeros and values that are no numbers.

    Correlators write 0, or 0/0, for a frame that the detector did not deliver, and for all after the last one.
    """
    silent = np.zeros(len(matrix), dtype=bool)
    for rows in row_slabs(len(matrix)):
        empty = (matrix[rows] == 0) | ~np.isfinite(matrix[rows])
        empty[on_diagonal(rows)] = True
        silent[rows] = empty.all(axis=1)
    return silent


def dead_frames(matrix: NDArray[Any], screening: Screening, first_frame: int) -> NDArray[np.bool_]:
    """Return the frames (N,) that are dead as the matrix shows them, or as they are listed, from `first_frame`."""
    if screening.dead_frames == "auto":
        return silent_frames(matrix)
    dead = np.zeros(len(matrix), dtype=bool)
    if screening.dead_frames != "none":
        dead[[frame - first_frame for frame in screening.dead_frames if 0 <= frame - first_frame < len(dead)]] = True
    return dead


def masks(matrix: NDArray[Any], screening: Screening, name: str, first_frame: int) -> Masks:
    """Find dead frames and non-finite pairs, or refuse the matrix; frames count from `first_frame`."""
    n, dead = len(matrix), dead_frames(matrix, screening, first_frame)
    if not any(_bad_rows(matrix, rows, dead).any() for rows in row_slabs(n)):
        return Masks(dead, None)
    bad = np.concatenate([_bad_rows(matrix, rows, dead) for rows in row_slabs(n)])
    empty = _empty_frames(bad, dead)
    if screening.non_finite == "refuse":
        raise DataError(f"{name}: {_not_finite(bad, empty, first_frame)}")
    bad[empty, :] = False
    bad[:, empty] = False
    return Masks(dead | empty, ~bad if bad.any() else None)


def _not_finite(bad: NDArray[np.bool_], empty: NDArray[np.bool_], first_frame: int) -> str:
    """How many pairs hold no number, where, and what leaves them out."""
    i, j = np.argwhere(np.triu(bad))[0] + first_frame
    found = f"{int(bad.sum()) // 2} pairs of frames hold no finite number, the first is ({i}, {j}); "
    if empty.any() and not bad[~empty][:, ~empty].any():
        frames = frame_list((np.flatnonzero(empty) + first_frame).tolist())
        return f"{found}all are those of frames {frames}: data_filtering.dead_frames: auto finds them"
    return f"{found}set data_filtering.non_finite: mask to leave them out"


def frame_list(frames: Sequence[int], most: int = 12) -> str:
    """Return ascending numbers of frames as text, neighbours as "first…last", at most so many."""
    runs: list[list[int]] = []
    for frame in frames:
        if runs and frame == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], frame]
        else:
            runs.append([frame])
    texts = [(", " if run[-1] - run[0] == 1 else "…").join(map(str, run)) for run in runs]
    return ", ".join(texts if len(texts) <= most else [*texts[:most], "…"])


def dead_words(dead: NDArray[np.bool_], first_frame: int) -> str:
    """Say which frames (N,) are dead, and where the measurement begins or ends if the first or the last are."""
    live = np.flatnonzero(~dead) + first_frame
    words = frame_list((np.flatnonzero(dead) + first_frame).tolist())
    if live.size and dead[0]:
        words += f"; the first frame used is {live[0]}"
    if live.size and dead[-1]:
        words += f"; the last frame used is {live[-1]}"
    return words


def _bad_rows(matrix: NDArray[Any], rows: slice, dead: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which elements of some rows (m, N) are not finite, off the diagonal and among live frames."""
    bad: NDArray[np.bool_] = ~np.isfinite(matrix[rows])
    bad[on_diagonal(rows)] = False
    bad[dead[rows], :] = False
    bad[:, dead] = False
    return bad


def _empty_frames(bad: NDArray[np.bool_], dead: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the frames without a single finite pair with a frame that is not dead or empty itself."""
    nothing = bad | dead[None, :] | np.eye(len(bad), dtype=bool)
    empty: NDArray[np.bool_] = nothing.all(axis=1) & ~dead
    return empty


def check_variation(matrix: NDArray[Any], frame_ok: NDArray[np.bool_], masks: Masks, name: str) -> None:
    """Refuse a matrix (N, N) with too few usable frames, or whose usable pairs all hold the same value."""
    if frame_ok.sum() < FEWEST_FRAMES:
        reason = _too_few(frame_ok, masks.dead)
        raise DataError(f"{name}: {reason}; leave this angle out with data_filtering.phi_ranges")
    used = Masks(~frame_ok, masks.pair_ok)
    lowest, highest, first = np.inf, -np.inf, None
    for rows in row_slabs(len(matrix)):
        values = matrix[rows][used.usable(rows)]
        if values.size:
            lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
            first = float(values[0]) if first is None else first
    if first is None:
        raise DataError(f"{name}: no pair of frames holds a finite number")
    if highest - lowest <= rounding(np.array([[lowest, highest]], dtype=matrix.dtype)):
        raise DataError(
            f"{name}: the matrix is constant ({first:g} for every pair), nothing can be fitted; "
            "leave this angle out with data_filtering.phi_ranges"
        )


def _too_few(usable: NDArray[np.bool_], dead: NDArray[np.bool_]) -> str:
    """Why the usable frames are not enough for a fit."""
    if dead.all():
        return f"no pair of the {len(dead)} frames holds a number other than 0"
    lost = f" ({int(dead.sum())} hold nothing)" if dead.any() else ""
    few = f"only {int(usable.sum())} usable frames of {len(usable)}{lost}, {FEWEST_FRAMES} are needed"
    return f"{few}; use more frames, or"


def blanked(c2: NDArray[Any], masks: Masks) -> NDArray[Any]:
    """Return a matrix (N, N) itself, made NaN where a pair is not usable and on the diagonal."""
    c2[masks.dead, :] = np.nan
    c2[:, masks.dead] = np.nan
    np.fill_diagonal(c2, np.nan)
    if masks.pair_ok is not None:
        for rows in row_slabs(len(c2)):
            np.copyto(c2[rows], np.nan, where=~masks.pair_ok[rows])
    return c2


def beside_diagonal(matrix: NDArray[Any], dead: NDArray[np.bool_], lag: int) -> NDArray[np.float64]:
    """Return (2, N): the pair of each frame with the one `lag` before and the one after it, NaN where there is none."""
    n = len(matrix)
    values = np.asarray(matrix.diagonal(lag), dtype=np.float64)
    values = np.where(dead[: n - lag] | dead[lag:], np.nan, values)
    beside = np.full((2, n), np.nan)
    beside[0, lag:] = beside[1, : n - lag] = values
    return beside


def median_of_finite(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return the median of the finite values along an axis, NaN where there are none."""
    ordered = np.sort(values, axis=axis)
    count = np.isfinite(ordered).sum(axis=axis, keepdims=True)
    last = np.maximum(count - 1, 0)
    low, high = (np.take_along_axis(ordered, place, axis=axis) for place in (last // 2, (last + 1) // 2))
    return np.where(count > 0, (low + high) / 2, np.nan).squeeze(axis)


def mean_beside(matrix: NDArray[Any], dead: NDArray[np.bool_], lag: int = 1) -> NDArray[np.float64]:
    """Return the mean (N,) of the pairs of each frame with those `lag` before and after it; of one at the ends."""
    beside = beside_diagonal(matrix, dead, lag)
    known = np.isfinite(beside)
    total, count = np.where(known, beside, 0.0).sum(axis=0), known.sum(axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def pictured(
    matrix: NDArray[Any], dead: NDArray[np.bool_], diagonal: NDArray[np.float64], rows: slice = slice(None)
) -> NDArray[np.float64]:
    """Return some rows of a matrix in float64 with another diagonal (N,), and NaN at dead frames: (m, N).

    The diagonal of stored data holds the shot noise of single frames.
    """
    picture = matrix[rows].astype(np.float64)
    picture[on_diagonal(slice(*rows.indices(len(matrix))))] = diagonal[rows]
    picture[dead[rows], :] = np.nan
    picture[:, dead] = np.nan
    return picture


def averaged(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the means of the finite values in squares of size x size of an array (m, n), NaN where there are none."""
    known = np.isfinite(values)
    total, count = (
        np.add.reduceat(
            np.add.reduceat(part, np.arange(0, len(values), size), axis=0), np.arange(0, values.shape[1], size), axis=1
        )
        for part in (np.where(known, values, 0.0), known.astype(float))
    )
    with np.errstate(invalid="ignore"):
        return np.asarray(total / count)


@dataclass(frozen=True)
class PairValues:
    """Counts of pairs i < j of live frames, and the range of their finite values (infinite and reversed for none)."""

    pairs: int
    finite: int
    zero: int
    negative: int
    smallest: float
    largest: float


def pair_values(matrix: NDArray[Any], live: NDArray[np.bool_]) -> PairValues:
    """Count the values of a symmetric matrix (N, N) among live frames (N,), slab by slab."""
    masks = Masks(~live, None)
    pairs = finite = zero = negative = 0
    low, high = np.inf, -np.inf
    for rows in row_slabs(len(matrix)):
        values = matrix[rows][masks.usable(rows)]
        pairs += values.size
        values = values[np.isfinite(values)]
        finite += values.size
        zero += int(np.count_nonzero(values == 0.0))
        negative += int(np.count_nonzero(values < 0.0))
        low, high = min(low, float(values.min(initial=np.inf))), max(high, float(values.max(initial=-np.inf)))
    return PairValues(pairs, finite, zero, negative, low, high)
