"""One posterior from the draws of all shards, and whether these measure the same thing.

Draws are combined in unconstrained coordinates with full covariances. Cochran's Q and I² tell how far estimates differ,
and which contradict the others; in a robust posterior these count less.

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
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import chdtrc

from hpcxpcs.answer.joint import Heterogeneity
from hpcxpcs.answer.thresholds import SIGNIFICANCE
from hpcxpcs.arrays import Floats
from hpcxpcs.errors import PosteriorError

CURVATURE_RANGE = (0.25, 4.0)
"""How far the combined precision may leave the anchor's, along any direction: beyond, shards are not trusted."""

SINGULAR = 1.0e-12
"""Smallest eigenvalue of a correlation matrix at which draws still span all directions."""


@dataclass(frozen=True)
class Part:
    """Draws (S,d) of one shard in unconstrained coordinates, in order, and how many independent ones they are worth."""

    index: int
    draws: Floats
    ess: float


@dataclass(frozen=True)
class Combined:
    """Draws (S,d) of the whole posterior with its mean (d,) and covariance (d,d).

    `indices` (K,) of the parts, ascending, and their `weights`: share of the total precision (averaged), or of the
    draws (anchored). `notes` say in words what was limited or left out.
    """

    draws: Floats
    mean: Floats
    covariance: Floats
    indices: tuple[int, ...]
    weights: Floats
    notes: tuple[str, ...]


def averaged(parts: Sequence[Part]) -> Combined:
    """Weighted averages of draws, weights the inverse covariances (Scott et al. 2016): exact for normal shards.

    Each shard's draws must come from its likelihood times prior^(1/K).
    """
    ordered, length, notes = _aligned(parts)
    draws = np.stack([part.draws[:length] for part in ordered])
    if len(ordered) == 1:
        mean, covariance = _sample_moments(ordered[0], draws[0])
        return Combined(draws[0], mean, covariance, (ordered[0].index,), np.ones(1), notes)
    moments = [_sample_moments(part, own) for part, own in zip(ordered, draws, strict=True)]
    means, covariances = np.stack([m for m, _ in moments]), np.stack([c for _, c in moments])
    precisions = np.linalg.inv(covariances)
    covariance = np.linalg.inv(precisions.sum(axis=0))
    shares = covariance @ precisions
    return Combined(
        draws=np.einsum("kij,ksj->si", shares, draws),
        mean=np.einsum("kij,kj->i", shares, means),
        covariance=0.5 * (covariance + covariance.T),
        indices=tuple(part.index for part in ordered),
        weights=np.trace(shares, axis1=1, axis2=2) / means.shape[1],
        notes=notes,
    )


def anchored(
    parts: Sequence[Part], mean0: Floats, covariance0: Floats, *, count: int | None = None, matched: bool = False
) -> Combined:
    """Add up what each shard changes about the anchor N(mean0 (d,), covariance0 (d,d)), in natural parameters.

    An anchor from the curvature at the peak is as far from the posterior's moments as the sum of all changes says. One
    that is `matched` to these moments is not: what a shard then changes is how far its own likelihood is from normal,
    the sum counts that K times, and its mean is taken, as damped expectation propagation takes it (12 × 400² frames of
    shear in 4 shards: standard deviations off by 13 % with the sum, by 4 % with the mean).

    Each shard's draws come from its own likelihood times the anchor without that shard (expectation propagation), so
    each is nearly the whole posterior: all are pooled, mapped to the combined moments, and thinned to `count`.
    """
    ordered = _checked(parts)
    factor = np.linalg.cholesky(covariance0)
    whites = [np.linalg.solve(factor, (part.draws - mean0).T).T for part in ordered]
    moments = [_sample_moments(part, white) for part, white in zip(ordered, whites, strict=True)]
    precision, pull, notes = _shrunk_sum(ordered, moments, 1.0 / len(ordered) if matched else 1.0)
    values, vectors = np.linalg.eigh(precision)
    limited = np.clip(values, *CURVATURE_RANGE)
    if np.any(limited != values):
        notes += (
            f"{np.count_nonzero(limited != values)} of {values.size} directions changed their precision more than "
            f"{CURVATURE_RANGE[1]:g} times from the point fit's and were limited: the posterior is far from normal",
        )
    covariance = (vectors / limited) @ vectors.T
    mean = covariance @ pull
    pooled = [
        mean + (white - centre) @ _transport(spread, covariance)
        for white, (centre, spread) in zip(whites, moments, strict=True)
    ]
    draws = _thinned(np.concatenate(pooled), count)
    sizes = np.array([len(white) for white in whites], dtype=np.float64)
    return Combined(
        draws=mean0 + draws @ factor.T,
        mean=mean0 + factor @ mean,
        covariance=factor @ covariance @ factor.T,
        indices=tuple(part.index for part in ordered),
        weights=sizes / sizes.sum(),
        notes=notes,
    )


def _shrunk_sum(
    parts: Sequence[Part], moments: Sequence[tuple[Floats, Floats]], share: float
) -> tuple[Floats, Floats, tuple[str, ...]]:
    """Precision (d,d) and precision × mean (d,) of all parts, a `share` of each, whitened by the anchor (I and 0).

    Each deviation carries Monte Carlo noise and the noise adds up, so their sums are shrunk towards the anchor by the
    share of noise expected in them (James and Stein).
    """
    dim = parts[0].draws.shape[1]
    bend, pull = np.zeros((dim, dim)), np.zeros(dim)
    bend_noise = pull_noise = 0.0
    for part, (mean, covariance) in zip(parts, moments, strict=True):
        worth = max(part.ess, dim + 3.0)
        precision = np.linalg.inv(covariance) * (worth - dim - 2.0) / (worth - 1.0)
        bend += share * (precision - np.eye(dim))
        pull += share * precision @ mean
        bend_noise += share**2 * (np.trace(precision) ** 2 + np.sum(precision**2)) / worth
        pull_noise += share**2 * (np.trace(precision) + (dim + 1.0) * np.sum((precision @ mean) ** 2)) / worth
    bend_kept = _kept(float(np.sum(bend**2)), float(bend_noise))
    pull_kept = _kept(float(np.sum(pull**2)), float(pull_noise))
    notes = tuple(
        f"shard {part.index} is worth only {part.ess:.0f} draws for {dim} coordinates: its shape is hardly known"
        for part in parts
        if not part.ess >= 10.0 * dim
    )
    return np.eye(dim) + bend_kept * bend, pull_kept * pull, notes


def _kept(squared: float, noise: float) -> float:
    """Share of a vector to keep, given its squared length and the part of it that noise alone would have."""
    return max(0.0, 1.0 - noise / squared) if squared > 0.0 else 0.0


def _transport(source: Floats, target: Floats) -> Floats:
    """The symmetric map that takes covariance `source` to `target` with the least movement."""
    root = _root(source)
    back = np.linalg.inv(root)
    return np.asarray(back @ _root(root @ target @ root) @ back)


def _root(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    return (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T


def _thinned(draws: Floats, count: int | None) -> Floats:
    """`count` draws evenly spaced over all of them; all where there are no more."""
    if count is None or count >= len(draws):
        return draws
    return draws[(np.arange(count) * len(draws)) // count]


def _checked(parts: Sequence[Part]) -> list[Part]:
    """The parts in the order of their index, finite and of one dimension."""
    if not parts:
        raise PosteriorError("no shard was accepted: there is nothing to combine; see the reasons per shard")
    for part in parts:
        if not np.all(np.isfinite(part.draws)):
            raise PosteriorError(f"shard {part.index} has draws that are not finite: sample it again")
    return sorted(parts, key=lambda part: part.index)


def _aligned(parts: Sequence[Part]) -> tuple[list[Part], int, tuple[str, ...]]:
    """Checked parts and the number of draws that all of them have."""
    ordered = _checked(parts)
    for part in ordered:
        _sample_moments(part, part.draws)
    lengths = [len(part.draws) for part in ordered]
    if min(lengths) == max(lengths):
        return ordered, lengths[0], ()
    return (
        ordered,
        min(lengths),
        (f"shards have {min(lengths)} to {max(lengths)} draws: the last ones are left out",),
    )


def _sample_moments(part: Part, draws: Floats) -> tuple[Floats, Floats]:
    """Mean (d,) and covariance (d,d) of a part's draws, which must vary in every direction."""
    covariance = np.atleast_2d(np.cov(draws, rowvar=False))
    spread = np.sqrt(np.diag(covariance))
    if not np.all(spread > 0.0) or np.linalg.eigvalsh(covariance / np.outer(spread, spread))[0] < SINGULAR:
        raise PosteriorError(
            f"the {len(draws)} draws of shard {part.index} do not vary in all {spread.size} directions: "
            "its chains are stuck or too short; sample it again with more draws"
        )
    return draws.mean(axis=0), covariance


SIZES = ((0.25, "slight"), (0.5, "moderate"), (0.75, "strong"))
"""I² below which disagreement is called so (Higgins et al., BMJ 327:557, 2003); very strong beyond."""


SHARDS, DATA_SETS = "shards", "data sets"
"""What estimates are compared of."""


def heterogeneity(names: Sequence[str], estimates: Floats, covariances: Floats, parts: str = SHARDS) -> Heterogeneity:
    """Compare independent estimates (K,d) with covariances (K,d,d) of parameters `names`; `parts` is what these are of.

    Shards that share an anchor or a prior are not independent: pass estimates from their own data.
    """
    count, dim = estimates.shape
    precision = 1.0 / np.diagonal(covariances, axis1=1, axis2=2)
    centre = (precision * estimates).sum(axis=0) / precision.sum(axis=0)
    q = (precision * (estimates - centre) ** 2).sum(axis=0)
    joint = _joint(estimates, covariances)
    freedom = (count - 1) * dim
    alone = count == 1
    found = Heterogeneity(
        names=tuple(names),
        shards=count,
        q=q,
        probability=np.ones(dim) if alone else np.asarray(chdtrc(count - 1, q)),
        i_squared=_excess(q, count - 1),
        joint_q=joint,
        joint_freedom=freedom,
        joint_probability=1.0 if alone else float(chdtrc(freedom, joint)),
        words="",
    )
    return replace(found, words=_words(found, parts))


def _joint(estimates: Floats, covariances: Floats) -> float:
    weights = np.linalg.inv(covariances)
    centre = np.linalg.solve(weights.sum(axis=0), np.einsum("kij,kj->i", weights, estimates))
    offset = estimates - centre
    return float(np.einsum("ki,kij,kj->", offset, weights, offset))


def _excess(q: Floats, freedom: int) -> Floats:
    """I² = max(0, (Q − freedom)/Q)."""
    return np.clip(1.0 - np.divide(freedom, q, out=np.full_like(q, np.inf), where=q > 0.0), 0.0, None)


_REASONS = {
    SHARDS: "the sample may change with time or angle, or the noise is correlated, and the errors quoted are too small",
    DATA_SETS: "let it differ between them (joint.free, campaign.pool_free), or fit them apart",
}


def _words(found: Heterogeneity, parts: str) -> str:
    if found.shards == 1:
        return "there is one shard: nothing to compare"
    if found.disagreeing:
        listed = ", ".join(
            f"{name} (I² = {found.i_squared[k]:.0%}, {_size(found.i_squared[k])}; p = {found.probability[k]:.1g})"
            for k, name in enumerate(found.names)
            if name in found.disagreeing
        )
        return (
            f"the {found.shards} {parts} disagree about {listed} more than their errors allow: no single value "
            f"describes all parts of the data; {_REASONS[parts]}"
        )
    if found.joint_probability < SIGNIFICANCE:
        return (
            f"the {found.shards} {parts} agree about each parameter alone, but not about all together "
            f"(p = {found.joint_probability:.1g}): a combination of parameters differs between parts of the data"
        )
    return (
        f"the {found.shards} {parts} agree within their errors (largest I² {np.max(found.i_squared):.0%}, "
        f"joint p = {found.joint_probability:.2g})"
    )


def _size(i_squared: float) -> str:
    return next((word for limit, word in SIZES if i_squared < limit), "very strong")


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


def contradiction_words(outliers: Sequence[Outlier], count: int, *, robust: bool) -> tuple[str, ...]:
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
