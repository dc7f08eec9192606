"""On which axes of an array the frames are, and which way up: told from shapes, and from contents if needed."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.errors import FormatError

Order = Literal["q_first", "q_last"]


def arrangement(cube: Any, path: str) -> tuple[Order, tuple[int, ...]]:
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
        first_possible = is_two_time(np.asarray(cube[leading]))
        last_possible = is_two_time(np.asarray(cube[(slice(None), slice(None), *trailing)]))
        if first_possible == last_possible:
            raise FormatError(f"/{path} has shape {shape}: it cannot be told which axes are the frames")
    if first_possible:
        return "q_first", shape[:-2]
    if last_possible:
        return "q_last", shape[2:]
    raise FormatError(
        f"/{path} has shape {shape}: no two neighbouring axes of equal length, so there are no matrices"
    )


def is_two_time(matrix: NDArray[Any]) -> bool:
    """Tell whether a square array (N, N) is symmetric, or has only zeros and NaN in one triangle."""
    lower, upper = np.tril(matrix, -1), np.triu(matrix, 1)
    with np.errstate(invalid="ignore"):  # a damaged file may hold NaN that signal
        empty = not np.nan_to_num(lower).any() or not np.nan_to_num(upper).any()
        return bool(empty or np.allclose(lower, upper.T, rtol=1e-4, equal_nan=True))


def blank_triangles(matrix: NDArray[Any]) -> tuple[bool, bool]:
    """Tell of the upper and of the lower triangle of a square array whether one value fills it, apart from NaN."""
    above = matrix[np.triu_indices(len(matrix), 1)]
    below = matrix[np.tril_indices(len(matrix), -1)]
    return _filled(above), _filled(below)


def _filled(values: NDArray[Any]) -> bool:
    known = values[~np.isnan(values)]
    return bool((known == known[:1]).all())


def diagonal_from_corner(matrix: NDArray[Any]) -> bool:
    """Tell whether the line t1 = t2 of a square array can run from its first element to its last."""
    return any(blank_triangles(matrix)) or is_two_time(matrix)
