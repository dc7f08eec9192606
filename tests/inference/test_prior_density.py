"""Prior densities equal those of scipy.stats, and are cut where there is no mass."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.config.prior import PRIOR_KINDS, Prior
from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.inference.target import PriorTerms, supported
from tests.inference.fitting import parameters_for
from tests.inference.posteriors import log_prior

PRIORS = {
    "uniform": (Prior("uniform"), -3.0, 5.0),
    "normal": (Prior("normal", (("mu", 1.0), ("sigma", 2.0))), -3.0, 5.0),
    "truncated_normal": (Prior("truncated_normal", (("mu", -1.0), ("sigma", 0.7))), -3.0, 5.0),
    "lognormal": (Prior("lognormal", (("median", 30.0), ("sigma", 1.5))), 0.5, 2000.0),
    "half_normal": (Prior("half_normal", (("sigma", 3.0),)), 0.0, 10.0),
    "exponential": (Prior("exponential", (("rate", 0.4),)), 0.0, 10.0),
    "beta_scaled": (Prior("beta_scaled", (("a", 2.5), ("b", 0.8))), -2.0, 6.0),
}


def parameter(kind: str) -> ResolvedParameter:
    prior, lower, upper = PRIORS[kind]
    return replace(parameters_for("static")[0], prior=prior, lower=lower, upper=upper, start=None, fixed=None)


def inside(item: ResolvedParameter) -> np.ndarray:
    return item.lower + (item.upper - item.lower) * np.linspace(0.01, 0.99, 9)


def test_every_kind_of_prior_is_examined_here():
    assert set(PRIORS) == set(PRIOR_KINDS)


@pytest.mark.parametrize("kind", PRIORS)
def test_given_a_prior_then_its_log_density_is_that_of_scipy_up_to_a_constant(kind):
    item = parameter(kind)
    terms = PriorTerms.of([item])
    found = np.array([float(terms.log_density(jnp.array([x]))) for x in inside(item)])
    wanted = np.array([log_prior(item, x) for x in inside(item)])
    np.testing.assert_allclose(found - found[0], wanted - wanted[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", PRIORS)
def test_given_a_prior_then_its_slope_is_finite_up_to_the_ends_of_its_bounds(kind):
    item = parameter(kind)
    terms = PriorTerms.of([item])
    width = item.upper - item.lower
    for x in (item.lower + 1e-9 * width, item.upper - 1e-9 * width):
        value, slope = jax.value_and_grad(terms.log_density)(jnp.array([x]))
        assert np.isfinite(value) and np.all(np.isfinite(slope))


def test_given_several_parameters_then_their_log_densities_add_at_their_places():
    items = [parameter(kind) for kind in PRIORS]
    low, high = (np.array([inside(item)[k] for item in items]) for k in (2, 6))
    terms = PriorTerms.of(items)
    found = float(terms.log_density(jnp.asarray(high)) - terms.log_density(jnp.asarray(low)))
    wanted = sum(log_prior(i, b) - log_prior(i, a) for i, a, b in zip(items, low, high, strict=True))
    assert found == pytest.approx(wanted, rel=1e-10)


def test_given_a_fixed_parameter_then_it_has_no_prior():
    items = [parameter("normal"), replace(parameter("normal"), fixed=1.0), parameter("exponential")]
    assert [term.index for term in PriorTerms.of(items).terms] == [0, 2]


@pytest.mark.parametrize("kind", ["lognormal", "half_normal", "exponential"])
def test_given_a_prior_of_positive_values_then_bounds_below_zero_are_cut(kind):
    assert supported(replace(parameter(kind), lower=-4.0)) == (0.0, PRIORS[kind][2])
    assert supported(replace(parameter(kind), lower=0.25)) == (0.25, PRIORS[kind][2])


@pytest.mark.parametrize("kind", ["uniform", "normal", "truncated_normal", "beta_scaled"])
def test_given_a_prior_of_any_sign_then_bounds_stay(kind):
    assert supported(replace(parameter(kind), lower=-4.0)) == (-4.0, PRIORS[kind][2])


def test_given_a_fixed_parameter_then_its_bounds_stay_whatever_its_prior():
    assert supported(replace(parameter("lognormal"), lower=-4.0, fixed=1.0)) == (-4.0, 2000.0)
