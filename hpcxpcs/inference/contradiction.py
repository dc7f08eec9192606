"""Shards that contradict the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from hpcxpcs.likelihood.interpolation import Floats

SIGNIFICANCE = 0.01
"""Chance of naming an outlying shard when there is none, over all shards together."""

FEWEST_TO_COMPARE = 3
"""With two shards that disagree, neither is the outlier."""


@dataclass(frozen=True)
class Outlier:
    """A shard at `position` whose estimate lies `distance` standard deviations (Mahalanobis) from the other shards.

    `probability` is the chance of one that far among as many agreeing shards; `inflation` the factor on its covariance
    that makes the distance ordinary.
    """

    position: int
    distance: float
    probability: float
    inflation: float


def outlying(estimates: Floats, covariances: Floats) -> tuple[Outlier, ...]:
    """Shards whose estimates (K,d) with covariances (K,d,d) do not fit the others', the farthest named first.

    χ² test on the Mahalanobis distance to the average of the rest, Bonferroni over shards; the farthest is taken out
    before the rest is judged, so that one bad shard does not hide another.
    """
    inside = list(range(len(estimates)))
    removed: list[int] = []
    while len(inside) >= FEWEST_TO_COMPARE:
        squared = {k: _distance(k, inside, estimates, covariances) for k in inside}
        farthest = max(inside, key=lambda k: squared[k])
        if chdtrc(estimates.shape[1], squared[farthest]) * len(estimates) >= SIGNIFICANCE:
            break
        inside.remove(farthest)
        removed.append(farthest)
    return tuple(_outlier(k, inside, estimates, covariances) for k in removed)


def _distance(k: int, inside: Sequence[int], estimates: Floats, covariances: Floats) -> float:
    """Squared Mahalanobis distance of shard k from the precision-weighted mean of the others inside."""
    rest = [j for j in inside if j != k]
    precisions = np.linalg.inv(covariances[rest])
    total = np.linalg.inv(precisions.sum(axis=0))
    offset = estimates[k] - total @ np.einsum("kij,kj->i", precisions, estimates[rest])
    return float(offset @ np.linalg.solve(covariances[k] + total, offset))


def _outlier(k: int, inside: Sequence[int], estimates: Floats, covariances: Floats) -> Outlier:
    count, dim = estimates.shape
    squared = _distance(k, inside, estimates, covariances)
    chance = min(1.0, float(chdtrc(dim, squared)) * count)
    return Outlier(k, float(np.sqrt(squared)), chance, max(1.0, squared / dim))
