"""How many shards data are worth; needs no JAX, so that a login node can plan a run."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

MOST_SHARDS, PAIRS_PER_PARAMETER = 4, 2000
"""Of the default count: a condensed gradient costs the same for a shard as for all data, so every shard adds its own
warm-up and draws (bench/posterior.py); each needs data enough to be nearly Gaussian."""


def default_count(pairs: ArrayLike, n_free: int) -> int:
    """The largest square ≤ 4 that leaves each shard 2000 pairs per free parameter, at least 1; pairs (n_phi,)."""
    affordable = float(np.asarray(pairs, dtype=np.float64).sum()) / (PAIRS_PER_PARAMETER * max(1, n_free))
    return int(np.clip(np.floor(np.sqrt(affordable)), 1, np.sqrt(MOST_SHARDS))) ** 2
