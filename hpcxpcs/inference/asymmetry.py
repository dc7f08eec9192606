"""Whether symmetric error bars tell the truth: the likelihood is closer to a parabola in fit coordinates than in θ."""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from hpcxpcs.inference.coordinates import Coordinates, physical_sets
from hpcxpcs.inference.objective import Limits, Objective
from hpcxpcs.inference.trust_region import Minimum, whitening
from hpcxpcs.likelihood.interpolation import Floats

DRAWS = 4000
"""Laplace draws in fit coordinates behind an interval."""

SYMMETRIC = (0.7, 1.4)
"""Range of (half of the 95 % interval) / (1.96 standard errors) in which an error bar counts as symmetric."""

PARABOLIC = (0.4, 3.0)
"""Range of (change of ½χ² two standard errors away in fit coordinates) / 2 in which those are trusted."""


@dataclass(frozen=True)
class Asymmetry:
    """95 % intervals (f, 2) of the free parameters from the fit coordinates, which of them are lopsided (f,), and
    whether even the fit coordinates see no parabola."""

    intervals: Floats
    lopsided: np.ndarray
    curved: bool

    def widened(self, centre: Floats, factor: Floats) -> Asymmetry:
        """The same with intervals stretched about centre (f,) by factor (f,): robust over model-based errors."""
        return replace(self, intervals=centre[:, None] + (self.intervals - centre[:, None]) * factor[:, None])


def asymmetry(objective: Objective, minimum: Minimum, theta: Floats, errors: Floats, scale: float) -> Asymmetry:
    """Compare symmetric errors (f,) at theta (p,) with intervals drawn in fit coordinates; `scale` is the noise scale.

    Draws outside the bounds, or with a rate that turns negative, do not count.
    """
    limits, free = objective.limits, list(objective.coordinates.free)
    transform = whitening(minimum.normal) * scale
    white = np.random.default_rng(0).standard_normal((DRAWS, minimum.u.size))
    thetas, allowed = _allowed(objective.coordinates, limits, minimum.u + white @ transform.T)
    if np.count_nonzero(allowed) < DRAWS // 20:
        return Asymmetry(np.full((len(free), 2), np.nan), np.zeros(len(free), dtype=bool), True)
    intervals = np.quantile(thetas[allowed][:, free], [0.025, 0.975], axis=0).T
    reach = np.abs(intervals - theta[free, None]) / (1.96 * errors[:, None])
    lopsided = np.any((reach < SYMMETRIC[0]) | (reach > SYMMETRIC[1]), axis=1)
    return Asymmetry(intervals, lopsided, _is_curved(objective, minimum, transform, scale))


def _allowed(coordinates: Coordinates, limits: Limits, us: Floats) -> tuple[Floats, np.ndarray]:
    found, lowest = physical_sets(coordinates, jnp.asarray(us), limits.first, limits.last)
    thetas = np.asarray(found)
    inside = np.all((thetas >= limits.lower) & (thetas <= limits.upper), axis=1)
    return thetas, inside & (np.asarray(lowest) >= 0.0)


def _is_curved(objective: Objective, minimum: Minimum, transform: Floats, scale: float) -> bool:
    """Whether any principal direction of the fit coordinates is far from a parabola, where it may be walked at all."""
    limits = objective.limits
    for direction in transform.T:
        for sign in (-2.0, 2.0):
            u = minimum.u + sign * direction
            if _allowed(objective.coordinates, limits, u[None])[1][0]:
                ratio = (objective.cost(u) - minimum.cost) / (2.0 * scale**2)
                if not PARABOLIC[0] <= ratio <= PARABOLIC[1]:
                    return True
    return False
