"""Pareto smoothing against exact tails, against ArviZ, and with the sign the wrong way round."""

from __future__ import annotations

import numpy as np
import pytest
from arviz_stats.base.array import array_stats
from scipy.stats import genpareto, norm, t

from hpcxpcs.inference.psis import fit_pareto, k_hat_limit, pareto_quantiles, smooth

DRAWS = 4000


def narrow_proposal() -> np.ndarray:
    """Log-ratios of a t(3) target to a normal proposal with half the width: weights without a variance."""
    x = np.random.default_rng(1).normal(0.0, 0.5, DRAWS)
    return t.logpdf(x, 3) - norm.logpdf(x, scale=0.5)


def wide_proposal() -> np.ndarray:
    """Log-ratios of a normal target to a t(3) proposal: bounded weights."""
    x = np.random.default_rng(2).standard_t(3, DRAWS)
    return norm.logpdf(x) - t.logpdf(x, 3)


def test_given_a_target_with_heavier_tails_than_the_proposal_then_k_exceeds_its_limit():
    assert smooth(narrow_proposal()).k_hat > k_hat_limit(DRAWS)


def test_given_a_proposal_with_heavier_tails_than_the_target_then_k_is_small_and_most_draws_count():
    found = smooth(wide_proposal())
    assert found.k_hat < 0.2 and found.ess > 0.8 * DRAWS


@pytest.mark.parametrize("ratios", [narrow_proposal(), wide_proposal()], ids=["narrow", "wide"])
def test_given_the_wrong_sign_then_the_verdict_is_inverted(ratios):
    right, wrong = (smooth(sign * ratios).k_hat < k_hat_limit(DRAWS) for sign in (1.0, -1.0))
    assert right is not wrong


@pytest.mark.parametrize("size", [100, 225, 1000, DRAWS])
@pytest.mark.parametrize("ratios", [narrow_proposal(), wide_proposal()], ids=["narrow", "wide"])
def test_agrees_with_arviz_which_wants_the_ratios_negated(ratios, size):
    expected, k_hat = array_stats.psislw(-ratios[:size])
    found = smooth(ratios[:size])
    assert found.k_hat == pytest.approx(float(k_hat), abs=1e-9)
    np.testing.assert_allclose(found.log_weights, expected, atol=1e-9)


def test_given_equal_ratios_then_every_draw_counts_and_there_is_no_tail():
    found = smooth(np.full(1000, -1234.5))
    assert found.k_hat == -np.inf
    assert found.ess == pytest.approx(1000.0)
    np.testing.assert_allclose(found.log_weights, -np.log(1000.0))


def test_given_ratios_equal_up_to_rounding_then_there_is_no_tail():
    rng = np.random.default_rng(0)
    assert smooth(3.0e4 + 1.0e-11 * rng.standard_normal(1000)).k_hat == -np.inf


def test_weights_are_normalised_and_smoothing_keeps_their_order():
    ratios = narrow_proposal()
    weights = np.exp(smooth(ratios).log_weights)
    assert weights.sum() == pytest.approx(1.0)
    assert np.all(np.diff(weights[np.argsort(ratios)]) >= 0.0)


def test_given_a_heavy_tail_then_no_weight_exceeds_the_largest_raw_one_relative_to_the_bulk():
    ratios = narrow_proposal()
    found = smooth(ratios)
    bulk = np.argsort(ratios)[: DRAWS // 2]
    shift = (found.log_weights - ratios)[bulk]
    assert np.ptp(shift) < 1e-9
    assert np.max(found.log_weights - shift[0]) <= ratios.max() + 1e-9


@pytest.mark.parametrize("k", [-0.3, 0.1, 0.5, 0.9])
def test_given_an_exact_pareto_tail_then_its_shape_and_scale_are_found(k):
    values = np.sort(genpareto.rvs(k, scale=2.5, size=20000, random_state=5))
    shape, scale = fit_pareto(values)
    assert shape == pytest.approx(k, abs=0.04)
    assert scale == pytest.approx(2.5, rel=0.05)


@pytest.mark.parametrize("k", [-0.5, 0.0, 0.7])
def test_quantiles_are_those_of_the_generalised_pareto_distribution(k):
    places = np.linspace(0.01, 0.99, 9)
    np.testing.assert_allclose(pareto_quantiles(places, k, 1.7), genpareto.ppf(places, k, scale=1.7))


def test_given_few_values_then_the_shape_is_drawn_towards_one_half():
    values = np.sort(genpareto.rvs(0.0, size=30, random_state=3))
    few, _ = fit_pareto(values)
    many, _ = fit_pareto(np.sort(genpareto.rvs(0.0, size=30000, random_state=3)))
    assert few > many + 0.05


def test_given_draws_outside_the_support_then_their_weight_stays_zero():
    ratios = wide_proposal()
    ratios[::7] = -np.inf
    found = smooth(ratios)
    assert np.all(found.log_weights[::7] == -np.inf) and np.isfinite(found.k_hat)


def test_given_that_nearly_all_draws_are_outside_the_support_then_nothing_is_certain():
    ratios = np.full(1000, -np.inf)
    ratios[:20] = np.random.default_rng(4).standard_normal(20)
    found = smooth(ratios)
    assert found.k_hat == np.inf and np.count_nonzero(np.isfinite(found.log_weights)) == 20


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_given_a_ratio_that_is_no_number_then_it_is_refused(bad):
    ratios = wide_proposal()
    ratios[3] = bad
    with pytest.raises(ValueError, match="numbers or -inf"):
        smooth(ratios)


def test_given_too_few_draws_for_a_tail_then_nothing_is_certain():
    assert smooth(np.random.default_rng(0).standard_normal(20)).k_hat == np.inf


def test_given_a_tail_of_ties_then_nothing_is_certain():
    ratios = np.zeros(1000)
    ratios[:3] = 5.0
    assert smooth(ratios).k_hat == np.inf


def test_the_limit_on_k_grows_with_the_number_of_draws_up_to_seven_tenths():
    limits = [k_hat_limit(count) for count in (1, 10, 100, 1000, 10**6)]
    assert limits == pytest.approx([-np.inf, 0.0, 0.5, 2.0 / 3.0, 0.7])
