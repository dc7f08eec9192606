"""What g2(τ) of one bin can look like: the one implementation of each formula, and the coordinates it is fitted in.

The decay is that of the official viewer, with the field correlation f and contrast, baseline as there:

    single     f = exp(−τ/t)                    stretched   f = exp(−(τ/t)^c), compressed for c > 1
    double     f = p·exp(−τ/t) + (1−p)·exp(−τ/t2), t < t2
    g2 = baseline·(τ/τ_m)^drift + contrast·f²    (drift 0 unless the baseline is a power law)

`double_intensity` adds intensities instead, f² = p·exp(−2τ/t) + (1−p)·exp(−2τ/t2), as the other viewer does: fields
that beat have a cross term which no choice of its parameters has, so that the two cannot be converted. Of the
stretched decay that viewer writes exp(−(2τ/t')^c): `viewer_time` and `official_time` convert.

Every coordinate x is standard normal a priori, which makes priors and limits one thing (Φ is the normal distribution):
ln t is uniform over the delays and a factor REACH beyond them; exponent, share p and ln(t2/t) are uniform within their
limits; contrast is log-normal, baseline and drift are normal. Nothing depends on the unit of time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.scipy.stats import norm

REACH = 10.0
"""Beyond a tenth of the first delay nothing of a decay is left to see, beyond ten times the last nothing is gone
yet."""

EXPONENTS = (0.1, 3.0)
"""Limits of the exponent: 2 is the fastest known (ballistic motion), and an estimate of 2 needs room on both sides."""

CONTRAST = (0.15, 1.5)
"""Median and deviation of ln contrast a priori: 95 % within 0.008 and 2.8, from rheology at 0.03 to noisy first
lags."""

BASELINE = (1.0, 0.1)
"""Mean and deviation of the baseline a priori; files of beamlines have 0.9 to 1.06."""

DRIFT = 0.02
"""Deviation of the baseline's exponent a priori: a level that changes by 5 % per decade is a damaged measurement."""

FORMS = ("single", "stretched", "double", "double_intensity")
BASELINES = ("free", "fixed", "power_law")


@dataclass(frozen=True)
class Shape:
    """Which formula: a decay of FORMS and a baseline of BASELINES; hashable, so that code is compiled once for each.

    `holds_contrast` takes the contrast from the Scale.
    """

    form: str
    baseline: str = "free"
    holds_contrast: bool = False

    @property
    def inner(self) -> tuple[str, ...]:
        """Coordinates of the decay itself."""
        return {"single": ("tau",), "stretched": ("tau", "exponent")}.get(self.form, ("tau", "ratio", "fraction"))

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates x, in their order."""
        level = {"free": ("baseline",), "fixed": (), "power_law": ("baseline", "drift")}[self.baseline]
        return (*self.inner, *(() if self.holds_contrast else ("contrast",)), *level)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that are reported, in the order of `physical`."""
        return tuple("tau_slow" if name == "ratio" else name for name in self.coordinates)

    @property
    def units(self) -> tuple[str, ...]:
        """Units of the parameters."""
        return tuple("s" if name.startswith("tau") else "1" for name in self.parameters)


class Scale(NamedTuple):
    """The measurement's own scale: ln of the shortest and longest t (s) and of the middle delay, and what is held."""

    low: Array | float
    high: Array | float
    middle: Array | float
    baseline: Array | float = 1.0
    contrast: Array | float = 1.0


def scale_of(tau: Array, baseline: float = 1.0) -> Scale:
    """The scale of delays (n,) in s, all above 0."""
    logs, reach = jnp.log(tau), jnp.log(REACH)
    return Scale(logs.min() - reach, logs.max() + reach, logs.mean(), baseline, 1.0)


def physical(shape: Shape, scale: Scale, x: Array) -> Array:
    """The parameters (p,) in s and 1 of coordinates x (p,)."""
    at = dict(zip(shape.coordinates, x, strict=True))
    span = scale.high - scale.low
    log_tau = scale.low + span * norm.cdf(at["tau"])
    values = {"tau": jnp.exp(log_tau)}
    if "exponent" in at:
        values["exponent"] = EXPONENTS[0] + (EXPONENTS[1] - EXPONENTS[0]) * norm.cdf(at["exponent"])
    if "ratio" in at:
        values["ratio"] = jnp.exp(log_tau + span * norm.cdf(at["ratio"]))
        values["fraction"] = norm.cdf(at["fraction"])
    if "contrast" in at:
        values["contrast"] = CONTRAST[0] * jnp.exp(CONTRAST[1] * at["contrast"])
    if "baseline" in at:
        values["baseline"] = BASELINE[0] + BASELINE[1] * at["baseline"]
    if "drift" in at:
        values["drift"] = DRIFT * at["drift"]
    return jnp.stack([values[name] for name in shape.coordinates])


def decay(shape: Shape, parameters: dict[str, Array], tau: Array) -> Array:
    """f² (n,), from 1 to 0, at delays (n,) in s, of the parameters by name."""
    slow = tau / parameters["tau"]
    if shape.form == "single":
        return jnp.exp(-2.0 * slow)
    if shape.form == "stretched":
        return jnp.exp(-2.0 * jnp.exp(parameters["exponent"] * jnp.log(slow)))
    share, later = parameters["fraction"], tau / parameters["tau_slow"]
    if shape.form == "double_intensity":
        return share * jnp.exp(-2.0 * slow) + (1.0 - share) * jnp.exp(-2.0 * later)
    return (share * jnp.exp(-slow) + (1.0 - share) * jnp.exp(-later)) ** 2


def curve(shape: Shape, scale: Scale, parameters: Array, tau: Array) -> Array:
    """g2 (n,) at delays (n,) in s, of parameters (p,)."""
    named = dict(zip(shape.parameters, parameters, strict=True))
    level = named.get("baseline", scale.baseline)
    if "drift" in named:
        level = level * jnp.exp(named["drift"] * (jnp.log(tau) - scale.middle))
    return level + named.get("contrast", scale.contrast) * decay(shape, named, tau)


def viewer_time(tau: float, exponent: float) -> float:
    """t' of exp(−(2τ/t')^c) that is the same decay as exp(−2(τ/t)^c)."""
    return float(tau * 2.0 ** (1.0 - 1.0 / exponent))


def official_time(viewer: float, exponent: float) -> float:
    """t of exp(−2(τ/t)^c) that is the same decay as exp(−(2τ/t')^c)."""
    return float(viewer / 2.0 ** (1.0 - 1.0 / exponent))
