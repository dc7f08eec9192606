"""Fit coordinates: there and back, whatever is fixed; starts without coordinates; the smallest rate."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcxpcs.inference.coordinates import SMALLEST_SHARE, Coordinates, lowest_rates, reference_time
from hpcxpcs.physics.model import MODELS, build_model

T_REF = 3.0
FRACTIONS = {"f0": (0.0, 1.0), "f1": (-1.0, 1.0), "f2": (0.0, 10.0), "f3": (0.0, 1.0), "phi0": (-10.0, 10.0)}


def model_of(name):
    return build_model(name, q=0.0054)


@st.composite
def physical(draw, model):
    """Physical parameters whose rates are positive at the reference time."""
    theta = np.zeros(len(model.parameter_names))
    for k, name in enumerate(model.parameter_names):
        theta[k] = draw(st.floats(*FRACTIONS.get(name, (-2.0, 2.0))))
    for rate in model.rates:
        amplitude = 10.0 ** draw(st.floats(-4.0, 5.0))
        share = draw(st.floats(-0.95, 20.0))
        theta[rate.amplitude] = amplitude
        theta[rate.offset] = share * amplitude * T_REF ** theta[rate.exponent]
    return theta


def patterns(model):
    """Every choice of fixed parameters among the rates' members, and each of the others alone."""
    rates = [i for rate in model.rates for i in (rate.amplitude, rate.exponent, rate.offset)]
    others = [i for i in range(len(model.parameter_names)) if i not in rates]
    for triple in range(0, len(rates), 3):
        for size in range(4):
            for chosen in combinations(rates[triple : triple + 3], size):
                yield chosen
                if others:
                    yield (*chosen, others[0])


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
@settings(max_examples=20)
def test_physical_values_survive_the_way_to_coordinates_and_back(name, data):
    model = model_of(name)
    theta = data.draw(physical(model))
    fixed = data.draw(st.sampled_from(sorted(set(patterns(model)))))
    if len(fixed) == len(theta):
        fixed = fixed[1:]
    coordinates = Coordinates(model, T_REF, tuple((i, float(theta[i])) for i in fixed))
    back = np.asarray(coordinates.to_physical(jnp.asarray(coordinates.from_physical(theta))))
    scale = np.abs(theta)
    for rate in model.rates:
        scale[rate.offset] += theta[rate.amplitude] * T_REF ** theta[rate.exponent]
    np.testing.assert_allclose(back, theta, atol=1e-9 * (scale + 1.0).max(), rtol=1e-9)
    assert np.all(np.abs(back - theta) <= 1e-9 * (scale + 1e-300) + 1e-12)


@pytest.mark.parametrize("name", MODELS)
@given(data=st.data())
@settings(max_examples=4)
def test_every_free_parameter_has_a_coordinate_and_every_fixed_one_keeps_its_value(name, data):
    model = model_of(name)
    theta = data.draw(physical(model))
    fixed = data.draw(st.sampled_from(sorted(set(patterns(model)))))
    if len(fixed) == len(theta):
        fixed = fixed[1:]
    coordinates = Coordinates(model, T_REF, tuple((i, float(theta[i])) for i in fixed))
    u = coordinates.from_physical(theta)
    assert u.shape == (len(theta) - len(fixed),) == (len(coordinates.free),)
    moved = np.asarray(coordinates.to_physical(jnp.asarray(u + 0.01)))
    assert np.array_equal(moved[list(fixed)], theta[list(fixed)])
    slopes = np.asarray(jax.jacfwd(coordinates.to_physical)(jnp.asarray(u)))
    assert np.linalg.matrix_rank(slopes / np.abs(slopes).max(axis=1, keepdims=True).clip(1e-300)) == u.size


@pytest.mark.parametrize(("name", "amplitude"), [("laminar_flow", "gamma_dot_t0"), ("two_component", "v0")])
def test_given_an_amplitude_fixed_at_zero_when_mapped_then_the_rest_of_the_rate_still_varies(name, amplitude):
    model = model_of(name)
    place = model.parameter_names.index
    theta = np.full(len(model.parameter_names), 0.5)
    theta[place(amplitude)] = 0.0
    coordinates = Coordinates(model, T_REF, ((place(amplitude), 0.0), (place("beta"), 0.0)))
    back = np.asarray(coordinates.to_physical(jnp.asarray(coordinates.from_physical(theta))))
    assert back[place(amplitude)] == 0.0
    np.testing.assert_allclose(np.delete(back, place("beta")), np.delete(theta, place("beta")), rtol=1e-12)


def test_coordinates_are_the_value_the_log_slope_and_the_share_of_the_power_law():
    model = model_of("static")
    amplitude, exponent, offset = 1.2e4, -0.4, 500.0
    u = Coordinates(model, T_REF, ()).from_physical(np.array([amplitude, exponent, offset]))
    power = amplitude * T_REF**exponent
    expected = [np.log(power + offset), exponent * power / (power + offset), np.log(power / (power + offset))]
    np.testing.assert_allclose(u, expected, rtol=1e-12)


def test_given_a_start_whose_offset_makes_the_rate_negative_then_it_is_lifted_to_a_positive_rate():
    model = model_of("static")
    coordinates = Coordinates(model, T_REF, ())
    theta = np.array([1.0e3, -0.5, -5.0e3])
    lifted = np.asarray(coordinates.to_physical(jnp.asarray(coordinates.from_physical(theta))))
    power = theta[0] * T_REF ** theta[1]
    np.testing.assert_allclose(lifted[:2], theta[:2], rtol=1e-12)
    assert lifted[2] == pytest.approx(-(1.0 - SMALLEST_SHARE) * power)


def test_the_reference_time_is_the_geometric_middle():
    assert reference_time(0.1, 10.0) == pytest.approx(1.0)


@given(
    exponent=st.floats(-2.0, 2.0),
    share=st.floats(-3.0, 3.0),
    first=st.floats(0.01, 1.0),
    span=st.floats(2, 500),
)
def test_the_lowest_rate_is_the_minimum_over_the_window_in_units_of_the_middle(exponent, share, first, span):
    last = first * span
    middle = reference_time(first, last)
    theta = np.array([100.0, exponent, share * 100.0 * middle**exponent])
    times = np.append(np.geomspace(first, last, 400), middle)
    rates = theta[0] * times**exponent + theta[2]
    scale = max(abs(theta[0] * middle**exponent + theta[2]), 1e-300)
    found = float(lowest_rates(model_of("static"), jnp.asarray(theta), first, last)[0])
    if abs(1.0 + share) > 1e-6:
        assert found == pytest.approx(rates.min() / scale, rel=1e-6, abs=1e-9)


def test_a_velocity_may_change_sign_so_only_transports_and_shear_rates_are_watched():
    theta = jnp.full(14, 0.5)
    assert lowest_rates(model_of("two_component"), theta, 0.1, 10.0).shape == (2,)
    assert lowest_rates(model_of("laminar_flow"), jnp.full(7, 0.5), 0.1, 10.0).shape == (2,)
