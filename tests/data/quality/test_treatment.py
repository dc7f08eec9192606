"""The stage after preprocessing: what it lost, moved, smoothed or rescaled is found, named and priced."""

from __future__ import annotations

import numpy as np
import pytest

from hpcxpcs.config.sections import Preprocessing
from hpcxpcs.data.quality import survey
from hpcxpcs.data.quality.deductions import CHECKS
from hpcxpcs.data.quality.report import examine
from tests.data.quality.damage import CONTRAST, PHI, SIGMA, Case, clean_stack, lag_and_age

FEW = PHI[::4]
STAGES = {
    "normalised by the mean": {"normalization": "mean"},
    "normalised by the baseline": {"normalization": "baseline"},
    "scaled to 0 … 1": {"normalization": "min_max"},
    "scaled to mean 0 and deviation 1": {"normalization": "z_score"},
    "median": {"noise_reduction": "median"},
    "gaussian": {"noise_reduction": "gaussian", "window": 7},
    "both": {"normalization": "z_score", "noise_reduction": "median"},
}
FOUND = {
    "normalised by the mean": set(),
    "normalised by the baseline": set(),
    "scaled to 0 … 1": {"lost_scale"},
    "scaled to mean 0 and deviation 1": {"lost_scale"},
    "median": {"shared_by_filter"},
    "gaussian": {"shared_by_filter"},
    "both": {"lost_scale", "shared_by_filter"},
}


def judged(stack, level="standard", **stages):
    """The report on three angles with some stages on."""
    return examine(Case(stack, FEW, {}).record(processing=Preprocessing(**stages)), level)


def checks(report):
    """Deductions by their names."""
    return {item.check: item for item in report.deductions}


@pytest.mark.parametrize("sigma", [SIGMA, 0.03])
@pytest.mark.parametrize("name", STAGES)
def test_given_good_data_when_treated_then_what_the_stage_costs_is_found_and_nothing_else(name, sigma):
    stack = clean_stack(phi=FEW, sigma=sigma)
    found = checks(judged(stack, **STAGES[name]))
    assert set(found) == {"changed_data", *FOUND[name]}
    for check, item in found.items():
        assert item.stage == "preprocessed" and item.points > 0.0 and item.remedy
        assert "{" not in item.reason and CHECKS[check].stage == "preprocessed"
    assert set(checks(judged(stack, "basic", **STAGES[name]))) == {"changed_data"}


@pytest.mark.parametrize("stages", [{}, {"diagonal": "statistical"}, {"validate_result": True}])
def test_given_no_stage_that_changes_a_fit_then_nothing_is_compared(stages):
    report = judged(clean_stack(phi=FEW), **stages)
    assert all(item.treated is None for item in report.surveys)
    assert report.score == 100.0 and "preprocessed" not in report.to_mapping()["angles"][0]


def test_given_only_another_number_type_then_it_is_compared_and_costs_nothing():
    report = judged(clean_stack(phi=FEW).astype(np.float32), standard="float64")
    assert report.score == 100.0
    assert report.to_mapping()["angles"][0]["preprocessed"]["lost"] == 0


def stepped():
    """Correlations that change at once in the middle of the measurement, at the second angle."""
    lag, age = lag_and_age()
    stack = clean_stack(phi=FEW)
    stack[1] += CONTRAST * (age > len(age) / 2) * np.exp(-lag / 10.0)
    return stack


def test_given_a_filter_wider_than_a_change_then_the_moved_signal_is_found_and_costs_more_the_wider():
    points = []
    for window in (3, 7, 15, 31):
        item = checks(judged(stepped(), noise_reduction="gaussian", window=window)).get("moved_signal")
        points.append(item.points if item else 0.0)
        assert item is None or item.phi == (FEW[1],)
    assert points[0] == 0.0 and points == sorted(points) and points[-1] > 10.0


def test_given_noise_alone_then_a_filter_moves_nothing():
    noise = np.triu(np.random.default_rng(4).standard_normal((3, 80, 80)), 1)
    report = judged(1.0 + noise + noise.transpose(0, 2, 1), noise_reduction="median", window=31)
    assert "moved_signal" not in checks(report)


def test_given_a_stage_that_loses_values_then_the_lost_pairs_are_found_at_every_level(monkeypatch):
    def lossy(c2, masks, processing, name, told):
        after = c2.copy()
        after[10, 20:25] = after[20:25, 10] = np.inf
        return after, 1.0

    monkeypatch.setattr(survey, "processed", lossy)
    for level in ("basic", "standard", "comprehensive"):
        report = judged(clean_stack(phi=FEW), level, normalization="mean")
        assert [item.treated.lost for item in report.surveys] == [5, 5, 5]
        found = checks(report)["lost_pairs"]
        assert found.phi == tuple(FEW) and found.stage == "preprocessed" and found.points > 5.0


def test_given_a_stage_that_cannot_be_done_then_the_angle_counts_as_refused():
    report = judged(clean_stack(phi=FEW) - 2.0, normalization="baseline")
    assert report.grade == "poor" and "would divide by" in checks(report)["refused"].reason


def test_given_stages_when_judged_then_the_record_is_as_it_was():
    stack = clean_stack(phi=FEW)
    before, record = stack.copy(), Case(stack, FEW, {}).record(processing=Preprocessing(normalization="z_score"))
    fingerprint, notes = record.fingerprint(), list(record.provenance["notes"])
    examine(record, "comprehensive")
    np.testing.assert_array_equal(stack, before)
    assert record.fingerprint() == fingerprint and record.provenance["notes"] == notes
    assert record.provenance["preprocessing"][0]["seconds"] is None


def test_given_stages_then_scores_fall_at_the_stage_that_is_to_blame():
    scores = judged(clean_stack(phi=FEW), normalization="z_score").stage_scores
    assert scores["raw"] == scores["filtered"] == 100.0
    assert scores["preprocessed"] == scores["final"] == 85.0
