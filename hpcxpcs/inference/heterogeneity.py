"""Do shards measure the same thing: Cochran's Q and I² of their independent estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import chdtrc

from hpcxpcs.likelihood.interpolation import Floats

SIGNIFICANCE = 0.01
"""Chance of reporting disagreement where there is none, over all parameters together."""

SIZES = ((0.25, "slight"), (0.5, "moderate"), (0.75, "strong"))
"""I² below which disagreement is called so (Higgins et al., BMJ 327:557, 2003); very strong beyond."""


@dataclass(frozen=True)
class Heterogeneity:
    """Cochran's Q (d,) of K shards on K − 1 degrees of freedom, its probability by chance and I² (d,) per parameter.

    I² is the share of the scatter between shards that is not their own error. `joint_q` tests all parameters with
    their correlations on `joint_freedom` = (K − 1)·d degrees of freedom.
    """

    names: tuple[str, ...]
    shards: int
    q: Floats
    probability: Floats
    i_squared: Floats
    joint_q: float
    joint_freedom: int
    joint_probability: float
    words: str

    @property
    def disagreeing(self) -> tuple[str, ...]:
        """Parameters whose estimates scatter more than chance allows (Bonferroni over parameters)."""
        limit = SIGNIFICANCE / max(len(self.names), 1)
        return tuple(name for name, p in zip(self.names, self.probability, strict=True) if p < limit)


def heterogeneity(names: Sequence[str], estimates: Floats, covariances: Floats) -> Heterogeneity:
    """Compare independent estimates (K,d) with covariances (K,d,d) of parameters `names`.

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
    return replace(found, words=_words(found))


def _joint(estimates: Floats, covariances: Floats) -> float:
    weights = np.linalg.inv(covariances)
    centre = np.linalg.solve(weights.sum(axis=0), np.einsum("kij,kj->i", weights, estimates))
    offset = estimates - centre
    return float(np.einsum("ki,kij,kj->", offset, weights, offset))


def _excess(q: Floats, freedom: int) -> Floats:
    """I² = max(0, (Q − freedom)/Q)."""
    return np.clip(1.0 - np.divide(freedom, q, out=np.full_like(q, np.inf), where=q > 0.0), 0.0, None)


def _words(found: Heterogeneity) -> str:
    if found.shards == 1:
        return "there is one shard: nothing to compare"
    if found.disagreeing:
        listed = ", ".join(
            f"{name} (I² = {found.i_squared[k]:.0%}, {_size(found.i_squared[k])}; p = {found.probability[k]:.1g})"
            for k, name in enumerate(found.names)
            if name in found.disagreeing
        )
        return (
            f"the {found.shards} shards disagree about {listed} more than their errors allow: no single value "
            "describes all parts of the data; the sample may change with time or angle, or the noise is correlated, "
            "and the errors quoted are too small"
        )
    if found.joint_probability < SIGNIFICANCE:
        return (
            f"the {found.shards} shards agree about each parameter alone, but not about all together "
            f"(p = {found.joint_probability:.1g}): a combination of parameters differs between parts of the data"
        )
    return (
        f"the {found.shards} shards agree within their errors (largest I² {np.max(found.i_squared):.0%}, "
        f"joint p = {found.joint_probability:.2g})"
    )


def _size(i_squared: float) -> str:
    return next((word for limit, word in SIZES if i_squared < limit), "very strong")
