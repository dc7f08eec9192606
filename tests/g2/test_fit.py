"""Least squares and NUTS of all bins: truth within the intervals as often as they say, and words for what fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import binom

from hpcxpcs.config.g2 import G2
from hpcxpcs.errors import DataError
from hpcxpcs.g2.fit import tidy_rows
from hpcxpcs.g2.models import official_time, viewer_time
from hpcxpcs.g2.simulate import true_rows
from tests.g2.measured import deviations, fitted, held, measured

OUTER, INNER = (0, 3), (1, 2)
RARE = 1e-3
"""Chance of a false alarm of a binomial test."""


def require_coverage(count: int, of: int, probability: float) -> None:
    """Refuse a number of hits that a binomial distribution would show less often than RARE."""
    low, high = binom.ppf([RARE / 2, 1 - RARE / 2], of, probability)
    assert low <= count <= high, f"{count} of {of} instead of {probability:.0%}"


@pytest.mark.parametrize(
    ("model", "exponent"), [("single", 1.0), ("stretched", 0.6), ("stretched", 1.5), ("stretched", 2.0)]
)
def test_given_many_bins_then_least_squares_intervals_hold_the_truth_as_often_as_they_say(model, exponent):
    fit = fitted(measured(model, bins=270, parameters={"exponent": exponent}, empty=0.2, seed=5), model=model)
    assert fit.status.count("good") >= 266
    for name in fit.shape.parameters:
        require_coverage(held(fit, name, INNER), int(fit.usable.sum()), 0.6827)
        require_coverage(held(fit, name, OUTER), int(fit.usable.sum()), 0.95)


def test_given_a_bin_then_least_squares_agree_with_scipy():
    data = measured(parameters={"exponent": 1.4}, seed=2)
    fit = fitted(data)

    def official(x, a, b, c, d):
        return a * np.exp(-2 * (x / b) ** c) + d

    start = [0.15, fit.point.value[0, 0] * 1.5, 1.0, 1.0]
    best, covariance = curve_fit(official, data.tau, data.g2[:, 0], start, data.error[:, 0], absolute_sigma=True)
    order = [1, 2, 0, 3]  # tau, exponent, contrast, baseline
    assert fit.point.value[0] == pytest.approx(best[order], rel=1e-4)
    assert fit.point.sd[0] == pytest.approx(np.sqrt(np.diag(covariance))[order], rel=1e-2)


def test_given_chains_of_many_bins_then_they_are_accepted_and_cover_the_truth():
    fit = fitted(measured(bins=45, parameters={"exponent": 1.4}, noise=0.05, seed=3), method="nuts")
    assert fit.status == ("good",) * 45
    for name in fit.shape.parameters:
        require_coverage(held(fit, name, INNER), 45, 0.6827)
        require_coverage(held(fit, name, OUTER), 45, 0.95)
    z = (fit.answer.value - fit.point.value) / fit.point.sd
    assert np.abs(np.median(z)) < 0.1 and np.abs(z).max() < 1.0


def test_given_two_decays_then_they_are_ordered_in_every_bin():
    fit = fitted(measured("double", bins=36, parameters={"ratio": 30.0, "fraction": 0.6}), model="double")
    tau, slow = (fit.answer.value[fit.usable, fit.shape.parameters.index(name)] for name in ("tau", "tau_slow"))
    assert fit.usable.sum() >= 30 and np.all(tau < slow)
    assert np.abs(np.median(deviations(fit, "tau_slow"))) < 0.6
    assert np.std(deviations(fit, "tau")) < 1.5


def test_given_two_decays_of_close_rates_then_they_are_refused_with_numbers_in_no_row():
    fit = fitted(measured("double", bins=36, parameters={"ratio": 1.3}), model="double")
    assert set(fit.status) <= {"not separable", "at a limit", "not converged"} and "not separable" in fit.status
    assert np.isnan(fit.answer.value).all() and np.isnan(fit.fitted).all()
    assert all(np.isnan(row["value"]) and row["reason"] for row in tidy_rows(fit))


@pytest.mark.parametrize("truth", ["single", "stretched", "double"])
def test_given_no_model_then_the_evidence_chooses_the_true_one(truth):
    data = measured(truth, bins=36, parameters={"exponent": 1.4, "ratio": 30.0})
    fit = fitted(data, model="auto")
    assert (fit.shape.form, fit.choice.by) == (truth, "evidence")
    assert truth in fit.choice.words and "evidence" in fit.choice.words


def test_given_a_shared_contrast_then_all_bins_have_it_and_the_error_shrinks():
    data = measured(bins=36, noise=0.05, seed=4)
    free, shared = fitted(data), fitted(data, contrast="shared")
    place = free.shape.parameters.index("contrast")
    values = shared.point.value[:, place]
    assert values == pytest.approx(np.full(36, values[0]), rel=1e-9)
    assert abs(values[0] - 0.15) < 4 * shared.point.sd[0, place]
    assert np.all(shared.point.sd[:, place] < 0.5 * np.max(free.point.sd[:, place]))
    assert np.std(deviations(shared, "tau")) < 1.5
    total = np.sum(1 / free.point.sd[:, place] ** 2) ** -0.5
    assert shared.point.sd[0, place] <= 1.05 * total


def test_given_a_shared_contrast_then_chains_know_what_the_other_bins_say():
    fit = fitted(measured(noise=0.05, seed=4), contrast="shared", method="nuts")
    place = fit.shape.parameters.index("contrast")
    assert fit.posterior.sd[fit.usable, place] == pytest.approx(fit.point.sd[fit.usable, place], rel=0.25)


def test_given_a_held_or_drifting_baseline_then_it_is_that():
    data = measured()
    assert "baseline" not in fitted(data, baseline=1.0).shape.parameters
    tilted = replace(data, g2=data.g2 + (data.tau[:, None] / data.tau[30]) ** 0.01 - 1.0)
    drift = fitted(tilted, baseline="power_law")
    j = drift.shape.parameters.index("drift")
    assert drift.point.value[drift.usable, j] == pytest.approx(0.01, abs=0.003)


def spoiled():
    """One bin of each kind that has no answer, and a good one."""
    data = measured(parameters={"exponent": 1.4, "n": 0.0})
    g2, error = data.g2.copy(), data.error.copy()
    g2[:, 0] = np.nan
    g2[4:, 1] = np.nan
    g2[:, 2] = 1.0 + error[:, 2] * np.random.default_rng(0).standard_normal(len(g2))
    g2[:, 3] += 6 * error[:, 3] * np.where(np.arange(len(g2)) % 2, 1.0, -1.0)
    return replace(data, g2=g2, error=np.where(np.isfinite(g2), error, np.nan))


def test_given_bins_that_cannot_be_fitted_then_each_has_its_word_and_no_numbers():
    fit = fitted(spoiled())
    assert fit.status == ("empty", "too few points", "no decay", "misfit", *["good"] * 32)
    assert np.isnan(fit.answer.value[:3]).all() and np.isfinite(fit.answer.value[3:]).all()
    assert fit.quality.widening[3] > 5 and fit.quality.widening[4] == 1
    rigid = fitted(spoiled(), errors="stated")
    assert fit.answer.sd[3] == pytest.approx(rigid.answer.sd[3] * fit.quality.widening[3])
    assert fit.words == "1 empty, 1 too few points, 1 no decay, 1 misfit, 32 good"


def test_given_a_decay_beyond_the_delays_then_the_bin_is_at_a_limit_or_has_no_decay():
    fit = fitted(measured("single", parameters={"tau": 1e6, "n": 0.0}), model="single")
    assert set(fit.status) <= {"at a limit", "no decay"}


def test_given_no_values_at_all_then_the_file_is_refused():
    data = measured(bins=2)
    with pytest.raises(DataError, match=r"simulated.hdf: no bin has a value"):
        fitted(replace(data, g2=np.full_like(data.g2, np.nan)))


def test_given_blocks_then_intervals_allow_for_what_delays_share():
    data = measured(bins=144, blocks=10, parameters={"exponent": 1.2}, seed=7)
    with_blocks, without = fitted(data), fitted(replace(data, partial=None), errors="stated")
    assert "blocks" in with_blocks.noise.words
    for name in ("tau", "exponent"):
        require_coverage(held(with_blocks, name, OUTER), int(with_blocks.usable.sum()), 0.95)
    assert held(without, "tau", INNER) < held(with_blocks, "tau", INNER)
    assert np.std(deviations(without, "tau")) > 1.2


def test_given_the_other_viewers_form_then_times_convert_and_return():
    x, tau, c = np.geomspace(0.01, 10, 7), 0.3, 1.6
    theirs = viewer_time(tau, c)
    assert np.exp(-2 * (x / tau) ** c) == pytest.approx(np.exp(-((2 * x / theirs) ** c)))
    assert official_time(theirs, c) == pytest.approx(tau)
    assert viewer_time(tau, 1.0) == tau


def test_given_a_fit_then_the_table_has_a_row_per_bin_and_parameter():
    fit = fitted(measured())
    rows = list(tidy_rows(fit))
    assert [(row["bin"], row["parameter"]) for row in rows[:4]] == [(1, name) for name in fit.shape.parameters]
    assert len(rows) == 36 * len(fit.shape.parameters)
    assert all(row["low95"] < row["low68"] < row["value"] < row["high68"] < row["high95"] for row in rows)
    assert true_rows(fit.data.simulated, fit.shape.parameters).shape == (36, len(fit.shape.parameters))


def test_given_the_usual_settings_then_they_are_those_of_the_section():
    assert (G2().model, G2().method) == ("stretched", "nuts")
