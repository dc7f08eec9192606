"""Scouting: find the basin on a small sample of raw pairs, where a search is cheap and nothing interpolated."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hpcxpcs.answer.fit import PointSettings, SearchReport, StartRecord
from hpcxpcs.arrays import Floats
from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.config.scale import PERIOD, DataScale
from hpcxpcs.inference.bounds import NEIGHBOURHOOD, differ, one_period, place_of_direction
from hpcxpcs.inference.coordinates import Coordinates
from hpcxpcs.inference.exchange import TWO_COMPONENTS, mirrored, reshaped
from hpcxpcs.inference.measurement import Measurement
from hpcxpcs.inference.objective import RIDGE, Limits, Objective
from hpcxpcs.inference.trust_region import Minimum, minimise
from hpcxpcs.likelihood.gaussian import profile
from hpcxpcs.likelihood.products import Compiled, no_tangents
from hpcxpcs.likelihood.raw import RawTiles, frame_subset
from hpcxpcs.likelihood.scaling import Scaling, build_scaling
from hpcxpcs.physics.model import Model, RateTerm

SPAN = {
    "diffusion": (0.03, 300.0, 3.0),
    "reference_transport": (0.003, 30.0, 1.0),
    "sample_transport": (0.03, 300.0, 3.0),
    "shear_rate": (0.3, 3000.0, 3.0),
    "velocity": (0.3, 300.0, 1.0),
}
"""Range of the dimensionless change, decay exponent or phase (rad), that a rate may cause: the smallest and the largest
over the whole window, and the largest within one frame, which wins where it allows more."""


ALIKE = ("log_ratio", "difference")
"""Kinds of parameters by which data sets of a joint fit differ."""


def candidate_starts(
    model: Model,
    parameters: Sequence[ResolvedParameter],
    scale: DataScale,
    count: int,
    seed: int,
) -> Floats:
    """Physical starting points (count, p): rates from the scale of the data, the rest from the priors, inside bounds.

    Fixed parameters keep their values, and data sets of a joint fit begin alike.
    """
    cube = latin_hypercube(count, len(parameters), np.random.default_rng(seed))
    theta = np.empty_like(cube)
    for k, parameter in enumerate(parameters):
        theta[:, k] = parameter.prior.quantile(cube[:, k], parameter.lower, parameter.upper)
    lower = np.array([p.lower for p in parameters])
    upper = np.array([p.upper for p in parameters])
    for rate in model.rates:
        _scale_rate(theta, cube, rate, scale)
    if "f0" in model.parameter_names:
        _scale_fraction(theta, cube, model.parameter_names, scale.window)
    if "phi0" in model.parameter_names:
        _fold_direction(theta, model.parameter_names.index("phi0"), lower, upper)
    theta = np.clip(theta, lower, upper)
    for k, parameter in enumerate(parameters):
        if parameter.fixed is not None:
            theta[:, k] = parameter.fixed
        elif parameter.parameter.kind in ALIKE:
            theta[:, k] = 0.0
    return theta


def latin_hypercube(count: int, dimensions: int, rng: np.random.Generator) -> Floats:
    """Points (count, dimensions) in the unit cube, one in each of `count` equal slices along every axis."""
    slices = rng.permuted(np.tile(np.arange(count), (dimensions, 1)), axis=1).T
    return (slices + rng.random((count, dimensions))) / count


def _scale_rate(theta: Floats, cube: Floats, rate: RateTerm, scale: DataScale) -> None:
    """Choose value (log-uniform in the span), exponent (modest) and offset share of one rate."""
    low, high, at_once = SPAN[rate.name]
    high = max(high, at_once * scale.window / scale.dt)
    factor = scale.factor(rate.name) * scale.window
    value = np.exp(np.log(low) + cube[:, rate.amplitude] * np.log(high / low)) / factor
    share = 0.6 * cube[:, rate.offset]
    exponent = -1.2 + 2.0 * cube[:, rate.exponent]
    theta[:, rate.exponent] = exponent
    theta[:, rate.amplitude] = (1.0 - share) * value * scale.reference**-exponent
    theta[:, rate.offset] = share * value


def _fold_direction(theta: Floats, index: int, lower: Floats, upper: Floats) -> None:
    """Bring the flow's direction into one period about the middle of its bounds: the others look the same."""
    middle = 0.5 * (lower[index] + upper[index])
    theta[:, index] = middle + 0.5 * PERIOD - np.mod(middle + 0.5 * PERIOD - theta[:, index], PERIOD)


def _scale_fraction(theta: Floats, cube: Floats, names: Sequence[str], window: float) -> None:
    """Choose a sample fraction f0·exp(f1·(t − f2)) + f3 between 0 and 1 that changes modestly in the window."""
    f0, f1, f2, f3 = (names.index(name) for name in ("f0", "f1", "f2", "f3"))
    mean = 0.1 + 0.8 * cube[:, f0]
    theta[:, f3] = mean * cube[:, f3]
    theta[:, f0] = mean - theta[:, f3]
    theta[:, f1] = (cube[:, f1] - 0.5) * 2.0 / window
    theta[:, f2] = cube[:, f2] * window


def scout_frames(first: int, count: int, n_phi: int, budget: int = 60_000) -> np.ndarray:
    """Frames whose mutual pairs sample every epoch and lag with about `budget` pairs over all angles.

    Bursts of consecutive frames start at epochs spread half evenly, half geometrically: short lags everywhere.
    """
    wanted = int(np.sqrt(2.0 * budget / n_phi))
    usable = np.arange(first, count)
    if usable.size <= wanted:
        return usable
    burst = np.array([0, 1, 2, 4, 7])
    epochs = max(2, wanted // burst.size)
    even = np.linspace(first, count - 1 - burst[-1], epochs - epochs // 2)
    geometric = np.geomspace(first + 1, count - burst[-1], epochs // 2) - 1
    starts = np.unique(np.concatenate([even, geometric]).round().astype(int))
    frames = np.unique((starts[:, None] + burst[None, :]).ravel())
    return frames[(frames >= first) & (frames < count)]


FEWEST_PAIRS, MOST_PAIRS = 10_000, 200_000
"""Raw pairs scouted when the signal is at least as strong as the noise, and at most."""

MANY = 8
"""Free parameters from which a search counts as hard."""

MOST_TURNS = 3
"""Other directions of the flow that are tried."""

SAME_BASIN = 0.5
"""Minima of one direction of flow whose ½χ² differ by less than this count as one."""

SAME, LEFT = "in the same minimum as another start", "left after its first steps"
"""What became of a start that was not followed to a minimum of its own."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Effort:
    """Candidates screened, starts followed, evaluations of that first leg, and finalists followed to the end."""

    candidates: int
    starts: int
    first_leg: int
    finalists: int


def effort(n_free: int, multi_start: int) -> Effort:
    """More of everything where many parameters make many local minima."""
    if n_free <= MANY:
        return Effort(256, multi_start, 10, 3)
    return Effort(1024, 3 * multi_start, 16, multi_start)


@dataclass(frozen=True)
class Scouting:
    """Minima on the scouted pairs, best first, the objective there, and all starts that were followed."""

    objective: Objective
    minima: tuple[Minimum, ...]
    starts: tuple[StartRecord, ...]
    evaluations: int


def searched(scouting: Scouting, settings: PointSettings) -> SearchReport:
    """How many starts there were, and what became of them."""
    plan = effort(len(scouting.objective.coordinates.free), settings.multi_start)
    return SearchReport(settings.multi_start, plan.candidates, len(scouting.starts), len(scouting.minima))


@jax.jit
def _screen(coordinates: Coordinates, tiles: RawTiles, scaling: Scaling, sigma: Array, us: Array) -> Array:
    def cost(u: Array) -> Array:
        theta = coordinates.to_physical(u)
        return profile(scaling, tiles.products(coordinates.model, theta, no_tangents(theta)), sigma).cost

    return jax.lax.map(cost, us)


def scout_pairs(measurement: Measurement, sigma: Floats) -> RawTiles:
    """Pairs among a few frames of every angle; more of them when the signal is weak against the noise."""
    n_phi, axis = len(measurement.phi), measurement.axis
    few = scout_frames(axis.first_usable, axis.count, n_phi, FEWEST_PAIRS)
    tiles = frame_subset(measurement.angles, measurement.phi, axis, few)
    weight = np.asarray(tiles.weights)
    count = np.maximum(weight.sum(axis=(1, 2, 3)), np.finfo(np.float64).tiny)
    mean = (weight * np.asarray(tiles.data)).sum(axis=(1, 2, 3)) / count
    variance = (weight * np.asarray(tiles.data) ** 2).sum(axis=(1, 2, 3)) / count - mean**2
    strength = float(np.mean(np.clip(variance / sigma**2 - 1.0, 0.01, None)))
    budget = int(np.clip(FEWEST_PAIRS / strength, FEWEST_PAIRS, MOST_PAIRS))
    if budget < 2 * FEWEST_PAIRS:
        return tiles
    more = scout_frames(axis.first_usable, axis.count, n_phi, budget)
    return frame_subset(measurement.angles, measurement.phi, axis, more)


def scout(
    measurement: Measurement,
    coordinates: Coordinates,
    parameters: Sequence[ResolvedParameter],
    settings: PointSettings,
    limits: Limits,
    sigma: Floats,
    user_start: Floats | None,
) -> Scouting:
    """Screen seeded candidates by cost, follow the best few, return the distinct minima.

    `user_start` (p,) is followed too; where it is NaN the best candidate fills in.
    """
    tiles = scout_pairs(measurement, sigma)
    scaling = build_scaling("individual", measurement.phi)
    wanted, model = measurement.still_wanted, coordinates.model
    objective = Objective(coordinates, Compiled(tiles), scaling, jnp.asarray(sigma), limits, wanted, RIDGE)
    scale = DataScale(model.q, model.gap, measurement.axis.step, limits.first, limits.last)
    alike = sum(parameters[k].parameter.kind in ALIKE for k in coordinates.free)
    plan = effort(len(coordinates.free) - alike, settings.multi_start)
    theta = candidate_starts(model, parameters, scale, plan.candidates, settings.seed)
    us = np.array([coordinates.from_physical(row) for row in theta])
    costs = np.asarray(_screen(coordinates, tiles, scaling, jnp.asarray(sigma), jnp.asarray(us)))
    order = np.argsort(np.where(np.isfinite(costs), costs, np.inf))
    chosen = [us[k] for k in order[: plan.starts]]
    if settings.cmaes:
        chosen.insert(0, _evolve(objective, tiles, chosen[0], settings.seed))
    if user_start is not None:
        screened = np.asarray(objective.theta(chosen[0]))
        chosen.insert(0, coordinates.from_physical(np.where(np.isnan(user_start), screened, user_start)))
    scouting = _follow(objective, chosen, plan, settings)
    best = scouting.minima[0]
    rivals = [*_exchanged(objective, best, limits), *_turned(objective, tiles, best, plan.candidates)]
    if rivals:
        scouting = _joined(scouting, _follow(objective, rivals, plan, settings))
    _tell(scouting)
    return scouting


def _tell(scouting: Scouting) -> None:
    """Log where each start has ended."""
    names = scouting.objective.coordinates.model.parameter_names
    for number, start in enumerate(scouting.starts, 1):
        values = dict(zip(names, start.values.tolist(), strict=True))
        known = {"event": "start", "start": number, "cost": start.cost, "outcome": start.status}
        words = ("start %d: ½χ² %.8g on the scouted pairs, %s", number, start.cost, start.status)
        _log.info(*words, extra={**known, "values": values})


def _exchanged(objective: Objective, best: Minimum, limits: Limits) -> list[Floats]:
    """Starts with the components exchanged, a near-symmetry that catches searches, and with a fraction inside its
    bounds; none without two components."""
    coordinates, theta = objective.coordinates, np.asarray(objective.theta(best.u))
    if coordinates.model.name not in TWO_COMPONENTS:
        return []
    inside = reshaped(coordinates, limits, theta)
    starts = [mirrored(coordinates, limits, theta)[0], *([] if inside is None else [inside])]
    return [coordinates.from_physical(start) for start in starts]


def _turned(objective: Objective, tiles: RawTiles, best: Minimum, count: int) -> list[Floats]:
    """Starts at the other local minima of the cost over the flow's direction phi0: its mirror image is nearly as good
    when the angles are spread symmetrically, and a search that fell into it does not come back."""
    coordinates, limits = objective.coordinates, objective.limits
    index = place_of_direction(coordinates)
    if index is None:
        return []
    theta = np.asarray(objective.theta(best.u))
    turns = np.linspace(*one_period(theta[index], limits.lower[index], limits.upper[index]), count)
    us = np.array([coordinates.from_physical(_with(theta, index, turn)) for turn in turns])
    costs = np.asarray(_screen(coordinates, tiles, objective.scaling, objective.sigma, jnp.asarray(us)))
    padded = np.concatenate([[np.inf], np.where(np.isfinite(costs), costs, np.inf), [np.inf]])
    lowest = np.flatnonzero((padded[1:-1] < padded[:-2]) & (padded[1:-1] < padded[2:]))
    here = int(np.argmin(np.abs(turns - theta[index])))
    others = [k for k in lowest if abs(k - here) > NEIGHBOURHOOD * count]
    return [us[k] for k in sorted(others, key=lambda k: costs[k])[:MOST_TURNS]]


def _with(theta: Floats, index: int, value: float) -> Floats:
    changed = theta.copy()
    changed[index] = value
    return changed


def _joined(one: Scouting, other: Scouting) -> Scouting:
    """Both sets of minima, best first, each basin once."""
    minima: list[Minimum] = []
    for minimum in sorted((*one.minima, *other.minima), key=lambda m: m.cost):
        if not any(_same(one.objective, minimum, kept) for kept in minima):
            minima.append(minimum)
    return Scouting(one.objective, tuple(minima), (*one.starts, *other.starts), one.evaluations + other.evaluations)


def _same(objective: Objective, one: Minimum, other: Minimum) -> bool:
    return abs(one.cost - other.cost) < SAME_BASIN and not differ(objective.coordinates, one.u, other.u)


def _evolve(objective: Objective, tiles: RawTiles, start: Floats, seed: int) -> Floats:
    """Global search by CMA-ES from a start (f,), on the scouted pairs."""
    import cma

    options = {"seed": seed + 1, "verbose": -9, "maxfevals": 4000, "tolfun": 1e-3}
    strategy = cma.CMAEvolutionStrategy(start, 0.5, options)
    while not strategy.stop():
        objective.still_wanted()
        population = jnp.asarray(strategy.ask())
        costs = np.asarray(_screen(objective.coordinates, tiles, objective.scaling, objective.sigma, population))
        strategy.tell(list(np.asarray(population)), np.where(np.isfinite(costs), costs, 1e300).tolist())
    return np.asarray(strategy.result.xbest)


def _follow(objective: Objective, chosen: list[Floats], plan: Effort, settings: PointSettings) -> Scouting:
    """Follow starts for a first leg, then the best to the end."""
    first = [minimise(objective, u, max_evaluations=plan.first_leg, tolerance=1e-3) for u in chosen]
    ranked = sorted(first, key=lambda m: m.cost if np.isfinite(m.cost) else np.inf)
    final: list[Minimum] = []
    others = [_record(objective, leg, LEFT) for leg in ranked[plan.finalists :]]
    evaluations = sum(m.evaluations for m in first)
    for leg in ranked[: plan.finalists]:
        end = leg
        if not any(_same(objective, leg, other) for other in final):
            end = minimise(objective, leg.u, max_evaluations=settings.max_iterations, tolerance=1e-4)
            evaluations += end.evaluations
        if any(_same(objective, end, other) for other in final):
            others.insert(0, _record(objective, end, SAME))
        else:
            final.append(end)
    final.sort(key=lambda m: m.cost)
    ended = [_record(objective, m, "converged" if m.converged else "followed, not converged") for m in final]
    return Scouting(objective, tuple(final), (*ended, *others), evaluations)


def _record(objective: Objective, minimum: Minimum, status: str) -> StartRecord:
    return StartRecord(minimum.cost, np.asarray(objective.theta(minimum.u)), status)
