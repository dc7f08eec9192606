"""Judgements on a fit, in words."""

import math

import numpy as np
import pytest

from hpcxpcs.inference.records import NoiseParts
from hpcxpcs.results import quality
from tests.results.sample import NAMES, Compression, sample_fit

STUCK = np.arange(7) == 1


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({}, "good"),
        ({"reduced_chi_squared": 1.2}, "acceptable"),
        ({"reduced_chi_squared": 2.2}, "poor"),
        ({"reduced_chi_squared": 2.2e-4}, "poor"),
        ({"reduced_chi_squared": math.nan}, "poor"),
        ({"status": "converged_with_recovery"}, "good"),
        ({"at_bound": STUCK}, "acceptable"),
        ({"status": "at_bounds"}, "poor"),
        ({"status": "max_iterations"}, "poor"),
        ({"status": "failed"}, "poor"),
    ],
)
def test_given_a_fit_then_its_flag_follows_the_rule(changes, flag):
    assert quality.quality_flag(sample_fit(**changes)) == flag


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
    assert "the file counts 2.5 photons and 450 pixels" in quality.noise_words(fair)
    assert quality.quality_warnings(fair) == []
    (changed,) = quality.quality_warnings(sample_fit(noise=counting(40.0, 0.9)))
    assert "40 times the photons" in changed and "noise.photons" in changed
    (smoothed,) = quality.quality_warnings(sample_fit(noise=counting(1.0, 3.0)))
    assert "3 times as many pixels" in smoothed
    assert quality.quality_warnings(sample_fit(noise=counting(40.0, 3.0, "configuration"))) == []


def test_given_a_clean_fit_then_there_is_no_warning():
    assert quality.quality_warnings(sample_fit()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"flags": ("phi0 is periodic",)}, "phi0 is periodic"),
        ({"status": "at_bounds", "message": "alpha was held"}, "at_bounds: alpha was held"),
        ({"reduced_chi_squared": 0.2}, "overestimated"),
        ({"reduced_chi_squared": math.inf}, "not a finite number"),
    ],
)
def test_given_a_doubtful_fit_then_a_warning_says_why(changes, words):
    assert any(words in warning for warning in quality.quality_warnings(sample_fit(**changes)))


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({}, 0, "converged. The model explains the data"),
        ({"reduced_chi_squared": 1.8}, 0, "does not describe the data"),
        ({"reduced_chi_squared": 0.3}, 0, "noise level is overestimated"),
        ({}, 3, "a check failed"),
        ({"status": "failed"}, 3, "not a result"),
    ],
)
def test_given_a_fit_and_an_exit_code_then_the_verdict_says_what_to_make_of_it(changes, code, words):
    assert words in quality.verdict(sample_fit(**changes), code)


def test_given_a_covariance_then_correlations_are_between_physical_parameters_strongest_first():
    covariance = np.eye(13)
    covariance[0, 1] = covariance[1, 0] = -0.95
    covariance[2, 3] = covariance[3, 2] = 0.5
    covariance[0, 12] = covariance[12, 0] = 0.99
    pairs = quality.strongest_correlations(sample_fit(covariance=covariance), count=2)
    assert [(pair.first, pair.second, pair.value) for pair in pairs] == [
        ("D0", "alpha", -0.95),
        ("D_offset", "gamma_dot_t0", 0.5),
    ]
    assert "hard to tell apart" in quality.correlation_words(-0.95)


def test_given_a_variance_that_is_not_positive_then_its_correlations_are_unknown():
    matrix = quality.correlation_matrix(np.diag([4.0, 0.0]))
    assert matrix[0, 0] == 1.0
    assert np.isnan(matrix[1]).all()


def test_given_fixed_parameters_then_only_free_ones_are_correlated():
    names, matrix = quality.physical_correlations(
        sample_fit(covariance=np.eye(3), covariance_names=("beta", "contrast[0]", "offset[0]"))
    )
    assert (names, matrix.tolist()) == (["beta"], [[1.0]])


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1.0, "fair here"),
        (1.5, "prefer"),
        (3.0, "quote the robust"),
        (0.5, "take the larger"),
        (math.nan, "no error"),
    ],
)
def test_given_an_inflation_then_the_words_say_which_error_bar_to_use(ratio, words):
    assert words in quality.inflation_words(ratio)


def test_given_both_uncertainties_then_the_inflation_is_their_ratio():
    ratios = quality.inflation(sample_fit())
    assert ratios is not None
    assert ratios == pytest.approx(np.full(len(NAMES), 1.5))
    assert quality.inflation(sample_fit(robust_uncertainty=None)) is None


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (Compression(provider="raw", error=math.nan), "every data point"),
        (Compression(error=0.01), "within the limit of 0.05"),
        (Compression(error=0.2), "ABOVE the limit of 0.05"),
        (Compression(error=math.nan), "ABOVE the limit"),
    ],
)
def test_given_a_compression_then_its_words_compare_error_and_limit(report, words):
    assert words in quality.compression_words(report)


def test_given_sigma_from_the_file_then_the_fits_sigma_is_called_a_factor():
    assert quality.noise_meaning(sample_fit()) == "σ of one data point"
    assert "factor" in quality.noise_meaning(sample_fit(sigma_source="file"))
