"""Targets of small simulated measurements, and their log density in plain NumPy over every raw pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.inference.compression import adapted, compressed
from hpcxpcs.inference.laplace import find_mode
from hpcxpcs.inference.support import Support
from hpcxpcs.inference.target import PriorTerms, Space, Target, supported
from hpcxpcs.likelihood.condense import condensation
from hpcxpcs.likelihood.moments import MomentArrays, Moments
from hpcxpcs.likelihood.scaling import Scaling, build_scaling
from hpcxpcs.likelihood.shards import partition, shard_moments
from hpcxpcs.physics.model import Model
from tests.inference.fitting import Case
from tests.inference.reference import pairs_of
from tests.likelihood.measured import shape_of

CONTRAST, SD = 0.5, 0.003
CELL_ERROR = 0.02
"""Norm (sd) of the interpolation error: far below what these tests resolve."""


@dataclass(frozen=True)
class Posed:
    """A measurement as a sampling problem: `full` holds all moments, whitened roughly, at the true parameters."""

    case: Case
    space: Space
    moments: Moments
    full: Target

    def near(self, count: int, width: float = 1.5, seed: int = 3) -> np.ndarray:
        """Whitened coordinates (count, d) about as wide as the posterior."""
        return width * np.random.default_rng(seed).standard_normal((count, self.space.size))

    def scaled(self, mode: str) -> Posed:
        """The same problem with another scaling."""
        scaling = scaling_of(mode, self.case.measurement.phi)
        return replace(self, full=replace(self.full, scaling=scaling, **_no_cavity(self.space, scaling)))

    def condensed(self, *parts: Moments) -> list[MomentArrays]:
        """The arrays of parts of the pairs, condensed to points chosen for all of them."""
        x = np.asarray(self.full.origin) + self.near(120, 2.0, 1) @ np.asarray(self.full.transform).T
        thetas = np.array([physical(self.space, one)[0] for one in x])
        strength = (CONTRAST / np.asarray(self.full.sigma)) ** 2
        chosen = condensation(self.moments, self.case.model, thetas, strength)
        return [chosen.apply(part) for part in parts]

    def peaked(self) -> Posed:
        """The same problem, condensed, and expanded at the peak of its density."""
        small = replace(self.full, arrays=self.condensed(self.moments)[0])
        found = find_mode(self.space, small)
        full = replace(small, origin=jnp.asarray(found.x), transform=jnp.asarray(found.transform))
        return replace(self, full=full)

    def shards(self, count: int, **changed: Any) -> list[Target]:
        """The likelihood cut into `count` parts; everything else as in `full`, except what is given."""
        measurement, axis = self.case.measurement, self.case.measurement.axis
        sets = partition("angle_balanced", count, axis.count, 0, first=axis.first_usable)
        cells = self.moments.cells
        parts = list(shard_moments(measurement.angles, measurement.phi, cells, axis, sets))
        return [
            replace(self.full, arrays=arrays, pairs=jnp.asarray(part.pairs), **changed)
            for part, arrays in zip(parts, self.condensed(*parts), strict=True)
        ]


_parameters = jax.jit(lambda space, x: space.parameters(x)[:2])
_theta = jax.jit(lambda coordinates, u: coordinates.to_physical(u))


def physical(space: Space, x: np.ndarray) -> tuple[np.ndarray, float]:
    """Physical parameters (p,) and the noise scale of sampling coordinates x (d,)."""
    theta, scale = _parameters(space, jnp.asarray(x))
    return np.asarray(theta), float(scale)


def slopes_of(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Central finite differences (d, …) of a function at x (d,)."""
    return np.array([(function(x + s) - function(x - s)) / (2.0 * s.max()) for s in np.diag(steps)])


def scaling_of(mode: str, phi: np.ndarray) -> Scaling:
    """The subspace of a mode; narrow enough widths that pooling matters."""
    fixed = (np.full(phi.size, CONTRAST), np.ones(phi.size)) if mode == "constant" else None
    return build_scaling(mode, phi, fourier_order=1, fixed=fixed, widths=(0.002, 0.001))


def _no_cavity(space: Space, scaling: Scaling) -> dict[str, jax.Array]:
    size = space.size + scaling.precision.size
    return {"precision": jnp.zeros((size, size)), "shift": jnp.zeros(size)}


def posed(case: Case, mode: str = "individual", *, samples_noise: bool = True) -> Posed:
    """The sampling problem of a case, around its true parameters."""
    measurement, coordinates = case.measurement, case.coordinates
    sigma, scaling = np.full(len(measurement.phi), SD), scaling_of(mode, measurement.phi)
    cells = adapted(measurement, case.model, case.truth[None], (CONTRAST / sigma) ** 2, CELL_ERROR)
    moments = compressed(measurement, cells)
    u = coordinates.from_physical(case.truth)
    covariance = _covariance(case, u)
    lower, upper = zip(*(supported(p) for p in case.parameters), strict=True)
    hard = Support.of(coordinates, lower, upper, measurement.time_range)
    support = hard.softened(u, np.sqrt(np.diag(covariance)))
    space = Space(support, PriorTerms.of(case.parameters), samples_noise)
    transform = np.diag(np.full(space.size, (2.0 * moments.pairs.sum()) ** -0.5))
    transform[: u.size, : u.size] = np.linalg.cholesky(covariance)
    full = Target(
        arrays=moments.arrays,
        scaling=scaling,
        sigma=jnp.asarray(sigma),
        pairs=jnp.asarray(moments.pairs),
        tempering=jnp.ones(()),
        origin=jnp.asarray(np.concatenate([support.from_coordinates(u), np.zeros(space.size - u.size)])),
        transform=jnp.asarray(transform),
        softness=jnp.asarray(support.softness),
        **_no_cavity(space, scaling),
    )
    return Posed(case, space, moments, full)


def _covariance(case: Case, u: np.ndarray) -> np.ndarray:
    """Covariance of the fit coordinates u (f,) with contrast and offset of every angle free, by least squares."""
    angle = pairs_of(case)[2]

    def shape(v: np.ndarray) -> np.ndarray:
        return raw_shape(case, np.asarray(_theta(case.coordinates, jnp.asarray(v))))

    own = np.eye(len(case.measurement.phi))[angle]
    levels = np.linalg.qr(np.concatenate([own * shape(u)[:, None], own], axis=1))[0]
    slopes = CONTRAST / SD * slopes_of(shape, u, np.full(u.size, 1e-5)).T
    slopes -= levels @ (levels.T @ slopes)
    return np.linalg.inv(slopes.T @ slopes)


def raw_shape(case: Case, theta: np.ndarray) -> np.ndarray:
    """f (n,) of every pair at physical parameters theta (p,), written out from the formula."""
    t1, t2, angle, _, _ = pairs_of(case)
    shape_at = two_component_shape if case.model.name == "two_component" else shape_of
    found = np.empty(t1.size)
    for k, phi in enumerate(case.measurement.phi):
        own = angle == k
        found[own] = shape_at(case.model, theta, phi, t1[own], t2[own])
    return found


def log_prior(parameter: ResolvedParameter, value: float) -> float:
    """Log density of the prior of a parameter, not cut at its bounds, by scipy.stats."""
    values: Mapping[str, float] = dict(parameter.prior.values)
    width = parameter.upper - parameter.lower
    kinds = {
        "uniform": lambda: stats.uniform(parameter.lower, width),
        "normal": lambda: stats.norm(values["mu"], values["sigma"]),
        "truncated_normal": lambda: stats.norm(values["mu"], values["sigma"]),
        "lognormal": lambda: stats.lognorm(values["sigma"], scale=values["median"]),
        "half_normal": lambda: stats.halfnorm(scale=values["sigma"]),
        "exponential": lambda: stats.expon(scale=1.0 / values["rate"]),
        "beta_scaled": lambda: stats.beta(values["a"], values["b"], parameter.lower, width),
    }
    return float(kinds[parameter.prior.kind]().logpdf(value))


def two_component_shape(
    model: Model, theta: np.ndarray, phi: float, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """f of two_component in its physical convention at times first < second (s), from the formula."""

    def integral(amplitude: float, exponent: float, offset: float) -> np.ndarray:
        power = exponent + 1.0
        return amplitude * (second**power - first**power) / power + offset * (second - first)

    def amplitudes(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = np.clip(theta[9] * np.exp(theta[10] * (t - theta[11])) + theta[12], 0.0, 1.0)
        return (1.0 - x) / np.hypot(x, 1.0 - x), x / np.hypot(x, 1.0 - x)

    (r1, s1), (r2, s2) = amplitudes(first), amplitudes(second)
    reference = r1 * r2 * np.exp(-0.5 * model.q**2 * integral(*theta[0:3]))
    sample = s1 * s2 * np.exp(-0.5 * model.q**2 * integral(*theta[3:6]))
    phase = model.q * np.cos(np.deg2rad(phi - theta[13])) * integral(*theta[6:9])
    return reference**2 + sample**2 + 2.0 * reference * sample * np.cos(phase)


def dense_log_likelihood(problem: Posed, theta: np.ndarray, scale: float) -> float:
    """log ∫ L(d | θ, s, coefficients) p(coefficients) over every raw pair, by dense least squares, up to a constant."""
    scaling = problem.full.scaling
    _, _, angle, data, _ = pairs_of(problem.case)
    noise = scale * np.asarray(problem.full.sigma)[angle]
    shape = raw_shape(problem.case, theta)
    base = np.asarray(scaling.contrast_base)[angle] * shape + np.asarray(scaling.offset_base)[angle]
    bases = np.asarray(scaling.contrast_basis)[angle], np.asarray(scaling.offset_basis)[angle]
    rows = np.concatenate([bases[0] * shape[:, None], bases[1]], axis=1) / noise[:, None]
    precision = np.asarray(scaling.precision)
    rows = np.concatenate([rows, np.diag(np.sqrt(precision))])
    right = np.concatenate([(data - base) / noise, np.zeros(precision.size)])
    left, triangle = np.linalg.qr(rows)
    residual = right - left @ (left.T @ right)
    determinant = np.log(np.abs(np.diag(triangle))).sum()
    return float(-np.log(noise).sum() - determinant - 0.5 * residual @ residual)


def dense_log_density(problem: Posed, x: np.ndarray) -> float:
    """Log posterior density of sampling coordinates x (d,), up to a constant; the volume by finite differences."""
    space, parameters = problem.space, problem.case.parameters
    free = list(space.support.coordinates.free)

    def mapped(v: np.ndarray) -> np.ndarray:
        theta, scale = physical(space, v)
        return np.append(theta[free], scale)

    theta, scale = physical(space, x)
    steps = 1e-4 * np.abs(np.asarray(problem.full.transform)).max(axis=1)
    volume = np.linalg.slogdet(slopes_of(mapped, x, steps)[:, : x.size])[1]
    prior = sum(log_prior(parameters[k], theta[k]) for k in free)
    noise_prior = -np.log(scale) if space.samples_noise else 0.0
    return dense_log_likelihood(problem, theta, scale) + prior + noise_prior + float(volume)
