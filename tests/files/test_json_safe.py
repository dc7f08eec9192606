"""Every result record becomes JSON that the strictest parser reads."""

import datetime
import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.files.json_safe import dumps, json_safe, write_json
from tests.results.sample import strictly_parsed


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: float
    y: np.ndarray


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (math.nan, None),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (np.float64(math.nan), None),
        (np.float32(math.inf), "Infinity"),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array([[1.0, math.nan], [-math.inf, 2.0]]), [[1.0, None], ["-Infinity", 2.0]]),
        (np.array(5), 5),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.float32(0.5), 0.5),
        (jnp.array([1.0, jnp.nan]), [1.0, None]),
        (Path("a") / "b", "a/b"),
        (datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC), "2024-05-01T12:00:00+00:00"),
        (np.datetime64("2024-05-01"), "2024-05-01"),
        (np.datetime64("NaT", "s"), None),
        (Colour.RED, "red"),
        (Point(math.nan, np.arange(2)), {"x": None, "y": [0, 1]}),
        ((1, [2, {"a": math.nan}]), [1, [2, {"a": None}]]),
        ({2, 1}, [1, 2]),
        (MappingProxyType({np.int64(1): 2, 0.5: 3, Colour.RED: 4}), {"1": 2, "0.5": 3, "red": 4}),
    ],
)
def test_given_a_value_when_made_safe_then_it_is_plain(value, plain):
    assert json_safe(value) == plain
    assert strictly_parsed(dumps(value)) == plain


@pytest.mark.parametrize("value", [object(), b"bytes", 1j, np.array([1j]), {(1, 2): 3}])
def test_given_a_value_without_a_plain_form_then_it_is_refused(value):
    with pytest.raises(TypeError, match="result file"):
        json_safe(value)


def test_given_a_path_that_is_not_utf8_then_the_file_is(tmp_path):
    write_json(tmp_path / "a.json", {"file": "data\udcff.h5"})
    assert strictly_parsed((tmp_path / "a.json").read_bytes().decode())["file"] == "data\ufffd.h5"


numbers = st.floats() | st.floats(width=32).map(np.float32) | st.integers(-(2**60), 2**60)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(values)
def test_given_any_nesting_when_written_then_a_strict_parser_returns_the_plain_form(value):
    assert strictly_parsed(dumps({"value": value})) == {"value": json_safe(value)}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_given_a_finite_number_when_written_then_no_digit_is_lost(number):
    assert strictly_parsed(dumps([number])) == [number]
