"""Recovery: what is tried, in order and on record, when a minimisation does not end in a minimum."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np

from hpcxpcs.inference.objective import Objective
from hpcxpcs.inference.records import PointSettings
from hpcxpcs.inference.trust_region import Minimum, finite, minimise, whitening
from hpcxpcs.likelihood.gaussian import Normal
from hpcxpcs.likelihood.interpolation import Floats

NUDGE = 0.05
"""Size of a perturbed restart, in fit coordinates (5 % of a rate)."""

WIDER = 30.0
"""How much the first trust region grows in a widened restart, in standard deviations."""


def minimise_or_recover(
    objective: Objective, start: Floats, settings: PointSettings
) -> tuple[Minimum, tuple[str, ...]]:
    """Minimise; on failure restart from a perturbed point, with a wider region, then with finite differences.

    Returns the best end point and the actions taken (none when the first attempt converged).
    """
    bounded = partial(minimise, max_evaluations=settings.max_iterations, tolerance=settings.tolerance)
    best = bounded(objective, start)
    actions: list[str] = []
    nudge = NUDGE * np.random.default_rng(settings.seed).standard_normal(start.size)
    attempts = (
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
        found = attempt()
        evaluations = best.evaluations + found.evaluations
        if found.converged or not np.isfinite(best.cost) or found.cost < best.cost:
            best = found
        best = replace(best, evaluations=evaluations, iterations=best.iterations + found.iterations)
    return best, tuple(actions)


def finite_difference_expansion(objective: Objective, u: Floats) -> Normal:
    """The expansion at u (f,) with the gradient from central differences of the cost, a hundredth of an sd apart."""
    normal = objective.expand(u)
    if not finite(normal):
        return normal
    steps = 0.01 * whitening(normal)
    slopes = np.array([objective.cost(u + step) - objective.cost(u - step) for step in steps.T]) / 2.0
    gradient = np.linalg.solve(steps.T, slopes)
    return normal._replace(gradient=jnp.asarray(gradient))
