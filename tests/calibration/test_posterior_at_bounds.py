"""A posterior piled up at a bound against quadrature on a grid of raw-pair densities, two parameters free."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.pipeline.simulate import SimulationSpec, simulate_twotime
from tests.calibration.cases import Case
from tests.calibration.posteriors import Sampled, consensus_posterior, exact_posterior, fitted
from tests.calibration.raw_posterior import RawPosterior

pytestmark = pytest.mark.slow

TRUTH = {"D0": 1.2e4, "alpha": -0.4, "D_offset": 0.0}
POINTS = 121
LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])


@dataclass(frozen=True)
class AtBound(Case):
    """A measurement without an offset of the rate, which may not be negative; exponent and noise are known."""

    def data(self) -> TwoTime:
        spec = self.spec
        return simulate_twotime(
            SimulationSpec("static", TRUTH, spec.angles, frames=spec.frames, contrast=0.3, noise=spec.noise, seed=1)
        )

    def mapping(self, file: str = "simulated.hdf", **sections):
        bounds = {"bounds": [one if one["name"] != "D_offset" else {**one, "min": 0.0} for one in self.bounds]}
        noise = {"sigma": self.noise, "scale": "fixed"}
        return super().mapping(file, **{"parameter_space": bounds, "noise": noise, **sections})


CASE = AtBound("static", 3, 60, 0.02, "individual", fixed={"alpha": -0.4})


def density(reference: RawPosterior, theta: jax.Array) -> jax.Array:
    """log posterior density of (D0, D_offset) from raw pairs."""
    level = theta[0] * reference.t_mid ** TRUTH["alpha"]
    rate = level + theta[1]
    x = jnp.stack([jnp.log(rate), jnp.log(level / rate), 0.0])
    volume = jnp.linalg.slogdet(jax.jacfwd(lambda one: reference.theta(one)[jnp.asarray(reference.free)])(x)[:, :2])[1]
    return reference.marginal(x) - volume


@dataclass(frozen=True)
class Grid:
    """Marginal probabilities of D0 and D_offset on midpoints of their axes."""

    axes: tuple[np.ndarray, np.ndarray]
    weights: np.ndarray

    def marginal(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Values and probabilities of one parameter."""
        return self.axes[k], self.weights.sum(axis=1 - k)

    def moments(self, k: int) -> tuple[float, float]:
        """Mean and standard deviation of one parameter."""
        values, weights = self.marginal(k)
        mean = weights @ values
        return float(mean), float(np.sqrt(weights @ (values - mean) ** 2))

    def quantiles(self, k: int) -> np.ndarray:
        """Values below which LEVELS of the probability lie."""
        values, weights = self.marginal(k)
        half = 0.5 * (values[1] - values[0])
        return np.interp(
            LEVELS, np.concatenate([[0.0], np.cumsum(weights)]), np.append(values - half, values[-1] + half)
        )


def quadrature(reference: RawPosterior, low: np.ndarray, high: np.ndarray) -> Grid:
    """The posterior on midpoints of a box."""
    share = (np.arange(POINTS) + 0.5) / POINTS
    axes = tuple(low[k] + (high[k] - low[k]) * share for k in range(2))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    logs = np.asarray(jax.jit(lambda all_: jax.lax.map(lambda one: density(reference, one), all_))(jnp.asarray(points)))
    weights = np.exp(logs - logs.max()).reshape(POINTS, POINTS)
    return Grid(axes, weights / weights.sum())


@pytest.fixture(scope="module")
def fit():
    return fitted(CASE.data(), CASE.config())


@pytest.fixture(scope="module")
def exact(fit) -> Sampled:
    return exact_posterior(fit, draws=2500)


@pytest.fixture(scope="module")
def grid(exact) -> Grid:
    reference = CASE.reference(None)
    mean, sd = exact.values.mean(axis=0), exact.values.std(axis=0)
    return quadrature(reference, np.maximum(mean - 7.0 * sd, [1e2, 0.0]), mean + 10.0 * sd)


def require_agreement(grid: Grid, found: Sampled) -> None:
    for k in range(2):
        mean, sd = grid.moments(k)
        noise = 1.0 / np.sqrt(found.ess[k])
        assert abs(found.values[:, k].mean() - mean) < (0.05 + 2.5 * noise) * sd
        assert abs(found.values[:, k].std() / sd - 1.0) < 0.03 + 2.5 * noise
        below = np.mean(found.values[:, k, None] < grid.quantiles(k), axis=0)
        assert np.all(np.abs(below - LEVELS) < 4.0 * np.sqrt(LEVELS * (1.0 - LEVELS)) * noise + 0.005)


def test_the_posterior_is_piled_up_at_the_bound(grid):
    values, weights = grid.marginal(1)
    assert weights[0] > 0.5 * weights.max() and values[0] < 0.1 * grid.moments(1)[1]


def test_the_box_holds_the_posterior(grid):
    edges = [grid.weights[0].sum(), grid.weights[-1].sum(), grid.weights[:, -1].sum()]
    assert max(edges) < 1e-6


def test_exact_draws_at_a_bound_agree_with_quadrature(grid, exact):
    assert exact.values[:, 1].min() >= 0.0
    require_agreement(grid, exact)


@pytest.mark.parametrize("count", [4])
def test_certified_shards_at_a_bound_agree_with_quadrature(grid, fit, count):
    found = consensus_posterior(fit, count)
    assert found.word in ("certified", "corrected") and found.values[:, 1].min() >= 0.0
    require_agreement(grid, found)
