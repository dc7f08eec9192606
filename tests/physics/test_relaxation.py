"""Multi-tau shapes and the q dependence of relaxation times at their limits."""

import jax
import numpy as np
import pytest

from hpcxpcs.physics.relaxation import double, ordered_times, power_law, single, stretched

TAU = np.geomspace(1e-4, 1e2, 40)


def test_given_one_relaxation_time_when_tau_equals_it_then_the_intensity_fell_by_e_squared():
    assert float(single(0.3, 0.3)) == pytest.approx(np.exp(-2.0))
    assert float(single(0.0, 0.3)) == 1.0


def test_given_stretching_one_when_evaluated_then_it_is_the_single_exponential():
    assert np.allclose(stretched(TAU, 0.4, 1.0), single(TAU, 0.4), rtol=1e-13)


@pytest.mark.parametrize("b", [0.5, 1.5, 2.0])
def test_given_any_stretching_when_linearised_then_the_slope_is_b(b):
    slope = np.diff(np.log(-np.log(stretched(TAU[15:30], 1.0, b)) / 2.0)) / np.diff(np.log(TAU[15:30]))
    assert np.allclose(slope, b, rtol=1e-6)


def test_given_lag_zero_when_differentiated_then_the_stretched_shape_is_one_with_finite_slopes():
    value, slopes = jax.value_and_grad(stretched, argnums=(1, 2))(0.0, 0.4, 0.7)
    assert float(value) == 1.0
    assert np.isfinite(slopes).all()


def test_given_one_fraction_when_evaluated_then_double_is_the_single_exponential():
    assert np.array_equal(double(TAU, 0.01, 5.0, 1.0), single(TAU, 0.01))
    assert np.array_equal(double(TAU, 0.01, 5.0, 0.0), single(TAU, 5.0))


def test_given_two_separate_times_when_between_them_then_only_the_slow_part_is_left():
    assert float(double(0.1, 1e-4, 1e3, 0.4)) == pytest.approx(0.6, abs=2e-4)


def test_given_times_in_the_wrong_order_when_ordered_then_the_shape_is_kept():
    fast, slow, share = ordered_times(3.0, 0.2, 0.25)
    assert (float(fast), float(slow), float(share)) == (0.2, 3.0, 0.75)
    assert np.allclose(double(TAU, fast, slow, share), double(TAU, 3.0, 0.2, 0.25), rtol=1e-14)


def test_given_times_in_order_when_ordered_then_they_are_kept():
    assert tuple(map(float, ordered_times(0.2, 3.0, 0.25))) == (0.2, 3.0, 0.25)


def test_given_diffusion_when_q_doubles_then_the_relaxation_time_falls_to_a_quarter():
    tau = power_law(np.array([0.005, 0.01]), 1e-4, 2.0)
    assert np.asarray(tau) == pytest.approx([4.0, 1.0], rel=1e-13)
