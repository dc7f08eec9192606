"""What happens when the data want a parameter outside its bounds: held, named, and the rest refitted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares

from hpcxpcs.inference.coordinates import lowest_rates
from tests.inference.fitting import fit, simulated


def reference_within_bounds(case, lower, upper):
    """Bounded least squares of c2 on the raw pairs with contrast and offset of every angle as parameters."""
    tiles = case.tiles
    times, weights = np.asarray(tiles.row_times)[0], np.asarray(tiles.weights)[:, 0]
    data, phi = np.asarray(tiles.data)[:, 0], np.asarray(tiles.phi)
    p, n_phi = case.truth.size, len(phi)
    used = weights > 0
    sigma = case.spec.noise.sd
    scale = np.append(np.maximum(np.abs(case.truth), 1e-3), np.ones(2 * n_phi))

    @jax.jit
    def residual(x):
        theta, contrast, offset = x[:p], x[p : p + n_phi], x[p + n_phi :]
        f = case.model.shape(theta, times[:, None], times[None, :], phi[:, None, None])
        return ((data - offset[:, None, None] - contrast[:, None, None] * f) / sigma)[used]

    slope = jax.jit(jax.jacfwd(residual))
    start = np.concatenate([np.clip(case.truth, lower, upper), np.full(n_phi, 0.5), np.ones(n_phi)])
    bounds = (
        np.concatenate([lower, np.full(2 * n_phi, -np.inf)]),
        np.concatenate([upper, np.full(2 * n_phi, np.inf)]),
    )
    inside = np.clip(
        start,
        bounds[0] + 1e-9 * np.abs(bounds[0]).clip(max=1e5),
        bounds[1] - 1e-9 * np.abs(bounds[1]).clip(max=1e5),
    )
    return least_squares(
        lambda x: np.asarray(residual(jnp.asarray(x))),
        inside,
        jac=lambda x: np.asarray(slope(jnp.asarray(x))),
        bounds=bounds,
        x_scale=scale,
        xtol=1e-12,
        ftol=1e-14,
        gtol=1e-12,
        max_nfev=400,
    )


@pytest.fixture(scope="module")
def case():
    return simulated("static", seed=2)


BOUNDS = {
    "alpha from above": ({"name": "alpha", "min": -0.3, "max": 1.0}, "alpha", -0.3),
    "alpha from below": ({"name": "alpha", "min": -2.0, "max": -0.5}, "alpha", -0.5),
    "D0": ({"name": "D0", "min": 1.5e4, "max": 1e5}, "D0", 1.5e4),
    "D_offset": ({"name": "D_offset", "min": 2e3, "max": 1e5}, "D_offset", 2e3),
}


@pytest.mark.parametrize(("bound", "name", "value"), BOUNDS.values(), ids=BOUNDS)
def test_given_a_truth_outside_a_bound_then_it_is_held_there_and_the_rest_is_the_constrained_optimum(
    case, bound, name, value
):
    told = case.told(bounds=[bound])
    found = fit(told, scaling="individual", noise=case.spec.noise.sd)
    held = told.index(name)
    reference = reference_within_bounds(told, told.limits.lower, told.limits.upper)
    assert found.status == "at_bounds" and name in found.message and not found.ok
    assert found.values[held] == value
    assert found.at_bound.tolist() == [k == held for k in range(3)]
    assert np.isnan(found.uncertainty[held]) and np.isnan(found.robust_uncertainty[held])
    others = [k for k in range(3) if k != held]
    difference = np.abs(found.values - reference.x[:3])[others]
    np.testing.assert_array_less(difference, 0.05 * found.uncertainty[others])
    assert found.chi_squared == pytest.approx(2.0 * reference.cost, rel=1e-3)
    assert name not in found.covariance_names


def test_given_two_truths_outside_their_bounds_then_both_are_held(case):
    told = case.told(bounds=[{"name": "alpha", "min": -0.2, "max": 1.0}, {"name": "D_offset", "min": 1e3, "max": 1e5}])
    found = fit(told, scaling="individual", noise=case.spec.noise.sd)
    reference = reference_within_bounds(told, told.limits.lower, told.limits.upper)
    active = np.isclose(reference.x[:3], [9e9, -0.2, 1e3], rtol=1e-3)
    assert found.status == "at_bounds"
    assert found.at_bound.tolist() == active.tolist()
    assert found.chi_squared == pytest.approx(2.0 * reference.cost, rel=1e-3)


def test_given_bounds_around_the_estimate_then_no_parameter_is_at_a_bound(case):
    found = fit(case.told(bounds=[{"name": "alpha", "min": -0.6, "max": -0.2}]))
    assert found.status == "converged" and not found.at_bound.any()


def test_given_only_one_free_parameter_outside_its_bound_then_it_is_reported_there(case):
    told = case.told(fixed={"alpha": -0.4, "D_offset": 500.0}, bounds=[{"name": "D0", "min": 100.0, "max": 1.0e4}])
    found = fit(told)
    assert found.values[0] == pytest.approx(1.0e4, rel=2e-3)
    assert found.status == "at_bounds" and found.at_bound[0] and np.isnan(found.uncertainty[0])


def test_given_data_that_want_a_negative_rate_then_the_rate_ends_at_zero_at_the_edge_of_the_window():
    case = simulated("static", frames=60, sd=0.2, seed=13, parameters={"D0": 2e4, "alpha": -1.0, "D_offset": -3.3e3})
    found = fit(case, scaling="individual")
    lowest = lowest_rates(case.model, jnp.asarray(found.values), *case.measurement.time_range)
    assert float(lowest[0]) >= -1e-5
    assert found.ok or found.status == "at_bounds"
    if found.at_bound.any():
        assert found.at_bound.tolist() == [False, False, True] and "D_offset" in found.message
