"""Numbers are read as a person means them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.config.values import number_from_text, read_memory, read_number, read_whole


@pytest.mark.parametrize(
    ("spelling", "number"),
    [
        ("1e-3", 1e-3),
        ("1.0e5", 1e5),
        ("+2.5E+3", 2500.0),
        (".5", 0.5),
        ("5.", 5.0),
        (" 12 ", 12.0),
        ("2_000_000", 2e6),
        ("010", 10.0),
        (7, 7.0),
        (0.25, 0.25),
    ],
)
def test_given_a_usual_spelling_when_read_then_the_number(spelling: object, number: float) -> None:
    assert read_number(spelling) == number


@pytest.mark.parametrize("wrong", [True, False, None, "", "abc", "1 2", "0x1F", "1:30", "1__0", "_1", "1e", [1.0], {}])
def test_given_something_else_when_read_then_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        read_number(wrong)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, ".nan", "-.inf", "Infinity", "1e999", 10**400])
def test_given_nan_or_infinity_when_read_then_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="is not a finite number"):
        read_number(wrong)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_given_any_float_when_spelled_in_full_then_the_same_float(number: float) -> None:
    assert read_number(repr(number)) == number
    assert read_number(f"{number:.17e}") == number


@given(st.text())
def test_given_any_text_when_read_then_a_finite_number_or_a_refusal(text: str) -> None:
    number = number_from_text(text)
    if number is None:
        with pytest.raises(ValueError, match="is not a"):
            read_number(text)
    else:
        assert number == float(text.replace("_", ""))


def test_given_negative_zero_when_read_then_positive_zero() -> None:
    assert math.copysign(1.0, read_number(-0.0)) == 1.0


@given(st.integers(min_value=-(2**53), max_value=2**53))
def test_given_any_whole_number_when_spelled_as_int_float_or_text_then_the_same_int(number: int) -> None:
    assert read_whole(number) == read_whole(float(number)) == read_whole(str(number)) == number
    assert isinstance(read_whole(float(number)), int)


@pytest.mark.parametrize("wrong", [1.5, "1.5", "x", True, None, math.nan])
def test_given_no_whole_number_when_read_as_one_then_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="is not a"):
        read_whole(wrong)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4 GiB", 4 * 1024**3),
        ("800MB", 800 * 10**6),
        ("1.5 TiB", 3 * 1024**4 // 2),
        (2**30, 2**30),
        ("1e9", 10**9),
    ],
)
def test_given_a_memory_size_when_read_then_bytes(text: object, size: int) -> None:
    assert read_memory(text) == size


@pytest.mark.parametrize("wrong", ["4", 4, "4 GiBs", "-4 GiB", "GiB", True, "lots"])
def test_given_no_usable_memory_size_when_read_then_the_remedy_is_named(wrong: object) -> None:
    with pytest.raises(ValueError, match="4 GiB"):
        read_memory(wrong)
