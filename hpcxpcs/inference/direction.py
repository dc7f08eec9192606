"""The direction of the flow, phi0: what repeats after 180 degrees, and the mirror image that may fit as well.

A shape depends on the angle through s·cos(φ0 − φ), by its square or even function. Measured in two directions a ≠ b
only (modulo 180 degrees) that is two numbers, s·|cos(φ0 − a)| and s·|cos(φ0 − b)|, and two flows have them:
cos(φ0 − a)/cos(φ0 − b) = ± r. If b = a + 90° they have the same rate, and lie at φ0 and 2a − φ0. Angles of more
directions tell them apart, by as much as they leave those two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpcxpcs.config.scale import PERIOD
from hpcxpcs.inference.coordinates import Coordinates
from hpcxpcs.inference.objective import Limits, Objective
from hpcxpcs.inference.trust_region import Minimum
from hpcxpcs.likelihood.interpolation import Floats

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
