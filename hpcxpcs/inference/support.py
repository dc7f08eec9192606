"""Sampling space: all of R^f, mapped smoothly onto the parameters inside their bounds where no rate is negative.

In the fit coordinates of a rate (ln R, log-slope s, log-share y) the bounds on amplitude, exponent and offset, and
the demand A·t^p + B ≥ 0 on the data's window, become nested intervals: one for y, one for s given y, one for ln R
given both. Each interval is filled by a soft clip, which is the identity except near its ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hpcxpcs.inference.coordinates import Coordinates
from hpcxpcs.likelihood.interpolation import Floats
from hpcxpcs.physics.model import RateTerm

FAINTEST = 69.0
"""An amplitude whose bound is 0 reaches down to exp(−69) = 1e-30 of its upper bound."""

SMALLEST_SHARE = 40.0
"""The power law's share of a rate reaches down to exp(−40); below, nothing in the data could tell."""

EDGE = 1.0e-6
"""A start at a bound is moved inside by this share of the interval."""

SLOWEST = 1.0e-300
"""Stands for a rate at or below zero where its logarithm is taken."""

SOFTEST = 0.25
"""Largest softness of a clip, as a share of its interval."""


def soft_clip(x: Array, low: Array, high: Array, softness: Array) -> tuple[Array, Array]:
    """A value in (low, high) for x in R, the identity away from the ends, and the log of its derivative."""
    from_low, from_high = (x - low) / softness, (x - high) / softness
    # Measured from the nearer end, so that rounding cannot carry a value past it.
    above = softness * (jax.nn.softplus(from_low) - jax.nn.softplus(from_high))
    below = softness * (jax.nn.softplus(-from_high) - jax.nn.softplus(-from_low))
    value = jnp.where(from_low + from_high < 0.0, low + above, high - below)
    width = (high - low) / softness
    slope = jax.nn.log_sigmoid(from_low) + jax.nn.log_sigmoid(-from_high) + jnp.log(-jnp.expm1(-width))
    return value, slope


def soft_clip_inverse(value: Array, low: Array, high: Array, softness: Array) -> Array:
    """The x that soft_clip maps to a value; values at or beyond an end are taken EDGE inside."""
    margin = EDGE * (high - low)
    inside = (jnp.clip(value, low + margin, high - margin) - low) / softness
    width = (high - low) / softness
    # softplus(x) − softplus(x − w) = v  ⇔  x = v + log(1 − e^−v) − log(1 − e^(v−w))
    return low + softness * (inside + jnp.log(-jnp.expm1(-inside)) - jnp.log(-jnp.expm1(inside - width)))


@dataclass(frozen=True)
class Support:
    """The map x (f,) → fit coordinates u (f,) for bounds lower, upper (p,) and a time range (s); hashable.

    With a `lead` of 1 the sample's transport in the middle of the window stays above the reference's, with −1 below:
    one of two labellings that fit alike. 0 leaves the order open.

    `softness` (f,) is in units of each fit coordinate; compiled functions take it as an argument, which depends on
    the data, instead of this one.
    """

    coordinates: Coordinates
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    first: float
    last: float
    softness: tuple[float, ...]
    lead: int = 0

    def to_coordinates(self, x: Array, softness: Array | None = None) -> tuple[Array, Array]:
        """Fit coordinates u (f,) of sampling coordinates x (f,), and log |∂u/∂x|."""
        u, total = x, jnp.zeros(())
        soft = jnp.asarray(self.softness) if softness is None else softness
        for step in self._steps():
            low, high = step.interval(self, u)
            value, slope = soft_clip(x[step.place], low, high, soft[step.place])
            u, total = u.at[step.place].set(value), total + slope
        return u, total

    def from_coordinates(self, u: Floats) -> Floats:
        """Sampling coordinates x (f,) of fit coordinates u (f,), moved inside where they touch a bound."""
        plain = replace(self, softness=(1.0,) * len(self.softness))
        return np.asarray(_inverse(plain, jnp.asarray(u), jnp.asarray(self.softness)))

    def to_physical(self, x: Array, softness: Array | None = None) -> tuple[Array, Array]:
        """All physical parameters theta (p,) of sampling coordinates x (f,), and log |∂theta/∂x| of the free ones."""
        u, clipped = self.to_coordinates(x, softness)
        theta = self.coordinates.to_physical(u)
        return theta, clipped + self._log_volume(u, theta)

    def softened(self, u: Floats, spread: Floats) -> Support:
        """The same support with clips as soft as the posterior is wide: spread (f,) in units of u, NaN = unknown."""
        found = list(self.softness)
        plain = replace(self, softness=(1.0,) * len(self.softness))
        for step, ends in zip(self._steps(), _intervals(plain, jnp.asarray(u)), strict=True):
            low, high = map(float, ends)
            widest = SOFTEST * (high - low)
            sd = float(spread[step.place])
            found[step.place] = min(sd, widest) if np.isfinite(sd) and sd > 0.0 else widest
        return replace(self, softness=tuple(found))

    def _log_volume(self, u: Array, theta: Array) -> Array:
        """log |∂theta/∂u| of the free parameters: A·R·e^(−y) for a full rate, A for a lone amplitude."""
        place = self._places()
        total = jnp.zeros(())
        for rate in self.coordinates.model.rates:
            if not rate.nonnegative or rate.amplitude not in place:
                continue
            total = total + jnp.log(theta[rate.amplitude])
            if rate.offset in place:
                total = total + u[place[rate.amplitude]]
                if rate.exponent in place:
                    total = total - u[place[rate.offset]]
        return total

    def _places(self) -> dict[int, int]:
        return {index: k for k, index in enumerate(self.coordinates.free)}

    def _steps(self) -> tuple[_Step, ...]:
        """Free coordinates in an order in which each interval depends on earlier ones alone."""
        place = self._places()
        steps: list[_Step] = []
        for rate in self.coordinates.model.rates:
            if not rate.nonnegative:
                continue
            both = rate.amplitude in place and rate.offset in place
            order = (rate.offset, rate.exponent, rate.amplitude)
            for index in order if both else (rate.exponent, rate.offset, rate.amplitude):
                if index in place:
                    steps.append(_Step(index, place[index], rate))
        within = {step.index for step in steps}
        return (*(_Step(i, k, None) for i, k in place.items() if i not in within), *steps)


@dataclass(frozen=True)
class _Step:
    """One coordinate: parameter index, its place among the free ones, and the rate it belongs to."""

    index: int
    place: int
    rate: RateTerm | None

    def interval(self, support: Support, u: Array) -> tuple[Array, Array]:
        """Ends of the coordinate's interval, given the coordinates of earlier steps in u (f,)."""
        low, high = self._bounds(support, u)
        if support.lead == 0 or self.rate is None or self.rate.name != "sample_transport":
            return low, high
        end, rising = self._equality(support, u)
        if end is None:
            return low, high
        if rising == (support.lead > 0):
            return jnp.maximum(low, end), high
        return low, jnp.minimum(high, end)

    def _equality(self, support: Support, u: Array) -> tuple[Array | None, bool]:
        """The coordinate at which both components are equally fast, and whether the sample is faster above it.

        None where a later step decides, or none can.
        """
        coordinates, rate = support.coordinates, self.rate
        place = {index: k for k, index in enumerate(coordinates.free)}
        assert rate is not None
        if self.index != [step.index for step in support._steps() if step.rate is rate][-1]:
            return None, True
        reference = next(r for r in coordinates.model.rates if r.name == "reference_transport")
        speed = _speed(reference, coordinates, place, u)
        if self.index == rate.amplitude and rate.offset in place:
            return jnp.log(speed), True
        fixed, log_t = dict(coordinates.fixed), float(np.log(coordinates.t_ref))
        if self.index == rate.amplitude:
            return jnp.log(jnp.maximum(speed - fixed[rate.offset], SLOWEST)), True
        if self.index == rate.offset:
            exponent = u[place[rate.exponent]] if rate.exponent in place else fixed[rate.exponent]
            return speed - fixed[rate.amplitude] * jnp.exp(exponent * log_t), True
        if log_t == 0.0:
            return None, True
        power = jnp.maximum((speed - fixed[rate.offset]) / fixed[rate.amplitude], SLOWEST)
        return jnp.log(power) / log_t, log_t > 0.0

    def _bounds(self, support: Support, u: Array) -> tuple[Array, Array]:
        """Ends of the interval as bounds and non-negative rates set them."""
        low, high = jnp.asarray(support.lower[self.index]), jnp.asarray(support.upper[self.index])
        if self.rate is None:
            return low, high
        bounds = _RateBounds.of(self.rate, support)
        place = {index: k for k, index in enumerate(support.coordinates.free)}
        fixed = dict(support.coordinates.fixed)
        exponent = u[place[self.rate.exponent]] if self.rate.exponent in place else fixed[self.rate.exponent]
        if self.rate.amplitude in place and self.rate.offset in place:
            share = u[place[self.rate.offset]]
            if self.index == self.rate.offset:
                return bounds.share()
            if self.index == self.rate.exponent:
                ends = bounds.exponent(share)
                return ends[0] * jnp.exp(share), ends[1] * jnp.exp(share)
            if self.rate.exponent in place:
                exponent = exponent * jnp.exp(-share)
            ends = bounds.log_power(share, jnp.asarray(exponent))
            return ends[0] - share, ends[1] - share
        if self.index == self.rate.amplitude:
            return bounds.log_power_above(jnp.asarray(exponent), fixed[self.rate.offset])
        if self.index == self.rate.offset:
            lowest = -fixed[self.rate.amplitude] * jnp.exp(
                bounds.log_t * exponent - bounds.reach * jnp.abs(exponent)
            )
            return jnp.maximum(low, lowest), high
        return low, high


def _speed(rate: RateTerm, coordinates: Coordinates, place: Mapping[int, int], u: Array) -> Array:
    """A non-negative rate at t_ref, from fit coordinates u (f,) of its free members."""
    fixed, log_t = dict(coordinates.fixed), float(np.log(coordinates.t_ref))
    if rate.amplitude in place and rate.offset in place:
        return jnp.exp(u[place[rate.amplitude]])
    if rate.amplitude in place:
        return jnp.exp(u[place[rate.amplitude]]) + fixed[rate.offset]
    exponent = u[place[rate.exponent]] if rate.exponent in place else fixed[rate.exponent]
    offset = u[place[rate.offset]] if rate.offset in place else fixed[rate.offset]
    return fixed[rate.amplitude] * jnp.exp(exponent * log_t) + offset


@dataclass(frozen=True)
class _RateBounds:
    """Bounds of A·t^p + B: ln A, p and B; log_t is ln t_ref, reach is ln(t_last/t_first)/2.

    With a = A·t_ref^p and b = B/a, all constraints are half planes in (p, ln |b|) and intervals in ln a.
    """

    log_amplitude: tuple[float, float]
    exponents: tuple[float, float]
    offset: tuple[float, float]
    log_t: float
    reach: float

    @classmethod
    def of(cls, rate: RateTerm, support: Support) -> _RateBounds:
        """Bounds of one rate; a fixed exponent is an interval of no width."""
        fixed = dict(support.coordinates.fixed)
        top = np.log(support.upper[rate.amplitude])
        low = support.lower[rate.amplitude]
        bottom = np.log(low) if low > 0.0 else top - FAINTEST
        held = fixed.get(rate.exponent)
        exponents = (
            (held, held) if held is not None else (support.lower[rate.exponent], support.upper[rate.exponent])
        )
        return cls(
            (float(bottom), float(top)),
            exponents,
            (support.lower[rate.offset], support.upper[rate.offset]),
            float(np.log(support.coordinates.t_ref)),
            0.5 * float(np.log(support.last / support.first)),
        )

    def share(self) -> tuple[Array, Array]:
        """Range of y = −ln(1 + b) over all admissible exponents and amplitudes."""
        lowest, highest = self.offset
        most = self._largest(highest, below_zero=False) if highest > 0.0 else -self._smallest(-highest)
        least = -self._largest(-lowest, below_zero=True) if lowest < 0.0 else self._smallest(lowest)
        ends = -np.log1p(np.array([most, least]))
        return jnp.asarray(max(ends[0], -SMALLEST_SHARE)), jnp.asarray(min(ends[1], SMALLEST_SHARE))

    def _largest(self, offset: float, *, below_zero: bool) -> float:
        """Largest |b| with |B| ≤ offset; below zero the rate must stay positive at both ends of the window."""
        ceiling = np.log(offset) - self.log_amplitude[0]
        candidates = [*self.exponents, 0.0]
        if below_zero:
            candidates += [
                ceiling / d for d in (self.log_t - self.reach, self.log_t + self.reach) if d != 0.0
            ]
        p = np.clip(candidates, *self.exponents)
        limits = ceiling - p * self.log_t
        if below_zero:
            limits = np.minimum(limits, -self.reach * np.abs(p) + np.log1p(-EDGE))
        return float(np.exp(np.minimum(limits.max(), 700.0)))

    def _smallest(self, offset: float) -> float:
        """Smallest |b| with |B| ≥ offset ≥ 0."""
        if offset == 0.0:
            return 0.0
        p = np.asarray(self.exponents)
        return float(np.exp((np.log(offset) - self.log_amplitude[1] - p * self.log_t).min()))

    def exponent(self, share: Array) -> tuple[Array, Array]:
        """Range of p given y, shape ()."""
        log_b, negative = _log_ratio(share)
        low, high = (jnp.asarray(end) for end in self.exponents)
        lowest, highest = self.offset
        reaching = jnp.where(negative, _log(-lowest), _log(highest)) - self.log_amplitude[0] - log_b
        leaving = jnp.where(negative, _log(-highest), _log(lowest)) - self.log_amplitude[1] - log_b
        if self.log_t > 0.0:
            low, high = jnp.maximum(low, leaving / self.log_t), jnp.minimum(high, reaching / self.log_t)
        elif self.log_t < 0.0:
            low, high = jnp.maximum(low, reaching / self.log_t), jnp.minimum(high, leaving / self.log_t)
        steepest = jnp.where(negative, -log_b / self.reach, jnp.inf)
        return jnp.maximum(low, -steepest), jnp.minimum(high, steepest)

    def log_power(self, share: Array, exponent: Array) -> tuple[Array, Array]:
        """Range of ln a given y and p."""
        log_b, negative = _log_ratio(share)
        lowest, highest = self.offset
        low, high = (end + exponent * self.log_t for end in self.log_amplitude)
        most = jnp.where(negative, _log(-lowest), _log(highest)) - log_b
        least = jnp.where(negative, _log(-highest), _log(lowest)) - log_b
        return jnp.maximum(low, least), jnp.minimum(high, most)

    def log_power_above(self, exponent: Array, offset: float) -> tuple[Array, Array]:
        """Range of ln a for a fixed offset, which may be negative, given p."""
        low, high = (end + exponent * self.log_t for end in self.log_amplitude)
        if offset < 0.0:
            low = jnp.maximum(low, np.log(-offset) + self.reach * jnp.abs(exponent))
        return low, high


def _log(value: float) -> float:
    """Logarithm of a bound; −∞ where it does not restrict this sign."""
    return float(np.log(value)) if value > 0.0 else -np.inf


def _log_ratio(share: Array) -> tuple[Array, Array]:
    """ln |b| and whether b < 0, for b = e^(−y) − 1; never −∞, so that derivatives stay finite."""
    ratio = jnp.expm1(-share)
    return jnp.log(jnp.maximum(jnp.abs(ratio), 1e-300)), ratio < 0.0


@partial(jax.jit, static_argnums=0)
def _intervals(support: Support, u: Array) -> tuple[tuple[Array, Array], ...]:
    """Ends of the interval of each step, given fit coordinates u (f,)."""
    return tuple(step.interval(support, u) for step in support._steps())


@partial(jax.jit, static_argnums=0)
def _inverse(support: Support, u: Array, softness: Array) -> Array:
    """Sampling coordinates x (f,) of fit coordinates u (f,), with the softness (f,) given."""
    x = inside = u
    for step in support._steps():
        low, high = step.interval(support, inside)
        soft = softness[step.place]
        x = x.at[step.place].set(soft_clip_inverse(inside[step.place], low, high, soft))
        inside = inside.at[step.place].set(soft_clip(x[step.place], low, high, soft)[0])
    return x


@partial(jax.jit, static_argnums=0)
def physical(support: Support, x: Array) -> Array:
    """All physical parameters (…, p) of sampling coordinates x (…, f)."""
    flat = x.reshape(-1, x.shape[-1])
    theta = jax.vmap(lambda one: support.to_physical(one)[0])(flat)
    return theta.reshape(*x.shape[:-1], -1)
