"""The sampling space fills the allowed parameters exactly, smoothly and once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.inference.coordinates import Coordinates, lowest_rate
from hpcxpcs.inference.support import Support, soft_clip, soft_clip_inverse
from hpcxpcs.physics.model import build_model

FIRST, LAST = 0.1, 40.0


def support_of(fixed=(), lower=None, upper=None, model="laminar_flow", first=FIRST, last=LAST):
    built = build_model(model, q=0.0054, gap=2.0e6)
    coordinates = Coordinates(built, float(np.sqrt(first * last)), tuple(fixed))
    low = lower or (1.0, -2.0, -500.0, 1e-4, -2.0, -0.05, -180.0)
    high = upper or (1e5, 2.0, 2000.0, 1.0, 2.0, 0.2, 180.0)
    count = len(coordinates.free)
    support = Support.of(coordinates, low, high, (first, last))
    return support.softened(middle(support), np.full(count, 0.3))


def middle(support):
    """Fit coordinates of an ordinary set of parameters; offsets take the sign that the bounds ask for."""
    sign = -1.0 if support.upper[2] < 0.0 else 1.0
    theta = np.array([1e3, -0.3, sign * 20.0, 0.02, 0.1, sign * 0.002, 10.0])
    for index, value in support.coordinates.fixed:
        theta[index] = value
    return support.coordinates.from_physical(theta)


CASES = {
    "all free": {},
    "exponent fixed": {"fixed": ((1, -0.3),)},
    "offset fixed": {"fixed": ((2, 0.0),)},
    "offset fixed below zero": {"fixed": ((2, -3.0),)},
    "amplitude fixed": {"fixed": ((0, 800.0),)},
    "amplitude and exponent fixed": {"fixed": ((0, 800.0), (1, 0.4))},
    "amplitude may vanish": {"lower": (0.0, -2.0, 0.0, 0.0, -2.0, 0.0, -180.0)},
    "offset must be positive": {"lower": (1.0, -2.0, 10.0, 1e-4, -2.0, 0.001, -180.0)},
    "offset must be negative": {"upper": (1e5, 2.0, -1.0, 1.0, 2.0, -1e-5, 180.0)},
    "early window": {"first": 1e-5, "last": 1e-3},
    "short window": {"first": 10.0, "last": 11.0},
}


def draws(support, count=400, width=3.0):
    rng = np.random.default_rng(5)
    centre = support.from_coordinates(middle(support))
    return jnp.asarray(centre + width * np.array(support.softness) * rng.standard_normal((count, centre.size)))


@pytest.mark.parametrize("case", CASES)
def test_given_any_point_of_the_sampling_space_then_the_parameters_keep_their_bounds(case):
    support = support_of(**CASES[case])
    theta = np.asarray(jax.vmap(lambda x: support.to_physical(x)[0])(draws(support)))
    free = list(support.coordinates.free)
    width = np.array(support.upper) - np.array(support.lower)
    assert np.all(np.isfinite(theta))
    slack = 1e-9 * width[free] + 1e-9 * np.abs(np.array(support.lower)[free]) + 1e-25
    assert np.all(theta[:, free] >= np.array(support.lower)[free] - slack)
    assert np.all(theta[:, free] <= np.array(support.upper)[free] + slack)


@pytest.mark.parametrize("case", CASES)
def test_given_any_point_of_the_sampling_space_then_no_rate_is_negative_in_the_window(case):
    support = support_of(**CASES[case])
    theta = jax.vmap(lambda x: support.to_physical(x)[0])(draws(support))
    lowest = jax.vmap(lambda t: lowest_rate(support.coordinates.model, t, support.first, support.last))(theta)
    assert np.all(np.asarray(lowest) >= -1e-7)


@pytest.mark.parametrize("case", CASES)
def test_given_the_map_then_its_volume_element_is_the_determinant_of_its_derivative(case):
    support = support_of(**CASES[case])
    free = np.array(support.coordinates.free)

    def mapped(x):
        return support.to_physical(x)[0][free]

    points = draws(support, count=20, width=1.0)
    exact = jax.vmap(lambda x: jnp.linalg.slogdet(jax.jacfwd(mapped)(x))[1])(points)
    stated = jax.vmap(lambda x: support.to_physical(x)[1])(points)
    np.testing.assert_allclose(stated, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_given_coordinates_inside_when_mapped_there_and_back_then_they_return(case):
    support = support_of(**CASES[case])
    for x in np.asarray(draws(support, count=20, width=1.0)):
        u = np.asarray(support.to_coordinates(jnp.asarray(x))[0])
        again = np.asarray(support.to_coordinates(jnp.asarray(support.from_coordinates(u)))[0])
        np.testing.assert_allclose(again, u, atol=2e-4)


def test_given_a_point_far_inside_then_the_map_is_the_identity():
    support = support_of()
    u = support.coordinates.from_physical(np.array([1e3, -0.3, 20.0, 0.02, 0.1, 0.001, 10.0]))
    np.testing.assert_allclose(support.from_coordinates(u), u, atol=3e-3)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (0.0, 1e-3), (-1e6, 1e6)])
def test_given_a_soft_clip_then_its_stated_slope_is_its_derivative_and_its_inverse_undoes_it(low, high):
    softness = 0.2 * (high - low)
    x = jnp.linspace(low - 2.0 * softness, high + 2.0 * softness, 51)
    ends = (jnp.asarray(low), jnp.asarray(high), jnp.asarray(softness))
    value, slope = jax.vmap(lambda v: soft_clip(v, *ends))(x)
    derivative = jax.vmap(jax.grad(lambda v: soft_clip(v, *ends)[0]))(x)
    np.testing.assert_allclose(np.exp(slope), derivative, rtol=1e-10)
    np.testing.assert_allclose(soft_clip_inverse(value, *ends), x, atol=1e-6 * (high - low))


def test_given_spreads_then_clips_are_as_soft_but_at_most_a_quarter_of_the_interval():
    support = support_of()
    u = support.coordinates.from_physical(np.array([1e3, -0.3, 20.0, 0.02, 0.1, 0.001, 10.0]))
    spread = np.array([0.01, 0.02, np.nan, 0.01, 0.01, 0.01, 1e9])
    softness = support.softened(u, spread).softness
    assert softness[0] == 0.01
    assert softness[6] == pytest.approx(0.25 * 360.0)
    assert np.isfinite(softness[2]) and softness[2] > 0.0
