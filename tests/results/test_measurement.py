"""Numbers as a scientist writes them."""

import math
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hpcxpcs.results.table import matching, measurement, number

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (1234.567, 1.234, "1234.6 ± 1.2"),
        (123456.0, 1234.0, "123500 ± 1200"),
        (1e7, 123.0, "(1.000000 ± 0.000012)e+07"),
        (1.23e-7, 4e-10, "(1.2300 ± 0.0040)e-07"),
        (-0.4016, 0.004, "-0.4016 ± 0.0040"),
        (0.5, 0.0996, "0.50 ± 0.10"),
        (0.0, 0.01, "0.000 ± 0.010"),
        (-0.0001, 0.5, "0.00 ± 0.50"),
        (12.0, 1e9, "(0.0 ± 1.0)e+09"),
        (999999.6, 12.0, "(1.000000 ± 0.000012)e+06"),
        (5.0, 1e-20, "5.000000000000000 ± 1.0e-20"),
        (2.5, 0.0, "2.5 ± 0"),
        (2.5, None, "2.5"),
        (1234.5678, NAN, "1234.57"),
        (2.5, INF, "2.5 ± ∞"),
        (NAN, 0.1, "—"),
        (-INF, NAN, "-∞"),
    ],
)
def test_given_a_value_and_its_uncertainty_then_both_end_at_the_second_digit(value, uncertainty, text):
    assert str(measurement(value, uncertainty)) == text


finite = st.floats(-1e300, 1e300, allow_subnormal=False)
errors = st.floats(1e-300, 1e300, allow_subnormal=False)


@given(finite, errors)
def test_given_any_measurement_when_read_back_then_it_is_within_half_a_last_digit(value, error):
    assume(error > 1e-13 * abs(value))
    shown = measurement(value, error)
    power = Decimal(10) ** shown.exponent
    last = Decimal(1).scaleb(Decimal(shown.uncertainty).as_tuple().exponent)
    assert abs(Decimal(shown.value) * power - Decimal(value)) <= Decimal("0.5001") * unit(shown) * power
    assert abs(Decimal(shown.uncertainty) * power - Decimal(error)) <= Decimal("0.05001") * Decimal(error)
    assert Decimal(shown.value).as_tuple().exponent == Decimal(last).as_tuple().exponent


def unit(shown):
    """The place of the second digit of the uncertainty."""
    return Decimal(1).scaleb(Decimal(shown.uncertainty).adjusted() - 1)


@given(finite, errors)
def test_given_any_measurement_then_it_is_short_enough_for_a_table(value, error):
    assert len(str(measurement(value, error))) <= 46


@given(finite, errors, st.floats(0.1, 100.0))
def test_given_a_second_uncertainty_then_it_is_right_to_two_digits(value, error, factor):
    shown = measurement(value, error)
    text = matching(shown, error * factor)
    assert float(text) == pytest.approx(error * factor, rel=0.0501, abs=0)


def test_given_a_measurement_with_a_power_of_ten_then_the_second_uncertainty_uses_it_too():
    assert matching(measurement(1.23e-7, 4e-10), 6.8e-10) == "0.0068e-07"


@pytest.mark.parametrize(("value", "text"), [(None, "—"), (NAN, "—"), (INF, "∞"), (0.0, "0")])
def test_given_no_second_uncertainty_then_a_sign_says_so(value, text):
    assert matching(measurement(1.0, 0.1), value) == text


def test_given_a_number_then_it_has_the_digits_asked_for():
    assert (number(1234.5678), number(1234.5678, 3), number(NAN)) == ("1234.57", "1.23e+03", "—")
