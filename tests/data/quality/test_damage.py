"""Every damage is found from its level on, named with its remedy, and survived; clean data are not suspected."""

from __future__ import annotations

import numpy as np
import pytest

from hpcxpcs.data.quality.deductions import CHECKS
from hpcxpcs.data.quality.report import examine
from hpcxpcs.data.quality.survey import LEVELS, STAGES, covers
from hpcxpcs.errors import DataError
from tests.data.quality.damage import DAMAGES, PHI, case, damaged

FATAL = {"constant", "refused", "non_finite"}
"""Checks whose data no fit takes, unless they are repaired or left out."""

PREPROCESSING = {"changed_data", "lost_pairs", "lost_scale", "moved_signal", "shared_by_filter"}
ELSEWHERE = {"missing_bins", "photon_noise", *PREPROCESSING}
"""Checks of what files tell beside their matrices (test_files.py), and of preprocessing (test_treatment.py)."""


def found(record, level="comprehensive"):
    return {item.check: item for item in examine(record, level, shear=True).deductions}


@pytest.mark.parametrize("level", LEVELS[1:])
def test_given_good_data_then_nothing_is_suspected(level):
    report = examine(case().record(), level, shear=True)
    assert [item.check for item in report.deductions] == []
    assert (report.score, report.grade) == (100.0, "excellent")


@pytest.mark.parametrize("name", DAMAGES)
def test_given_damage_then_it_is_found_named_and_costs_points_from_its_level_on(name):
    check = DAMAGES[name][1]
    for level in LEVELS[1:]:
        items = found(damaged(name).record(), level)
        assert (check in items) == covers(level, CHECKS[check].level), level
    item = items[check]
    assert item.points > 0 and item.reason and item.remedy and item.stage in STAGES
    assert "{" not in item.reason


@pytest.mark.parametrize("name", DAMAGES)
def test_given_damage_of_one_angle_then_that_angle_is_named(name):
    whole, spoilt = case(), damaged(name)
    if len(spoilt.stack) != len(whole.stack) or DAMAGES[name][1] in ("duplicate_angles", "few_pairs"):
        return
    changed = [k for k in range(len(PHI)) if not np.array_equal(whole.stack[k], spoilt.stack[k])]
    if len(changed) == 1:
        assert found(spoilt.record())[DAMAGES[name][1]].phi == (PHI[changed[0]],)


@pytest.mark.parametrize("name", DAMAGES)
def test_given_damage_when_judged_at_any_level_then_the_data_are_as_they_were(name):
    spoilt = damaged(name)
    before, record = spoilt.stack.copy(), spoilt.record()
    fingerprint = record.fingerprint()
    for level in LEVELS:
        examine(record, level, shear=True)
    np.testing.assert_array_equal(spoilt.stack, before)
    assert record.fingerprint() == fingerprint and record.provenance["notes"] == []


@pytest.mark.parametrize("name", DAMAGES)
def test_given_damage_then_what_a_fit_refuses_is_poor_and_what_it_takes_is_not_refused(name):
    record = damaged(name).record()
    report = examine(record, "basic")
    refused = {item.phi for item in report.surveys if item.refused}
    for k, phi in enumerate(record.phi):
        if phi in refused:
            with pytest.raises(DataError):
                record.angle(k)
        else:
            record.angle(k)
    assert not refused or report.grade == "poor"
    assert not refused or {item.check for item in report.deductions} & FATAL


def test_given_level_none_then_nothing_is_read():
    class Unreadable:
        def c2(self, k):
            raise AssertionError("read")

    assert examine(case().record().__class__(PHI, 1, PHI, 1, (1, 2), {}, Unreadable()), "none") is None


def test_every_check_has_a_damage_that_it_finds():
    assert set(CHECKS) == {check for _, check in DAMAGES.values()} | ELSEWHERE


def test_given_stages_then_their_scores_fall_to_the_final_one_and_deductions_add_up():
    for name in DAMAGES:
        report = examine(damaged(name).record(), "comprehensive", shear=True)
        scores = list(report.stage_scores.values())
        assert scores == sorted(scores, reverse=True)
        assert report.score == pytest.approx(max(0.0, 100.0 - sum(item.points for item in report.deductions)))
