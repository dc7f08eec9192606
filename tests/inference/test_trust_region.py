"""The minimiser on landscapes with known minima, and what it leaves behind."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.inference.trust_region import DECREMENT, FLOOR, decrement, minimise, whitening
from tests.inference.landscapes import Banana, Bowl, normal_of

CENTRE = np.array([2.0, -1.0, 0.5])
BOWLS = {"round": np.ones(3), "stretched": np.array([1e-3, 1.0, 1e2]), "narrow": np.array([1e-4, 1e-3, 1e-3])}


@pytest.mark.parametrize("spread", BOWLS.values(), ids=BOWLS)
def test_given_a_quadratic_when_minimised_then_the_end_is_its_centre_in_a_round_or_two(spread):
    bowl = Bowl(CENTRE, spread)
    found = minimise(bowl, CENTRE + 40.0 * spread)
    off = bowl.parts(found.u)[0]
    assert found.converged and not found.exhausted
    assert 0.5 * off @ off < 10.0 * DECREMENT
    assert found.cost == pytest.approx(bowl.floor, abs=10.0 * DECREMENT)
    assert found.iterations <= 3


@pytest.mark.parametrize("steepness", [3.0, 10.0])
def test_given_a_curved_valley_when_minimised_then_its_end_is_found(steepness):
    found = minimise(Banana(steepness), np.array([-1.2, 1.0]), max_evaluations=400)
    assert found.converged
    np.testing.assert_allclose(found.u, [1.0, 1.0], atol=0.02)


def test_given_a_start_at_the_minimum_then_one_evaluation_is_enough():
    bowl = Bowl(CENTRE, np.ones(3))
    found = minimise(bowl, CENTRE)
    assert found.converged and found.evaluations == bowl.calls == 1 and found.iterations == 0


def test_whitening_turns_the_information_into_the_identity():
    rng = np.random.default_rng(1)
    jacobian = rng.standard_normal((20, 4)) * np.array([1e-6, 1.0, 1e4, 10.0])
    normal = normal_of(np.ones(20), jacobian)
    transform = whitening(normal)
    np.testing.assert_allclose(transform.T @ np.asarray(normal.information) @ transform, np.eye(4), atol=1e-6)


def test_given_a_direction_that_the_data_do_not_see_then_whitening_stays_finite():
    jacobian = np.array([[1.0, 1.0], [2.0, 2.0]])
    transform = whitening(normal_of(np.ones(2), jacobian))
    assert np.all(np.isfinite(transform))
    assert np.abs(transform).max() == pytest.approx((2.0 * FLOOR * 5.0) ** -0.5, rel=0.5)


def test_the_decrement_is_what_a_newton_step_gains():
    bowl = Bowl(CENTRE, np.array([0.1, 1.0, 7.0]))
    away = CENTRE + np.array([0.3, -2.0, 1.0])
    assert decrement(bowl.expand(away)) == pytest.approx(bowl.cost(away) - bowl.floor, rel=1e-9)


def test_given_a_gradient_that_is_not_finite_then_the_decrement_is_infinite():
    normal = Bowl(CENTRE, np.ones(3)).expand(CENTRE)._replace(gradient=jnp.full(3, jnp.nan))
    assert decrement(normal) == np.inf


def test_given_a_start_without_a_finite_cost_then_nothing_is_claimed():
    found = minimise(Bowl(CENTRE, np.ones(3)), np.full(3, np.nan))
    assert not found.converged and not found.exhausted and found.evaluations == 1


def test_given_a_region_without_finite_costs_on_the_way_then_the_minimum_is_still_found():
    class Cliff(Bowl):
        def parts(self, u):
            residual, jacobian = super().parts(u)
            return (residual * np.nan, jacobian) if u[0] > CENTRE[0] + 3.5 else (residual, jacobian)

    found = minimise(Cliff(CENTRE, np.ones(3)), CENTRE + np.array([3.0, 2.0, -2.0]))
    assert found.converged
    np.testing.assert_allclose(found.u, CENTRE, atol=0.01)


def test_given_too_few_evaluations_then_the_end_is_exhausted_not_converged():
    found = minimise(Banana(1e3), np.array([-1.2, 1.0]), max_evaluations=6)
    assert found.exhausted and not found.converged
    assert 6 <= found.evaluations <= 8


def test_given_a_gradient_that_points_nowhere_then_it_stops_without_claiming_a_minimum():
    bowl = Bowl(CENTRE, np.ones(3))

    def misled(u):
        normal = bowl.expand(u)
        return normal._replace(gradient=-normal.gradient)

    found = minimise(bowl, CENTRE + 2.0, expand=misled)
    assert not found.converged and not found.exhausted


def test_the_solver_leaves_no_folder_in_the_working_directory_and_says_nothing(tmp_path):
    program = (
        "import numpy as np\n"
        "from hpcxpcs.inference.trust_region import minimise\n"
        "from tests.inference.landscapes import Bowl\n"
        "assert minimise(Bowl(np.ones(2), np.ones(2)), np.zeros(2)).converged\n"
    )
    root = str(__import__("pathlib").Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{program}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []
