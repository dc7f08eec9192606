"""The certificate against known posteriors: it must pass what is right, repair what it can, and refuse the rest."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, norm

from hpcxpcs.inference.certificate import Proposal, certify, certify_proposal, proposal_at, systematic
from hpcxpcs.inference.consensus import Combined
from hpcxpcs.inference.psis import k_hat_limit
from tests.inference.gaussians import Normal, combined_of, normal, random_normal

TRUTH = normal(np.array([1.0, -2.0, 0.5]), np.array([[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 2.0]]))


def consensus(*, shift: float = 0.0, stretch: float = 1.0, count: int = 4000) -> Combined:
    """Draws of the truth, moved by `shift` of their standard deviations and stretched."""
    spread = np.sqrt(np.diag(TRUTH.covariance))
    source = normal(TRUTH.mean + shift * spread, stretch**2 * TRUTH.covariance)
    return combined_of(source.exact_draws(np.random.default_rng(1), count))


def moments_agree(draws: np.ndarray, truth: Normal, ess: float) -> bool:
    """Whether means and standard deviations are right within four Monte Carlo errors."""
    spread = np.sqrt(np.diag(truth.covariance))
    shift = np.abs(draws.mean(axis=0) - truth.mean) / spread
    ratio = np.abs(draws.std(axis=0) / spread - 1.0)
    return bool(np.all(shift < 4.0 / np.sqrt(ess)) and np.all(ratio < 4.0 / np.sqrt(2.0 * ess)))


def test_given_a_right_consensus_then_it_is_certified():
    found = certify(consensus(), TRUTH.log_density, seed=1)
    assert found.word == "certified" and found.valid
    assert found.k_hat < 0.3 and found.ess > 3000 and len(found.rounds) == 1
    assert found.limit == k_hat_limit(4000)
    assert "agrees with the full-data posterior" in found.reason


def test_given_a_consensus_off_by_half_a_standard_deviation_then_it_is_corrected():
    found = certify(consensus(shift=0.5), TRUTH.log_density, seed=1)
    assert found.word == "corrected"
    np.testing.assert_allclose(found.mean_shift, -0.5, atol=0.1)
    assert moments_agree(found.draws, TRUTH, found.ess)
    assert "0.5" in found.reason


def test_given_a_consensus_that_is_too_wide_then_it_is_corrected():
    found = certify(consensus(stretch=1.3), TRUTH.log_density, seed=1)
    assert found.word == "corrected"
    np.testing.assert_allclose(found.sd_ratio, 1.0 / 1.3, rtol=0.06)
    assert moments_agree(found.draws, TRUTH, found.ess)


def test_given_a_consensus_off_by_two_standard_deviations_then_a_second_proposal_repairs_it():
    found = certify(consensus(shift=2.0), TRUTH.log_density, seed=1)
    assert found.word == "corrected" and len(found.rounds) == 2 and found.evaluations == 8000
    assert found.rounds[0].ess < 400 < found.rounds[1].ess == found.ess
    assert moments_agree(found.draws, TRUTH, found.ess)
    assert "2 rounds" in found.reason


def test_given_a_consensus_far_away_then_it_is_rejected():
    found = certify(consensus(shift=12.0), TRUTH.log_density, seed=1)
    assert found.word == "rejected" and not found.valid
    assert "too far" in found.reason


def test_given_a_consensus_with_half_the_width_in_many_dimensions_then_it_is_not_certified():
    truth = normal(np.zeros(10), np.eye(10))
    narrow = normal(np.zeros(10), 0.25 * np.eye(10))
    found = certify(combined_of(narrow.exact_draws(np.random.default_rng(0), 4000)), truth.log_density, seed=2)
    assert found.word != "certified"


def test_given_log_ratios_with_the_wrong_sign_then_a_right_consensus_would_not_pass():
    found = certify(consensus(), lambda x: -TRUTH.log_density(x), seed=1)
    assert found.word == "rejected"


def test_given_fewer_effective_draws_than_needed_then_the_word_is_thin():
    found = certify(consensus(), TRUTH.log_density, draws=300, seed=1)
    assert found.word == "thin" and not found.valid
    assert "400 are needed" in found.reason


def test_given_reliable_but_inefficient_weights_then_a_new_proposal_makes_more_of_the_same_draws():
    truth = normal(np.zeros(10), np.eye(10))
    narrow = normal(np.zeros(10), 0.3 * np.eye(10))
    found = certify(combined_of(narrow.exact_draws(np.random.default_rng(0), 4000)), truth.log_density, seed=2)
    first, *later = found.rounds
    assert first.k_hat < found.limit and 400 < first.ess < 1000 and found.ess == later[-1].ess > 1000


def test_given_a_new_proposal_that_is_no_better_then_the_verdict_is_about_the_best():
    calls = []

    def log_posterior(x: np.ndarray) -> np.ndarray:
        calls.append(len(x))
        return TRUTH.log_density(x) if len(calls) == 1 else np.full(len(x), np.nan)

    found = certify(consensus(shift=1.0), log_posterior, draws=4000, seed=1)
    assert found.word == "corrected" and found.ess == found.rounds[0].ess and len(calls) == 2


def test_given_a_limit_then_it_replaces_the_default():
    found = certify(consensus(), TRUTH.log_density, limit=-9.0, seed=1)
    assert found.word == "rejected" and found.limit == -9.0


def test_given_two_modes_then_both_survive_in_their_proportion():
    rng = np.random.default_rng(3)
    right = rng.uniform(size=4000) < 0.3
    draws = rng.standard_normal((4000, 2)) + np.where(right, 6.0, -6.0)[:, None] * np.array([1.0, 0.0])

    def log_posterior(x: np.ndarray) -> np.ndarray:
        left, other = norm.logpdf(x[:, 0] + 6.0) + np.log(0.5), norm.logpdf(x[:, 0] - 6.0) + np.log(0.5)
        return np.logaddexp(left, other) + norm.logpdf(x[:, 1])

    found = certify(combined_of(draws), log_posterior, seed=4)
    assert found.word == "corrected" and found.ess > 2000
    assert np.mean(found.draws[:, 0] > 0.0) == pytest.approx(0.5, abs=0.03)


def test_given_a_start_that_is_off_then_reliable_weights_are_certified_and_the_distance_is_told():
    start = proposal_at(TRUTH.mean + 0.5 * np.sqrt(np.diag(TRUTH.covariance)), TRUTH.covariance)
    found = certify_proposal(start, TRUTH.log_density, seed=1)
    assert found.word == "certified" and "0.5" in found.reason and "around the peak" in found.reason
    np.testing.assert_allclose(found.mean_shift, -0.5, atol=0.1)
    assert moments_agree(found.draws, TRUTH, found.ess)


def test_given_skewed_peaks_far_apart_then_each_is_followed_on_its_own():
    def log_posterior(x: np.ndarray) -> np.ndarray:
        right = x[:, 0] > 0.0
        along = (x[:, 0] - np.where(right, 200.0, -200.0)) / np.where(right, 1.0, 0.3)
        bent = x[:, 1] - 0.5 * along**2
        return norm.logpdf(along) - np.log(np.where(right, 1.0, 0.3)) + norm.logpdf(bent, scale=0.3)

    wide = np.array([np.diag([1.0, 1.0]), np.diag([0.3, 1.0])])
    start = Proposal(np.array([0.5, 0.5]), np.array([[200.0, 0.0], [-200.0, 0.0]]), wide)
    apart, mixed = (certify_proposal(start, log_posterior, seed=2, separate=each) for each in (True, False))
    assert apart.word == "certified" and apart.ess > 1000 and apart.ess > mixed.ess
    assert np.mean(apart.draws[:, 0] > 0.0) == pytest.approx(0.5, abs=0.06)
    assert "2 peaks" in apart.reason


def test_given_a_skewed_posterior_then_the_draws_follow_it_exactly():
    from scipy.stats import gamma

    draws = np.log(gamma.rvs(3.0, size=(4000, 1), random_state=2))
    found = certify(combined_of(draws), lambda x: 3.0 * x[:, 0] - np.exp(x[:, 0]), seed=5)
    assert found.valid
    assert kstest(np.exp(found.draws[:: int(4000 / found.ess) + 1, 0]), gamma(3.0).cdf).pvalue > 0.01


def test_the_log_posterior_belongs_to_each_draw_and_distinct_counts_them():
    found = certify(consensus(), TRUTH.log_density, seed=1)
    np.testing.assert_allclose(found.log_posterior, TRUTH.log_density(found.draws))
    assert found.distinct == len(np.unique(found.draws, axis=0)) < 4000
    assert found.draws.shape == (4000, 3) and found.log_posterior.shape == (4000,)


def test_given_the_same_seed_then_the_same_draws_and_with_another_seed_others():
    one, again, other = (certify(consensus(), TRUTH.log_density, seed=seed).draws for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_resampled_draws_are_in_random_order():
    draws = certify(consensus(shift=0.5), TRUTH.log_density, seed=1).draws[:, 0]
    centred = draws - draws.mean()
    assert abs(np.mean(centred[1:] * centred[:-1])) < 0.06 * np.var(draws)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_given_draws_where_the_log_posterior_is_not_finite_then_they_weigh_nothing_and_are_counted(bad):
    def log_posterior(x: np.ndarray) -> np.ndarray:
        return np.where(x[:, 0] > 1.0, bad, TRUTH.log_density(x))

    found = certify(consensus(), log_posterior, seed=1)
    assert found.rounds[0].nonfinite == pytest.approx(2000, abs=200)
    assert found.nonfinite == min(one.nonfinite for one in found.rounds)
    assert np.all(found.draws[:, 0] <= 1.0) and np.all(np.isfinite(found.log_posterior))


def test_given_a_log_posterior_that_is_nowhere_finite_then_it_is_rejected():
    found = certify(consensus(), lambda x: np.full(len(x), np.nan), draws=100, seed=1)
    assert found.word == "rejected" and found.k_hat == np.inf and found.ess == 0.0
    assert np.all(found.parameter_ess == 0.0) and "not finite" in found.reason


def test_a_constant_in_the_log_posterior_changes_nothing():
    one = certify(consensus(), TRUTH.log_density, seed=1)
    other = certify(consensus(), lambda x: TRUTH.log_density(x) - 4.0e6, seed=1)
    assert other.k_hat == pytest.approx(one.k_hat, abs=1e-5) and np.array_equal(one.draws, other.draws)


def test_effective_draws_per_parameter_predict_the_error_of_each_mean():
    truth = random_normal(np.random.default_rng(0), 2)
    combined = combined_of(truth.draws(np.random.default_rng(1), 300))
    found = [certify(combined, truth.log_density, draws=500, seed=seed) for seed in range(60)]
    means = np.array([one.draws.mean(axis=0) for one in found])
    predicted = np.mean([truth.covariance.diagonal() / one.parameter_ess for one in found], axis=0)
    np.testing.assert_allclose(np.mean((means - truth.mean) ** 2, axis=0), predicted, rtol=0.5)


def test_systematic_resampling_gives_each_draw_its_share_within_one():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(50))
    chosen = systematic(weights, 1000, rng)
    assert np.all(np.abs(np.bincount(chosen, minlength=50) - 1000.0 * weights) < 1.0)


def test_systematic_resampling_never_takes_a_draw_of_weight_zero():
    weights = np.array([0.0, 0.5, 0.0, 0.5, 0.0])
    for seed in range(200):
        assert set(systematic(weights, 7, np.random.default_rng(seed))) <= {1, 3}
