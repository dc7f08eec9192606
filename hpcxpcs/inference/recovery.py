"""Minimise with the scaling the user asked for, and recover where a minimisation does not end in a minimum.

Constants are taken from a free fit, spreads learned from the angles. What is tried to recover is in order and on
record. Whether an end is a minimum is asked of the cost alone, for derivatives that are wrong can vanish anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import jax.numpy as jnp
import numpy as np

from hpcxpcs.answer.fit import PointSettings
from hpcxpcs.arrays import Floats
from hpcxpcs.inference.objective import Objective
from hpcxpcs.inference.trust_region import Minimum, minimise, whitening
from hpcxpcs.likelihood.gaussian import Normal
from hpcxpcs.likelihood.scaling import build_scaling, largest_fourier_order, learn_widths, resolve_mode

NUDGE = 0.05
"""Size of a perturbed restart, in fit coordinates (5 % of a rate)."""

WIDER = 30.0
"""How much the first trust region grows in a widened restart, in standard deviations."""

PROBE = 0.1
"""Distance, in standard deviations, at which an end is probed on both sides of every direction."""

FALL = 0.01
"""Fall of ½χ² that denies a minimum, which is 0.14 standard deviations away. Derivatives that tell of convergence
(decrement up to 1e-4) and are right to a factor of 10 in a standard deviation allow for less."""

RISE = 1.0e-3
"""Rise of ½χ² over which derivatives are taken: 0.04 standard deviations, and far above the rounding of the cost."""

ROUNDING = 1.0e-12
"""Relative error of the cost, generously: it is a sum of products over all cells."""

FARTHEST, HALVINGS = 1.0, 30
"""Longest step from a point, in fit coordinates (a factor e of a rate), and how often a step is changed at most."""


def minimise_or_recover(
    objective: Objective, start: Floats, settings: PointSettings
) -> tuple[Minimum, tuple[str, ...]]:
    """Minimise; on failure go on, restart from a perturbed point, with a wider region, then with finite differences.

    Returns the best end point and the actions taken (none when the first attempt converged).
    """
    bounded = partial(minimise, max_evaluations=settings.max_iterations, tolerance=settings.tolerance)
    best = _confirmed(objective, bounded(objective, start))
    actions: list[str] = []
    nudge = NUDGE * np.random.default_rng(settings.seed).standard_normal(start.size)
    attempts = (
        *([("went on for as many evaluations", lambda: bounded(objective, best.u))] if best.exhausted else []),
        ("restarted from a perturbed point", lambda: bounded(objective, best.u + nudge)),
        ("restarted with a wider trust region", lambda: bounded(objective, best.u, radius=WIDER)),
        (
            "restarted with finite-difference gradients",
            lambda: bounded(objective, best.u, expand=partial(finite_difference_expansion, objective)),
        ),
    )
    for action, attempt in attempts:
        if best.converged:
            break
        actions.append(action)
        found = _confirmed(objective, attempt())
        evaluations = best.evaluations + found.evaluations
        # A minimum above a point that was reached already is another one: not where this search was going.
        lower = not np.isfinite(best.cost) or found.cost < best.cost + (FALL if found.converged else 0.0)
        best = found if lower else best
        best = replace(best, evaluations=evaluations, iterations=best.iterations + found.iterations)
    return best, tuple(actions)


def _confirmed(objective: Objective, found: Minimum) -> Minimum:
    """The end of a minimisation, no longer called converged when the cost still falls from there."""
    return replace(found, converged=False) if found.converged and falls_from(objective, found) else found


def falls_from(objective: Objective, end: Minimum) -> bool:
    """Whether ½χ² falls by more than FALL on a straight walk along any principal direction of the end's information."""
    cost = objective.cost(end.u)
    allowed = FALL + ROUNDING * abs(cost)
    steps = [_no_farther(sign * PROBE * axis) for axis in whitening(end.normal).T for sign in (1.0, -1.0)]
    return any(_lowest(objective, end.u, cost, step) < -allowed for step in steps)


def _lowest(objective: Objective, u: Floats, cost: float, step: Floats) -> float:
    """The lowest change of the cost on a walk from u: shorter steps while it rises much, longer ones while it falls."""
    lowest = 0.0
    for _ in range(HALVINGS):
        change = objective.cost(u + step) - cost
        if change < lowest:
            lowest, step = change, 2.0 * step
            if np.max(np.abs(step)) > FARTHEST:
                break
        elif lowest < 0.0 or change <= 20.0 * RISE:
            break
        else:
            step = 0.5 * step
    return lowest


def _no_farther(step: Floats) -> Floats:
    """A step (f,) cut to FARTHEST; zero where it is no number."""
    longest = float(np.max(np.abs(step)))
    return step * min(1.0, FARTHEST / longest) if np.isfinite(longest) and longest > 0.0 else 0.0 * np.ones_like(step)


def finite_difference_expansion(objective: Objective, u: Floats) -> Normal:
    """The expansion at u (f,) with gradient and information from differences of the cost alone.

    The information is the curvature of the cost with the sign of negative directions turned, so that a step goes
    downhill along them too. Takes about 2 f² evaluations; where the cost is no number there is nothing to expand.
    """
    normal, cost = objective.expand(u), objective.cost(u)
    if not np.isfinite(cost) or u.size == 0:
        return normal
    steps = np.diag([_step_along(objective, u, k, cost) for k in range(u.size)])
    above = np.array([objective.cost(u + step) for step in steps])
    below = np.array([objective.cost(u - step) for step in steps])
    curvature = np.diag(above + below - 2.0 * cost)
    for i in range(u.size):
        for j in range(i):
            corners = [
                sign * other * objective.cost(u + sign * steps[i] + other * steps[j])
                for sign in (1.0, -1.0)
                for other in (1.0, -1.0)
            ]
            curvature[i, j] = curvature[j, i] = 0.25 * sum(corners)
    sizes = np.diag(steps)
    gradient = 0.5 * (above - below) / sizes
    information = _turned(curvature) / np.outer(sizes, sizes)
    return normal._replace(cost=jnp.asarray(cost), gradient=jnp.asarray(gradient), information=jnp.asarray(information))


def _step_along(objective: Objective, u: Floats, k: int, cost: float) -> float:
    """A step along coordinate k over which the cost bends by about RISE, or FARTHEST where it hardly bends."""
    wanted = max(RISE, 1e4 * np.finfo(np.float64).eps * abs(cost))
    step, axis = RISE, np.eye(u.size)[k]
    for _ in range(HALVINGS):
        bend = abs(objective.cost(u + step * axis) + objective.cost(u - step * axis) - 2.0 * cost)
        if np.isfinite(bend) and 0.25 * wanted <= bend <= 4.0 * wanted:
            break
        factor = np.sqrt(wanted / bend) if np.isfinite(bend) and bend > 0.0 else (8.0 if bend == 0.0 else 0.1)
        if step >= FARTHEST and factor > 1.0:
            break
        step = min(FARTHEST, step * float(np.clip(factor, 0.01, 8.0)))
    return step


def _turned(curvature: Floats) -> Floats:
    """The symmetric matrix of the same directions with the sizes of its eigenvalues; unchanged if it is no number."""
    if not np.all(np.isfinite(curvature)):
        return curvature
    values, vectors = np.linalg.eigh(curvature)
    return np.asarray((vectors * np.abs(values)) @ vectors.T)


WIDTH_ROUNDS = 5
"""Alternations between physics and learned spreads; they settle in two or three."""


@dataclass(frozen=True)
class Scaled:
    """A minimum under the chosen scaling, with what there is to say about the choice."""

    objective: Objective
    minimum: Minimum
    widths: dict[str, float]
    notes: tuple[str, ...]
    actions: tuple[str, ...]


def minimise_scaled(objective: Objective, start: Floats, phi: Floats, settings: PointSettings) -> Scaled:
    """Minimise from coordinates start (f,) in the scaling mode of the settings on angles phi (n_phi,)."""
    mode = resolve_mode(settings.scaling, len(phi))
    if mode == "constant":
        return _with_constants(objective, start, phi, settings)
    if mode == "hierarchical":
        return _with_learned_widths(objective, start, phi, settings)
    notes: tuple[str, ...] = ()
    if mode == "fourier" and settings.fourier_order > largest_fourier_order(len(phi)):
        order = largest_fourier_order(len(phi))
        notes = (f"fourier_order lowered from {settings.fourier_order} to {order}: {len(phi)} angles",)
    scaled = objective.with_scaling(build_scaling(mode, phi, fourier_order=settings.fourier_order))
    minimum, actions = minimise_or_recover(scaled, start, settings)
    return Scaled(scaled, minimum, {}, notes, actions)


def released(scaled: Scaled, settings: PointSettings) -> Scaled:
    """The minimum without the ridge that keeps searches from sliding along directions that the data hardly see.

    It may slide then: a start that does not converge any more is no failure yet, and nothing is restarted for it.
    """
    objective = replace(scaled.objective, ridge=0.0)
    end = minimise(
        objective,
        scaled.minimum.u,
        max_evaluations=settings.max_iterations,
        tolerance=settings.tolerance,
    )
    evaluations = scaled.minimum.evaluations + end.evaluations
    minimum = replace(end, evaluations=evaluations, iterations=scaled.minimum.iterations + end.iterations)
    return replace(scaled, objective=objective, minimum=minimum)


def _with_constants(objective: Objective, start: Floats, phi: Floats, settings: PointSettings) -> Scaled:
    given = (settings.contrast, settings.offset)
    actions: tuple[str, ...] = ()
    fixed = [np.full(len(phi), np.nan if value is None else value) for value in given]
    note = "contrast and offset are held at the configured values; the error bars do not include their uncertainty"
    if None in given:
        free = objective.with_scaling(build_scaling("individual", phi))
        minimum, actions = minimise_or_recover(free, start, settings)
        start = minimum.u
        per_angle = np.asarray(minimum.normal.solution.per_angle)
        fixed = [np.where(np.isnan(f), per_angle[:, k], f) for k, f in enumerate(fixed)]
        note = (
            "contrast and offset are held at the values of a fit with free scaling; "
            "the error bars do not include their uncertainty"
        )
    scaled = objective.with_scaling(build_scaling("constant", phi, fixed=(fixed[0], fixed[1])))
    minimum, more = minimise_or_recover(scaled, start, settings)
    return Scaled(scaled, minimum, {}, (note,), actions + more)


def _with_learned_widths(objective: Objective, start: Floats, phi: Floats, settings: PointSettings) -> Scaled:
    scaled = objective.with_scaling(build_scaling("hierarchical", phi))
    minimum, actions = minimise_or_recover(scaled, start, settings)
    widths = (0.0, 0.0)
    for _ in range(WIDTH_ROUNDS):
        learned = learn_widths(scaled.scaling, scaled.products(minimum.u), jnp.asarray(scaled.sigma))
        settled = np.allclose(learned, widths, rtol=0.02)
        widths = learned
        if settled:
            break
        scaled = objective.with_scaling(build_scaling("hierarchical", phi, widths=widths))
        minimum, more = minimise_or_recover(scaled, minimum.u, settings)
        actions += more
    return Scaled(scaled, minimum, {"contrast": widths[0], "offset": widths[1]}, (), actions)
