"""Two components: golden values, limits, symmetries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from hpcxpcs.physics.heterodyne import sample_fraction, sample_lead, swapped
from hpcxpcs.physics.model import TimeGrid, build_model

Q = 0.0054
TIMES = 0.1 * np.arange(1, 101)
THETA = np.array([1e4, -0.3, 50.0, 2e4, 0.2, 100.0, 1000.0, -0.4, 5.0, 0.4, -0.1, 1.0, 0.1, 3.0])


SHAPE = jax.jit(lambda model, *rest: model.shape(*rest))


def constant_fraction(f0: float, f3: float = 0.0) -> np.ndarray:
    theta = THETA.copy()
    theta[9:13] = [f0, 0.0, 0.0, f3]
    return theta


def two_time(model, theta, phi=30.0) -> np.ndarray:
    return np.asarray(SHAPE(model, theta, TIMES[:, None], TIMES[None, :], phi))


@pytest.fixture(scope="module")
def model():
    return build_model("two_component", q=Q)


@pytest.fixture(scope="module")
def published():
    grid = TimeGrid(start=0.1, step=0.1, count=100)
    return build_model("two_component", q=Q, integrator="trapezoid", heterodyne="heterodyne-2", grid=grid)


def test_given_heterodyne_2_with_trapezoid_when_evaluated_then_published_values_are_reproduced(published):
    c2 = 1.01 + 0.35 * two_time(published, THETA)
    golden = {
        (0, 0): 1.35999999999,
        (0, 1): 1.26887711410,
        (10, 20): 1.04167952682,
        (5, 80): 1.03835099823,
        (50, 99): 1.10988165751,
        (99, 50): 1.10988165751,
    }
    assert {pair: c2[pair] for pair in golden} == pytest.approx(golden, abs=2e-11)
    assert c2.mean() == pytest.approx(1.12759375090, abs=1e-10)


def test_given_a_transport_that_turns_negative_when_published_then_it_is_floored_at_zero(published):
    theta = constant_fraction(0.5)
    theta[:6] = [100.0, 0.0, -150.0, 100.0, 0.0, -150.0]
    theta[6:9] = 0.0
    assert np.abs(two_time(published, theta) - 1.0).max() < 1e-14


def test_given_a_grid_from_zero_when_published_then_the_power_law_counts_as_zero_there():
    grid = TimeGrid(start=0.0, step=0.1, count=3)
    model = build_model("static_ref", q=Q, integrator="trapezoid", heterodyne="heterodyne-2", grid=grid)
    f = float(SHAPE(model, np.array([1e4, 0.0, 200.0]), 0.0, 0.1, 0.0))
    assert -np.log(f) / Q**2 == pytest.approx(0.05 * (200.0 + 10200.0), rel=1e-12)


def test_given_opposite_phi0_when_physical_then_the_sign_of_the_published_angle_is_turned():
    physical = build_model("two_component", q=Q)
    compatible = build_model("two_component", q=Q, heterodyne="heterodyne-2")
    mirrored = constant_fraction(0.5)
    mirrored[13] *= -1.0
    assert two_time(physical, constant_fraction(0.5)) == pytest.approx(two_time(compatible, mirrored), abs=1e-11)
    assert np.abs(two_time(physical, mirrored) - two_time(physical, constant_fraction(0.5))).max() > 1e-3


def test_given_equilibrium_when_compared_then_the_one_time_formula_holds(model):
    d_ref, d_sample, velocity, f_sample, phi = 800.0, 4000.0, 700.0, 0.3, 40.0
    theta = np.array([6 * d_ref, 0, 0, 6 * d_sample, 0, 0, velocity, 0, 0, f_sample, 0, 0, 0, 0.0])
    tau = np.linspace(0.0, 5.0, 60)
    x = f_sample**2 / (f_sample**2 + (1 - f_sample) ** 2)
    expected = (
        (1 - x) ** 2 * np.exp(-6 * Q**2 * d_ref * tau)
        + x**2 * np.exp(-6 * Q**2 * d_sample * tau)
        + 2
        * x
        * (1 - x)
        * np.exp(-3 * Q**2 * (d_ref + d_sample) * tau)
        * np.cos(Q * velocity * tau * np.cos(np.deg2rad(phi)))
    )
    assert np.allclose(SHAPE(model, theta, 2.0, 2.0 + tau, phi), expected, rtol=0.0, atol=1e-13)


def test_given_a_varying_fraction_when_compared_then_quadrature_and_the_full_formula_hold(model):
    t1, t2, phi = 0.7, 4.2, 12.0
    d_r, a_r, o_r, d_s, a_s, o_s, v0, beta, v_off, f0, f1, f2, f3, phi0 = THETA
    transport_r, transport_s, path = (
        quad(lambda t, c=c: c[0] * t ** c[1] + c[2], t1, t2, epsrel=1e-12)[0]
        for c in ((d_r, a_r, o_r), (d_s, a_s, o_s), (v0, beta, v_off))
    )
    x1, x2 = (min(max(f0 * np.exp(f1 * (t - f2)) + f3, 0.0), 1.0) for t in (t1, t2))
    y1, y2 = 1 - x1, 1 - x2
    h_r, h_s = np.exp(-0.5 * Q**2 * transport_r), np.exp(-0.5 * Q**2 * transport_s)
    theta = Q * np.cos(np.deg2rad(phi - phi0)) * path
    terms = (y1 * y2 * h_r) ** 2 + (x1 * x2 * h_s) ** 2 + 2 * y1 * y2 * x1 * x2 * h_r * h_s * np.cos(theta)
    expected = terms / ((x1**2 + y1**2) * (x2**2 + y2**2))
    assert float(SHAPE(model, THETA, t1, t2, phi)) == pytest.approx(expected, rel=1e-12)


def test_given_no_sample_when_evaluated_then_only_the_reference_decays(model):
    reference = build_model("static_ref", q=Q)
    transport = quad(lambda t: 1e4 * t**-0.3 + 50.0, 0.5, 3.0, epsrel=1e-12)[0]
    alone = float(SHAPE(model, constant_fraction(0.0), 0.5, 3.0, 30.0))
    assert alone == pytest.approx(np.exp(-(Q**2) * transport), rel=1e-12)
    assert np.allclose(two_time(model, constant_fraction(0.0)), two_time(reference, THETA[:3]), atol=1e-14)


def test_given_equal_transports_at_rest_when_evaluated_then_any_fraction_gives_static_ref(model):
    theta = constant_fraction(0.23)
    theta[3:6], theta[6:9] = theta[:3], 0.0
    assert np.allclose(two_time(model, theta), two_time(build_model("static_ref", q=Q), THETA[:3]), atol=1e-14)


def test_given_static_both_when_evaluated_then_it_is_two_component_at_rest_with_equal_amplitudes(model):
    theta = constant_fraction(0.5)
    theta[6:9] = 0.0
    assert np.allclose(two_time(build_model("static_both", q=Q), THETA[:6]), two_time(model, theta), atol=1e-14)


@pytest.mark.parametrize("convention", ["physical", "heterodyne-2"])
def test_given_a_reversed_velocity_when_evaluated_then_nothing_changes(convention):
    model = build_model("two_component", q=Q, heterodyne=convention)
    reversed_theta = THETA.copy()
    reversed_theta[[6, 8]] *= -1.0
    assert np.array_equal(two_time(model, THETA), two_time(model, reversed_theta))


def test_given_a_fraction_outside_zero_and_one_when_physical_then_it_is_clipped_exactly():
    t = jnp.array([0.0, 5.0, 10.0])
    assert np.array_equal(sample_fraction(t, 0.1, 1.0, 0.0, 0.0, convention="physical"), [0.1, 1.0, 1.0])
    assert np.array_equal(sample_fraction(t, 0.0, 1.0, 0.0, -0.2, convention="physical"), [0.0, 0.0, 0.0])


@pytest.mark.parametrize(("fraction", "published"), [(0.0, 0.013863), (0.5, 0.5), (1.0, 0.986137)])
def test_given_the_published_clip_when_evaluated_then_its_known_bias_is_reproduced(fraction, published):
    assert float(sample_fraction(1.0, fraction, 0.0, 0.0, 0.0, convention="heterodyne-2")) == pytest.approx(
        published, abs=5e-7
    )


@pytest.mark.parametrize("convention", ["physical", "heterodyne-2"])
def test_given_a_runaway_exponent_when_differentiated_twice_then_the_shape_stays_finite(convention):
    model = build_model("two_component", q=Q, heterodyne=convention)

    def of_fraction(fraction):
        return model.shape(jnp.asarray(THETA).at[9:13].set(fraction), 0.1, 5.0, 30.0)

    @jax.jit
    def up_to_second_order(fraction):
        return [f(fraction) for f in (of_fraction, jax.jacfwd(of_fraction), jax.hessian(of_fraction))]

    for f0 in (0.0, 0.5):
        for f2 in (-1e4, -350.0, 1e4):
            for values in up_to_second_order(np.array([f0, 10.0, f2, 0.0])):
                assert np.isfinite(values).all()


fractions = st.floats(0.0, 1.0)


@settings(max_examples=40, deadline=None)
@given(total=fractions, share=fractions)
def test_given_any_constant_fraction_when_components_are_swapped_then_the_shape_is_the_same(total, share):
    model = build_model("two_component", q=Q)
    theta = constant_fraction(total * share, total * (1.0 - share))
    other = np.asarray(swapped(theta))
    assert other[:6].tolist() == [*theta[3:6], *theta[:3]]
    assert (
        np.abs(SHAPE(model, theta, TIMES[:50:7], 5.0, 30.0) - SHAPE(model, other, TIMES[:50:7], 5.0, 30.0)).max()
        < 1e-13
    )
    assert 0.0 <= other[9] <= 1.0
    assert 0.0 <= other[12] <= 1.0


def test_given_the_published_clip_when_components_are_swapped_then_the_shape_is_the_same(published):
    theta = constant_fraction(0.2, 0.1)
    assert np.abs(two_time(published, theta) - two_time(published, swapped(theta))).max() < 1e-10


def test_given_a_small_f3_when_swapped_twice_then_the_parameters_come_back():
    theta = constant_fraction(0.3, 0.1)
    assert swapped(swapped(theta)) == pytest.approx(theta, abs=1e-15)
    assert float(swapped(theta)[12]) == 0.1


@settings(max_examples=40, deadline=None)
@given(f0=st.floats(-1.0, 1.0), f1=st.floats(-0.5, 0.5), f3=st.floats(-0.2, 1.2))
def test_given_a_varying_fraction_when_components_are_swapped_then_the_shape_is_the_same(f0, f1, f3):
    model = build_model("two_component", q=Q)
    theta = THETA.copy()
    theta[9:13] = [f0, f1, 1.0, f3]
    one, other = (SHAPE(model, each, TIMES[:50:7], 5.0, 30.0) for each in (theta, np.asarray(swapped(theta))))
    np.testing.assert_allclose(one, other, atol=1e-13)


def test_given_transports_then_the_lead_is_the_logarithm_of_their_ratio_at_that_time():
    theta = constant_fraction(0.5)
    theta[:6] = [1000.0, 0.0, 0.0, 1000.0, 1.0, 500.0]
    assert float(sample_lead(theta, 2.0)) == pytest.approx(np.log(2.5))
    assert float(sample_lead(theta, 0.1)) == pytest.approx(np.log(0.6))
    assert float(sample_lead(np.asarray(swapped(theta)), 2.0)) == pytest.approx(-np.log(2.5))


def test_given_static_both_when_swapped_then_its_transports_trade_places():
    fast_reference = np.roll(THETA[:6], 3)
    assert np.array_equal(swapped(fast_reference), THETA[:6])
    assert float(sample_lead(fast_reference, 1.0)) == -float(sample_lead(THETA[:6], 1.0)) < 0.0
