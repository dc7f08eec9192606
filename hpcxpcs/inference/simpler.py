"""The fit without a parameter that the data hardly tell from another: which one to hold, and what comes out then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from hpcxpcs.answer.fit import Alternative, PointSettings
from hpcxpcs.answer.thresholds import DEGENERATE, SETTLED_BY
from hpcxpcs.arrays import Floats
from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.inference.bounds import Settled, settle_bounds
from hpcxpcs.inference.coordinates import Coordinates
from hpcxpcs.inference.covariance import information, inverted
from hpcxpcs.inference.noise import Estimate
from hpcxpcs.inference.objective import Objective, linearised
from hpcxpcs.inference.recovery import minimise_or_recover
from hpcxpcs.inference.trust_region import minimise, whitening
from hpcxpcs.likelihood.gaussian import Normal, chi_squared_per_angle, profiled
from hpcxpcs.physics.model import RateTerm

FIRST_TO_HOLD = ("offset", "growth", "exponent")
"""Kinds of parameters that have a value without effect, 0, in the order in which they are given up: a constant part
first, because a rate without it is the simpler law."""

UNKNOWN = 2.0
"""Standard error of the log-share of the power law in a rate from which its two parts count as not told apart: each may
be seven times larger or smaller."""

NOTHING = 0.01
"""Share of a rate below which one of its parts counts as nothing, where χ² does not ask for it."""

MOST_TRIED = 3
"""Parameters that are held, one at a time, to see what comes out."""

STIFF = 1.0e4
"""A parameter is held by a spring that lets it move by its standard error over this: 1e-4 sd."""


def alternatives(
    parameters: Sequence[ResolvedParameter],
    settled: Settled,
    covariance: Floats,
    chi_squared: float,
    scale: float,
    settings: PointSettings,
) -> tuple[Alternative, ...]:
    """The fit with one of each degenerate pair held at 0, worst pair first; `covariance` begins with the free (f)."""
    free = settled.objective.coordinates.free
    errors = np.sqrt(np.diag(covariance)[: len(free)])
    if not np.all(np.isfinite(errors) & (errors > 0.0)):
        return ()
    correlation = covariance[: len(free), : len(free)] / np.outer(errors, errors)
    found: dict[int, Alternative] = {}
    for i, j in _degenerate(correlation):
        held = _to_hold(parameters, free[i], free[j])
        if held is None or held in found or len(found) == MOST_TRIED:
            continue
        error = float(errors[free.index(held)])
        pair = (parameters[free[i]].parameter.name, parameters[free[j]].parameter.name)
        if not parameters[held].lower <= 0.0 <= parameters[held].upper:
            continue
        values, spread, chi, converged = _held_at_zero(settled, held, error, scale, settings)
        if converged:
            name = parameters[held].parameter.name
            found[held] = Alternative(pair, float(correlation[i, j]), name, values, spread, chi - chi_squared)
    return tuple(found.values())


def _degenerate(correlation: Floats) -> list[tuple[int, int]]:
    """Pairs of places whose correlation is DEGENERATE or more, strongest first."""
    size = len(correlation)
    pairs = [(i, j) for i in range(size) for j in range(i + 1, size) if abs(correlation[i, j]) >= DEGENERATE]
    return sorted(pairs, key=lambda pair: -abs(float(correlation[pair])))


def _to_hold(parameters: Sequence[ResolvedParameter], i: int, j: int) -> int | None:
    """Which of two parameters can be held at 0 and leave the simpler law; None when neither."""
    kinds = {k: parameters[k].parameter.kind for k in (i, j)}
    able = [k for k in (i, j) if kinds[k] in FIRST_TO_HOLD]
    return min(able, key=lambda k: FIRST_TO_HOLD.index(kinds[k])) if able else None


def _held_at_zero(
    settled: Settled, index: int, error: float, scale: float, settings: PointSettings
) -> tuple[Floats, Floats, float, bool]:
    """Values (p,), standard errors (p,), χ² and whether it converged, of the fit with one parameter at 0."""
    objective = settled.objective
    start = objective.coordinates.from_physical(without(objective.coordinates, settled.theta, index))
    found = minimise(
        objective,
        start,
        max_evaluations=settings.max_iterations,
        tolerance=settings.tolerance,
        expand=_spring(objective, index, STIFF / error),
    )
    theta = np.asarray(objective.theta(found.u)).copy()
    theta[index] = 0.0
    products = objective.products(found.u, tangents=False)
    solution = profiled(objective.scaling, products, objective.sigma).solution
    chi = float(np.sum(np.asarray(chi_squared_per_angle(products, solution.per_angle, objective.sigma))))
    free = objective.coordinates.free
    estimate = Estimate(theta, free, np.asarray(solution.per_angle), np.asarray(objective.sigma) * scale)
    source, model = objective.source, objective.coordinates.model
    total, _ = information(estimate, objective.scaling, source.products(model, jnp.asarray(theta), estimate.tangents))
    kept = [k for k in range(len(total)) if k >= len(free) or free[k] != index]
    variance = np.diag(inverted(total[np.ix_(kept, kept)])[0])
    spread = np.full(theta.size, np.nan)
    others = [k for k in free if k != index]
    spread[others] = np.sqrt(np.clip(variance[: len(others)], 0.0, None))
    return theta, spread, chi, found.converged


def _spring(objective: Objective, index: int, stiffness: float) -> Callable[[Floats], Normal]:
    """The expansion of an objective with a parameter bound to 0: nothing has to be compiled for it."""

    def expand(u: Floats) -> Normal:
        normal = objective.expand(u)
        theta, slopes = linearised(objective.coordinates, jnp.asarray(u))
        excess, row = stiffness * theta[index], stiffness * slopes[index]
        return normal._replace(
            cost=normal.cost + 0.5 * excess**2,
            gradient=normal.gradient + row * excess,
            information=normal.information + jnp.outer(row, row),
        )

    return expand


def without(coordinates: Coordinates, theta: Floats, index: int) -> Floats:
    """Parameters (p,) with one at 0; a rate that loses its offset or exponent keeps its value in mid-window."""
    changed = theta.copy()
    changed[index] = 0.0
    for rate in coordinates.model.rates:
        if index not in (rate.offset, rate.exponent):
            continue
        power = theta[rate.amplitude] * coordinates.t_ref ** theta[rate.exponent]
        value = power + theta[rate.offset] if index == rate.offset else power
        if index == rate.offset and rate.exponent in coordinates.free and value > 0.0:
            changed[rate.exponent] = theta[rate.exponent] * power / value
        if rate.amplitude in coordinates.free and (value > 0.0 or not rate.nonnegative):
            changed[rate.amplitude] = value * coordinates.t_ref ** -changed[rate.exponent]
    return changed


def rest_idle_offsets(
    objective: Objective, settled: Settled, kept: Floats, settings: PointSettings, scale: float
) -> Settled:
    """Where the two parts of a rate cannot be told apart, the fit with the constant part at 0, if χ² allows it.

    A rate that does not change with time is A·t^p at p = 0 as well as B: the fit then slides along A + B until a bound
    stops it, or stops anywhere, and its numbers say nothing. `objective` is the one without anything held, `kept` its
    minimum (f,) before it could slide, `scale` that of its noise.
    """
    lost = _lost(objective, settled, kept, scale)
    trials = [lost, *((index,) for index in lost)] if len(lost) > 1 else [lost] if lost else []
    theta = np.asarray(objective.theta(kept))
    for offsets in trials:
        other = _rested(objective, theta, offsets, settings)
        worse = 2.0 * (other.minimum.cost - settled.minimum.cost) / scale**2
        coefficients = {
            k for rate in objective.coordinates.model.rates if rate.offset in offsets for k in _members(rate)
        }
        if other.minimum.converged and not coefficients & set(other.held) and worse < SETTLED_BY:
            return replace(other, rested=offsets, actions=(*settled.actions, *other.actions))
    return settled


def _members(rate: RateTerm) -> tuple[int, int, int]:
    return rate.amplitude, rate.exponent, rate.offset


def _lost(objective: Objective, settled: Settled, kept: Floats, scale: float) -> tuple[int, ...]:
    """The offsets of rates with a coefficient at a bound, one part nothing beside the other, or shares not known.

    Not those with a bound at 0: there an offset is as good as at any other.
    """
    coordinates, limits = objective.coordinates, objective.limits
    place = {index: k for k, index in enumerate(coordinates.free)}
    normal = objective.expand(kept)
    if not np.all(np.isfinite(np.asarray(normal.information))):
        return ()
    errors = scale * np.sqrt((whitening(normal) ** 2).sum(axis=1))
    found = []
    for rate in coordinates.model.rates:
        able = rate.offset in place and limits.lower[rate.offset] < 0.0 < limits.upper[rate.offset]
        if not able or rate.amplitude not in place:
            continue
        power = settled.theta[rate.amplitude] * coordinates.t_ref ** settled.theta[rate.exponent]
        value = power + settled.theta[rate.offset]
        stopped = bool(set(_members(rate)) & set(settled.held))
        nothing = abs(power) < NOTHING * abs(value) or abs(value) < NOTHING * abs(power)
        unknown = place[rate.offset] in coordinates.shares and errors[place[rate.offset]] > UNKNOWN
        if stopped or nothing or unknown:
            found.append(rate.offset)
    return tuple(found)


def _rested(objective: Objective, theta: Floats, offsets: Sequence[int], settings: PointSettings) -> Settled:
    """The fit from theta (p,) with some offsets at 0, everything else free again."""
    for index in offsets:
        theta = without(objective.coordinates, theta, index)
    fixed = (*objective.coordinates.fixed, *((index, 0.0) for index in offsets))
    simpler = replace(objective, coordinates=replace(objective.coordinates, fixed=fixed))
    start = simpler.coordinates.from_physical(np.clip(theta, objective.limits.lower, objective.limits.upper))
    minimum, actions = minimise_or_recover(simpler, start, settings)
    found = settle_bounds(simpler, minimum, settings)
    return replace(found, actions=(*actions, *found.actions))
