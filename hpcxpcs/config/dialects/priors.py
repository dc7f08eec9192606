"""Bounds and priors of older configurations as ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hpcxpcs.config.numbers import read_number

_VALUES: Mapping[str, tuple[str, ...]] = {
    "normal": ("loc", "scale"),
    "truncatednormal": ("loc", "scale"),
    "lognormal": ("loc", "scale"),
    "halfnormal": ("scale",),
    "exponential": ("rate",),
    "betascaled": ("concentration1", "concentration2"),
    "uniform": (),
}
_NAMES = {"truncatednormal": "truncated_normal", "halfnormal": "half_normal", "betascaled": "beta_scaled"}
_OF_BETA = 2.0
"""Both exponents of a beta prior that was given no moments."""


def plain_type(name: object) -> str:
    """The name of a prior without case and punctuation; ValueError when no older program knew it."""
    plain = str(name).lower().replace("_", "").replace("-", "")
    if plain not in _VALUES:
        raise ValueError(f"is not a prior; known: {', '.join(_NAMES.get(one, one) for one in _VALUES)}")
    return plain


def prior_from_moments(name: object, mu: Any, sigma: Any, lower: float, upper: float) -> dict[str, Any]:
    """homodyne's short form, whose missing moments are the middle and a quarter of the range."""
    plain = plain_type(name)
    if plain == "lognormal":
        raise ValueError(
            "does not say whether its numbers are logarithms; write it as prior: {type: lognormal, …}"
        )
    centre = 0.5 * (lower + upper) if mu is None else read_number(mu)
    width = 0.25 * (upper - lower) if sigma is None else read_number(sigma)
    if plain == "betascaled":
        moments = mu is not None and sigma is not None
        a, b = _beta(centre, width, lower, upper) if moments else (_OF_BETA, _OF_BETA)
        return {"type": "beta_scaled", "a": a, "b": b}
    if plain == "uniform":
        return {"type": "uniform"}
    if plain == "exponential":
        raise ValueError("has no rate; write it as prior: {type: exponential, rate: …}")
    if plain == "halfnormal":
        return {"type": "half_normal", "sigma": width}
    return {"type": _NAMES.get(plain, plain), "mu": centre, "sigma": width}


def _beta(mean: float, sd: float, lower: float, upper: float) -> tuple[float, float]:
    """Exponents of a beta distribution over the range with this mean and deviation; 2 and 2 when none has them."""
    width = upper - lower
    m, variance = (mean - lower) / width, (sd / width) ** 2
    if not 0.0 < variance < m * (1.0 - m):
        return _OF_BETA, _OF_BETA
    total = m * (1.0 - m) / variance - 1.0
    return max(m * total, 0.01), max((1.0 - m) * total, 0.01)


def prior_from_params(name: object, params: Mapping[str, Any], lower: float, upper: float) -> dict[str, Any]:
    """heterodyne's form {loc, scale, low, high, …}; its loc and scale of a lognormal are those of the logarithm."""
    plain = plain_type(name)
    unknown = set(params) - {*_VALUES[plain], "low", "high"}
    if unknown:
        takes = ", ".join(_VALUES[plain]) or "low and high"
        raise ValueError(f"has unknown values {', '.join(sorted(unknown))}; {plain} takes {takes}")
    for key, limit in (("low", lower), ("high", upper)):
        if key in params and not math.isclose(read_number(params[key]), limit, rel_tol=1e-9, abs_tol=1e-12):
            bound = "min" if key == "low" else "max"
            raise ValueError(
                f"has {key} other than {bound} ({limit:g}); priors end at the bounds, change {bound}"
            )
    default = {"loc": 0.5 * (lower + upper), "scale": 0.25 * (upper - lower), "rate": 1.0}
    if plain == "lognormal":
        default |= {"loc": 0.0, "scale": 1.0}
    if plain == "halfnormal":
        default["scale"] = 1.0
    default |= {"concentration1": _OF_BETA, "concentration2": _OF_BETA}
    values = [read_number(params.get(key, default[key])) for key in _VALUES[plain]]
    return _ours(plain, values)


def _ours(plain: str, values: list[float]) -> dict[str, Any]:
    if plain == "lognormal":
        return {"type": "lognormal", "median": _exp(values[0]), "sigma": values[1]}
    if plain == "halfnormal":
        return {"type": "half_normal", "sigma": values[0]}
    if plain == "exponential":
        return {"type": "exponential", "rate": values[0]}
    if plain == "betascaled":
        return {"type": "beta_scaled", "a": values[0], "b": values[1]}
    if plain == "uniform":
        return {"type": "uniform"}
    return {"type": _NAMES.get(plain, plain), "mu": values[0], "sigma": values[1]}


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        raise ValueError(
            "has a loc whose exponential is infinite; loc is the logarithm of the median"
        ) from None
