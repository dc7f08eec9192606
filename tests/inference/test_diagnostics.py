"""Diagnostics of chains that are known to be good, short, stuck, apart or divergent."""

from __future__ import annotations

from dataclasses import replace

import arviz_stats
import numpy as np
import pytest

from hpcxpcs.answer.posterior import Mixing, marginals
from hpcxpcs.answer.posterior_verdict import Thresholds, judge, r_hat_grade
from hpcxpcs.inference.diagnostics import (
    chain_bfmi,
    contraction,
    lowest_bfmi,
    mixing,
    z_against,
)

NAMES = ("D0", "alpha")
GOOD = Mixing(
    r_hat=np.array([1.001, 1.002]),
    ess_bulk=np.array([1500.0, 900.0]),
    ess_tail=np.array([1200.0, 800.0]),
    mcse_mean=np.array([0.01, 0.02]),
    mcse_sd=np.array([0.01, 0.02]),
)
CLEAN = {"divergences": 0, "draws": 4000, "bfmi": 0.9}


def chains(correlation: float = 0.0, *, count: int = 4, length: int = 1000, seed: int = 0) -> np.ndarray:
    """Stationary autoregressive chains (C,S,1) of unit variance."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, length)) * np.sqrt(1.0 - correlation**2)
    values = np.empty((count, length))
    values[:, 0] = rng.standard_normal(count)
    for k in range(1, length):
        values[:, k] = correlation * values[:, k - 1] + noise[:, k]
    return values[..., None]


def test_given_independent_draws_then_chains_agree_and_every_draw_counts():
    found = mixing(chains())
    assert found.r_hat[0] < 1.01
    assert found.ess_bulk[0] == pytest.approx(4000, rel=0.15)
    assert found.mcse_mean[0] == pytest.approx(1.0 / np.sqrt(4000), rel=0.15)
    assert found.mcse_sd[0] == pytest.approx(1.0 / np.sqrt(2 * 4000), rel=0.2)


def test_given_autocorrelated_draws_then_they_are_worth_as_many_as_theory_says():
    found = mixing(chains(0.9, length=4000))
    assert found.ess_bulk[0] == pytest.approx(16000 * (1 - 0.9) / (1 + 0.9), rel=0.25)


def test_diagnostics_are_those_of_arviz_for_every_parameter():
    draws = np.concatenate([chains(0.5), chains(0.8, seed=1) ** 3], axis=2)
    found = mixing(draws)
    for k in range(2):
        one = draws[..., k]
        assert found.r_hat[k] == pytest.approx(float(arviz_stats.rhat(one)))
        assert found.ess_bulk[k] == pytest.approx(float(arviz_stats.ess(one, method="bulk")))
        assert found.ess_tail[k] == pytest.approx(float(arviz_stats.ess(one, method="tail", prob=(0.05, 0.95))))
        assert found.mcse_mean[k] == pytest.approx(float(arviz_stats.mcse(one, method="mean")))
        assert found.mcse_sd[k] == pytest.approx(float(arviz_stats.mcse(one, method="sd")))


def test_given_a_chain_that_is_elsewhere_then_r_hat_says_so():
    draws = chains()
    draws[2] += 3.0
    assert mixing(draws).r_hat[0] > 1.3


def test_given_chains_of_different_width_about_one_mean_then_r_hat_says_so():
    draws = chains()
    draws[2:] *= 4.0
    assert mixing(draws).r_hat[0] > 1.1


def test_given_one_chain_then_its_halves_are_compared():
    steady, drifting = chains(count=1), chains(count=1) + np.linspace(0.0, 5.0, 1000)[None, :, None]
    assert mixing(steady).r_hat[0] < 1.02 < 1.2 < mixing(drifting).r_hat[0]


def test_given_a_chain_that_never_moved_then_it_counts_as_disagreement():
    draws = chains()
    draws[1] = 0.3
    assert mixing(draws).r_hat[0] == np.inf


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_given_a_draw_that_is_not_finite_then_only_its_parameter_is_not_known(value):
    draws = np.concatenate([chains(), chains(seed=1)], axis=2)
    draws[1, 5, 0] = value
    found = mixing(draws)
    for values in (found.r_hat, found.ess_bulk, found.ess_tail, found.mcse_mean, found.mcse_sd):
        assert np.isnan(values[0]) and np.isfinite(values[1])


def test_given_a_parameter_that_never_moved_or_three_draws_then_nothing_is_known():
    assert np.isnan(mixing(np.ones((4, 100, 1))).ess_bulk[0])
    assert np.isnan(mixing(chains(length=3)).r_hat[0])


def test_the_interval_is_the_narrowest_and_not_the_central_one():
    draws = np.random.default_rng(0).exponential(size=(4, 5000, 1))
    ((low, high),) = marginals(draws, 0.95).hdi
    assert low == pytest.approx(0.0, abs=0.01) and high == pytest.approx(-np.log(0.05), rel=0.05)


def test_the_interval_of_each_parameter_holds_the_probability_that_was_asked_for():
    draws = np.random.default_rng(1).standard_normal((4, 2000, 2)) * [1.0, 10.0]
    found = marginals(draws, 0.8).hdi
    inside = np.mean((draws >= found[:, 0]) & (draws <= found[:, 1]), axis=(0, 1))
    np.testing.assert_allclose(inside, 0.8, atol=0.001)
    np.testing.assert_allclose(found[:, 1], [1.2816, 12.816], rtol=0.1)


def test_given_energies_drawn_afresh_then_bfmi_is_two_and_for_a_slow_walk_it_is_small():
    energies = np.concatenate([chains(count=1, length=20000), chains(0.95, count=1, length=20000)])[..., 0]
    np.testing.assert_allclose(chain_bfmi(energies), [2.0, 2.0 * (1.0 - 0.95)], rtol=0.15)
    assert lowest_bfmi(energies) == chain_bfmi(energies)[1]


def test_bfmi_is_that_of_arviz_and_independent_of_a_large_constant():
    energies = chains(0.7)[..., 0]
    np.testing.assert_allclose(chain_bfmi(energies), arviz_stats.bfmi(energies))
    np.testing.assert_allclose(chain_bfmi(energies + 1.0e7), chain_bfmi(energies), rtol=1e-6)


def test_given_an_energy_that_never_changes_then_bfmi_is_not_a_number():
    assert np.isnan(chain_bfmi(np.ones((1, 50)))[0])
    assert np.isnan(lowest_bfmi(np.vstack([np.ones(50), np.arange(50.0)])))


def test_contraction_and_z_by_hand():
    np.testing.assert_allclose(contraction(np.array([2.0, 2.0]), np.array([0.1, 2.0])), [0.95, 0.0])
    np.testing.assert_allclose(z_against(np.array([1.0]), np.array([1.5]), np.array([0.25])), [2.0])


def test_given_good_chains_then_the_judgement_passes_without_remarks():
    found = judge(NAMES, GOOD, **CLEAN)
    assert found.passed and found.failed == () and found.remarks == ()


def changed(field: str, value: float) -> Mixing:
    """Good chains with one value of the second parameter replaced."""
    return replace(GOOD, **{field: np.array([getattr(GOOD, field)[0], value])})


FAILURES = {
    "r_hat is a little high": (changed("r_hat", 1.02), {}, "r_hat", "alpha", "nearly agree"),
    "r_hat is high": (changed("r_hat", 1.07), {}, "r_hat", "alpha", "double"),
    "r_hat is very high": (changed("r_hat", 1.4), {}, "r_hat", "alpha", "disagree"),
    "r_hat is not a number": (changed("r_hat", np.nan), {}, "r_hat", "alpha", "disagree"),
    "r_hat is infinite": (changed("r_hat", np.inf), {}, "r_hat", "alpha", "got stuck"),
    "few draws in the bulk": (changed("ess_bulk", 100.0), {}, "ess_bulk", "alpha", "about 4 times"),
    "few draws in the tail": (changed("ess_tail", 320.0), {}, "ess_tail", "alpha", "about 1.3 times"),
    "effective draws not a number": (changed("ess_bulk", np.nan), {}, "ess_bulk", "alpha", "never moved"),
    "divergences": (GOOD, {"divergences": 41}, "divergence_rate", None, "target acceptance"),
    "no draws at all": (GOOD, {"draws": 0}, "divergence_rate", None, "target acceptance"),
    "slow energy": (GOOD, {"bfmi": 0.1}, "bfmi", None, "more warm-up"),
    "energy not a number": (GOOD, {"bfmi": float("nan")}, "bfmi", None, "more warm-up"),
}


@pytest.mark.parametrize(("found", "change", "name", "parameter", "words"), FAILURES.values(), ids=FAILURES)
def test_each_failure_has_its_cause_and_a_recommendation_and_comes_alone(found, change, name, parameter, words):
    judgement = judge(NAMES, found, **{**CLEAN, **change})
    (finding,) = judgement.failed
    assert not judgement.passed
    assert (finding.name, finding.parameter) == (name, parameter) and words in finding.recommendation


def test_given_a_few_divergences_then_it_passes_with_a_remark():
    found = judge(NAMES, GOOD, divergences=3, draws=4000, bfmi=0.9)
    assert found.passed and found.remarks[0].name == "divergences" and found.remarks[0].value == 3.0


def test_given_other_thresholds_then_they_decide():
    strict = Thresholds(max_r_hat=1.0015, min_ess=850.0, min_bfmi=1.0, max_divergence_rate=0.0)
    found = judge(NAMES, GOOD, divergences=1, draws=4000, bfmi=0.9, thresholds=strict)
    assert [one.name for one in found.failed] == ["r_hat", "ess_tail", "divergence_rate", "bfmi"]
    assert [one.threshold for one in found.failed] == [1.0015, 850.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("value", "word"),
    [(1.005, "good"), (1.01, "acceptable"), (1.06, "poor"), (1.1, "failed"), (float("nan"), "failed")],
)
def test_grades_of_r_hat(value, word):
    assert r_hat_grade(value) == word
