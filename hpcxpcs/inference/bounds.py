"""Parameters that the data push past a bound are held there and the rest is fitted again.

The direction of the flow, phi0, has no bounds but a period of 180 degrees, and a mirror image that may fit as well.
A shape depends on the angle through s·cos(φ0 − φ), by its square or even function. Measured in two directions a ≠ b
only (modulo 180 degrees) that is two numbers, s·|cos(φ0 − a)| and s·|cos(φ0 − b)|, and two flows have them:
cos(φ0 − a)/cos(φ0 − b) = ± r. If b = a + 90° they have the same rate, and lie at φ0 and 2a − φ0. Angles of more
directions tell them apart, by as much as they leave those two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from hpcxpcs.answer.fit import PointSettings
from hpcxpcs.arrays import Floats
from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.config.scale import PERIOD, offset_within
from hpcxpcs.inference.coordinates import Coordinates, lowest_rates, reference_time
from hpcxpcs.inference.objective import Limits, Objective
from hpcxpcs.inference.recovery import minimise_or_recover
from hpcxpcs.inference.trust_region import Minimum
from hpcxpcs.physics.model import Model

NEIGHBOURHOOD = 0.02
"""Share of the period of phi0, 3.6 degrees, up to which two minima have the same direction."""


@dataclass(frozen=True)
class Mirror:
    """The flow of another direction that fits as well: its values (p,), and its χ² minus that of the quoted one."""

    values: Floats
    change: float


def place_of_direction(coordinates: Coordinates) -> int | None:
    """Where phi0 is among all parameters; None when there is none or it is fixed."""
    names = coordinates.model.parameter_names
    index = names.index("phi0") if "phi0" in names else -1
    return index if index in coordinates.free else None


def differ(coordinates: Coordinates, one: Floats, other: Floats) -> bool:
    """Whether two sets of coordinates (f,) are flows of different directions."""
    index = place_of_direction(coordinates)
    if index is None:
        return False
    place = coordinates.free.index(index)
    return _between(one[place], other[place]) > NEIGHBOURHOOD * PERIOD


def _between(one: float, other: float) -> float:
    """Degrees between two directions, at most 90."""
    return float(abs(np.mod(one - other + 0.5 * PERIOD, PERIOD) - 0.5 * PERIOD))


def nearest(coordinates: Coordinates, us: Sequence[Floats], phi0: float) -> int:
    """Which of some coordinates (f,) has the direction nearest to phi0."""
    index = place_of_direction(coordinates)
    if index is None:
        return 0
    place = coordinates.free.index(index)
    return int(np.argmin([_between(u[place], phi0) for u in us]))


def one_period(phi0: float, lower: float, upper: float) -> tuple[float, float]:
    """The directions within bounds that differ from each other, phi0 in their middle if there are enough."""
    low = min(max(phi0 - 0.5 * PERIOD, lower), max(upper - PERIOD, lower))
    return low, min(low + PERIOD, upper)


def first_turn(phi0: float, limits: Limits, index: int) -> float:
    """The same direction in (−90, 90], or as near as the bounds allow."""
    near_zero = 0.5 * PERIOD - float(np.mod(0.5 * PERIOD - phi0, PERIOD))
    turns = near_zero + PERIOD * np.arange(-4.0, 5.0)
    inside = turns[(turns >= limits.lower[index]) & (turns <= limits.upper[index])]
    return float(inside[np.argmin(np.abs(inside - near_zero))]) if inside.size else phi0


def in_first_turn(objective: Objective, minimum: Minimum) -> Minimum:
    """The same minimum with its direction in the first turn."""
    index = place_of_direction(objective.coordinates)
    if index is None:
        return minimum
    place = objective.coordinates.free.index(index)
    target = first_turn(float(minimum.u[place]), objective.limits, index)
    if target == minimum.u[place]:
        return minimum
    u = minimum.u.copy()
    u[place] = target
    return replace(minimum, u=u, normal=objective.expand(u), evaluations=minimum.evaluations + 1)


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


def with_offsets_in_reach(
    parameters: Sequence[ResolvedParameter], model: Model, theta: Floats, limits: Limits
) -> tuple[ResolvedParameter, ...]:
    """Parameters whose offsets have default bounds and priors from the size of their rates at theta (p,).

    Of a rate without sign that is its value at mid-window, of others the largest in the window; two transports have the
    larger one, so that nothing but the data and the configuration tells them apart. What is configured stays, and a
    start stays inside.
    """
    times = np.array([limits.first, reference_time(limits.first, limits.last), limits.last])
    sizes: dict[int, float] = {}
    for rate in model.rates:
        values = np.abs(theta[rate.amplitude] * times ** theta[rate.exponent] + theta[rate.offset])
        start = abs(parameters[rate.offset].start or 0.0)
        sizes[rate.offset] = max(float(values[1] if rate.nonnegative else values.max()), start)
    transports = [rate.offset for rate in model.rates if rate.nonnegative and rate.name != "shear_rate"]
    sizes |= dict.fromkeys(transports, max((sizes[k] for k in transports), default=0.0))
    found = list(parameters)
    for index, size in sizes.items():
        item = parameters[index]
        if item.fixed is None and not {"min", "max"} & set(item.given) and size > 0.0:
            extent = offset_within(size, item.upper)
            prior = item.prior if "prior" in item.given else extent.prior
            found[index] = replace(item, lower=extent.lower, upper=extent.upper, prior=prior)
    return tuple(found)


def settle_bounds(objective: Objective, minimum: Minimum, settings: PointSettings) -> Settled:
    """Hold the parameter that is farthest out at its bound, refit, and repeat until none is out."""
    held: list[int] = []
    actions: list[str] = []
    minimum = in_first_turn(objective, minimum)
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
