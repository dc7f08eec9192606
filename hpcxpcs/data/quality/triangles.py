"""How far the two triangles of a stored matrix are apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data import clean

TILE = 256
"""Side of the square tiles that are compared with their mirror images."""


@dataclass(frozen=True)
class Apart:
    """Differences of the two values of each pair of frames: the largest, and the root of the mean square."""

    largest: float = 0.0
    root_mean_square: float = 0.0


def triangles_apart(stored: NDArray[Any]) -> Apart:
    """Compare the triangles of a matrix (N, N) as stored; a half has nothing to compare."""
    if clean.stored_half(stored) != "full":
        return Apart()
    n, total, count, largest = len(stored), 0.0, 0, 0.0
    for top in range(0, n, TILE):
        for left in range(top, n, TILE):
            rows, columns = slice(top, min(top + TILE, n)), slice(left, min(left + TILE, n))
            with np.errstate(invalid="ignore"):
                difference = stored[rows, columns].astype(np.float64) - stored[columns, rows].T
            if top == left:
                difference = difference[np.triu_indices(len(difference), 1)]
            difference = difference[np.isfinite(difference)]
            total, count = total + float(np.dot(difference, difference)), count + difference.size
            largest = max(largest, float(np.abs(difference, out=difference).max(initial=0.0)))
    return Apart(largest, float(np.sqrt(total / count)) if count else 0.0)
