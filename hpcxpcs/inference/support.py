"""Sampling space: all of R^f, mapped smoothly onto the parameters inside their bounds where no rate is negative.

In the fit coordinates of a rate (ln R, log-slope s, log-share y) the bounds on amplitude, exponent and offset, and
the demand A·t^p + B ≥ 0 on the data's window, become nested intervals: one for y, one for s given y, one for ln R
given both. Each interval is filled by a soft clip, which is the identity except near its ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hpcxpcs.arrays import Floats
from hpcxpcs.inference.coordinates import Coordinates
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


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["coordinates", "lower", "upper", "first", "last", "softness", "rates"],
    meta_fields=["lead"],
)
@dataclass(frozen=True)
class Support:
    """The map x (f,) → fit coordinates u (f,) for bounds lower, upper (p,) and a time range (s).

    An argument of compiled functions: other bounds, times and fixed values need no compilation. `rates` are the bounds
    of every non-negative rate, in the model's order.

    With a `lead` of 1 the sample's transport in the middle of the window stays above the reference's, with −1 below:
    one of two labellings that fit alike. 0 leaves the order open.

    `softness` (f,) is in units of each fit coordinate.
    """

    coordinates: Coordinates
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    first: float
    last: float
    softness: Array
    rates: tuple[_RateBounds, ...]
    lead: int

    @classmethod
    def of(
        cls,
        coordinates: Coordinates,
        lower: Sequence[float],
        upper: Sequence[float],
        window: tuple[float, float],
        lead: int = 0,
    ) -> Support:
        """The support for bounds (p,) and a time range (s), with clips of width 1."""
        bounds = tuple(_RateBounds.of(rate, coordinates, lower, upper, window) for rate in _bounded(coordinates))
        softness = jnp.ones(len(coordinates.free))
        return cls(coordinates, tuple(lower), tuple(upper), *window, softness, bounds, lead)

    def to_coordinates(self, x: Array, softness: Array | None = None) -> tuple[Array, Array]:
        """Fit coordinates u (f,) of sampling coordinates x (f,), and log |∂u/∂x|."""
        u, total = x, jnp.zeros(())
        soft = self.softness if softness is None else softness
        for step in self._steps():
            low, high = step.interval(self, u)
            value, slope = soft_clip(x[step.place], low, high, soft[step.place])
            u, total = u.at[step.place].set(value), total + slope
        return u, total

    def from_coordinates(self, u: Floats) -> Floats:
        """Sampling coordinates x (f,) of fit coordinates u (f,), moved inside where they touch a bound."""
        return np.asarray(_inverse(self, jnp.asarray(u)))

    def to_physical(self, x: Array, softness: Array | None = None) -> tuple[Array, Array]:
        """All physical parameters theta (p,) of sampling coordinates x (f,), and log |∂theta/∂x| of the free ones."""
        u, clipped = self.to_coordinates(x, softness)
        theta = self.coordinates.to_physical(u)
        return theta, clipped + self._log_volume(u, theta)

    def softened(self, u: Floats, spread: Floats) -> Support:
        """The same support with clips as soft as the posterior is wide: spread (f,) in units of u, NaN = unknown."""
        found = np.array(self.softness)
        for step, ends in zip(self._steps(), _intervals(self, jnp.asarray(u)), strict=True):
            low, high = map(float, ends)
            widest = SOFTEST * (high - low)
            sd = float(spread[step.place])
            found[step.place] = min(sd, widest) if np.isfinite(sd) and sd > 0.0 else widest
        return replace(self, softness=jnp.asarray(found))

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
        end, growth = self._equality(support, u)
        if end is None:
            return low, high
        upwards = support.lead * growth
        return jnp.where(upwards > 0.0, jnp.maximum(low, end), low), jnp.where(
            upwards < 0.0, jnp.minimum(high, end), high
        )

    def _equality(self, support: Support, u: Array) -> tuple[Array | None, Array | float]:
        """The coordinate at which both components are equally fast, and the sign of the sample's lead above it.

        None where a later step decides; a sign of 0 where none can.
        """
        coordinates, rate = support.coordinates, self.rate
        place = {index: k for k, index in enumerate(coordinates.free)}
        assert rate is not None
        if self.index != [step.index for step in support._steps() if step.rate is rate][-1]:
            return None, 1.0
        reference = next(r for r in coordinates.model.rates if r.name == "reference_transport")
        speed = _speed(reference, coordinates, place, u)
        if self.index == rate.amplitude and rate.offset in place:
            return jnp.log(speed), 1.0
        fixed, log_t = dict(coordinates.fixed), jnp.log(coordinates.t_ref)
        if self.index == rate.amplitude:
            return jnp.log(jnp.maximum(speed - fixed[rate.offset], SLOWEST)), 1.0
        if self.index == rate.offset:
            exponent = u[place[rate.exponent]] if rate.exponent in place else fixed[rate.exponent]
            return speed - fixed[rate.amplitude] * jnp.exp(exponent * log_t), 1.0
        power = jnp.maximum((speed - fixed[rate.offset]) / fixed[rate.amplitude], SLOWEST)
        return jnp.log(power) / jnp.where(log_t == 0.0, 1.0, log_t), jnp.sign(log_t)

    def _bounds(self, support: Support, u: Array) -> tuple[Array, Array]:
        """Ends of the interval as bounds and non-negative rates set them."""
        low, high = jnp.asarray(support.lower[self.index]), jnp.asarray(support.upper[self.index])
        if self.rate is None:
            return low, high
        bounds = dict(zip(_bounded(support.coordinates), support.rates, strict=True))[self.rate]
        place = {index: k for k, index in enumerate(support.coordinates.free)}
        fixed = dict(support.coordinates.fixed)
        exponent = u[place[self.rate.exponent]] if self.rate.exponent in place else fixed[self.rate.exponent]
        if self.rate.amplitude in place and self.rate.offset in place:
            share = u[place[self.rate.offset]]
            if self.index == self.rate.offset:
                return jnp.asarray(bounds.share[0]), jnp.asarray(bounds.share[1])
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
            lowest = -fixed[self.rate.amplitude] * jnp.exp(bounds.log_t * exponent - bounds.reach * jnp.abs(exponent))
            return jnp.maximum(low, lowest), high
        return low, high


def _bounded(coordinates: Coordinates) -> tuple[RateTerm, ...]:
    """The rates that may not fall below zero, in the model's order."""
    return tuple(rate for rate in coordinates.model.rates if rate.nonnegative)


def _speed(rate: RateTerm, coordinates: Coordinates, place: Mapping[int, int], u: Array) -> Array:
    """A non-negative rate at t_ref, from fit coordinates u (f,) of its free members."""
    fixed, log_t = dict(coordinates.fixed), jnp.log(coordinates.t_ref)
    if rate.amplitude in place and rate.offset in place:
        return jnp.exp(u[place[rate.amplitude]])
    if rate.amplitude in place:
        return jnp.exp(u[place[rate.amplitude]]) + fixed[rate.offset]
    exponent = u[place[rate.exponent]] if rate.exponent in place else fixed[rate.exponent]
    offset = u[place[rate.offset]] if rate.offset in place else fixed[rate.offset]
    return fixed[rate.amplitude] * jnp.exp(exponent * log_t) + offset


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["log_amplitude", "exponents", "share", "log_most", "log_least", "log_t", "reach"],
    meta_fields=[],
)
@dataclass(frozen=True)
class _RateBounds:
    """Bounds of A·t^p + B: ln A, p, and B; log_t is ln t_ref, reach is ln(t_last/t_first)/2.

    With a = A·t_ref^p and b = B/a, all constraints are half planes in (p, ln |b|) and intervals in ln a. `share` is the
    range of y = −ln(1 + b) over all admissible exponents and amplitudes; log_most and log_least are ln of the largest
    and the smallest |B| that is allowed (above zero, below zero).
    """

    log_amplitude: tuple[float, float]
    exponents: tuple[float, float]
    share: tuple[float, float]
    log_most: tuple[float, float]
    log_least: tuple[float, float]
    log_t: float
    reach: float

    @classmethod
    def of(
        cls,
        rate: RateTerm,
        coordinates: Coordinates,
        lower: Sequence[float],
        upper: Sequence[float],
        window: tuple[float, float],
    ) -> _RateBounds:
        """Bounds of one rate; a fixed exponent is an interval of no width."""
        top, low = _log(upper[rate.amplitude]), lower[rate.amplitude]
        bottom = float(np.log(low)) if low > 0.0 else top - FAINTEST
        fixed = dict(coordinates.fixed)
        held = fixed.get(rate.exponent)
        exponents = (held, held) if held is not None else (lower[rate.exponent], upper[rate.exponent])
        lowest, highest = lower[rate.offset], upper[rate.offset]
        plain = cls(
            log_amplitude=(bottom, top),
            exponents=exponents,
            share=(-SMALLEST_SHARE, SMALLEST_SHARE),
            log_most=(_log(highest), _log(-lowest)),
            log_least=(_log(lowest), _log(-highest)),
            log_t=float(np.log(coordinates.t_ref)),
            reach=0.5 * float(np.log(window[1] / window[0])),
        )
        if rate.amplitude in fixed or rate.offset in fixed:
            return plain
        return replace(plain, share=plain._shares(lowest, highest))

    def _shares(self, lowest: float, highest: float) -> tuple[float, float]:
        """Range of y over all admissible exponents and amplitudes, for offsets from lowest to highest."""
        most = self._largest(highest, below_zero=False) if highest > 0.0 else -self._smallest(-highest)
        least = -self._largest(-lowest, below_zero=True) if lowest < 0.0 else self._smallest(lowest)
        ends = -np.log1p(np.array([most, least]))
        return max(float(ends[0]), -SMALLEST_SHARE), min(float(ends[1]), SMALLEST_SHARE)

    def _largest(self, offset: float, *, below_zero: bool) -> float:
        """Largest |b| with |B| ≤ offset; below zero the rate must stay positive at both ends of the window."""
        ceiling = np.log(offset) - self.log_amplitude[0]
        candidates = [*self.exponents, 0.0]
        if below_zero:
            candidates += [ceiling / d for d in (self.log_t - self.reach, self.log_t + self.reach) if d != 0.0]
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
        reaching = _of_sign(self.log_most, negative) - self.log_amplitude[0] - log_b
        leaving = _of_sign(self.log_least, negative) - self.log_amplitude[1] - log_b
        # The sign of ln t_ref tells which of the two is the lower end; where it is 0 neither binds.
        rising, level = self.log_t > 0.0, self.log_t == 0.0
        slope = jnp.where(level, 1.0, jnp.abs(self.log_t))
        low = jnp.maximum(low, jnp.where(level, -jnp.inf, jnp.where(rising, leaving, -reaching) / slope))
        high = jnp.minimum(high, jnp.where(level, jnp.inf, jnp.where(rising, reaching, -leaving) / slope))
        steepest = jnp.where(negative, -log_b / self.reach, jnp.inf)
        return jnp.maximum(low, -steepest), jnp.minimum(high, steepest)

    def log_power(self, share: Array, exponent: Array) -> tuple[Array, Array]:
        """Range of ln a given y and p."""
        log_b, negative = _log_ratio(share)
        low, high = (end + exponent * self.log_t for end in self.log_amplitude)
        most, least = _of_sign(self.log_most, negative) - log_b, _of_sign(self.log_least, negative) - log_b
        return jnp.maximum(low, least), jnp.minimum(high, most)

    def log_power_above(self, exponent: Array, offset: float) -> tuple[Array, Array]:
        """Range of ln a for a fixed offset, which may be negative, given p."""
        low, high = (end + exponent * self.log_t for end in self.log_amplitude)
        depth = jnp.log(jnp.where(offset < 0.0, -offset, 1.0))
        above = jnp.where(offset < 0.0, depth + self.reach * jnp.abs(exponent), -jnp.inf)
        return jnp.maximum(low, above), high


def _of_sign(ends: tuple[float, float], negative: Array) -> Array:
    """The one of two numbers that belongs to the sign: (above zero, below zero)."""
    return jnp.where(negative, ends[1], ends[0])


def _log(value: float) -> float:
    """Logarithm of a bound; −∞ where it does not restrict this sign."""
    return float(np.log(value)) if value > 0.0 else -np.inf


def _log_ratio(share: Array) -> tuple[Array, Array]:
    """ln |b| and whether b < 0, for b = e^(−y) − 1; never −∞, so that derivatives stay finite."""
    ratio = jnp.expm1(-share)
    return jnp.log(jnp.maximum(jnp.abs(ratio), 1e-300)), ratio < 0.0


@jax.jit
def _intervals(support: Support, u: Array) -> tuple[tuple[Array, Array], ...]:
    """Ends of the interval of each step, given fit coordinates u (f,)."""
    return tuple(step.interval(support, u) for step in support._steps())


@jax.jit
def _inverse(support: Support, u: Array) -> Array:
    """Sampling coordinates x (f,) of fit coordinates u (f,)."""
    x = inside = u
    for step in support._steps():
        low, high = step.interval(support, inside)
        soft = support.softness[step.place]
        x = x.at[step.place].set(soft_clip_inverse(inside[step.place], low, high, soft))
        inside = inside.at[step.place].set(soft_clip(x[step.place], low, high, soft)[0])
    return x


@jax.jit
def physical(support: Support, x: Array) -> Array:
    """All physical parameters (…, p) of sampling coordinates x (…, f)."""
    flat = x.reshape(-1, x.shape[-1])
    theta = jax.vmap(lambda one: support.to_physical(one)[0])(flat)
    return theta.reshape(*x.shape[:-1], -1)
