"""The other peaks of a posterior: where a point fit has found several solutions, draws can come from all of them.

Chains that begin at one peak do not find another. Independent draws do, from a proposal with a part at every peak; the
condensed likelihood then has to represent the shapes around all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from hpcxpcs.answer.fit import PointFit, StartRecord
from hpcxpcs.arrays import Floats
from hpcxpcs.config.scale import PERIOD
from hpcxpcs.errors import PosteriorError
from hpcxpcs.inference.bounds import differ, place_of_direction
from hpcxpcs.inference.laplace import Mode, find_mode
from hpcxpcs.inference.prepared import Prepared, Whole, cloud
from hpcxpcs.inference.scout import SAME
from hpcxpcs.inference.stages import Fitted
from hpcxpcs.inference.target import Space, Target, log_densities
from hpcxpcs.likelihood.condense import condensation

LOWEST = 15.0
"""Nats below the highest peak, width allowed for, from which a peak holds nothing: 3e-7 of the probability."""

APART = 1.0
"""Standard deviations in some coordinate from which a peak is another one."""


def solutions_elsewhere(point: PointFit, fitted: Fitted) -> list[Floats]:
    """Parameters (p,) of other minima that a point fit knows of and that may matter, in no order.

    The mirror image of a flow; two components with their names exchanged, unless the posterior keeps to one naming;
    and where its starts have ended.
    """
    found = [] if fitted.mirror is None else [fitted.mirror.values]
    exchange = point.exchange
    if exchange is not None and not exchange.indifferent and exchange.difference < 2.0 * LOWEST:
        found.append(exchange.values)
    starts = [start for start in point.starts if np.isfinite(start.cost) and start.status != SAME]
    best = min(starts, key=lambda start: start.cost, default=None)
    found += [
        start.values
        for start in starts
        if best is not None
        and start.cost < best.cost + LOWEST
        and (start is not best or _of_another_flow(fitted, point, start))
    ]
    return [_turned(fitted, point.values, values) for values in found]


def _of_another_flow(fitted: Fitted, point: PointFit, start: StartRecord) -> bool:
    """Whether a start ended in another direction of flow than the quoted one; the best of all led to it otherwise."""
    coordinates = fitted.settled.objective.coordinates
    return differ(coordinates, coordinates.from_physical(start.values), coordinates.from_physical(point.values))


def _turned(fitted: Fitted, quoted: Floats, values: Floats) -> Floats:
    """Parameters (p,) with the direction of their flow in the turn around the quoted one, if that is within bounds."""
    objective = fitted.settled.objective
    index = place_of_direction(objective.coordinates)
    if index is None:
        return values
    apart = np.mod(values[index] - quoted[index] + 0.5 * PERIOD, PERIOD) - 0.5 * PERIOD
    found = values.copy()
    found[index] = quoted[index] + apart
    inside = objective.limits.lower[index] <= found[index] <= objective.limits.upper[index]
    return found if inside else values


def with_peaks(whole: Whole, prepared: Prepared, solutions: Sequence[Floats]) -> Prepared:
    """The likelihood of all data condensed around further peaks too, those that solutions (p,) each lead to."""
    space, full = prepared.space, prepared.full
    starts = _apart(full, [_position(space, full, theta) for theta in solutions])
    if not starts:
        return prepared
    peaks = _climbed(space, _condensed(whole, full, [replace(full, origin=jnp.asarray(x)) for x in starts])[0], starts)
    if not peaks:
        return prepared
    there = [replace(full, origin=jnp.asarray(peak.x), transform=jnp.asarray(peak.transform)) for peak in peaks]
    full, points, error = _condensed(whole, full, there)
    return replace(
        prepared, full=full, data=full, shards=(full,), points=points, condensing_error=error, peaks=tuple(peaks)
    )


def _condensed(whole: Whole, full: Target, others: Sequence[Target]) -> tuple[Target, int, float]:
    """The target with points chosen for clouds around its origin and others', their number and what they lose."""
    clouds = [cloud(whole.space, one, whole.seed, whole.width) for one in (full, *others)]
    model = whole.space.support.coordinates.model
    chosen = condensation(whole.moments, model, np.concatenate(clouds), whole.strength)
    return replace(full, arrays=chosen.apply(whole.moments)), chosen.points, chosen.error


def _position(space: Space, full: Target, theta: Floats) -> Floats:
    """Sampling coordinates (d,) of parameters (p,), with the noise scale of the target's origin."""
    support = replace(space.support, softness=full.softness)
    own = support.from_coordinates(space.support.coordinates.from_physical(theta))
    return np.concatenate([own, np.asarray(full.origin)[own.size :]])


def _apart(full: Target, positions: Sequence[Floats]) -> list[Floats]:
    """Positions (d,) that are neither the target's origin nor each other, in its standard deviations."""
    kept = [np.asarray(full.origin)]
    back = np.linalg.inv(np.asarray(full.transform))
    for x in positions:
        if np.all(np.isfinite(x)) and all(np.abs(back @ (x - other)).max() > APART for other in kept):
            kept.append(x)
    return kept[1:]


def _climbed(space: Space, full: Target, starts: Sequence[Floats]) -> list[Mode]:
    """The peaks above the starts (d,), without the target's own and those that hold nothing."""
    found = []
    for x in starts:
        try:
            found.append(find_mode(space, replace(full, origin=jnp.asarray(x))))
        except PosteriorError:
            continue
    places = _apart(full, [mode.x for mode in found])
    modes = [next(mode for mode in found if mode.x is x) for x in places]
    heights = log_masses(space, full, modes)
    return [mode for mode, height in zip(modes, heights[1:], strict=True) if height > heights.max() - LOWEST]


def whitened(full: Target, mode: Mode) -> tuple[Floats, Floats]:
    """Centre (d,) and a factor (d, d) of the covariance of a peak in the target's whitened coordinates."""
    back = np.linalg.inv(np.asarray(full.transform))
    return back @ (mode.x - np.asarray(full.origin)), back @ mode.transform


def log_masses(space: Space, full: Target, modes: Sequence[Mode]) -> Floats:
    """ln of the mass (1 + m,) of normals at the target's origin and at m peaks: log density + ½ ln det covariance."""
    parts = [(np.zeros(space.size), np.eye(space.size)), *(whitened(full, mode) for mode in modes)]
    heights = np.asarray(log_densities(space, full, jnp.asarray(np.array([centre for centre, _ in parts]))))
    return np.asarray(heights + [np.linalg.slogdet(factor)[1] for _, factor in parts])
