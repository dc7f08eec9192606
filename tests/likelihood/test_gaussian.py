"""Profile and marginal over the scaling, against dense linear algebra on every pair."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from hpcxpcs.likelihood.gaussian import (
    chi_squared_per_angle,
    coefficient_draw,
    marginal_log_likelihood,
    profile,
)
from hpcxpcs.likelihood.scaling import Scaling, build_scaling
from tests.likelihood.dense import THETA, Dense, prior_root, problem, shape

PHI = np.array([-100.0, -15.0, 40.0, 130.0])
CONTRAST = np.array([0.14, 0.16, 0.15, 0.17])
OFFSET = np.array([1.0, 1.004, 0.998, 1.001])
AWAY = THETA + np.array([0.05, -0.1])
MODES = ("constant", "averaged", "fourier", "individual", "hierarchical")

_profile = jax.jit(profile)
_marginal = jax.jit(marginal_log_likelihood)


def scaling_draw(scaling, *arguments, **keywords):
    """Contrast and offset of each angle for a draw of the coefficients."""
    return scaling.base + scaling.design @ coefficient_draw(scaling, *arguments, **keywords)


_draw = jax.jit(scaling_draw)


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


def log_integrand(small: Dense, scaling: Scaling, theta, noise_scale, tempering, factor, coefficients):
    """log of likelihood × prior^tempering × factor at coefficients (g, k), pair by pair."""
    design, base = np.asarray(scaling.design), np.asarray(scaling.base)
    precision = np.asarray(scaling.precision)
    held = precision > 0.0
    total = np.zeros(len(coefficients))
    for k, angle in enumerate(small.phi):
        contrast, offset = (base[k] + coefficients @ design[k].T).T
        wanted = contrast[:, None] * shape(theta, small.tau[k], angle) + offset[:, None]
        scaled = noise_scale * small.sigma[k]
        total -= 0.5 * np.sum(small.weight[k] * (small.data[k] - wanted) ** 2, axis=1) / scaled**2
        total -= small.data[k].size * np.log(scaled * np.sqrt(2.0 * np.pi))
    total += tempering * norm.logpdf(coefficients[:, held], scale=precision[held] ** -0.5).sum(axis=1)
    quadratic, linear = factor
    return total - 0.5 * np.einsum("gi,ij,gj->g", coefficients, quadratic, coefficients) + coefficients @ linear


def grid_integral(log_of, centre: np.ndarray, covariance: np.ndarray) -> float:
    """log of the integral of exp(log_of) over the plane, by the trapezoid rule 9 sd around a centre (2,)."""
    steps = np.linspace(-9.0, 9.0, 121)
    root = np.linalg.cholesky(covariance)
    places = centre + np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) @ root.T
    return float(logsumexp(log_of(places)) + 2.0 * np.log(steps[1] - steps[0]) + np.log(np.diag(root)).sum())


def cavity(small: Dense, scaling: Scaling, theta: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """A factor with a full matrix, as strong as `share` of the data, that pulls away from their best coefficients."""
    solved = _profile(scaling, small.products(theta), small.sigma).solution
    tilt = np.random.default_rng(7).standard_normal((solved.coefficients.size,) * 2)
    root = np.linalg.cholesky(np.asarray(solved.information)) @ (np.eye(len(tilt)) + 0.2 * tilt)
    quadratic = share * root @ root.T
    return quadratic, quadratic @ (1.01 * np.asarray(solved.coefficients))


@pytest.mark.parametrize("tempering", [1.0, 0.25])
@pytest.mark.parametrize("precision", [(0.0, 0.0), (300.0, 0.0), (900.0, 2.0)])
def test_given_a_factor_and_a_tempered_prior_then_the_marginal_is_the_integral_on_a_grid(small, precision, tempering):
    scaling = replace(scaling_of("averaged"), precision=jnp.asarray(precision))
    factor = cavity(small, scaling, AWAY, 3.0)
    found = marginal_log_likelihood(
        scaling, small.products(AWAY), small.sigma, small.pairs, 1.3, tempering=tempering, factor=factor
    )
    solved = _profile(scaling, small.products(AWAY), small.sigma).solution

    def log_of(places):
        return log_integrand(small, scaling, AWAY, 1.3, tempering, factor, places)

    wanted = grid_integral(log_of, 1.007 * np.asarray(solved.coefficients), np.linalg.inv(factor[0]))
    assert float(found) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_given_a_factor_of_nothing_then_the_marginal_is_unchanged(small, mode):
    scaling = scaling_of(mode)
    count = scaling.precision.size
    arguments = (scaling, small.products(AWAY), small.sigma, small.pairs, 1.1)
    nothing = jnp.zeros((count, count)), jnp.zeros(count)
    found = marginal_log_likelihood(*arguments, tempering=1.0, factor=nothing)
    assert float(found) == pytest.approx(float(_marginal(*arguments)), rel=1e-14)


def dense_conditional(small: Dense, scaling: Scaling, theta, noise_scale, tempering, factor):
    """Information (k, k) and best coefficients (k,) of likelihood × prior^tempering × factor, from every pair."""
    rows, right = linear_problem(small, scaling, theta)
    size = sum(d.size for d in small.data)
    rows, right = rows[:size] / noise_scale, right[:size] / noise_scale
    information = rows.T @ rows + tempering * np.diag(np.asarray(scaling.precision)) + factor[0]
    return information, np.linalg.solve(information, rows.T @ right + factor[1])


@pytest.mark.parametrize("mode", ["fourier", "individual", "hierarchical"])
def test_given_many_coefficients_then_the_marginal_is_the_highest_integrand_times_its_volume(small, mode):
    scaling = scaling_of(mode)
    setting = (AWAY, 1.3, 0.25, cavity(small, scaling, AWAY, 0.5))
    information, best = dense_conditional(small, scaling, *setting)
    top = log_integrand(small, scaling, *setting, best[None])[0]
    wanted = top + 0.5 * (best.size * np.log(2.0 * np.pi) - np.linalg.slogdet(information)[1])
    found = marginal_log_likelihood(
        scaling, small.products(AWAY), small.sigma, small.pairs, 1.3, tempering=0.25, factor=setting[3]
    )
    assert float(found) == pytest.approx(wanted, abs=1e-5)


def test_given_no_data_then_the_marginal_is_the_integral_of_the_tempered_prior(small):
    scaling = proper(scaling_of("individual"))
    nothing = jax.tree.map(jnp.zeros_like, small.products(AWAY))
    whole, quarter = (
        float(marginal_log_likelihood(scaling, nothing, small.sigma, 0.0 * small.pairs, tempering=t))
        for t in (1.0, 0.25)
    )
    size, logs = scaling.precision.size, float(jnp.log(scaling.precision).sum())
    assert whole == pytest.approx(0.0, abs=1e-9)
    assert quarter == pytest.approx(0.5 * (0.75 * (size * np.log(2.0 * np.pi) - logs) - size * np.log(0.25)))


def test_the_gradient_reaches_through_the_noise_the_tempering_and_a_factor_that_moves(small):
    scaling = scaling_of("hierarchical")
    quadratic, linear = cavity(small, scaling, AWAY, 0.5)
    products = small.products(AWAY)

    @jax.jit
    def value(knobs):
        factor = quadratic * jnp.exp(knobs[2]), linear * (1.0 + knobs[2] * jnp.arange(linear.size))
        return marginal_log_likelihood(
            scaling, products, small.sigma, small.pairs, knobs[0], tempering=knobs[1], factor=factor
        )

    at = np.array([1.2, 0.3, 0.1])
    found = jax.jit(jax.grad(value))(at)
    for k, step in enumerate(1e-5 * np.eye(3)):
        slope = float(value(at + step) - value(at - step)) / 2e-5
        assert float(found[k]) == pytest.approx(slope, rel=1e-5)


def sigma_points(small: Dense, scaling: Scaling, **extra) -> np.ndarray:
    """(contrast, offset) per angle at normal numbers of mean 0 and covariance 1 exactly, (2k, 2 n_phi)."""
    count = scaling.precision.size
    normals = np.sqrt(count) * np.concatenate([np.eye(count), -np.eye(count)])
    arguments = (scaling, small.products(AWAY), small.sigma, 1.3)
    return np.array([_draw(*arguments, normal, **extra).ravel() for normal in normals])


@pytest.mark.parametrize("mode", ["averaged", "fourier", "individual", "hierarchical"])
@pytest.mark.parametrize("with_factor", [False, True])
def test_scaling_draws_have_the_mean_and_covariance_of_the_dense_posterior(small, mode, with_factor):
    scaling = scaling_of(mode)
    factor = cavity(small, scaling, AWAY, 0.5) if with_factor else None
    extra = {"tempering": 0.25, "factor": factor} if with_factor else {}
    nothing = (np.zeros((scaling.precision.size,) * 2), np.zeros(scaling.precision.size))
    information, best = dense_conditional(small, scaling, AWAY, 1.3, 0.25 if with_factor else 1.0, factor or nothing)
    design = np.asarray(scaling.design).reshape(8, -1)
    found = sigma_points(small, scaling, **extra)
    assert np.allclose(found.mean(axis=0), np.asarray(scaling.base).ravel() + design @ best, rtol=1e-7)
    covariance = design @ np.linalg.inv(information) @ design.T
    assert np.allclose(np.cov(found.T, bias=True), covariance, rtol=1e-5, atol=1e-8 * covariance.max())


def test_given_a_fixed_scaling_then_a_draw_is_that_scaling(small):
    scaling = scaling_of("constant")
    found = scaling_draw(scaling, small.products(AWAY), small.sigma, 1.0, jnp.zeros(0))
    assert np.array_equal(found, scaling.base)


def test_given_a_shape_that_vanishes_then_pooled_draws_keep_the_width_of_their_prior(small):
    """Only the common contrast is then undetermined: differences between angles follow the prior."""
    scaling = replace(scaling_of("hierarchical"), precision=jnp.array([1e-2, *[0.02**-2] * 4, 0.0, *[0.004**-2] * 4]))
    products = small.products(np.array([1e6, 0.0]))
    normals = np.sqrt(10.0) * np.concatenate([np.eye(10), -np.eye(10)])
    found = np.array([_draw(scaling, products, small.sigma, 1.0, normal) for normal in normals])
    difference = found[:, 0, 0] - found[:, 1, 0]
    assert np.sqrt(np.mean(difference**2)) == pytest.approx(0.02 * np.sqrt(2.0), rel=1e-6)
    assert np.allclose(found[:, :, 1].mean(axis=0), 1.0, atol=0.1)
