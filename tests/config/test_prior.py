"""Priors: values are checked, quantiles are those of the distribution truncated to the bounds."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hpcxpcs.config.prior import PRIOR_KINDS, PRIOR_VALUES, Prior, read_prior

U = np.linspace(0.001, 0.999, 41)
CASES: list[tuple[dict[str, Any], float, float, Any]] = [
    ({"type": "uniform"}, -2.0, 3.0, stats.uniform(-2.0, 5.0)),
    ({"type": "normal", "mu": 1.0, "sigma": 2.0}, -2.0, 3.0, stats.norm(1.0, 2.0)),
    ({"type": "truncated_normal", "mu": -1.0, "sigma": 0.5}, 0.5, 3.0, stats.norm(-1.0, 0.5)),
    ({"type": "lognormal", "median": 1e4, "sigma": 1.0}, 100.0, 1e5, stats.lognorm(1.0, scale=1e4)),
    ({"type": "lognormal", "median": 5.0, "sigma": 1.0}, -1.0, 9.0, stats.lognorm(1.0, scale=5.0)),
    ({"type": "half_normal", "sigma": 2.0}, -5.0, 3.0, stats.halfnorm(scale=2.0)),
    ({"type": "exponential", "rate": 0.5}, 1.0, 6.0, stats.expon(scale=2.0)),
    ({"type": "beta_scaled", "a": 2.0, "b": 3.5}, -1.0, 4.0, stats.beta(2.0, 3.5, loc=-1.0, scale=5.0)),
]


def test_every_kind_of_prior_is_among_the_cases() -> None:
    assert {case[0]["type"] for case in CASES} == set(PRIOR_KINDS)


@pytest.mark.parametrize(("text", "lower", "upper", "reference"), CASES)
def test_given_a_prior_when_asked_for_quantiles_then_those_of_the_truncated_distribution(
    text: dict[str, Any], lower: float, upper: float, reference: Any
) -> None:
    x = read_prior(text).quantile(U, lower, upper)
    below, above = reference.cdf(lower), reference.cdf(upper)
    np.testing.assert_allclose((reference.cdf(x) - below) / (above - below), U, atol=1e-9)


@pytest.mark.parametrize(("text", "lower", "upper", "reference"), CASES)
def test_given_the_ends_of_the_unit_interval_then_quantiles_stay_inside_the_bounds(
    text: dict[str, Any], lower: float, upper: float, reference: Any
) -> None:
    x = read_prior(text).quantile([0.0, 1e-300, 1.0 - 1e-16, 1.0], lower, upper)
    assert np.isfinite(x).all()
    assert lower <= x.min()
    assert x.max() <= upper


@given(mu=st.floats(-7, 7), width=st.floats(0.1, 10))
def test_given_bounds_in_a_tail_when_asked_for_quantiles_then_increasing_and_distinct(mu: float, width: float) -> None:
    x = Prior("normal", (("mu", mu), ("sigma", 1.0))).quantile(U, 0.0, width)
    assert (np.diff(x) > 0).all()


def test_given_a_matrix_of_fractions_when_asked_for_quantiles_then_the_same_shape() -> None:
    assert Prior("uniform").quantile(np.full((3, 4), 0.5), 0.0, 2.0).shape == (3, 4)


@pytest.mark.parametrize("text", [case[0] for case in CASES])
def test_given_a_prior_when_written_to_json_and_read_back_then_the_same(text: dict[str, Any]) -> None:
    prior = read_prior(text)
    assert read_prior(json.loads(json.dumps(prior.to_mapping()))) == prior


@pytest.mark.parametrize(
    ("spelling", "kind"),
    [("TruncatedNormal", "truncated_normal"), ("halfnormal", "half_normal"), ("beta-scaled", "beta_scaled")],
)
def test_given_another_spelling_of_a_type_then_the_same_kind(spelling: str, kind: str) -> None:
    values = dict.fromkeys(PRIOR_VALUES[kind], 1.0)
    assert read_prior({"type": spelling, **values}).kind == kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (3, "is not a prior"),
        ({"mu": 1}, "has no type; known types: uniform, normal"),
        ({"type": "lognormol", "median": 1, "sigma": 1}, "did you mean 'lognormal'"),
        ({"type": "normal", "mu": 0}, "lacks sigma; normal takes mu, sigma"),
        ({"type": "normal", "mu": 0, "sigma": 0}, "sigma = 0, which must be greater than 0"),
        ({"type": "normal", "mu": 0, "sigma": "x"}, "sigma = 'x', which is not a number"),
        (
            {"type": "normal", "mu": 0, "sigma": 1, "sigmma": 1},
            "unknown value 'sigmma'.*did you mean 'sigma'",
        ),
        ({"type": "lognormal", "median": -1, "sigma": 1}, "median = -1, which must be greater than 0"),
        ({"type": "uniform", "low": 0}, "uniform takes no values: its range is min ... max"),
        ({"type": "exponential", "rate": math.inf}, "which is not a finite number"),
        ({"type": "beta_scaled", "a": 1, "b": True}, "which is not a number"),
    ],
)
def test_given_a_wrong_prior_when_read_then_told_what_is_wrong(text: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_prior(text)


@pytest.mark.parametrize(
    ("text", "lower", "upper", "covers"),
    [
        ({"type": "normal", "mu": 0, "sigma": 1}, 5.0, 6.0, True),
        ({"type": "normal", "mu": 0, "sigma": 1}, 9.0, 10.0, False),
        ({"type": "lognormal", "median": 1, "sigma": 1}, -2.0, 0.0, False),
        ({"type": "lognormal", "median": 1, "sigma": 1}, -2.0, 1.0, True),
        ({"type": "lognormal", "median": 1, "sigma": 1}, 1e4, 1e5, False),
        ({"type": "half_normal", "sigma": 1}, -3.0, -1.0, False),
        ({"type": "exponential", "rate": 1}, -3.0, -1.0, False),
        ({"type": "uniform"}, 1e9, 2e9, True),
    ],
)
def test_given_bounds_far_from_a_prior_then_it_does_not_cover_them(
    text: dict[str, Any], lower: float, upper: float, covers: bool
) -> None:
    assert read_prior(text).covers(lower, upper) is covers
