"""Prior distributions of parameters; every prior is truncated to the bounds of its parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpcxpcs.config.problems import suggestion
from hpcxpcs.config.values import read_number

if TYPE_CHECKING:  # numpy is imported where it is used: reading a configuration does without
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

# The names of each kind's values. Those in _ANY_SIGN may be negative; all others must be positive.
PRIOR_VALUES: Mapping[str, tuple[str, ...]] = {
    "uniform": (),
    "normal": ("mu", "sigma"),
    "truncated_normal": ("mu", "sigma"),
    "lognormal": ("median", "sigma"),
    "half_normal": ("sigma",),
    "exponential": ("rate",),
    "beta_scaled": ("a", "b"),
}
PRIOR_KINDS = tuple(PRIOR_VALUES)
_ANY_SIGN = frozenset({"mu"})
# Bounds that begin more than this many standard deviations away from the centre leave no usable mass inside.
_FARTHEST_TAIL = 8.0


@dataclass(frozen=True)
class Prior:
    """A distribution by kind and named values; truncated to the bounds of the parameter it belongs to.

    uniform: flat between the bounds. normal, truncated_normal: mu, sigma. lognormal: median, and sigma of the
    natural logarithm. half_normal: sigma, for values >= 0. exponential: rate (1/unit), for values >= 0.
    beta_scaled: Beta(a, b) stretched over the bounds.
    """

    kind: str
    values: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Refuse unknown kinds and impossible values."""
        if self.kind not in PRIOR_VALUES:
            raise ValueError(f"'{self.kind}' is not a prior type ({', '.join(PRIOR_KINDS)})")
        _check_values(self.kind, dict(self.values))

    def value(self, name: str) -> float:
        """The value called `name`, for example "sigma"."""
        return dict(self.values)[name]

    def to_mapping(self) -> dict[str, str | float]:
        """The prior as in a config file and in JSON: {"type": kind, name: value, ...}."""
        return {"type": self.kind, **dict(self.values)}

    def quantile(self, u: ArrayLike, lower: float, upper: float) -> NDArray[np.float64]:
        """The value below which the fraction u (any shape, 0..1) of the prior between the bounds lies."""
        import numpy as np

        fraction, values = np.asarray(u, dtype=np.float64), dict(self.values)
        if self.kind == "uniform":
            found = lower + fraction * (upper - lower)
        elif self.kind == "lognormal":
            low, high, centre = _log_or_lowest(lower), math.log(upper), math.log(values["median"])
            found = np.exp(_normal_quantile(fraction, low, high, centre, values["sigma"]))
        elif self.kind == "half_normal":
            found = _normal_quantile(fraction, max(lower, 0.0), upper, 0.0, values["sigma"])
        elif self.kind == "exponential":
            low, rate = max(lower, 0.0), values["rate"]
            found = low - np.log1p(fraction * np.expm1(-rate * (upper - low))) / rate
        elif self.kind == "beta_scaled":
            from scipy.special import betaincinv

            # betaincinv returns NaN for fractions below about 1e-200.
            stretched = betaincinv(values["a"], values["b"], np.maximum(fraction, 1e-100))
            found = lower + (upper - lower) * stretched
        else:
            found = _normal_quantile(fraction, lower, upper, values["mu"], values["sigma"])
        return np.asarray(np.clip(found, lower, upper), dtype=np.float64)

    def centred_within(self, lower: float, upper: float) -> Prior:
        """The same distribution with its centre moved to the nearest bound where it lies outside of them."""
        values = dict(self.values)
        for name in ("mu", "median"):
            if name in values and lower < upper and (name == "mu" or upper > 0):
                values[name] = min(max(values[name], lower), upper)
        return Prior(self.kind, tuple(values.items()))

    def covers(self, lower: float, upper: float) -> bool:
        """Whether the prior has usable mass between the bounds."""
        values = dict(self.values)
        if self.kind in ("normal", "truncated_normal"):
            centre, low, high = values["mu"], lower, upper
        elif self.kind == "lognormal" and upper > 0:
            centre, low, high = math.log(values["median"]), _log_or_lowest(lower), math.log(upper)
        elif self.kind == "half_normal" and upper > 0:
            centre, low, high = 0.0, lower, upper
        else:
            return self.kind in ("uniform", "beta_scaled") or (self.kind == "exponential" and upper > 0)
        return max(low - centre, centre - high) <= _FARTHEST_TAIL * values["sigma"]


def read_prior(value: object) -> Prior:
    """A Prior from a mapping such as {type: lognormal, median: 1.0e4, sigma: 1.0} or from a Prior."""
    if isinstance(value, Prior):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("is not a prior; write for example {type: lognormal, median: 1.0e4, sigma: 1.0}")
    given = dict(value)
    spelling = given.pop("type", None)
    if not isinstance(spelling, str):
        raise ValueError(f"has no type; known types: {', '.join(PRIOR_KINDS)}")
    values = {str(name): _read_value(str(name), number) for name, number in given.items()}
    kind = _kind(spelling)
    _check_values(kind, values)
    return Prior(kind, tuple((name, values[name]) for name in PRIOR_VALUES[kind]))


def _kind(spelling: str) -> str:
    """The kind meant by a spelling such as TruncatedNormal, truncated-normal or halfnormal."""
    plain = {kind.replace("_", ""): kind for kind in PRIOR_KINDS}
    kind = plain.get(spelling.lower().replace("_", "").replace("-", ""))
    if kind is None:
        known = f"known types: {', '.join(PRIOR_KINDS)}"
        raise ValueError(f"has the unknown type '{spelling}'; {known}{suggestion(spelling, PRIOR_KINDS)}")
    return kind


def _read_value(name: str, value: object) -> float:
    try:
        return read_number(value)
    except ValueError as error:
        raise ValueError(f"has {name} = {value!r}, which {error}") from None


def _check_values(kind: str, values: Mapping[str, float]) -> None:
    wanted = PRIOR_VALUES[kind]
    takes = f"{kind} takes {', '.join(wanted) if wanted else 'no values: its range is min ... max'}"
    for name in values:
        if name not in wanted:
            raise ValueError(f"has the unknown value '{name}'; {takes}{suggestion(name, wanted)}")
    for name in wanted:
        if name not in values:
            raise ValueError(f"lacks {name}; {takes}")
        if name not in _ANY_SIGN and not values[name] > 0:
            raise ValueError(f"has {name} = {values[name]:g}, which must be greater than 0")


def _log_or_lowest(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _normal_quantile(
    u: NDArray[np.float64], lower: float, upper: float, mu: float, sigma: float
) -> NDArray[np.float64]:
    """Quantile of a normal truncated to [lower, upper], accurate in both tails."""
    from scipy.special import ndtr, ndtri

    low, high = (lower - mu) / sigma, (upper - mu) / sigma
    mirrored = low > 0
    if mirrored:
        low, high, u = -high, -low, 1.0 - u
    below = ndtr(low)
    z = ndtri(below + u * (ndtr(high) - below))
    found: NDArray[np.float64] = mu + sigma * (-z if mirrored else z)
    return found
