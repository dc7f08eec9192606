"""A plan is read as it was written, and differences that would change the draws are named."""

import json
import math
from pathlib import Path

import pytest

from hpcxpcs.errors import ConfigError, FutureFile, PlanMismatch, TornFile
from hpcxpcs.runs.plan import Plan, changed_versions, new_run_id, refuse_difference
from tests.runs.store import sample_plan

PATH = Path("RUN/plan.json")


def parsed(plan):
    return Plan.parsed(plan.text().encode(), PATH)


def test_given_a_plan_when_read_back_then_it_is_the_same():
    assert parsed(sample_plan()) == sample_plan()


def test_given_the_text_of_a_plan_then_it_is_json_that_people_can_read():
    content = json.loads(sample_plan().text())
    assert content["schema_version"] == 1
    assert content["tasks"][0] == {"name": "shard-00000", "kind": "shard", "index": 0, "cost": 1.0}
    assert sample_plan().text().count("\n") > 20


@pytest.mark.parametrize(
    "alter",
    [
        lambda text: text.replace(b'"seed": 7', b'"seed": 8'),
        lambda text: text[:-20],
        lambda text: text.replace(b"sha256", b"sha255"),
        lambda text: b"[]",
        lambda text: b"\xff\xfe",
    ],
)
def test_given_an_altered_plan_then_it_is_torn_and_the_remedy_is_named(alter):
    with pytest.raises(TornFile, match=r"plan\.json.*--fresh"):
        Plan.parsed(alter(sample_plan().text().encode()), PATH)


def test_given_a_plan_of_a_future_schema_then_the_error_says_so():
    content = json.loads(sample_plan().text()) | {"schema_version": 2, "unheard_of": 1}
    with pytest.raises(FutureFile, match=r"schema 2.*up to 1.*--run"):
        Plan.parsed(json.dumps(content).encode(), PATH)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "exact"}, "its method is cmc, now it would be exact"),
        ({"config": {**sample_plan().config, "model": "two"}}, 'the setting model was "laminar", is "two"'),
        (
            {"config": {**sample_plan().config, "noise": {"kind": "iid", "floor": 1}}},
            "the setting noise.floor was 0.5, is 1",
        ),
        (
            {"config": {**sample_plan().config, "noise": {"kind": "iid"}}},
            "the setting noise.floor was 0.5, is not set",
        ),
        ({"config": {**sample_plan().config, "q": 0.1}}, "the setting q was not set, is 0.1"),
        ({"config": {**sample_plan().config, "ranges": [1]}}, r"the setting ranges was \[1, 2.5\], is \[1\]"),
        ({"data": {"path": "b.h5", "fingerprint": "d00d"}}, "f00d of data.h5, now d00d of b.h5"),
        ({"seed": 8}, "seed was 7, is 8"),
        ({"chains": 2}, "chains was 4, is 2"),
        ({"shards": {**sample_plan().shards, "count": 9}}, "the shards differ: count was 4, is 9"),
        ({"stream_version": 2, "hpcxpcs_version": "0.2"}, r"0.1.0 \(stream 1\), this is 0.2 \(stream 2\)"),
        ({"config_fingerprint": "other"}, "fingerprint was c0ffee, is other"),
    ],
)
def test_given_a_difference_that_changes_draws_then_it_is_named_with_both_values_and_the_remedies(change, words):
    with pytest.raises(PlanMismatch, match=words) as caught:
        refuse_difference(parsed(sample_plan()), sample_plan(**change), place=Path("RUN"))
    assert str(caught.value).startswith("RUN: ")
    assert "--fresh" in str(caught.value)
    assert "--run" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ConfigError)


def test_given_two_differences_then_the_setting_is_named_before_its_consequences():
    wanted = sample_plan(config={"model": "two"}, config_fingerprint="other", seed=9)
    with pytest.raises(PlanMismatch, match="the setting model"):
        refuse_difference(sample_plan(), wanted)


def test_given_a_long_setting_then_the_message_stays_short():
    wanted = sample_plan(config={**sample_plan().config, "ranges": list(range(1000))})
    with pytest.raises(PlanMismatch) as caught:
        refuse_difference(sample_plan(), wanted)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "change",
    [
        {"run_id": "other"},
        {"created": "later"},
        {"versions": {"jax": "0.12.1"}},
        {"hpcxpcs_version": "0.1.1"},
        {"extra": {}},
        {"data": {"path": "moved.h5", "fingerprint": "f00d"}},
        {"config": {**sample_plan().config, "ranges": (1.0, 2.5)}},
    ],
)
def test_given_a_difference_that_does_not_change_draws_then_the_run_may_be_continued(change):
    refuse_difference(parsed(sample_plan()), sample_plan(**change))


def test_given_settings_without_a_json_number_then_the_plan_equals_what_was_written():
    plan = sample_plan(config={"upper": math.inf, "unknown": math.nan})
    refuse_difference(parsed(plan), plan)


def test_given_other_packages_then_each_is_named():
    wanted = sample_plan(versions={"jax": "0.12.1", "scipy": "1.16"})
    assert changed_versions(sample_plan(), wanted) == (
        "jax was 0.12.0, is 0.12.1",
        "numpy was 2.4.0, is absent",
        "scipy was absent, is 1.16",
    )
    assert changed_versions(sample_plan(), sample_plan()) == ()


def test_given_two_runs_then_their_ids_differ():
    assert new_run_id() != new_run_id()
