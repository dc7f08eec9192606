"""Power-law rates and integrals against adaptive quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from hpcxpcs.physics.rates import (
    TimeGrid,
    cumulative_trapezoid,
    on_grid,
    power,
    power_integral,
    rate,
    rate_integral,
)

EXPONENTS = [-5.0, -1.5, -1.0 - 1e-9, -1.0, -1.0 + 1e-9, -0.93, 0.0, 0.7, 5.0]
TIMES = [1e-3, 0.1, 0.999999, 1.0, 2.5, 40.0]


def log_moment(t: float, p: float, order: int) -> float:
    """Integral of s^p (ln s)^order from 1 to t, by quadrature over ln s."""
    value, _ = quad(lambda u: np.exp((1.0 + p) * u) * u**order, 0.0, np.log(t), epsabs=0.0, epsrel=1e-12)
    return value


@pytest.fixture(scope="module")
def derivatives():
    """Value, first and second derivative by the exponent at paired times and exponents, shapes (n,)."""
    slope = jax.grad(power_integral, argnums=1)
    return [jax.jit(jax.vmap(f)) for f in (power_integral, slope, jax.grad(slope, argnums=1))]


@pytest.mark.parametrize(("order", "tolerance"), [(0, 1e-12), (1, 1e-11), (2, 1e-9)])
def test_given_any_exponent_when_differentiated_then_the_integral_equals_quadrature(derivatives, order, tolerance):
    times, exponents = (grid.ravel() for grid in np.meshgrid(TIMES, EXPONENTS))
    expected = [log_moment(t, p, order) for t, p in zip(times, exponents, strict=True)]
    assert np.allclose(derivatives[order](times, exponents), expected, rtol=tolerance, atol=1e-15)


@pytest.mark.parametrize("p", EXPONENTS)
def test_given_a_time_when_differentiated_by_it_then_the_integral_gives_the_power_back(p):
    assert float(jax.grad(power_integral)(2.5, p)) == pytest.approx(2.5**p, rel=1e-12)


def test_given_exponents_across_the_series_border_when_evaluated_then_curvature_has_no_step(derivatives):
    times = np.array([1e-3, 0.1, 40.0])
    border = -1.0 + 0.25 / np.abs(np.log(times))
    below, above = (derivatives[2](times, border * (1.0 + side)) for side in (-1e-12, 1e-12))
    assert np.allclose(below, above, rtol=1e-10, atol=0.0)


@pytest.mark.parametrize("p", [-0.9, -0.5, 0.0, 2.0])
def test_given_time_zero_when_the_integral_converges_then_it_is_minus_one_over_one_plus_p(p):
    assert float(power_integral(0.0, p)) == pytest.approx(-1.0 / (1.0 + p), rel=1e-14)
    assert float(jax.grad(power_integral, argnums=1)(0.0, p)) == pytest.approx(1.0 / (1.0 + p) ** 2)


@pytest.mark.parametrize("p", [-1.0, -1.5, -5.0])
def test_given_time_zero_when_the_integral_diverges_then_it_is_huge_but_finite(p):
    value, slope = jax.value_and_grad(power_integral, argnums=1)(0.0, p)
    assert -np.inf < float(value) < -1e90
    assert float(slope) == 0.0


@pytest.mark.parametrize("p", [-400.0, -40.0, 40.0, 400.0])
@pytest.mark.parametrize("function", [power, power_integral])
def test_given_extreme_exponents_when_differentiated_then_nothing_is_nan(function, p):
    times = jnp.array([0.0, 1e-10, 1e-3, 1.0, 1e4])
    slope = jax.jacfwd(lambda x: function(times, x))
    curvature = jax.jacfwd(slope)
    for values in (function(times, p), slope(p), curvature(p)):
        assert np.isfinite(values).all()


@pytest.mark.parametrize(("p", "expected"), [(0.5, 0.0), (0.0, 1.0)])
def test_given_time_zero_when_raised_to_a_nonnegative_power_then_the_limit_is_returned(p, expected):
    assert float(power(0.0, p)) == expected


def test_given_a_rate_when_integrated_between_two_times_then_the_difference_equals_quadrature():
    amplitude, exponent, offset = 1.3e4, -1.5, 70.0
    expected, _ = quad(lambda s: float(amplitude * s**exponent + offset), 0.1, 0.2, epsrel=1e-12)
    start, end = (rate_integral(t, amplitude, exponent, offset) for t in (0.1, 0.2))
    assert float(end - start) == pytest.approx(expected, rel=1e-12)
    assert float(rate(0.1, amplitude, exponent, offset)) == pytest.approx(amplitude * 0.1**exponent + offset)


def test_given_samples_when_summed_then_the_running_trapezoid_equals_numpy():
    samples = np.random.default_rng(3).normal(size=20)
    running = cumulative_trapezoid(jnp.asarray(samples), 0.25)
    expected = [np.trapezoid(samples[: k + 1], dx=0.25) for k in range(20)]
    assert np.allclose(running, expected, rtol=1e-13, atol=1e-14)


def test_given_frame_times_with_rounding_noise_when_picked_then_every_frame_finds_itself():
    grid = TimeGrid(start=0.1, step=0.1, count=430)
    frames = np.arange(430.0)
    picked = on_grid(jnp.asarray(frames), grid, jnp.asarray(np.linspace(0.1, 43.0, 430)))
    assert np.array_equal(picked, frames)


def test_given_times_outside_the_grid_when_picked_then_the_answer_is_nan_not_a_neighbour():
    grid = TimeGrid(start=1.0, step=1.0, count=3)
    picked = on_grid(jnp.array([10.0, 20.0, 30.0]), grid, jnp.array([0.0, 1.0, 3.0, 4.0]))
    assert np.array_equal(picked, [np.nan, 10.0, 30.0, np.nan], equal_nan=True)
