"""Where searches begin: candidates, scouted frames, and answers that do not depend on the start."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.answer.fit import PointSettings
from hpcxpcs.config.parameters import MODEL_NAMES
from hpcxpcs.inference.coordinates import lowest_rates
from hpcxpcs.inference.scout import LEFT, SAME, candidate_starts, effort, scout, scout_frames
from hpcxpcs.physics.model import build_model
from tests.inference.fitting import SCALE, deviations, fit, parameters_for, simulated


def candidates(name, seed=1, count=64, **sections):
    parameters = parameters_for(name, **sections)
    model = build_model(name, q=0.0054)
    return parameters, candidate_starts(model, parameters, SCALE, count, seed)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_candidates_lie_inside_the_bounds_and_repeat_with_the_seed(name):
    parameters, theta = candidates(name)
    assert theta.shape == (64, len(parameters))
    assert np.all(theta >= [p.lower for p in parameters]) and np.all(theta <= [p.upper for p in parameters])
    np.testing.assert_array_equal(theta, candidates(name)[1])
    assert not np.array_equal(theta, candidates(name, seed=2)[1])


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_candidates_spread_and_have_no_negative_rate(name):
    _, theta = candidates(name)
    assert np.all(np.ptp(theta, axis=0) > 0)
    model = build_model(name, q=0.0054)
    for row in theta:
        assert np.all(np.asarray(lowest_rates(model, jnp.asarray(row), 0.1, 6.0)) >= 0)


def test_given_fixed_parameters_and_narrow_bounds_then_every_candidate_honours_them():
    bounds = [{"name": "alpha", "min": -0.3, "max": -0.2}]
    fixed = {"gamma_dot_t0": 0.0, "phi0": 2.0}
    parameters, theta = candidates("laminar_flow", fixed=fixed, bounds=bounds)
    place = {p.parameter.name: k for k, p in enumerate(parameters)}
    assert set(theta[:, place["gamma_dot_t0"]]) == {0.0} and set(theta[:, place["phi0"]]) == {2.0}
    assert theta[:, place["alpha"]].min() >= -0.3 and theta[:, place["alpha"]].max() <= -0.2


@given(
    first=st.integers(0, 1),
    count=st.integers(8, 5000),
    n_phi=st.integers(1, 40),
    budget=st.sampled_from([2e4, 6e4, 2e5]),
)
def test_scouted_frames_are_distinct_inside_the_window_and_within_the_budget(first, count, n_phi, budget):
    frames = scout_frames(first, count, n_phi, int(budget))
    assert np.all(np.diff(frames) > 0) and frames[0] >= first and frames[-1] < count
    assert n_phi * frames.size * (frames.size - 1) / 2 <= 1.1 * budget
    assert frames.size >= min(count - first, 8)


@pytest.mark.parametrize("n_phi", [4, 23])
def test_scouted_frames_hold_short_lags_in_every_epoch_and_reach_the_longest(n_phi):
    frames = scout_frames(1, 4000, n_phi)
    followed = set(frames[np.isin(frames + 1, frames)])
    for low in range(1, 4000 - 700, 700):
        assert any(low <= frame < low + 700 for frame in followed)
    assert frames[-1] - frames[0] > 0.99 * 3998


def test_given_few_frames_then_all_of_them_are_scouted():
    np.testing.assert_array_equal(scout_frames(1, 60, 4), np.arange(1, 60))


@pytest.fixture(scope="module")
def case():
    return simulated("static", seed=4)


@pytest.fixture(scope="module")
def usual(case):
    return fit(case, multi_start=8)


def agrees(found, usual):
    assert found.ok
    np.testing.assert_array_less(np.abs(found.values - usual.values), 0.02 * usual.uncertainty)


def test_one_start_gives_the_same_answer(case, usual):
    agrees(fit(case, multi_start=1), usual)


def test_evolution_gives_the_same_answer(case, usual):
    agrees(fit(case, multi_start=1, cmaes=True), usual)


def test_another_seed_gives_the_same_answer(case, usual):
    agrees(fit(case, seed=7), usual)


def test_a_start_far_from_the_truth_gives_the_same_answer(case, usual):
    far = case.told(start={"D0": 9e4, "alpha": 1.9, "D_offset": -9e4})
    agrees(fit(far, multi_start=1), usual)


def test_the_configured_start_is_followed_and_on_record(case):
    start = np.array([1.1e4, -0.3, 800.0])

    def followed(user_start):
        settings = PointSettings(multi_start=1)
        noise = np.full(len(case.measurement.phi), 0.003)
        return scout(case.measurement, case.coordinates, case.parameters, settings, case.limits, noise, user_start)

    with_start, without = followed(start), followed(None)
    assert with_start.evaluations > without.evaluations
    assert with_start.minima[0].cost == pytest.approx(without.minima[0].cost, abs=0.01)
    assert all(np.isfinite(record.cost) for record in with_start.starts)


def test_every_start_is_counted_once_with_what_became_of_it(case, usual):
    fewer = fit(case, multi_start=5)
    for found, asked in ((usual, 8), (fewer, 5)):
        search, became = found.search, [start.status for start in found.starts]
        assert (search.asked, search.screened) == (asked, 256)
        assert search.followed == len(became) == asked
        minima = [status for status in became if status in ("converged", "followed, not converged")]
        assert search.minima == len(minima) >= 1
        assert set(became) <= {*minima, SAME, LEFT}
        assert became.count(LEFT) == asked - effort(3, asked).finalists


def test_the_same_settings_give_the_same_bits(case, usual):
    again = fit(case, multi_start=8)
    np.testing.assert_array_equal(again.values, usual.values)
    np.testing.assert_array_equal(again.covariance, usual.covariance)


def test_given_a_start_at_the_mirrored_flow_direction_then_the_true_one_is_found():
    case = simulated("laminar_flow", angles=6, frames=120, seed=5, sd=0.01, contrast=0.15)
    mirrored = dict(zip(case.model.parameter_names, case.truth.tolist(), strict=True))
    mirrored["phi0"] = -mirrored["phi0"]
    found = fit(case.told(start=mirrored), multi_start=1)
    assert np.all(np.abs(deviations(case, found)) < 4.5)
