"""Profile and marginal over the scaling, against dense linear algebra on every pair."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from hpcxpcs.likelihood.gaussian import chi_squared_per_angle, marginal_log_likelihood, profile
from hpcxpcs.likelihood.scaling import Scaling, build_scaling
from tests.likelihood.dense import THETA, Dense, prior_root, problem, shape

PHI = np.array([-100.0, -15.0, 40.0, 130.0])
CONTRAST = np.array([0.14, 0.16, 0.15, 0.17])
OFFSET = np.array([1.0, 1.004, 0.998, 1.001])
AWAY = THETA + np.array([0.05, -0.1])
MODES = ("constant", "averaged", "fourier", "individual", "hierarchical")

_profile = jax.jit(profile)
_marginal = jax.jit(marginal_log_likelihood)


@pytest.fixture(scope="module")
def small() -> Dense:
    return problem(CONTRAST, OFFSET, PHI)


def scaling_of(mode: str) -> Scaling:
    return build_scaling(
        mode, PHI, fourier_order=1, widths=(0.02, 0.004), fixed=(1.1 * CONTRAST, OFFSET) if mode == "constant" else None
    )


def linear_problem(small: Dense, scaling: Scaling, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Design (n + k, k) and data (n + k,), prior rows at the end, of the coefficients' least squares."""
    rows = small.whitened_design(np.asarray(scaling.contrast_basis), np.asarray(scaling.offset_basis), theta)
    fixed = small.whitened_design(np.asarray(scaling.contrast_base)[:, None], np.zeros((4, 0)), theta)[:, 0]
    fixed = fixed + small.whitened_design(np.zeros((4, 0)), np.asarray(scaling.offset_base)[:, None], theta)[:, 0]
    prior = prior_root(scaling)
    return np.concatenate([rows, prior]), np.concatenate([small.whitened() - fixed, np.zeros(len(prior))])


def without(rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """vectors (n, …) with their part in the column space of rows (n, k) removed."""
    return vectors - rows @ np.linalg.lstsq(rows, vectors, rcond=None)[0] if rows.shape[1] else vectors


@pytest.mark.parametrize("mode", MODES)
def test_the_cost_is_half_the_smallest_chi_squared(small, mode):
    scaling = scaling_of(mode)
    for theta in (THETA, AWAY):
        residual = without(*linear_problem(small, scaling, theta))
        found = _profile(scaling, small.products(theta), small.sigma)
        assert float(found.cost) == pytest.approx(0.5 * residual @ residual, rel=1e-8)


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_is_the_slope_of_the_cost(small, mode):
    scaling = scaling_of(mode)
    found = np.asarray(_profile(scaling, small.products(AWAY), small.sigma).gradient)
    for k, step in enumerate(1e-5 * np.eye(2)):
        ends = [float(_profile(scaling, small.products(AWAY + s * step), small.sigma).cost) for s in (1.0, -1.0)]
        assert found[k] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_the_information_is_that_of_dense_variable_projection(small, mode):
    scaling = scaling_of(mode)
    found = _profile(scaling, small.products(AWAY), small.sigma)
    rows, _ = linear_problem(small, scaling, AWAY)
    steep = small.whitened_slopes(np.asarray(found.solution.per_angle[:, 0]), AWAY)
    steep = np.concatenate([steep, np.zeros((rows.shape[0] - steep.shape[0], 2))])
    wanted = steep.T @ without(rows, steep)
    assert np.allclose(found.information, wanted, rtol=1e-7)


def test_solving_for_the_scaling_costs_information(small):
    kept = _profile(scaling_of("constant"), small.products(), small.sigma).information
    projected = _profile(scaling_of("individual"), small.products(), small.sigma).information
    assert np.all(np.linalg.eigvalsh(np.asarray(kept) * 1.1**-2 - np.asarray(projected)) > 0.0)


def test_chi_squared_of_each_angle_is_the_weighted_sum_over_its_pairs(small):
    per_angle = np.stack([1.05 * CONTRAST, OFFSET - 0.01], axis=1)
    found = chi_squared_per_angle(small.products(), jnp.asarray(per_angle), jnp.asarray(small.sigma))
    for k, (contrast, offset) in enumerate(per_angle):
        residual = small.data[k] - offset - contrast * shape(THETA, small.tau[k], PHI[k])
        assert found[k] == pytest.approx(np.sum(small.weight[k] * residual**2) / small.sigma[k] ** 2, rel=1e-8)


def proper(scaling: Scaling) -> Scaling:
    """The same subspace with a proper prior on every coefficient."""
    count = scaling.precision.size
    return replace(scaling, precision=jnp.linspace(0.5, 40.0, count))


@pytest.mark.parametrize("noise_scale", [1.0, 1.7])
@pytest.mark.parametrize("mode", MODES)
def test_given_proper_priors_then_the_marginal_is_the_dense_gaussian_density(small, mode, noise_scale):
    scaling = proper(scaling_of(mode))
    found = _marginal(scaling, small.products(AWAY), small.sigma, small.pairs, noise_scale)
    roots = np.concatenate([np.sqrt(w) / s for w, s in zip(small.weight, small.sigma, strict=True)])
    rows, right = (part[: roots.size] for part in linear_problem(small, scaling, AWAY))
    rows = rows / roots[:, None]
    covariance = np.diag((noise_scale / roots) ** 2) + (rows / np.asarray(scaling.precision)) @ rows.T
    wanted = multivariate_normal(cov=covariance).logpdf(right / roots)
    weights = 0.5 * np.log(np.concatenate(small.weight)).sum()
    assert float(found) == pytest.approx(float(wanted - weights), abs=1e-6)


@pytest.mark.parametrize("mode", ["averaged", "fourier", "individual", "hierarchical"])
def test_given_flat_directions_then_the_marginal_integrates_them_with_unit_density(small, mode):
    scaling = scaling_of(mode)
    flat = np.asarray(scaling.precision) == 0.0
    assert flat.any()
    nearly = replace(scaling, precision=jnp.where(flat, 1e-6, scaling.precision))
    density = 0.5 * flat.sum() * np.log(1e-6 / (2.0 * np.pi))
    products = small.products(AWAY)
    found, wanted = (float(_marginal(s, products, small.sigma, small.pairs, 1.0)) for s in (scaling, nearly))
    assert found == pytest.approx(wanted - density, abs=1e-3)


@pytest.mark.parametrize("mode", ["averaged", "fourier", "individual"])
def test_given_flat_priors_then_the_marginal_is_the_dense_integral_over_the_coefficients(small, mode):
    scaling = scaling_of(mode)
    for theta in (THETA, AWAY):
        rows, right = linear_problem(small, scaling, theta)
        residual = without(rows, right)
        count, total = rows.shape[1], small.pairs.sum()
        wanted = -0.5 * residual @ residual - 0.5 * np.linalg.slogdet(rows.T @ rows)[1]
        wanted += 0.5 * (count - total) * np.log(2.0 * np.pi) - small.pairs @ np.log(small.sigma)
        found = _marginal(scaling, small.products(theta), small.sigma, small.pairs, 1.0)
        assert float(found) == pytest.approx(wanted, abs=1e-6)


def test_the_gradient_of_the_marginal_is_its_slope(small):
    scaling = scaling_of("hierarchical")

    def value(noise_scale):
        return marginal_log_likelihood(scaling, small.products(AWAY), small.sigma, small.pairs, noise_scale)

    found, (above, below) = jax.jit(jax.grad(value))(1.2), map(jax.jit(value), (1.2 + 1e-5, 1.2 - 1e-5))
    assert float(found) == pytest.approx(float(above - below) / 2e-5, rel=1e-6)
