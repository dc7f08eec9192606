"""Parameters that the data push past a bound are held there and the rest is fitted again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from hpcxpcs.config.scale import PERIOD
from hpcxpcs.inference.coordinates import lowest_rates
from hpcxpcs.inference.objective import Objective
from hpcxpcs.inference.records import PointSettings
from hpcxpcs.inference.recovery import minimise_or_recover
from hpcxpcs.inference.trust_region import Minimum
from hpcxpcs.likelihood.interpolation import Floats

TOUCHING = 1.0e-6
"""A parameter this close to its bound, relative to the bounds' width (of amplitudes: in logarithms), is at it."""


@dataclass(frozen=True)
class Settled:
    """A minimum inside the bounds: what still varies, all parameters (p,), who is held at a bound, and which offsets
    are held at 0 because they had led there."""

    objective: Objective
    minimum: Minimum
    theta: Floats
    held: tuple[int, ...]
    actions: tuple[str, ...]
    rested: tuple[int, ...] = ()


def settle_bounds(objective: Objective, minimum: Minimum, settings: PointSettings) -> Settled:
    """Hold the parameter that is farthest out at its bound, refit, and repeat until none is out."""
    held: list[int] = []
    actions: list[str] = []
    minimum = _in_first_turn(objective, minimum)
    while True:
        theta = np.asarray(objective.theta(minimum.u)).copy()
        target = _farthest_out(objective, theta) or _negative_rate(objective, theta)
        if target is None:
            return Settled(objective, minimum, _clipped(objective, theta), tuple(held), tuple(actions))
        index, value = target
        held.append(index)
        theta[index] = value
        fixed = (*objective.coordinates.fixed, (index, value))
        objective = replace(objective, coordinates=replace(objective.coordinates, fixed=fixed))
        start = objective.coordinates.from_physical(_clipped(objective, theta))
        if start.size == 0:
            end = Minimum(start, objective.expand(start), minimum.evaluations + 1, minimum.iterations, True)
            return Settled(objective, end, theta, tuple(held), tuple(actions))
        minimum, recovered = minimise_or_recover(objective, start, settings)
        actions.extend(recovered)


def _in_first_turn(objective: Objective, minimum: Minimum) -> Minimum:
    """The same minimum with phi0, which repeats after 180 degrees, in (−90, 90], or as near as its bounds allow."""
    names, free = objective.coordinates.model.parameter_names, objective.coordinates.free
    if "phi0" not in names or names.index("phi0") not in free:
        return minimum
    index = names.index("phi0")
    low, high = float(objective.limits.lower[index]), float(objective.limits.upper[index])
    place = free.index(index)
    phi0 = float(minimum.u[place])
    near_zero = 0.5 * PERIOD - float(np.mod(0.5 * PERIOD - phi0, PERIOD))
    turns = near_zero + PERIOD * np.arange(-4.0, 5.0)
    inside = turns[(turns >= low) & (turns <= high)]
    target = float(inside[np.argmin(np.abs(inside - near_zero))]) if inside.size else phi0
    if target == phi0:
        return minimum
    u = minimum.u.copy()
    u[place] = target
    return replace(minimum, u=u, normal=objective.expand(u), evaluations=minimum.evaluations + 1)


def _farthest_out(objective: Objective, theta: Floats) -> tuple[int, float] | None:
    """Index and bound of the free parameter that is farthest past (or at) a bound, None when all are inside."""
    lower, upper = objective.limits.lower, objective.limits.upper
    place = objective.limits.place(theta)
    over, under = place - 1.0, -place
    excess = np.maximum(over, under)
    free = [i for i in objective.coordinates.free if excess[i] > -TOUCHING]
    if not free:
        return None
    index = max(free, key=lambda i: float(excess[i]))
    return index, float(upper[index] if over[index] > under[index] else lower[index])


def _negative_rate(objective: Objective, theta: Floats) -> tuple[int, float] | None:
    """The offset that lifts a rate back to zero at the edge of the data, None when every rate is non-negative."""
    limits, model = objective.limits, objective.coordinates.model
    lowest = np.asarray(lowest_rates(model, jnp.asarray(theta), limits.first, limits.last))
    rates = [rate for rate in model.rates if rate.nonnegative]
    for rate, value in zip(rates, lowest, strict=True):
        if value < -TOUCHING and rate.offset in objective.coordinates.free:
            ends = np.array([limits.first, limits.last]) ** theta[rate.exponent]
            return rate.offset, float(-theta[rate.amplitude] * ends.min())
    return None


def _clipped(objective: Objective, theta: Floats) -> Floats:
    free = list(objective.coordinates.free)
    inside = theta.copy()
    inside[free] = np.clip(theta[free], objective.limits.lower[free], objective.limits.upper[free])
    return inside
