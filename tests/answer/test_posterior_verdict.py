"""How far to trust a posterior, in words."""

from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.answer import posterior_verdict
from hpcxpcs.answer.fit_verdict import strongest_correlations
from hpcxpcs.answer.posterior import Finding, Judgement
from tests.results.sample import sample_fit
from tests.results.sample_posterior import SAMPLED, rejected, sample_posterior

FIT = sample_fit()


@pytest.fixture(scope="module")
def posterior():
    return sample_posterior()


def changed(posterior, **columns):
    return replace(posterior, summary=replace(posterior.summary, **columns))


def rows(posterior):
    return dict(posterior_verdict.trust_rows(posterior, FIT))


def test_given_a_certified_posterior_then_it_is_good_and_says_how_it_was_checked(posterior):
    assert posterior_verdict.posterior_quality(posterior) == "good"
    first = "Certified: the combined draws were checked against all data"
    assert posterior_verdict.verdict_sentence(posterior).startswith(first)
    assert rows(posterior)["check against all data"].startswith("the consensus agrees")


@pytest.mark.parametrize("verdict", ["certified", "corrected", "exact", "rejected"])
def test_given_each_verdict_then_the_first_sentence_begins_with_it(posterior, verdict):
    assert posterior_verdict.verdict_sentence(replace(posterior, verdict=verdict)).lower().startswith(verdict)


def test_given_a_rejected_posterior_then_the_words_warn_and_the_quality_is_poor():
    posterior = sample_posterior(**rejected())
    assert posterior_verdict.posterior_quality(posterior) == "poor"
    assert "not a result" in posterior_verdict.verdict_sentence(posterior)
    assert posterior_verdict.posterior_warnings(posterior, FIT)[0] == "shard 2 was left out"


@pytest.mark.parametrize(
    ("r_hat", "quality"), [(1.04, "good"), (1.06, "poor"), (1.2, "poor"), (np.nan, "poor"), (np.inf, "poor")]
)
def test_given_the_worst_r_hat_then_the_quality_follows(posterior, r_hat, quality):
    values = np.full(len(SAMPLED), 1.001)
    values[3] = r_hat
    assert posterior_verdict.posterior_quality(changed(posterior, r_hat=values)) == quality


def test_given_a_failed_diagnostic_then_a_good_verdict_is_qualified(posterior):
    finding = Finding("ess_bulk", 220.0, 400.0, "alpha", "twice as many draws are needed")
    doubtful = replace(posterior, judgement=Judgement(False, (finding,)))
    assert posterior_verdict.posterior_quality(doubtful) == "acceptable"
    assert "But a diagnostic failed" in posterior_verdict.verdict_sentence(doubtful)
    assert posterior_verdict.posterior_warnings(doubtful, FIT) == [
        "number of effective draws of alpha is 220, the threshold 400: twice as many draws are needed"
    ]


def test_given_a_warning_that_repeats_then_it_is_said_once(posterior):
    assert posterior_verdict.posterior_warnings(replace(posterior, warnings=("a", "b", "a")), FIT) == ["a", "b"]


def test_given_a_parameter_that_the_prior_holds_then_it_is_named(posterior):
    assert "beta (33%)" in rows(posterior)["prior or data"]
    told = rows(changed(posterior, contraction=np.full(len(SAMPLED), 0.972)))["prior or data"]
    assert told == "every parameter is determined by the data, not by its prior (contraction: at least 97.2 %)"


def test_given_shards_left_out_then_the_reasons_are_told(posterior):
    assert rows(posterior)["shards"] == "3 of 4 were accepted; left out: shard 2: R-hat 1.31 of beta"
    whole = replace(posterior, shards=tuple(replace(one, accepted=True) for one in posterior.shards))
    assert rows(whole)["shards"] == "all 4 were accepted"


def test_given_a_consensus_then_r_hat_is_never_said_to_be_of_the_combined_draws(posterior):
    assert "the chains of the worst shard" in rows(posterior)["convergence"]
    assert "worst shard" not in rows(sample_posterior(route="exact"))["convergence"]


def test_given_exact_chains_then_there_is_nothing_to_say_about_shards_and_weights():
    told = set(rows(sample_posterior(route="exact")))
    assert not told & {"shards", "agreement of the shards", "check against all data"}


def test_given_a_posterior_far_from_the_point_fit_then_a_reader_is_told_to_look(posterior):
    z = np.zeros(len(SAMPLED))
    assert "agrees" in rows(changed(posterior, z=z))["point fit"]
    z[4] = -3.1
    assert "3.10 standard deviations from it (beta): far" in rows(changed(posterior, z=z))["point fit"]
    assert "no point fit" in rows(changed(posterior, z=np.full(len(SAMPLED), np.nan)))["point fit"]


def test_given_the_strongest_pair_then_it_comes_first(posterior):
    pairs = strongest_correlations(*posterior_verdict.draw_correlations(posterior), count=3)
    assert len(pairs) == 3
    assert {pairs[0].first, pairs[0].second} == {"D0", "alpha"}
    assert pairs[0].value < -0.8


def test_given_draws_outside_of_the_support_then_the_certificate_says_how_many(posterior):
    told = posterior_verdict.certificate_words(replace(posterior.certificate, nonfinite=12))
    assert told.endswith("; 12 draws lie outside of what the model or the prior allow")


def test_given_noise_that_frames_share_then_a_reader_learns_that_intervals_are_too_narrow(posterior):
    assert "too narrow, by up to 1.4 times" in rows(posterior)["shared noise"]
    assert posterior_verdict.posterior_warnings(posterior, FIT) == []
    serious = replace(FIT, robust_uncertainty=3 * FIT.uncertainty)
    assert "up to 3.0 times" in posterior_verdict.posterior_warnings(posterior, serious)[0]
    fair = replace(FIT, robust_uncertainty=1.05 * FIT.uncertainty)
    assert "is fair here" in dict(posterior_verdict.trust_rows(posterior, fair))["shared noise"]
    wider = replace(posterior, widening=np.full(len(SAMPLED), 2.9))
    assert "up to 2.90 times wider" in dict(posterior_verdict.trust_rows(wider, serious))["shared noise"]
    assert posterior_verdict.posterior_warnings(wider, serious) == []
    unknown = replace(FIT, robust_uncertainty=None)
    assert "shared noise" not in dict(posterior_verdict.trust_rows(posterior, unknown))
