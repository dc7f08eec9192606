"""The sampled density is the posterior's, pair by pair, in every model and scaling mode."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from hpcxpcs.inference.coordinates import Coordinates
from hpcxpcs.inference.prepared import space_of
from hpcxpcs.inference.target import Target, log_densities, physical_values, with_gradient
from hpcxpcs.pipeline.compile_cache import CacheRecorder
from tests.inference.fitting import simulated
from tests.inference.posteriors import (
    CONTRAST,
    SD,
    Posed,
    dense_log_density,
    dense_log_likelihood,
    log_prior,
    physical,
    posed,
    raw_shape,
)
from tests.inference.reference import pairs_of

SLOW_FRACTION = {"f1": -0.02, "f2": 1.0, "beta": -0.2, "v_offset": 20.0}
TRANSPORTS = {"D_offset_ref": 200.0, "alpha_ref": -0.3, "alpha_sample": -0.2}
HELD = {"static": {}, "laminar_flow": {}, "two_component": SLOW_FRACTION | TRANSPORTS}


@pytest.fixture(scope="module")
def static() -> Posed:
    return posed(simulated("static"))


def densities(problem: Posed, target: Target, z: np.ndarray) -> np.ndarray:
    return np.asarray(log_densities(problem.space, target, jnp.asarray(z)))


def dense(problem: Posed, z: np.ndarray) -> np.ndarray:
    x = np.asarray(problem.full.origin) + z @ np.asarray(problem.full.transform).T
    return np.array([dense_log_density(problem, one) for one in x])


def spread(difference: np.ndarray) -> float:
    return float(np.ptp(difference))


@pytest.mark.parametrize("model", HELD)
def test_given_any_model_then_the_density_is_that_of_all_raw_pairs(model):
    problem = posed(simulated(model, fixed=HELD[model]))
    z = problem.near(6)
    wanted = dense(problem, z)
    assert spread(wanted) > 5.0
    assert spread(densities(problem, problem.full, z) - wanted) < 0.01


@pytest.mark.parametrize("mode", ["constant", "averaged", "fourier", "hierarchical"])
def test_given_any_scaling_then_the_density_is_that_of_all_raw_pairs(static, mode):
    problem = static.scaled(mode)
    z = problem.near(6, width=0.7)
    wanted = dense(problem, z)
    assert spread(wanted) > 1.0
    assert spread(densities(problem, problem.full, z) - wanted) < 0.01


def test_given_another_q_gap_window_bounds_priors_and_held_values_then_nothing_is_compiled_again():
    case = simulated("laminar_flow", fixed={"D_offset": 100.0})
    problem = posed(case)
    z = problem.near(3)
    before = densities(problem, problem.full, z)
    others = []
    for own in case.parameters:
        prior = replace(own.prior, values=tuple((key, 1.1 * value) for key, value in own.prior.values))
        others.append(replace(own, prior=prior, upper=1.1 * own.upper))
    elsewhere = Coordinates(replace(case.model, q=0.006, gap=1.5e6), 3.0, ((2, 90.0),))
    space = space_of(elsewhere, others, (0.2, 60.0), samples_noise=True)
    with CacheRecorder() as recorder:
        after = densities(replace(problem, space=space), problem.full, z)
    assert recorder.use.hits + recorder.use.misses == 0
    assert spread(after - before) > 1.0, "and yet the values are others"


def test_given_condensed_arrays_then_the_density_is_that_of_all_raw_pairs(static):
    z = static.near(6)
    condensed = replace(static.full, arrays=static.condensed(static.moments)[0])
    assert spread(densities(static, condensed, z) - dense(static, z)) < 0.02


def test_given_a_known_noise_then_it_is_not_sampled():
    problem = posed(simulated("static"), samples_noise=False)
    assert problem.space.size == 3
    z = problem.near(6)
    assert spread(densities(problem, problem.full, z) - dense(problem, z)) < 0.01


def test_given_whitened_coordinates_then_the_gradient_is_the_slope_of_the_density(static):
    z = static.near(2)
    values, gradients = with_gradient(static.space, static.full, jnp.asarray(z))
    np.testing.assert_allclose(values, densities(static, static.full, z), rtol=1e-10)
    for k, step in enumerate(1e-2 * np.eye(z.shape[1])):
        ends = [densities(static, static.full, z + sign * step) for sign in (1.0, -1.0)]
        np.testing.assert_allclose(gradients[:, k], (ends[0] - ends[1]) / 2e-2, rtol=1e-4, atol=1e-3)


def test_given_a_place_where_nothing_fits_then_the_density_is_not_a_number_nowhere(static):
    directions = np.concatenate([np.eye(4), -np.eye(4)])
    far = densities(static, static.full, np.concatenate([10.0**k * directions for k in range(2, 7)]))
    assert not np.isnan(far).any()
    assert far.max() < densities(static, static.full, np.zeros((1, 4)))[0] - 100.0


def test_given_one_free_parameter_then_its_posterior_is_that_of_quadrature_over_the_physical_value():
    case = simulated("static", sd=0.4, fixed={"alpha": -0.4, "D_offset": 500.0})
    problem = posed(case, samples_noise=False)
    problem = replace(problem, full=replace(problem.full, sigma=jnp.full(3, 0.4)))
    z = np.linspace(-2000.0, 2000.0, 1601)[:, None]
    log_weight = densities(problem, problem.full, z)
    x = np.asarray(problem.full.origin) + z @ np.asarray(problem.full.transform).T
    values = np.array([physical(problem.space, one)[0][0] for one in x])
    grid = np.exp(np.linspace(np.log(values.min()), np.log(values.max()), 801))
    item = case.parameters[0]
    wanted = [dense_log_likelihood(problem, np.array([d, *case.truth[1:]]), 1.0) + log_prior(item, d) for d in grid]
    on_grid = np.array(wanted) + np.log(np.gradient(grid))
    means = [(_log_mean(values**power, log_weight), _log_mean(grid**power, on_grid)) for power in (-1.0, 1.0, 2.0)]
    assert means[2][1] - 2.0 * means[1][1] > 0.003
    for found, exact in means:
        assert found == pytest.approx(exact, abs=1e-3)


def _log_mean(values: np.ndarray, log_weight: np.ndarray) -> float:
    return float(logsumexp(log_weight, b=values) - logsumexp(log_weight))


@pytest.mark.parametrize("count", [1, 4])
def test_given_a_constant_scaling_then_tempered_shards_add_up_to_the_full_density(static, count):
    problem = static.scaled("constant")
    z = problem.near(5)
    whole = densities(problem, replace(problem.full, arrays=problem.condensed(problem.moments)[0]), z)
    parts = problem.shards(count, tempering=np.float64(1.0 / count))
    assert len(parts) == count
    total = sum(densities(problem, part, z) for part in parts)
    np.testing.assert_allclose(total, whole, atol=1e-5)


def test_given_tempering_alone_then_the_prior_of_the_shards_adds_up_to_the_full_prior(static):
    problem = static.scaled("constant")
    z = problem.near(5)
    cold, warm, hot = (densities(problem, replace(problem.full, tempering=np.float64(t)), z) for t in (0.0, 0.25, 1.0))
    theta = [physical(problem.space, np.asarray(problem.full.origin + problem.full.transform @ one)) for one in z]
    plain = dense(problem, z) - [dense_log_likelihood(problem, *one) for one in theta]
    assert spread(plain) > 0.01
    np.testing.assert_allclose(4.0 * (warm - cold), hot - cold, atol=1e-6)
    assert spread(hot - cold - plain) < 1e-3


def test_given_a_cavity_over_the_parameters_then_it_multiplies_the_density(static):
    problem = static.scaled("constant")
    rng = np.random.default_rng(4)
    inverse = np.linalg.inv(np.asarray(problem.full.transform))
    root = inverse.T @ rng.standard_normal((4, 4))
    precision, shift = root @ root.T, inverse.T @ rng.standard_normal(4)
    z = problem.near(5)
    step = z @ np.asarray(problem.full.transform).T
    cavity = step @ shift - 0.5 * np.einsum("ni,ij,nj->n", step, precision, step)
    held = replace(problem.full, precision=jnp.asarray(precision), shift=jnp.asarray(shift))
    found = densities(problem, held, z) - densities(problem, problem.full, z)
    np.testing.assert_allclose(found, cavity, atol=1e-6)


def test_given_a_cavity_over_parameters_and_scaling_then_it_is_integrated_over_the_scaling(static):
    problem = static.scaled("averaged")
    transform = np.asarray(problem.full.transform)
    rng = np.random.default_rng(5)
    unit = np.zeros((6, 6))
    unit[:4, :4], unit[4:, 4:] = np.linalg.inv(transform).T, 2000.0 * np.eye(2)
    root = unit @ (np.eye(6) + 0.3 * rng.standard_normal((6, 6)))
    precision = root @ root.T
    shift = precision @ np.array([0.0, 0.0, 0.0, 0.0, CONTRAST, 1.0]) + unit @ rng.standard_normal(6)
    held = replace(problem.full, precision=jnp.asarray(precision), shift=jnp.asarray(shift))
    z = problem.near(3, width=0.7)
    found = densities(problem, held, z) - densities(problem, problem.full, z)
    wanted = [_scaling_integral(problem, held, one) - _scaling_integral(problem, problem.full, one) for one in z]
    assert spread(np.array(wanted)) > 1.0
    assert spread(found - wanted) < 0.01


def _scaling_integral(problem: Posed, target: Target, z: np.ndarray) -> float:
    """log ∫ likelihood × cavity over (contrast, offset), by the trapezoid rule on every raw pair."""
    step = np.asarray(target.transform) @ z
    theta, scale = physical(problem.space, np.asarray(target.origin) + step)
    shape, data = raw_shape(problem.case, theta), pairs_of(problem.case)[3]
    rows = np.stack([shape, np.ones_like(shape)], axis=1)
    information, right = rows.T @ rows / (SD * scale) ** 2, rows.T @ data / (SD * scale) ** 2
    quadratic, linear = np.asarray(target.precision), np.asarray(target.shift)
    both = information + quadratic[4:, 4:]
    centre = np.linalg.solve(both, right + linear[4:] - quadratic[4:, :4] @ step)
    axis = np.linspace(-7.0, 7.0, 61)
    steps = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    levels = centre + steps @ np.linalg.inv(np.linalg.cholesky(both))
    off = levels - np.linalg.solve(information, right)
    value = -0.5 * np.einsum("ni,ij,nj->n", off, information, off)
    w = np.concatenate([np.broadcast_to(step, (len(levels), 4)), levels], axis=1)
    value += w @ linear - 0.5 * np.einsum("ni,ij,nj->n", w, quadratic, w)
    residual = data - rows @ np.linalg.solve(information, right)
    constant = -0.5 * residual @ residual / (SD * scale) ** 2 - data.size * np.log(scale)
    return float(logsumexp(value) - 0.5 * np.linalg.slogdet(both)[1] + constant)


def test_given_a_draw_then_it_comes_with_its_parameters_noise_and_scaling(static):
    problem = static.scaled("averaged")
    z = problem.near(2)
    theta, scale, levels = physical_values(problem.space, problem.full, jnp.asarray(z), jnp.zeros((2, 2)))
    for k, one in enumerate(z):
        wanted = physical(problem.space, np.asarray(problem.full.origin + problem.full.transform @ one))
        np.testing.assert_allclose(theta[k], wanted[0])
        assert float(scale[k]) == pytest.approx(wanted[1])
        rows = np.stack([raw_shape(problem.case, wanted[0]), np.ones(pairs_of(problem.case)[0].size)], axis=1)
        best = np.linalg.lstsq(rows, pairs_of(problem.case)[3], rcond=None)[0]
        np.testing.assert_allclose(levels[k], best, atol=2e-6)


def test_given_many_draws_at_one_place_then_the_scaling_scatters_as_its_covariance_says(static):
    problem = static.scaled("averaged")
    normal = np.random.default_rng(8).standard_normal((4000, 2))
    place = jnp.zeros((4000, 4))
    theta, scale, levels = physical_values(problem.space, problem.full, place, jnp.asarray(normal))
    shape = raw_shape(problem.case, np.asarray(theta[0]))
    rows = np.stack([shape, np.ones_like(shape)], axis=1)
    wanted = np.linalg.inv(rows.T @ rows) * (SD * float(scale[0])) ** 2
    np.testing.assert_allclose(np.cov(np.asarray(levels).T), wanted, rtol=0.1, atol=0.05 * wanted.max())
