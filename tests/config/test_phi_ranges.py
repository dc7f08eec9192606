"""Azimuthal ranges: one as phi_range, or several as phi_ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.config import Config, config_from_mapping
from hpcxpcs.errors import ConfigError

DEGREES = st.floats(-360, 360)
RANGES = st.fixed_dictionaries({"min": DEGREES, "max": DEGREES})


def reading(filtering: dict[str, Any]) -> Config:
    return config_from_mapping(
        {
            "analysis_mode": "static",
            "experimental_data": {"file_path": "a.h5"},
            "analyzer_parameters": {"scattering": {"wavevector_q": 0.01}},
            "data_filtering": filtering,
        }
    )


def test_given_nothing_then_the_full_circle() -> None:
    assert [(r.min, r.max) for r in reading({}).data_filtering.phi_ranges] == [(-180.0, 180.0)]


@given(RANGES)
def test_given_one_range_then_the_same_as_a_list_of_one(one: dict[str, float]) -> None:
    single, several = reading({"phi_range": one}), reading({"phi_ranges": [one]})
    assert single.data_filtering.phi_ranges == several.data_filtering.phi_ranges
    assert single.fingerprint() == several.fingerprint()


@given(st.lists(RANGES, min_size=1, max_size=5))
def test_given_any_ranges_then_all_are_kept_in_order(ranges: list[dict[str, float]]) -> None:
    kept = reading({"phi_ranges": ranges}).data_filtering.phi_ranges
    assert [{"min": r.min, "max": r.max} for r in kept] == ranges


@pytest.mark.parametrize(
    ("filtering", "message"),
    [
        ({"phi_range": {"min": 0, "max": 1}, "phi_ranges": [{"min": 0, "max": 1}]}, "keep one of the two"),
        ({"phi_ranges": []}, "selects no angle"),
        ({"phi_ranges": {"min": 0, "max": 1}}, "must be a list"),
        ({"phi_ranges": [{"min": 0}]}, r"phi_ranges\[0\].max: is missing"),
        ({"phi_ranges": [{"min": 0, "max": 400}]}, r"phi_ranges\[0\].max: 400 must be at most 360"),
        ({"phi_range": [0, 1]}, r"phi_range: \[0, 1\] must be a section"),
        ({"phi_range": {"min": 0, "max": 1, "mid": 2}}, "phi_range.mid: is not a known key"),
    ],
)
def test_given_wrong_ranges_then_told_so(filtering: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reading(filtering)


def test_given_both_spellings_in_a_file_then_the_line_is_named(problems: Callable[..., list[str]]) -> None:
    found = problems("data_filtering:\n  phi_range: {min: 0, max: 1}\n  phi_ranges: [{min: 0, max: 1}]\n")
    assert found[0].split(": ")[0].endswith("config.yaml:7")
