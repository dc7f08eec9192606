"""Every key, array and group that a posterior leaves behind is in OUTPUTS.md."""

import re
from pathlib import Path

import pytest

from hpcxpcs import results
from hpcxpcs.files.json_safe import json_safe
from hpcxpcs.results.cmc import (
    diagnostics_record,
    posterior_analysis_record,
    posterior_parameters_record,
    sample_arrays,
)
from hpcxpcs.results.fitted import BAND_MATRICES
from hpcxpcs.results.inference_data import inference_data
from hpcxpcs.results.report import POSTERIOR_PICTURES
from tests.results.sample_posterior import SAMPLED, rejected, sample_posterior, sampled_answer

DOCUMENTED = set(re.findall(r"`(\w+)`", (Path(results.__file__).parent / "OUTPUTS.md").read_text()))
FREE = {"settings", "timings", "conventions"}
"""Entries whose keys are the user's own, or other documents'."""


def keys(record):
    """All keys of nested mappings and lists but names of parameters and what is below FREE."""
    if isinstance(record, list):
        return {key for item in record for key in keys(item)}
    if not isinstance(record, dict):
        return set()
    below = (keys(item) for key, item in record.items() if key not in FREE)
    return {key for key in record if key not in SAMPLED}.union(*below)


@pytest.mark.parametrize(
    "changes",
    [{}, {"route": "exact"}, {"route": "importance"}, rejected()],
    ids=["consensus", "exact", "importance", "rejected"],
)
def test_given_any_posterior_then_every_key_of_its_records_is_documented(changes):
    answer = sampled_answer(12, **changes)
    records = (
        posterior_parameters_record(answer, answer.posterior),
        posterior_analysis_record(answer, answer.posterior),
        diagnostics_record(answer, answer.posterior),
    )
    assert keys(json_safe(list(records))) - DOCUMENTED == set()


def test_given_the_archives_then_every_array_group_and_picture_is_documented():
    answer = sampled_answer(12)
    names = {
        *sample_arrays(sample_posterior(), "laminar_flow"),
        *BAND_MATRICES,
        *inference_data(answer, answer.posterior).children,
        *(name.removesuffix(".png") for name in POSTERIOR_PICTURES),
    }
    assert names - DOCUMENTED == set()


def test_given_a_key_that_nobody_documented_then_the_walk_finds_it():
    assert keys({"parameters": {"D0": {"mean": 1}}, "new": [{"deep": 2}], "settings": {"x": 1}}) == {
        *("parameters", "mean", "new", "deep", "settings"),
    }
