"""Shards that contradict the others: which they are, and how much they count in a robust posterior.

Let shard k alone say θ_k with covariance C_k, and all others together θ_r with C_r. If both look at the same θ (d,),
D² = (θ_k − θ_r)ᵀ (C_k + C_r)⁻¹ (θ_k − θ_r) is χ² with d degrees of freedom; a shard whose D² is too improbable
contradicts. The robust posterior raises its likelihood to the power w_k = d/D² (Wang, Kucukelbir & Blei, "Robust
probabilistic modeling with Bayesian data reweighting", ICML 2017), and no other's: p(θ) Π L_k(θ)^w_k.

For a normal likelihood, L^w has the covariance C_k/w: the shard enters as if its errors were 1/√w times larger, or a
share w of its pairs had been measured. That is the scale factor of Birge (Phys. Rev. 40, 207, 1932) for one shard: with
it, D² is about d, its mean by chance. The posterior's precision becomes prior + Σ w_k C_k⁻¹, so at a given noise error
bars grow (a sampled noise scale, which the contradiction had widened, falls back and may narrow them again); and the
pull of the shard, w D = d/D standard deviations of its own, falls the farther off it is. Without a contradiction all
weights are 1 and nothing changes. The weights define the likelihood itself, before anything is sampled: shards,
cavities, certificate and chains on all data see one and the same posterior.
"""

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

    @property
    def weight(self) -> float:
        """The power of its likelihood in a robust posterior."""
        return 1.0 / self.inflation


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


def weights_of(outliers: Sequence[Outlier], count: int) -> Floats:
    """The powers (K,) of the likelihoods of K shards in a robust posterior."""
    weights = np.ones(count)
    for outlier in outliers:
        weights[outlier.position] = outlier.weight
    return weights


def described(outliers: Sequence[Outlier], count: int, *, robust: bool) -> tuple[str, ...]:
    """Which of K = `count` shards contradict the others and what follows from it, a sentence each."""
    words = tuple(
        f"shard {one.position} contradicts the others: it lies {one.distance:.3g} standard deviations from them "
        f"(p = {one.probability:.1g}); {_consequence(one, robust)}"
        for one in outliers
    )
    if 2 * len(outliers) < count:
        return words
    return (
        *words,
        f"{len(outliers)} of {count} shards contradict the others: the data cannot tell which of them describe the "
        "sample; it may change with time, or noise is shared between pairs and all errors are too small",
    )


def _consequence(outlier: Outlier, robust: bool) -> str:
    if not robust:
        return "it counts in full; optimization.cmc.combination.method: robust lets it count less"
    return (
        f"its likelihood counts with weight {outlier.weight:.2g}, as if its errors were "
        f"{outlier.inflation**0.5:.2g} times larger, for the shards, the certificate and chains on all data alike"
    )


def too_few_to_compare(count: int) -> str:
    """What a robust posterior of fewer shards than can be compared is told; empty where there are enough."""
    if count >= FEWEST_TO_COMPARE:
        return ""
    there = "all data are sampled at once" if count == 1 else f"there are {count}"
    return (
        f"optimization.cmc.combination.method: robust compares each shard with the others, which takes "
        f"{FEWEST_TO_COMPARE} shards or more; {there}, and every pair counts in full"
    )


def counted_less(weights: Floats) -> str:
    """The shards whose likelihood counts less, with their weights (K,); empty when none does."""
    return ", ".join(f"shard {k} with weight {weights[k]:.2g}" for k in np.flatnonzero(weights < 1.0))
