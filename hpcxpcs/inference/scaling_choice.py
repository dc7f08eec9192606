"""Minimise with the scaling the user asked for: constants taken from a free fit, spreads learned from the angles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from hpcxpcs.inference.objective import Objective
from hpcxpcs.inference.records import PointSettings
from hpcxpcs.inference.recovery import minimise_or_recover
from hpcxpcs.inference.trust_region import Minimum, minimise
from hpcxpcs.likelihood.interpolation import Floats
from hpcxpcs.likelihood.scaling import build_scaling, largest_fourier_order, learn_widths, resolve_mode

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
