"""Parameters that the data push past a bound are held there and the rest is fitted again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from hpcxpcs.inference.coordinates import lowest_rates
from hpcxpcs.inference.objective import Objective
from hpcxpcs.inference.records import PointSettings
from hpcxpcs.inference.recovery import minimise_or_recover
from hpcxpcs.inference.trust_region import Minimum
from hpcxpcs.likelihood.interpolation import Floats

TOUCHING = 1.0e-6
"""A parameter this close to its bound, relative to the bounds' width, is at the bound."""


@dataclass(frozen=True)
class Settled:
    """A minimum inside the bounds: what still varies, all parameters (p,), and who is held at a bound."""

    objective: Objective
    minimum: Minimum
    theta: Floats
    held: tuple[int, ...]
    actions: tuple[str, ...]


def settle_bounds(objective: Objective, minimum: Minimum, settings: PointSettings) -> Settled:
    """Hold the parameter that is farthest out at its bound, refit, and repeat until none is out."""
    held: list[int] = []
    actions: list[str] = []
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


def _farthest_out(objective: Objective, theta: Floats) -> tuple[int, float] | None:
    """Index and bound of the free parameter that is farthest past (or at) a bound, None when all are inside."""
    lower, upper = objective.limits.lower, objective.limits.upper
    width = upper - lower
    over, under = (theta - upper) / width, (lower - theta) / width
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
