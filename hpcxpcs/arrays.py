"""Kinds of NumPy arrays, for annotations, and places evenly spaced in one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


def evenly_spaced(count: int, most: int) -> Integers:
    """At most so many of the places 0…count-1 in order, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
