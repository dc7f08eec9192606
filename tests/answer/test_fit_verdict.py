"""Judgements on a fit, in words."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.answer import fit_verdict
from hpcxpcs.answer.fit import NoiseParts
from tests.results.sample import COMPRESSION, NAMES, sample_fit

STUCK = np.arange(7) == 1


def chi_squared(reduced):
    return {"chi_squared": reduced * sample_fit().degrees_of_freedom}


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({}, "good"),
        (chi_squared(1.2), "acceptable"),
        (chi_squared(2.2), "poor"),
        (chi_squared(2.2e-4), "poor"),
        (chi_squared(math.nan), "poor"),
        ({"status": "converged_with_recovery"}, "good"),
        ({"at_bound": STUCK}, "acceptable"),
        ({"status": "at_bounds"}, "poor"),
        ({"status": "max_iterations"}, "poor"),
        ({"status": "failed"}, "poor"),
    ],
)
def test_given_a_fit_then_its_flag_follows_the_rule(changes, flag):
    assert fit_verdict.quality_flag(sample_fit(**changes)) == flag


def counting(photons_times, pixels_times, photons_from="diagonal"):
    """The noise of speckles at two angles, with so many times the photons and pixels that the file counts."""
    part, photons, pixels = np.full(2, 1e-4), np.array([2.0, 3.0]), np.array([400.0, 500.0])
    return NoiseParts(
        *(part, part, part, 1.0, 1.0, 100.0, photons_times * photons, pixels_times * pixels, part),
        photons_from=photons_from,
        counted_photons=photons,
        counted_pixels=pixels,
    )


def test_given_a_file_that_counts_photons_then_what_the_noise_shows_is_compared_with_it():
    fair = sample_fit(noise=counting(0.95, 0.9))
    assert "the file counts 2.5 photons and 450 pixels" in fit_verdict.noise_words(fair)
    assert fit_verdict.quality_warnings(fair) == []
    (changed,) = fit_verdict.quality_warnings(sample_fit(noise=counting(40.0, 0.9)))
    assert "40 times the photons" in changed and "noise.photons" in changed
    (smoothed,) = fit_verdict.quality_warnings(sample_fit(noise=counting(1.0, 3.0)))
    assert "3 times as many pixels" in smoothed
    assert fit_verdict.quality_warnings(sample_fit(noise=counting(40.0, 3.0, "configuration"))) == []


def test_given_a_clean_fit_then_there_is_no_warning():
    assert fit_verdict.quality_warnings(sample_fit()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"flags": ("phi0 is periodic",)}, "phi0 is periodic"),
        ({"status": "at_bounds", "message": "alpha was held"}, "at_bounds: alpha was held"),
        (chi_squared(0.2), "overestimated"),
        (chi_squared(math.inf), "not a finite number"),
    ],
)
def test_given_a_doubtful_fit_then_a_warning_says_why(changes, words):
    assert any(words in warning for warning in fit_verdict.quality_warnings(sample_fit(**changes)))


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({}, 0, "converged. The model explains the data"),
        (chi_squared(1.8), 0, "does not describe the data"),
        (chi_squared(0.3), 0, "noise level is overestimated"),
        ({}, 3, "a check failed"),
        ({"status": "failed"}, 3, "not a result"),
    ],
)
def test_given_a_fit_and_an_exit_code_then_the_verdict_says_what_to_make_of_it(changes, code, words):
    assert words in fit_verdict.verdict(sample_fit(**changes), code)


def test_given_a_covariance_then_correlations_are_between_physical_parameters_strongest_first():
    covariance = np.eye(13)
    covariance[0, 1] = covariance[1, 0] = -0.95
    covariance[2, 3] = covariance[3, 2] = 0.5
    covariance[0, 12] = covariance[12, 0] = 0.99
    physical = fit_verdict.physical_correlations(sample_fit(covariance=covariance))
    pairs = fit_verdict.strongest_correlations(*physical, count=2)
    assert [(pair.first, pair.second, pair.value) for pair in pairs] == [
        ("D0", "alpha", -0.95),
        ("D_offset", "gamma_dot_t0", 0.5),
    ]
    assert "hard to tell apart" in fit_verdict.correlation_words(-0.95)


def test_given_a_variance_that_is_not_positive_then_its_correlations_are_unknown():
    matrix = fit_verdict.correlation_matrix(np.diag([4.0, 0.0]))
    assert matrix[0, 0] == 1.0
    assert np.isnan(matrix[1]).all()


def test_given_fixed_parameters_then_only_free_ones_are_correlated():
    names, matrix = fit_verdict.physical_correlations(
        sample_fit(covariance=np.eye(3), covariance_names=("beta", "contrast[0]", "offset[0]"))
    )
    assert (names, matrix.tolist()) == (["beta"], [[1.0]])


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1.0, "fair here"),
        (1.4, "prefer"),
        (1.5, "quote the robust"),
        (3.0, "quote the robust"),
        (0.5, "take the larger"),
        (math.nan, "no error"),
    ],
)
def test_given_an_inflation_then_the_words_say_which_error_bar_to_use(ratio, words):
    assert words in fit_verdict.inflation_words(ratio)


def test_given_both_uncertainties_then_the_inflation_is_their_ratio():
    ratios = fit_verdict.inflation(sample_fit())
    assert ratios is not None
    assert ratios == pytest.approx(np.full(len(NAMES), 1.4))
    assert fit_verdict.inflation(sample_fit(robust_uncertainty=None)) is None


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (replace(COMPRESSION, provider="raw", error=math.nan), "every data point"),
        (replace(COMPRESSION, error=0.01), "within the limit of 0.05"),
        (replace(COMPRESSION, error=0.2), "ABOVE the limit of 0.05"),
        (replace(COMPRESSION, error=math.nan), "ABOVE the limit"),
    ],
)
def test_given_a_compression_then_its_words_compare_error_and_limit(report, words):
    assert words in fit_verdict.compression_words(report)


def test_given_sigma_from_the_file_then_the_fits_sigma_is_called_a_factor():
    assert fit_verdict.noise_meaning(sample_fit()) == "σ of one data point"
    assert "factor" in fit_verdict.noise_meaning(sample_fit(sigma_source="file"))
