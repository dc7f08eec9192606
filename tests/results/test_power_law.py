"""Powers of q: the exponent with an interval that holds it, and a misfit that shows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from hpcxpcs.results.power_law import power_law

Q = np.array([0.004, 0.0054, 0.0072, 0.0108, 0.02])


def test_given_exact_powers_then_the_exponent_is_found_and_nothing_is_left_over():
    law = power_law(Q, 3.0 * Q**-0.5, 0.01 * Q**-0.5)
    assert law.exponent == pytest.approx(-0.5, abs=1e-9)
    assert law.amplitude * (0.01 / law.q_middle) ** law.exponent == pytest.approx(3.0 * 0.01**-0.5)
    assert law.chi_squared == pytest.approx(0.0, abs=1e-12)
    assert law.freedom == 3


@pytest.mark.parametrize("seed", range(5))
def test_given_scattered_values_then_it_agrees_with_scipys_weighted_curve_fit(seed):
    random = np.random.default_rng(seed)
    errors = 0.1 + 0.3 * random.random(5)
    values = 5.0 * (Q / 0.01) ** 0.3 + errors * random.normal(size=5)
    law = power_law(Q, values, errors)
    best, covariance = curve_fit(
        lambda q, a, p: a * (q / law.q_middle) ** p, Q, values, (5.0, 0.0), sigma=errors, absolute_sigma=True
    )
    assert (law.amplitude, law.exponent) == pytest.approx(best, rel=1e-5)
    assert law.error == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-4)


def test_given_many_experiments_then_the_interval_holds_the_exponent_as_often_as_it_says():
    random = np.random.default_rng(1)
    errors = np.array([300.0, 400.0, 500.0, 900.0, 1200.0])
    laws = [power_law(Q, 12000.0 + errors * random.normal(size=5), errors) for _ in range(1000)]
    held = np.mean([law.low <= 0.0 <= law.high for law in laws])
    assert 0.93 <= held <= 0.97
    assert 0.003 <= np.mean([not law.holds for law in laws]) <= 0.02


def test_given_values_along_a_power_then_the_words_say_whether_the_model_has_it_right():
    errors = np.full(5, 100.0)
    assert "no dependence on q beyond that of the model" in power_law(Q, np.full(5, 12000.0), errors).words
    law = power_law(Q, 12000.0 * (Q / 0.01) ** 0.5, errors)
    assert "depends on q in another way than the model says" in law.words
    assert law.words.startswith("exponent 0.50")


def test_given_values_that_no_power_describes_then_chi_squared_shows_it():
    law = power_law(Q, [12000.0, 12000.0, 17000.0, 12000.0, 12000.0], np.full(5, 200.0))
    assert not law.holds
    assert law.chi_squared > 100
    assert "no power law describes these values" in law.words


@pytest.mark.parametrize(
    ("q", "values"), [(Q[:2], [1.0, 1.0]), ([0.1, 0.1, 0.2], [1.0, 1.0, 1.0]), (Q[:3], [1.0, -1.0, 1.0])]
)
def test_given_too_few_q_or_a_change_of_sign_then_there_is_no_law(q, values):
    assert power_law(q, values, np.ones(len(values))) is None
