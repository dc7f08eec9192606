"""Which of two components is the sample: the solution with their names exchanged, and what decides between the two.

Exchanging the transports and the fraction, x(t) → 1 − x(t), leaves the model as it is. The formula of the fraction
with f0 ≥ 0 can only follow 1 − x(t) up to its curvature, so that two solutions fit nearly or exactly as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hpcxpcs.answer.fit import Exchange, PointFit, PointSettings
from hpcxpcs.arrays import Floats
from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.inference.bounds import Settled, settle_bounds
from hpcxpcs.inference.coordinates import Coordinates
from hpcxpcs.inference.objective import Limits
from hpcxpcs.inference.recovery import Scaled, minimise_or_recover, minimise_scaled
from hpcxpcs.inference.target import PriorTerms
from hpcxpcs.physics.heterodyne import sample_fraction, sample_lead, swapped

TWO_COMPONENTS = ("two_component", "static_both")
"""Models whose components can trade places."""

INDIFFERENT = 10.0
"""Difference in χ² up to which the data do not tell the two labellings apart: odds of 150 to 1."""

COMPLEMENT = 0.02
"""Deviation (rms over the window) from 1 − x(t) up to which a fraction counts as exchanged. At the noise of 0.01 and
contrast of 0.15 of an ordinary matrix, three angles of 100 frames determine a fraction to about this."""

SAME = 1.0
"""χ² by which a search from the exchanged start must beat a solution of the same labelling to replace it."""

TIMES, GROWTHS, STEEPEST = 33, 121, 3.0
"""Times and growth rates on which the exchanged fraction is fitted; growth rates up to 3 per window."""

_PAIRS = ((0, 3), (1, 4), (2, 5))
_F0, _F1, _F2, _F3 = 9, 10, 11, 12


def mirrored(coordinates: Coordinates, limits: Limits, theta: Floats) -> tuple[Floats, tuple[str, ...]]:
    """Parameters (p,) with the components of theta exchanged as far as fixed values and bounds let them.

    Also the names of the parameters whose fixed values or bounds stand in the way; none when the exchange is free.
    """
    held, names = dict(coordinates.fixed), coordinates.model.parameter_names
    exact = np.asarray(swapped(theta))
    found = np.clip(exact, limits.lower, limits.upper)
    for index, value in held.items():
        found[index] = value
    obstacles = []
    for pair in _PAIRS:
        for index, partner in (pair, pair[::-1]):
            alike = held.get(index) == held.get(partner) and all(
                ends[index] == ends[partner] for ends in (limits.lower, limits.upper)
            )
            if not alike and not math.isclose(found[index], exact[index], rel_tol=1e-6, abs_tol=1e-12):
                obstacles.append(names[index])
    if found.size > _F3:
        found[_F0 : _F3 + 1], more = _allowed_fraction(held, limits, theta, exchanged=True)
        obstacles += [names[index] for index in more]
    return found, tuple(obstacles)


def reshaped(coordinates: Coordinates, limits: Limits, theta: Floats) -> Floats | None:
    """Parameters (p,) with the fraction of theta told by the values allowed; None where these are inside already.

    A fraction that falls faster and faster has f0 < 0 < f1. Within the noise a slower exponential with f0 > 0 is often
    the same, but no path leads there that does not pass f0 = 0, where f1 means nothing and a search is lost.
    """
    own = slice(_F0, _F3 + 1)
    if theta.size <= _F3 or np.all((theta[own] > limits.lower[own]) & (theta[own] < limits.upper[own])):
        return None
    found = np.clip(theta, limits.lower, limits.upper)
    found[own], _ = _allowed_fraction(dict(coordinates.fixed), limits, theta, exchanged=False)
    return found


def labelled(
    scaled: Scaled,
    settled: Settled,
    phi: Floats,
    parameters: Sequence[ResolvedParameter],
    settings: PointSettings,
    pairs: float,
) -> tuple[Scaled, Settled, Exchange]:
    """Look at the solution with the names exchanged too, and return the one to quote with what decided.

    The better fit counts. Where χ² does not tell, priors that differ do; else the sample is the faster component, by
    its transport in the middle of the window, unless fixed values or bounds have named the components.
    """
    start, obstacles = mirrored(scaled.objective.coordinates, scaled.objective.limits, settled.theta)
    other = _search(scaled, start, settings)
    difference, apart = _compared(settled, other, settings, pairs), _labels_differ(scaled, settled, other)
    if not apart and difference < -SAME:
        scaled, settled = _quoted(scaled, other, phi, settings)
        start, obstacles = mirrored(scaled.objective.coordinates, scaled.objective.limits, settled.theta)
        other = _search(scaled, start, settings)
        difference, apart = _compared(settled, other, settings, pairs), _labels_differ(scaled, settled, other)
    if not apart:
        return scaled, settled, _described("data", np.inf, other.theta, obstacles)
    decided_by, exchange = _decision(scaled, settled, other, parameters, difference, obstacles)
    if not exchange:
        return scaled, settled, _described(decided_by, difference, other.theta, obstacles)
    found = _described(decided_by, -difference, settled.theta, obstacles)
    return *_quoted(scaled, other, phi, settings), found


def _search(scaled: Scaled, start: Floats, settings: PointSettings) -> Settled:
    coordinates = scaled.objective.coordinates
    end, _ = minimise_or_recover(scaled.objective, coordinates.from_physical(start), settings)
    return settle_bounds(scaled.objective, end, settings)


def _quoted(scaled: Scaled, other: Settled, phi: Floats, settings: PointSettings) -> tuple[Scaled, Settled]:
    """The other solution as the one to quote, its scaling chosen anew."""
    start = scaled.objective.coordinates.from_physical(other.theta)
    found = minimise_scaled(scaled.objective, start, phi, settings)
    return found, settle_bounds(found.objective, found.minimum, settings)


def _compared(settled: Settled, other: Settled, settings: PointSettings, pairs: float) -> float:
    """χ² of the other solution minus that of this one, in units of the noise that is left; ∞ without a number."""
    costs = settled.minimum.cost, other.minimum.cost
    if not np.isfinite(costs[1]):
        return np.inf
    scale = 2.0 * min(costs) / max(pairs, 1.0) if settings.sample_noise_scale else 1.0
    return float(2.0 * (costs[1] - costs[0]) / max(scale, np.finfo(np.float64).tiny))


def _labels_differ(scaled: Scaled, settled: Settled, other: Settled) -> bool:
    t_ref = scaled.objective.coordinates.t_ref
    leads = [float(sample_lead(one.theta, t_ref)) for one in (settled, other)]
    return leads[0] * leads[1] <= 0.0


def _decision(
    scaled: Scaled,
    settled: Settled,
    other: Settled,
    parameters: Sequence[ResolvedParameter],
    difference: float,
    obstacles: Sequence[str],
) -> tuple[str, bool]:
    """What decides between the two labellings, and whether the other one is to be quoted."""
    if abs(difference) > INDIFFERENT:
        return ("settings" if obstacles else "data"), difference < 0.0
    if _priors_differ(parameters):
        terms = PriorTerms.of(parameters)
        density = [float(terms.log_density(jnp.asarray(one.theta))) for one in (settled, other)]
        return "priors", density[1] > density[0]
    if obstacles:
        return "settings", difference < 0.0
    return "order", float(sample_lead(settled.theta, scaled.objective.coordinates.t_ref)) < 0.0


def _priors_differ(parameters: Sequence[ResolvedParameter]) -> bool:
    """Whether the priors of some pair of free transport parameters differ."""
    pairs = [(parameters[i], parameters[k]) for i, k in _PAIRS]
    return any(one.fixed is None and other.fixed is None and one.prior != other.prior for one, other in pairs)


def _described(decided_by: str, difference: float, values: Floats, obstacles: Sequence[str]) -> Exchange:
    indifferent = abs(difference) <= INDIFFERENT
    return Exchange(decided_by, difference, values, indifferent, _words(decided_by, difference, obstacles))


def _words(decided_by: str, difference: float, obstacles: Sequence[str]) -> str:
    """What decides which component is called the sample, and how well the other labelling fits."""
    if not np.isfinite(difference):
        fits = "exchanging their names leads to no other solution"
    else:
        than = "higher" if difference >= 0.0 else "lower"
        fits = f"with their names exchanged χ² is {than} by {abs(difference):.3g}"
        odds = math.exp(min(0.5 * abs(difference), 700.0))
        fits += f" (odds of {odds:.2g} to 1)" if abs(difference) > INDIFFERENT else ", which tells nothing"
    named = ", ".join(obstacles)
    kept = "; a posterior keeps to this order" if abs(difference) <= INDIFFERENT else ""
    words = {
        "data": f"the data tell which component is the sample: {fits}",
        "order": (
            f"the data do not tell which component is the sample: {fits}; by convention the faster one is, by its "
            "transport in the middle of the window"
        ),
        "priors": f"the priors, not the data, say which component is the sample: {fits}",
        "settings": (
            f"fixed values or bounds, not the data alone, say which component is the sample ({named}): exchanged as "
            f"far as these allow, {fits}"
        ),
    }
    return words[decided_by] + kept


def _allowed_fraction(
    held: Mapping[int, float], limits: Limits, theta: Floats, *, exchanged: bool
) -> tuple[Floats, tuple[int, ...]]:
    """f0 … f3 (4,) nearest to x(t), or exchanged to 1 − x(t), on the window, and who of them stands in the way."""
    times = np.linspace(limits.first, limits.last, TIMES)
    own = theta[_F0 : _F3 + 1]
    fraction = np.asarray(sample_fraction(times, *own, convention="physical"))
    wanted = 1.0 - fraction if exchanged else fraction
    ends = [(limits.lower[k], limits.upper[k]) for k in range(_F0, _F3 + 1)]
    given = [held.get(k) for k in range(_F0, _F3 + 1)]
    found, lost = _nearest(times, wanted, float(own[2]), given, ends)
    if lost <= COMPLEMENT:
        return found, ()
    unbounded = (-np.inf, np.inf)
    free, least = _nearest(times, wanted, float(own[2]), [None] * 4, [(0.0, 1.0), unbounded, unbounded, (0.0, 1.0)])
    if least > COMPLEMENT:
        return found, ()
    blocked = [
        _F0 + k for k in (0, 1, 3) if given[k] is not None or not ends[k][0] - 1e-9 <= free[k] <= ends[k][1] + 1e-9
    ]
    return found, tuple(blocked)


def _nearest(
    times: Floats,
    wanted: Floats,
    f2: float,
    held: Sequence[float | None],
    ends: Sequence[tuple[float, float]],
) -> tuple[Floats, float]:
    """f0 … f3 (4,), f2 as given, with f0·exp(f1·(t − f2)) + f3 nearest to wanted; and the rms that is left."""
    steepest = STEEPEST / (times[-1] - times[0])
    growths = np.unique(np.clip(np.linspace(-steepest, steepest, GROWTHS), *ends[1]))
    best, least = np.array([0.0, 0.0, f2, 0.0]), np.inf
    for f1 in growths if held[1] is None else [held[1]]:
        basis = np.exp(np.clip(f1 * (times - f2), -700.0, 700.0))
        for f0, f3 in _linear(basis, wanted, held[0], held[3], ends[0], ends[3]):
            lost = float(np.sqrt(np.mean((f0 * basis + f3 - wanted) ** 2)))
            if lost < least:
                best, least = np.array([f0, float(f1), f2, f3]), lost
    return best, least


def _linear(
    basis: Floats,
    wanted: Floats,
    f0: float | None,
    f3: float | None,
    ends0: tuple[float, float],
    ends3: tuple[float, float],
) -> list[tuple[float, float]]:
    """Least-squares candidates (f0, f3) of f0·basis + f3: inside the ends, and along each end."""
    spread = basis - basis.mean()
    power = float(spread @ spread)
    candidates: list[tuple[float, float]] = []
    if f0 is None and f3 is None and power > 0.0:
        slope = float(spread @ wanted) / power
        level = float(np.mean(wanted - slope * basis))
        if ends0[0] <= slope <= ends0[1] and ends3[0] <= level <= ends3[1]:
            return [(slope, level)]
    for one in ends0 if f0 is None else (f0,):
        if np.isfinite(one):
            level = float(np.clip(np.mean(wanted - one * basis), *ends3)) if f3 is None else f3
            candidates.append((float(one), level))
    for one in ends3 if f3 is None else (f3,):
        if np.isfinite(one) and f0 is None:
            slope = float(basis @ (wanted - one)) / float(basis @ basis)
            candidates.append((float(np.clip(slope, *ends0)), float(one)))
    return candidates


def lead_of(point: PointFit, t_ref: float) -> int:
    """The order of the components that a posterior keeps to: 1 with the faster sample, −1, or 0 for none.

    Where the data do not tell the labellings apart, draws of both would be no answer.
    """
    if point.exchange is None or not point.exchange.indifferent:
        return 0
    return int(np.sign(float(sample_lead(point.values, t_ref))))


def exchanged_share(theta: Floats, values: Floats, t_ref: float) -> float:
    """Share of the draws theta (n, p) whose components stand in the other order than in values (p,)."""
    leads = np.asarray(jax.vmap(lambda one: sample_lead(one, t_ref))(jnp.asarray(theta)))
    return float(np.mean(leads * float(sample_lead(values, t_ref)) < 0.0))
