"""Condensed likelihoods: a few points per angle that stand for all nodes, within one posterior."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.likelihood.adapt import adapt_cells
from hpcxpcs.likelihood.compress import compress
from hpcxpcs.likelihood.condense import Condensed, condense
from hpcxpcs.likelihood.gaussian import marginal_log_likelihood, profile
from hpcxpcs.likelihood.moments import Moments
from hpcxpcs.likelihood.products import Source, evaluate, no_tangents
from hpcxpcs.likelihood.scaling import build_scaling
from tests.likelihood.measured import Case, measured


def moments_of(case: Case) -> Moments:
    cells = adapt_cells(case.model, case.theta[None], case.phi, case.strength, case.axis, error=0.5).cells
    return compress(case.angles, case.phi, cells, case.axis)


def draws_of(case: Case, moments: Moments, count: int, spread: float, seed: int) -> np.ndarray:
    """Laplace draws (count, p) around the truth; a prior of ±10 % bounds what the data leave open."""
    products = moments.products(case.model, jnp.asarray(case.theta), case.tangents)
    scaling = build_scaling("individual", case.phi)
    free = list(case.free)
    information = np.asarray(profile(scaling, products, jnp.asarray(case.sigma)).information)
    information = information + np.diag((0.1 * case.theta[free]) ** -2.0)
    white = spread * np.random.default_rng(seed).standard_normal((len(free), count))
    thetas = np.tile(case.theta, (count, 1))
    thetas[:, free] += np.linalg.solve(np.linalg.cholesky(information).T, white).T
    return thetas


def log_likelihoods(case: Case, source: Source, moments: Moments, thetas: np.ndarray) -> np.ndarray:
    scaling = build_scaling("individual", case.phi)

    @jax.jit
    def value(theta: jnp.ndarray) -> jnp.ndarray:
        products = evaluate(case.model, source, theta, no_tangents(theta))
        return marginal_log_likelihood(scaling, products, jnp.asarray(case.sigma), jnp.asarray(moments.pairs))

    return np.array([float(value(jnp.asarray(theta))) for theta in thetas])


def spread_of_error(case: Case, condensed: Condensed, moments: Moments, thetas: np.ndarray) -> float:
    values = [log_likelihoods(case, source, moments, thetas) for source in (condensed.arrays, moments.arrays)]
    return float(np.std(values[0] - values[1]))


@pytest.fixture(scope="module")
def sheared() -> Case:
    return measured("laminar_flow")


@pytest.fixture(scope="module")
def sheared_moments(sheared: Case) -> Moments:
    return moments_of(sheared)


@pytest.mark.parametrize("name", ["static", "laminar_flow", "two_component"])
def test_condensed_and_full_log_likelihood_agree_over_the_posterior(name: str) -> None:
    case = measured(name)
    moments = moments_of(case)
    condensed = condense(moments, case.model, draws_of(case, moments, 240, 1.5, 0), case.strength)
    fresh = draws_of(case, moments, 24, 1.0, 1)
    assert spread_of_error(case, condensed, moments, fresh) < 0.02
    assert condensed.points < moments.node_count / 3


def test_the_error_responds_to_the_tolerance_and_is_reported(sheared: Case, sheared_moments: Moments) -> None:
    samples = draws_of(sheared, sheared_moments, 150, 1.5, 0)
    fresh = draws_of(sheared, sheared_moments, 24, 2.0, 1)
    found = [
        condense(sheared_moments, sheared.model, samples, sheared.strength, tolerance=t) for t in (3.0, 0.01)
    ]
    coarse, fine = (spread_of_error(sheared, c, sheared_moments, fresh) for c in found)
    assert coarse > 0.2 > 0.05 > fine
    assert found[0].points < found[1].points
    assert found[0].error > found[1].error


def test_derivatives_along_the_parameters_survive(sheared: Case, sheared_moments: Moments) -> None:
    samples = draws_of(sheared, sheared_moments, 150, 1.5, 0)
    condensed = condense(sheared_moments, sheared.model, samples, sheared.strength)
    scaling, sigma = build_scaling("individual", sheared.phi), jnp.asarray(sheared.sigma)
    full, short = (
        profile(scaling, evaluate(sheared.model, source, jnp.asarray(sheared.theta), sheared.tangents), sigma)
        for source in (sheared_moments.arrays, condensed.arrays)
    )
    sd = np.sqrt(np.diag(np.asarray(full.information)))
    np.testing.assert_allclose(short.information / np.outer(sd, sd), full.information / np.outer(sd, sd), atol=2e-3)
    np.testing.assert_allclose(short.gradient / sd, full.gradient / sd, atol=0.05)


def test_angles_with_different_masks_are_condensed_each_with_its_own(sheared: Case) -> None:
    masked = sheared.masked([5, 40], [], [41, 42, 43], [7])
    moments = moments_of(masked)
    condensed = condense(moments, masked.model, draws_of(masked, moments, 150, 1.5, 0), masked.strength)
    fresh = draws_of(masked, moments, 24, 1.0, 1)
    assert spread_of_error(masked, condensed, moments, fresh) < 0.02


def test_the_number_of_points_does_not_grow_with_the_number_of_frames() -> None:
    points = []
    for frames, dt in ((64, 1.5), (192, 0.5)):
        case = measured("laminar_flow", frames=frames, dt=dt)
        moments = moments_of(case)
        samples = draws_of(case, moments, 150, 1.5, 0)
        points.append(condense(moments, case.model, samples, case.strength).points)
    assert points[1] <= points[0] + 3
