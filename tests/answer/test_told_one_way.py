"""No answer is told two ways: flags, verdict, quality and words of one answer agree, whatever its numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from hpcxpcs.answer.fit import NoiseParts, PointFit
from hpcxpcs.answer.fit_verdict import (
    correlation_words,
    flags_of,
    inflation_words,
    quality_flag,
    quality_warnings,
    verdict,
)
from hpcxpcs.answer.posterior import Judgement, Mixing
from hpcxpcs.answer.posterior_verdict import (
    Thresholds,
    judge,
    posterior_quality,
    posterior_warnings,
    verdict_sentence,
)
from tests.answer.test_fit_flags import CLEAN, EVIDENCE
from tests.results.sample import sample_fit
from tests.results.sample_posterior import SAMPLED, sample_posterior

CHI_SQUARED = (0.2, 0.72, 0.8, 0.89, 0.95, 1.0, 1.005, 1.02, 1.05, 1.09, 1.11, 1.2, 1.3, 1.49, 1.6, 3.0, np.nan, np.inf)
FREEDOM = (0.0, 10.0, 500.0, 1e4, 1e7)
NOISE = {"independent": None, "shared": 1.0, "much shared": 1.4, "weighed": 1.0}
STATUSES = ("converged", "converged_with_recovery", "at_bounds", "max_iterations", "failed")
AGAINST = ("leaves structure", "does not describe", "overestimated", "no finite number", "does not judge")


def parts(kind: str) -> NoiseParts | None:
    """Noise of three angles of which the fit knows that pairs share it."""
    if NOISE[kind] is None:
        return None
    one, model = np.ones(3), "speckle" if kind == "weighed" else "independent"
    return NoiseParts(
        one,
        one,
        one,
        1.0,
        1.0,
        30.0,
        one,
        one,
        one,
        expected_chi_squared=NOISE[kind],
        model=model,
        alone=np.ones(7),
        alone_robust=np.ones(7),
    )


def fit_with(reduced: float, freedom: float, noise_freedom: float, kind: str, status: str) -> PointFit:
    """The sample fit with other numbers, and the flags that these raise."""
    numbers = {
        "chi_squared": reduced * max(freedom, 1.0),
        "degrees_of_freedom": freedom,
        "noise_freedom": noise_freedom,
        "noise": parts(kind),
    }
    return sample_fit(**numbers, status=status, flags=flags_of(replace(CLEAN, **numbers), EVIDENCE))


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("kind", NOISE)
def test_given_any_chi_squared_then_flags_warnings_verdict_and_quality_say_the_same(kind: str, status: str) -> None:
    for reduced, freedom, noise_freedom in product(CHI_SQUARED, FREEDOM, (5.0, np.inf)):
        fit = fit_with(reduced, freedom, noise_freedom, kind, status)
        first, quality = verdict(fit, 0), quality_flag(fit)
        warned = " ".join(quality_warnings(fit))
        case = f"{reduced} on {freedom}, σ on {noise_freedom}: {first} | {warned} | {quality}"
        assert fit.ok == ("χ²" in first), case
        if "explains the data" in first:
            assert "structure" not in warned and "overestimated" not in warned and "says nothing" not in warned, case
            assert quality == "good" and not fit.flags, case
        elif fit.ok:
            assert sum(words in first for words in AGAINST) == 1, case
            assert "does not judge" in first or warned, case
            assert quality != "good" or "points share" in first, case
        else:
            assert quality == "poor", case
        if "structure" in warned and fit.ok:
            assert "leaves structure" in first or "does not describe" in first, case


def test_given_a_small_but_certain_misfit_then_the_model_is_not_said_to_explain_the_data() -> None:
    fit = fit_with(1.05, 1e6, np.inf, "independent", "converged")
    assert "leaves structure" in verdict(fit, 0) and quality_flag(fit) == "acceptable" and fit.flags
    assert "explains the data" in verdict(fit_with(1.05, 500.0, np.inf, "independent", "converged"), 0)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 0.949, 0.95, 0.97, 0.985, 0.991, 0.9999])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_given_any_correlation_then_flag_and_words_call_it_the_same(correlation: float, sign: float) -> None:
    covariance = CLEAN.covariance.copy()
    covariance[0, 1] = covariance[1, 0] = sign * correlation * np.sqrt(covariance[0, 0] * covariance[1, 1])
    flagged = any(
        "hard to tell apart" in flag
        for flag in flags_of(replace(CLEAN, covariance=covariance, robust_covariance=None), EVIDENCE)
    )
    words = correlation_words(sign * correlation)
    assert flagged == ("hard to tell apart" in words or "only a combination" in words)


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.19, 1.3, 1.49, 1.51, 2.0, 10.0])
def test_given_any_inflation_then_flag_and_words_name_the_same_error_bar(ratio: float) -> None:
    flagged = any(
        "quote the robust" in flag
        for flag in flags_of(replace(CLEAN, robust_covariance=ratio**2 * CLEAN.covariance), EVIDENCE)
    )
    assert flagged == ("quote the robust" in inflation_words(ratio))


@pytest.mark.parametrize("word", ["certified", "corrected", "exact", "rejected"])
@pytest.mark.parametrize("limit", [1.01, 1.05, 1.2])
def test_given_any_r_hat_then_verdict_quality_and_warnings_say_the_same(word: str, limit: float) -> None:
    posterior = sample_posterior(verdict=word)
    for r_hat in (1.0, 1.009, 1.02, 1.049, 1.06, 1.09, 1.15, 1.5, np.nan, np.inf):
        values = np.full(len(SAMPLED), r_hat)
        failed = judged(values, limit)
        found = replace(posterior, summary=replace(posterior.summary, r_hat=values), judgement=failed)
        first, quality = verdict_sentence(found), posterior_quality(found)
        warned = posterior_warnings(found, sample_fit())
        case = f"{r_hat} of {limit}: {first} | {quality} | {warned}"
        assert (quality == "good") == (word != "rejected" and "But" not in first), case
        assert (quality == "poor") == (word == "rejected" or not r_hat < 1.05), case
        assert failed.passed or warned, case
        told = " ".join(warned)
        assert not ("nearly agree" in told or "agree well" in told) or quality != "poor" or word == "rejected", case
        assert not ("do not agree" in told or "disagree" in told) or quality == "poor", case


def judged(r_hat: np.ndarray, limit: float) -> Judgement:
    """The judgement of chains that are fine but for their R-hat."""
    many = np.full(len(r_hat), 4000.0)
    found = Mixing(r_hat, many, many, many, many)
    limits = Thresholds(max_r_hat=limit)
    return judge(SAMPLED, found, divergences=0, draws=1000, bfmi=0.9, thresholds=limits)
