"""Which of two components is the sample: who stands in the way of exchanging them, and what decides between the two."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.answer.fit import Exchange, PointSettings
from hpcxpcs.inference.bounds import settle_bounds
from hpcxpcs.inference.coordinates import Coordinates
from hpcxpcs.inference.diagnostics import find_modes
from hpcxpcs.inference.exchange import exchanged_share, labelled, mirrored
from hpcxpcs.inference.objective import Limits, Objective
from hpcxpcs.inference.recovery import minimise_scaled
from hpcxpcs.inference.support import Support
from hpcxpcs.likelihood.products import Compiled
from hpcxpcs.likelihood.scaling import build_scaling
from hpcxpcs.physics.heterodyne import sample_fraction, sample_lead, swapped
from hpcxpcs.physics.model import MODELS, build_model
from hpcxpcs.pipeline.assemble import mixed_labels
from tests.inference.fitting import fit, parameters_for, simulated

TRUTH = np.array([4e3, -0.3, 200.0, 2e4, -0.2, 2e3, 1e3, -0.2, 20.0, 0.4, -0.05, 1.0, 0.2, 3.0])
FIRST, LAST = 0.1, 9.9
NAMES = MODELS["two_component"]


def exchanged(theta=TRUTH, model="two_component", fixed=None, bounds=()):
    parameters = parameters_for(model, fixed=fixed, bounds=bounds)
    held = tuple((k, p.fixed) for k, p in enumerate(parameters) if p.fixed is not None)
    limits = Limits.of(parameters, FIRST, LAST)
    return mirrored(Coordinates(build_model(model, q=0.0054), 1.0, held), limits, theta)


def fraction(theta):
    return np.asarray(sample_fraction(np.linspace(FIRST, LAST, 50), *theta[9:13], convention="physical"))


FREE = {
    "nothing is fixed": {},
    "what both share is fixed": {"fixed": {"v0": 1e3, "beta": -0.2, "phi0": 3.0, "f2": 1.0}},
    "both of a pair are fixed alike": {"fixed": {"D_offset_ref": 0.0, "D_offset_sample": 0.0}},
    "both of a pair are bounded alike": {
        "bounds": [{"name": f"D0_{which}", "min": 1e3, "max": 1e5} for which in ("ref", "sample")]
    },
}


@pytest.mark.parametrize("case", FREE)
def test_given_settings_that_treat_both_alike_then_nothing_stands_in_the_way_of_an_exchange(case):
    theta = TRUTH.copy()
    for name, value in FREE[case].get("fixed", {}).items():
        theta[NAMES.index(name)] = value
    found, obstacles = exchanged(theta, **FREE[case])
    assert obstacles == ()
    np.testing.assert_array_equal(found[:6], [*theta[3:6], *theta[:3]])
    np.testing.assert_array_equal(found[6:9], theta[6:9])
    assert np.all(found[[9, 12]] >= 0.0)
    np.testing.assert_allclose(fraction(found), 1.0 - fraction(theta), atol=0.02)


BROKEN = {
    "one amplitude is fixed": ({"fixed": {"D0_ref": 4e3}}, ("D0_ref",)),
    "a pair is fixed differently": (
        {"fixed": {"alpha_ref": -0.3, "alpha_sample": -0.2}},
        ("alpha_ref", "alpha_sample"),
    ),
    "bounds exclude the other value": (
        {"bounds": [{"name": "D0_sample", "min": 1e4, "max": 1e5}]},
        ("D0_sample",),
    ),
    "the fraction is known": ({"fixed": {"f0": 0.4, "f1": -0.05, "f2": 1.0, "f3": 0.2}}, ("f0", "f1", "f3")),
    "the fraction is bounded": (
        {"bounds": [{"name": "f0", "min": 0.35, "max": 1.0}, {"name": "f3", "min": 0.15, "max": 1.0}]},
        ("f0", "f3"),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_given_settings_that_name_the_components_then_they_are_told_and_kept(case):
    sections, named = BROKEN[case]
    found, obstacles = exchanged(**sections)
    assert obstacles and set(obstacles) <= set(named)
    for name, value in sections.get("fixed", {}).items():
        assert found[NAMES.index(name)] == value
    for bound in sections.get("bounds", ()):
        assert bound["min"] <= found[NAMES.index(bound["name"])] <= bound["max"]


def test_given_bounds_that_let_f0_be_negative_then_the_exchange_is_exact():
    found, obstacles = exchanged(bounds=[{"name": "f0", "min": -1.0, "max": 1.0}])
    assert obstacles == ()
    np.testing.assert_allclose(fraction(found), 1.0 - fraction(TRUTH), atol=1e-3)


def test_given_a_constant_fraction_then_the_exchange_is_exact():
    theta = TRUTH.copy()
    theta[[10, 12]] = 0.0
    found, obstacles = exchanged(theta, fixed={"f1": 0.0, "f2": 1.0, "f3": 0.0})
    assert obstacles == ()
    np.testing.assert_allclose(found, swapped(theta), atol=1e-12)


@pytest.fixture(scope="module")
def both():
    return simulated("static_both", seed=1, frames=40, dt=0.3, sd=0.0003)


SWAPPED = {
    "D0_ref": 2e4, "alpha_ref": -0.2, "D_offset_ref": 2e3,
    "D0_sample": 4e3, "alpha_sample": -0.3, "D_offset_sample": 200.0,
}  # fmt: skip


def named(case, **sections):
    """What is made of a minimum found from a start with the names of the truth exchanged, on all raw pairs."""
    case = case.told(**sections)
    phi, settings = case.measurement.phi, PointSettings(scaling="individual")
    objective = Objective(
        case.coordinates,
        Compiled(case.tiles),
        build_scaling("individual", phi),
        jnp.full(len(phi), 0.0003),
        case.limits,
    )
    start = np.array(list((SWAPPED | dict(sections.get("fixed", {}))).values()))
    scaled = minimise_scaled(objective, case.coordinates.from_physical(start), phi, settings)
    settled = settle_bounds(objective, scaled.minimum, settings)
    pairs = float(np.sum(np.asarray(case.tiles.weights)))
    _, quoted, exchange = labelled(scaled, settled, phi, case.parameters, settings, pairs)
    return quoted.theta, exchange, float(sample_lead(quoted.theta, case.coordinates.t_ref))


def test_given_settings_that_treat_both_alike_then_the_sample_is_the_faster_one(both):
    theta, told, lead = named(both, fixed={"D_offset_ref": 100.0, "D_offset_sample": 100.0})
    assert lead > 0.0
    assert (told.decided_by, told.indifferent) == ("order", True)
    assert abs(told.difference) < 0.1
    np.testing.assert_allclose(told.values, swapped(theta), rtol=1e-2)
    assert "do not tell" in told.words and "the faster one" in told.words


def test_given_an_amplitude_that_is_fixed_then_it_names_the_components_and_the_exchange_is_compared(both):
    # The value belongs to the faster component: the reference is the faster one here.
    _, told, lead = named(both, fixed={"D0_ref": 2e4})
    assert lead < 0.0
    assert told.decided_by == "settings" and "(D0_ref)" in told.words
    assert told.difference > 10.0 and not told.indifferent


def test_given_priors_that_differ_then_they_name_the_components(both):
    apart = [
        {"name": f"D0_{which}", "prior": {"type": "lognormal", "median": median, "sigma": 0.3}}
        for which, median in (("ref", 2e4), ("sample", 4e3))
    ]
    _, told, lead = named(both, bounds=apart)
    assert (told.decided_by, told.indifferent) == ("priors", True)
    assert lead < 0.0


LATE, EARLY = (0.1, 40.0), (1e-3, 0.4)
SLOW, FAST = (4e3, -0.3, 200.0), (2e4, -0.2, 2e3)
ORDERS = {
    "all free": ((), 1, LATE, (*SLOW, *FAST)),
    "all free, the reference faster": ((), -1, LATE, (*FAST, *SLOW)),
    "offsets fixed": (((2, 100.0), (5, 100.0)), 1, LATE, (4e3, -0.3, 100.0, 2e4, -0.2, 100.0)),
    "amplitudes fixed": (((0, 5e3), (3, 5e3)), 1, LATE, (5e3, -0.3, 200.0, 5e3, -0.2, 2e3)),
    "only exponents free": (
        ((0, 5e3), (2, 0.0), (3, 5e3), (5, 0.0)), 1, LATE, (5e3, -0.3, 0.0, 5e3, -0.1, 0.0),
    ),
    "only exponents free, before 1 s": (
        ((0, 5e3), (2, 0.0), (3, 5e3), (5, 0.0)), 1, EARLY, (5e3, -0.1, 0.0, 5e3, -0.3, 0.0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ORDERS)
def test_given_an_order_then_every_point_of_the_sampling_space_keeps_to_it_and_is_reached_once(case):
    fixed, lead, window, theta = ORDERS[case]
    t_ref = float(np.sqrt(window[0] * window[1]))
    coordinates = Coordinates(build_model("static_both", q=0.0054), t_ref, fixed)
    bounds = (100.0, -2.0, -1e5) * 2, (1e6, 2.0, 1e5) * 2
    support = replace(Support.of(coordinates, *bounds, window, lead), softness=jnp.full(len(coordinates.free), 0.2))
    x = support.from_coordinates(coordinates.from_physical(np.array(theta)))
    to_physical = jax.jit(jax.vmap(support.to_physical))
    found = to_physical(jnp.asarray(x[None]))
    np.testing.assert_allclose(found[0][0], theta, rtol=1e-5, atol=1e-5)
    draws = x + np.random.default_rng(3).standard_normal((200, x.size))
    values, volume = map(np.asarray, to_physical(jnp.asarray(draws)))
    assert np.isfinite(volume).mean() > 0.9
    leads = np.array([float(np.log(_speed(one[3:], t_ref) / _speed(one[:3], t_ref))) for one in values])
    assert np.all(lead * leads[np.isfinite(volume)] >= -1e-9)
    assert (lead * leads < 0.1).any(), "the draws come near the place where both are equally fast"
    free = jnp.asarray(coordinates.free)
    slope = jax.jit(jax.jacfwd(lambda one: support.to_physical(one)[0][free]))(jnp.asarray(x))
    assert np.linalg.slogdet(slope)[1] == pytest.approx(float(found[1][0]), abs=1e-6)


def _speed(transport, t):
    return transport[0] * t ** transport[1] + transport[2]


def test_given_draws_of_both_labellings_then_they_are_no_single_answer():
    rng = np.random.default_rng(2)
    one = TRUTH[:6] * (1.0 + 0.02 * rng.standard_normal((400, 6)))
    both = np.concatenate([one[:280], np.roll(one[280:], 3, axis=1)])
    assert exchanged_share(both, TRUTH[:6], 1.0) == pytest.approx(0.3)
    point = SimpleNamespace(values=TRUTH[:6], exchange=Exchange("data", 40.0, TRUTH[:6], False, ""))
    words = mixed_labels(point, find_modes(both, seed=1), both, 1.0)
    assert "30.0% of the draws" in words and "two answers in one" in words
    assert mixed_labels(point, find_modes(one, seed=1), one, 1.0) is None
    assert mixed_labels(SimpleNamespace(exchange=None), find_modes(both, seed=1), both, 1.0) is None


def test_given_three_angles_of_a_hundred_frames_then_the_components_have_their_own_names():
    # What `simulate two_component --angles 3 --frames 100` writes: the search used to end in a fraction below zero.
    case = simulated("two_component", seed=0, frames=100, sd=0.01, contrast=0.15, fixed={"f2": 1.0})
    found = fit(case)
    value = dict(zip(found.names, found.values, strict=True))
    assert found.exchange is not None and found.exchange.indifferent
    assert "the data do not tell which component is the sample" in found.exchange.words
    # At the middle of the window, 1 s, a rate is the sum of its parts.
    fast, slow = (value[f"D0_{who}"] + value[f"D_offset_{who}"] for who in ("sample", "ref"))
    assert fast == pytest.approx(2.2e4, rel=0.1) and slow == pytest.approx(4.2e3, rel=0.3)
    assert 0.0 <= value["f0"] <= 1.0
