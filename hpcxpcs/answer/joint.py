"""Several parts of the data, or several data sets: whether they agree, and what each has of its own."""

from __future__ import annotations

from dataclasses import dataclass

from hpcxpcs.answer.thresholds import SIGNIFICANCE
from hpcxpcs.arrays import Floats


@dataclass(frozen=True)
class Heterogeneity:
    """Cochran's Q (d,) of K shards, or data sets of a joint fit, on K − 1 degrees of freedom, its probability by chance
    and I² (d,) per parameter.

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


def disagree(found: Heterogeneity) -> bool:
    """Whether parts of the data contradict each other, about one parameter or about several together."""
    return bool(found.disagreeing) or found.joint_probability < SIGNIFICANCE


@dataclass(frozen=True)
class JointSets:
    """The data sets of a joint fit: what they are called, their q (K,) in 1/Å, and whether they agree about what they
    share.

    `own` names, for every parameter that is free per set, how its values are quoted: "own" or "hierarchical".
    """

    labels: tuple[str, ...]
    q: Floats
    agreement: Heterogeneity
    own: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class OwnValues:
    """A parameter that every data set has of its own: values and errors (K,), 95 % intervals (K, 2), in its unit.

    `probability` is that of a Q as large if all were equal. Values scatter by `spread` (median) with a 95 % interval,
    of the logarithm if `relative`, about `mean` with its error. `exponent` is the power of q that they follow, with
    its error; NaN where sets have one q. With `drawn` the values are those that the scatter has drawn together.
    """

    name: str
    unit: str
    values: Floats
    errors: Floats
    intervals: Floats
    probability: float
    mean: float
    mean_error: float
    spread: float
    spread_interval: tuple[float, float]
    relative: bool
    exponent: tuple[float, float]
    drawn: bool
