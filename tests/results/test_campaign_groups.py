"""Which items belong together: competitors of another model, series of q, counts."""

from __future__ import annotations

import math
from types import MappingProxyType

import pytest

from hpcxpcs.results.campaign_groups import counts, evidence_ranks, q_series
from tests.results.sample_campaign import BASIS, Q, item, parameter, table


def model_item(index, model, evidence, changes=MappingProxyType({}), **labels):
    evidences = {"log_evidence": evidence, "log_evidence_error": 0.3 if evidence is not None else None}
    evidences["evidence_basis"] = {**BASIS, **changes}
    return item(index, file="one.hdf", model=model, labels={"model": model, **labels}, q=0.1, **evidences)


def test_given_two_models_of_one_measurement_then_they_are_ranked_with_the_error_of_the_difference():
    ranks = evidence_ranks(table(model_item(0, "static", -110.0), model_item(1, "laminar_flow", -100.0)))
    assert (ranks[1].rank, ranks[1].of, ranks[1].below) == (1, 2, 0.0)
    assert (ranks[0].rank, ranks[0].below) == (2, 10.0)
    assert ranks[0].error == pytest.approx(0.3 * math.sqrt(2))


@pytest.mark.parametrize(
    "changes", [{"noise_scale": "fixed"}, {"scaling": "averaged"}, {"pairs": [779]}, {"noise_model": "speckle"}]
)
def test_given_models_that_saw_other_data_or_noise_then_their_evidence_ranks_nothing(changes):
    rows = (model_item(0, "static", -110.0), model_item(1, "laminar_flow", -100.0, changes))
    assert evidence_ranks(table(*rows)) == {}


def test_given_a_fixed_noise_scale_and_another_sigma_of_each_model_then_they_are_compared_at_one():
    fixed = {"noise_scale": "fixed"}
    wider = {**fixed, "sigma": [0.0101], "chi_squared": [780.0 / 1.01**2]}  # the same residuals, and the same height
    lower = -100.0 - 780.0 * math.log(1.01) - 0.5 * 780.0 * (1.01**-2 - 1.0)
    ranks = evidence_ranks(table(model_item(0, "static", -100.0, fixed), model_item(1, "laminar_flow", lower, wider)))
    assert max(rank.below for rank in ranks.values()) == pytest.approx(0.0, abs=1e-9)


def test_given_items_that_differ_in_more_than_the_model_then_they_do_not_compete():
    rows = (model_item(0, "static", -110.0, T=1), model_item(1, "laminar_flow", -100.0, T=2))
    assert evidence_ranks(table(*rows)) == {}


def test_given_an_item_without_evidence_then_it_has_no_rank_and_the_others_do():
    rows = (model_item(0, "static", None), model_item(1, "laminar_flow", -1.0), model_item(2, "static_both", -2.0))
    assert sorted(evidence_ranks(table(*rows))) == [1, 2]


def q_item(index, q, **changes):
    labels = changes.pop("labels", {"T": 300.0, "q": q})
    return item(index, q=q, labels=labels, parameters=(parameter("D0", 10.0 + index),), **changes)


def test_given_items_that_differ_in_q_alone_then_they_are_one_series_in_the_order_of_q():
    (series,) = q_series(table(*(q_item(k, q) for k, q in enumerate(reversed(Q)))), 3)
    assert series.q == Q
    assert series.places == (2, 1, 0)
    assert series.shared == (("T", 300.0),)


@pytest.mark.parametrize("labels", [lambda k: {"sector": k}, lambda k: {"name": f"sector {k}"}, lambda k: {}])
def test_given_another_name_for_q_then_it_does_not_tear_the_series_apart(labels):
    rows = [q_item(k, q, labels=labels(k)) for k, q in enumerate(Q)]
    assert [series.q for series in q_series(table(*rows), 3)] == [Q]


def test_given_temperatures_then_each_has_its_series():
    rows = [q_item(3 * t + k, q, labels={"T": t, "q": q}) for t in range(2) for k, q in enumerate(Q)]
    assert [series.shared for series in q_series(table(*rows), 3)] == [(("T", 0),), (("T", 1),)]


@pytest.mark.parametrize("changes", [{"bound": "upper"}, {"free": False}, {"error": math.nan}])
def test_given_a_parameter_that_is_not_determined_then_it_is_no_point_of_a_series(changes):
    weak = parameter(**{"name": "D0", "value": 1.0, "error": 0.1} | changes)
    rows = [q_item(0, Q[0]), q_item(1, Q[1]), item(2, q=Q[2], labels={"T": 300.0, "q": Q[2]}, parameters=(weak,))]
    assert list(q_series(table(*rows), 3)) == []
    assert len(list(q_series(table(*rows), 2))) == 1


def test_given_items_then_they_are_counted_the_worst_first():
    rows = [item(0), item(1, state="failed"), item(2, quality="poor"), item(3), item(4, quality="")]
    assert list(counts(rows).items()) == [("failed", 1), ("poor", 1), ("done", 1), ("good", 2)]
