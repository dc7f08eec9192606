"""What the pairs of live frames of one matrix hold: how many values, of which kind, in which range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.clean import Masks, pairs_of_rows, row_slabs


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
        values = matrix[rows][pairs_of_rows(live, masks, rows)]
        pairs += values.size
        values = values[np.isfinite(values)]
        finite += values.size
        zero += int(np.count_nonzero(values == 0.0))
        negative += int(np.count_nonzero(values < 0.0))
        low, high = min(low, float(values.min(initial=np.inf))), max(high, float(values.max(initial=-np.inf)))
    return PairValues(pairs, finite, zero, negative, low, high)
