"""What is tried when a minimisation fails, in which order, and what is put on record."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.answer.fit import PointSettings
from hpcxpcs.inference.objective import Objective
from hpcxpcs.inference.recovery import falls_from, finite_difference_expansion, minimise_or_recover
from hpcxpcs.inference.trust_region import Minimum, decrement, minimise, whitening
from hpcxpcs.likelihood.products import Compiled
from hpcxpcs.likelihood.scaling import build_scaling
from tests.inference.fitting import SHEAR, simulated
from tests.inference.landscapes import Banana, Bowl, Landscape

CENTRE = np.array([2.0, -1.0])
FURTHER = "went on for as many evaluations"
NUDGED = "restarted from a perturbed point"
WIDER = "restarted with a wider trust region"
DIFFERENCES = "restarted with finite-difference gradients"


class Misleading(Bowl):
    """A quadratic whose analytic gradient has the wrong sign for its first `wrong` expansions."""

    wrong = 10**9

    def expand(self, u):
        normal = super().expand(u)
        return normal._replace(gradient=-normal.gradient) if self.calls <= self.wrong else normal


def test_given_a_first_attempt_that_converges_then_no_action_is_on_record():
    found, actions = minimise_or_recover(Bowl(CENTRE, np.ones(2)), CENTRE + 1.0, PointSettings())
    assert found.converged and actions == ()


def test_given_derivatives_that_are_wrong_then_everything_is_tried_in_order_and_differences_save_the_fit():
    found, actions = minimise_or_recover(Misleading(CENTRE, np.ones(2)), CENTRE + 1.0, PointSettings())
    assert actions == (NUDGED, WIDER, DIFFERENCES)
    assert found.converged
    np.testing.assert_allclose(found.u, CENTRE, atol=0.01)


def test_given_a_failure_that_passes_then_only_the_action_that_helped_is_on_record():
    landscape = Misleading(CENTRE, np.ones(2))
    landscape.wrong = minimise(Misleading(CENTRE, np.ones(2)), CENTRE + 1.0).evaluations
    found, actions = minimise_or_recover(landscape, CENTRE + 1.0, PointSettings())
    assert found.converged and actions == (NUDGED,)


def test_given_too_few_iterations_then_the_result_is_exhausted_and_counts_every_attempt():
    landscape = Banana(1e3)
    found, actions = minimise_or_recover(landscape, np.array([-1.2, 1.0]), PointSettings(max_iterations=3))
    assert actions == (FURTHER, NUDGED, WIDER, DIFFERENCES)
    assert found.exhausted and not found.converged
    assert found.evaluations >= 12


class TwoValleys(Landscape):
    """Minima at (1, 0), where the cost is 0, and near (−1, 0), where it is 1/2."""

    def parts(self, u):
        residual = np.array([10.0 * (u[0] ** 2 - 1.0), 0.5 * (u[0] - 1.0), u[1]])
        return residual, np.array([[20.0 * u[0], 0.0], [0.5, 0.0], [0.0, 1.0]])


def test_given_a_restart_into_a_minimum_above_a_point_that_was_reached_then_the_search_returns_to_it(monkeypatch):
    landscape = TwoValleys()
    stopped = replace(minimise(landscape, np.array([0.99, 0.3]), max_evaluations=1), exhausted=False)
    upper = minimise(landscape, np.array([-1.1, 0.3]))
    assert upper.converged and not stopped.converged and upper.cost > landscape.floor + 0.4 > stopped.cost
    ends = [stopped, upper]

    def scripted(*arguments, **options):
        return ends.pop(0) if ends else minimise(*arguments, **options)

    monkeypatch.setattr("hpcxpcs.inference.recovery.minimise", scripted)
    found, actions = minimise_or_recover(landscape, np.array([0.99, 0.3]), PointSettings())
    assert actions == (NUDGED, WIDER)
    assert found.converged and found.cost < landscape.floor + 1e-3


def test_given_a_start_without_a_finite_cost_when_recovered_then_the_failure_is_returned_as_one():
    found, actions = minimise_or_recover(Bowl(CENTRE, np.ones(2)), np.full(2, np.nan), PointSettings())
    assert not found.converged and not np.isfinite(found.cost) and len(actions) == 3


class Numberless(Bowl):
    """A quadratic with a finite cost whose analytic gradient and information are no numbers, as of a NaN Jacobian."""

    def expand(self, u):
        normal = super().expand(u)
        return normal._replace(gradient=jnp.full(2, jnp.nan), information=jnp.full((2, 2), jnp.nan))


class Flattened(Bowl):
    """A quadratic whose analytic Jacobian is zero: its derivatives claim a minimum wherever one stands."""

    def expand(self, u):
        normal = super().expand(u)
        return normal._replace(gradient=0.0 * normal.gradient, information=0.0 * normal.information)


class Displaced(Bowl):
    """A quadratic whose analytic gradient vanishes 3 standard deviations from the minimum of the cost."""

    def expand(self, u):
        return super().expand(u)._replace(gradient=super().expand(np.asarray(u) - 3.0).gradient)


class Steep(Bowl):
    """A quadratic whose analytic Jacobian is a thousand times too large, and displaced: steps and errors too small."""

    def expand(self, u):
        normal = super().expand(np.asarray(u) - 3.0)
        return normal._replace(
            cost=super().expand(u).cost, gradient=1e3 * normal.gradient, information=1e6 * normal.information
        )


@pytest.mark.parametrize("kind", [Numberless, Flattened, Displaced, Steep])
def test_given_derivatives_that_are_no_numbers_or_claim_a_minimum_where_none_is_then_differences_save_the_fit(
    kind,
):
    landscape = kind(CENTRE, np.array([1.0, 0.2]))
    found, actions = minimise_or_recover(landscape, CENTRE + 1.0, PointSettings())
    assert actions == (NUDGED, WIDER, DIFFERENCES) and found.converged
    np.testing.assert_allclose(found.u, CENTRE, atol=1e-3)
    right = Bowl(CENTRE, np.array([1.0, 0.2])).expand(CENTRE).information
    np.testing.assert_allclose(found.normal.information, right, rtol=1e-4)


@pytest.mark.parametrize("kind", [Flattened, Displaced, Steep])
def test_given_an_end_that_is_no_minimum_of_the_cost_then_it_is_never_called_converged(kind, monkeypatch):
    analytic = "hpcxpcs.inference.recovery.finite_difference_expansion"
    monkeypatch.setattr(analytic, lambda objective, u: objective.expand(u))
    landscape, claimed = kind(CENTRE, np.ones(2)), CENTRE + 3.0
    assert minimise(landscape, claimed).converged
    found, actions = minimise_or_recover(landscape, claimed, PointSettings())
    assert not found.converged and len(actions) == 3


class Saddle(Bowl):
    """A cost that falls to both sides of the first coordinate, whose derivatives are right where they vanish."""

    def expand(self, u):
        normal = super().expand(u)
        return normal._replace(cost=jnp.asarray(self.cost(u)), gradient=normal.gradient * jnp.array([-1.0, 1.0]))

    def parts(self, u):
        return u - self.centre, np.eye(2)

    def cost(self, u):
        first, second = np.asarray(u) - self.centre
        return self.floor - 0.5 * first**2 + 0.5 * second**2


def test_given_a_saddle_then_standing_on_it_is_not_called_a_minimum():
    end = minimise(Saddle(CENTRE, np.ones(2)), CENTRE)
    assert end.converged and falls_from(Saddle(CENTRE, np.ones(2)), end)


def test_given_a_minimum_then_nothing_falls_from_it_whatever_its_distance_to_convergence_allows():
    bowl, banana = Bowl(CENTRE, np.array([1e-3, 1e3])), Banana(1e3)
    for side in np.eye(2):
        near = CENTRE + 0.014 * whitening(bowl.expand(CENTRE)) @ side
        assert not falls_from(bowl, Minimum(near, bowl.expand(near), 1, 1, True))
    end = minimise(banana, np.array([0.8, 0.7]))
    assert end.converged and not falls_from(banana, end)


class Cliff(Bowl):
    """A quadratic whose information is no number beyond `edge` of the first coordinate, though its cost is one."""

    edge = 2.5

    def expand(self, u):
        normal = super().expand(u)
        beyond = np.full((4, 4), np.nan) if u[0] > self.edge else normal.information
        return normal._replace(information=beyond, gradient=-normal.gradient)


def test_given_trial_steps_where_the_information_is_no_number_then_differences_lead_on():
    centre = np.array([2.0, -1.0, 0.0, 1.0])
    found, actions = minimise_or_recover(Cliff(centre, np.ones(4)), centre + 0.4, PointSettings())
    assert actions == (NUDGED, WIDER, DIFFERENCES) and found.converged
    np.testing.assert_allclose(found.u, centre, atol=1e-3)


@pytest.mark.parametrize("spread", [np.ones(3), np.array([1e-4, 1.0, 20.0])])
def test_differences_of_the_cost_give_gradient_and_information_without_a_jacobian(spread):
    landscape = Bowl(np.array([2.0, -1.0, 0.5]), spread)
    u = landscape.centre + np.array([0.5, -1.0, 0.2])
    right, found = landscape.expand(u), finite_difference_expansion(landscape, u)
    sd = np.sqrt(np.diag(np.linalg.inv(np.asarray(right.information))))
    np.testing.assert_allclose(found.gradient * sd, right.gradient * sd, rtol=1e-4, atol=1e-4)
    scale = np.sqrt(np.diag(np.asarray(right.information)))
    np.testing.assert_allclose(
        np.asarray(found.information) / np.outer(scale, scale),
        right.information / np.outer(scale, scale),
        atol=1e-3,
    )


def test_recovery_is_repeatable():
    ends = [minimise_or_recover(Misleading(CENTRE, np.ones(2)), CENTRE + 1.0, PointSettings(seed=5))[0].u for _ in "ab"]
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("model", ["static", "laminar_flow"])
def test_finite_differences_agree_with_the_analytic_gradient_of_a_real_objective(model):
    case = simulated(model, parameters=SHEAR if model == "laminar_flow" else None, frames=40)
    phi = case.measurement.phi
    objective = Objective(
        case.coordinates,
        Compiled(case.tiles),
        build_scaling("individual", phi),
        np.full(len(phi), 0.003),
        case.limits,
    )
    u = case.coordinates.from_physical(case.truth)
    end = minimise(objective, u)
    sd = np.sqrt(np.diag(np.linalg.inv(np.asarray(end.normal.information))))
    for point in (u, end.u + 3.0 * sd):
        analytic = np.asarray(objective.expand(point).gradient) * sd
        differences = np.asarray(finite_difference_expansion(objective, point).gradient) * sd
        np.testing.assert_allclose(differences, analytic, atol=1e-3 * max(1.0, np.abs(analytic).max()))


def test_the_gradient_leads_downhill_and_vanishes_at_the_minimum_of_a_real_objective():
    case = simulated("static", frames=40)
    phi = case.measurement.phi
    objective = Objective(
        case.coordinates,
        Compiled(case.tiles),
        build_scaling("individual", phi),
        np.full(len(phi), 0.003),
        case.limits,
    )
    u = case.coordinates.from_physical(case.truth * np.array([1.3, 0.8, 2.0]))
    end = minimise(objective, u)
    assert end.converged and end.cost < objective.cost(u)
    assert decrement(finite_difference_expansion(objective, end.u)) < 1e-3
    walled = replace(objective, limits=replace(case.limits, upper=case.limits.upper * np.array([1e-4, 1.0, 1.0])))
    assert walled.cost(end.u) > end.cost
