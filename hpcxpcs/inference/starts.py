"""Starting points from the data's own scales and the priors, seeded, spread by Latin hypercube."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.config.scale import PERIOD, DataScale
from hpcxpcs.likelihood.interpolation import Floats
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


def candidate_starts(
    model: Model,
    parameters: Sequence[ResolvedParameter],
    scale: DataScale,
    count: int,
    seed: int,
) -> Floats:
    """Physical starting points (count, p): rates from the scale of the data, the rest from the priors, inside bounds.

    Fixed parameters keep their values.
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
