"""Repair masks and records: every value that a fit no longer sees is listed, and no value is ever changed."""

from __future__ import annotations

import numpy as np
import pytest

from hpcxpcs.data.quality.report import examine
from tests.data.quality.damage import DAMAGES, N, case, damaged

MENDED = {
    "a block of NaN": "conservative",
    "infinities": "conservative",
    "half filled": "conservative",
    "hot frames": "aggressive",
    "spikes": "aggressive",
    "saturated values": "aggressive",
    "negative values": "aggressive",
}
"""What repair can take away, and the mildest that does."""


def used(record, k):
    """The pairs (N, N) of angle k that a fit uses, and the matrix."""
    matrix = record.angle(k)
    pairs = matrix.frame_ok[:, None] & matrix.frame_ok[None, :] & ~np.eye(N, dtype=bool)
    return pairs if matrix.pair_ok is None else pairs & matrix.pair_ok, matrix.c2


def listed(report, k):
    """The pairs (N, N) that the report's repairs name for angle k."""
    pairs = np.zeros((N, N), dtype=bool)
    for touched in report.surveys[k].touched:
        for frame in touched.frames:
            pairs[frame - 1, :] = pairs[:, frame - 1] = True
        for i, first, last in touched.runs:
            pairs[i - 1, first - 1 : last] = pairs[first - 1 : last, i - 1] = True
        assert touched.pairs == sum(last - first + 1 for _, first, last in touched.runs)
    return pairs


@pytest.mark.parametrize("repair", ["conservative", "aggressive"])
def test_given_good_data_then_repair_touches_nothing(repair):
    report = examine(case().record(repair=repair), "standard")
    assert [item.touched for item in report.surveys] == [()] * len(report.surveys)
    assert report.to_mapping()["repairs"] == []


@pytest.mark.parametrize("repair", ["conservative", "aggressive"])
@pytest.mark.parametrize("name", DAMAGES)
def test_given_damage_then_what_repair_masks_is_what_it_lists_and_no_value_changes(name, repair):
    spoilt = damaged(name)
    before = spoilt.stack.copy()
    record, lenient = spoilt.record(repair=repair), spoilt.record(non_finite="mask")
    report = examine(record, "basic")
    for k, found in enumerate(report.surveys):
        if found.refused:
            continue
        pairs, c2 = used(record, k)
        assert np.isfinite(c2[pairs]).all()
        stored = (before[k] + before[k].T) / 2
        np.testing.assert_array_equal(c2[pairs], stored[pairs])
        without = used(lenient, k)[0] | ~np.isfinite(stored)
        without[0, :] = without[:, 0] = False
        np.fill_diagonal(without, False)
        live = lenient.angle(k).frame_ok
        without &= live[:, None] & live[None, :]
        np.testing.assert_array_equal(pairs, without & ~listed(report, k))
    np.testing.assert_array_equal(spoilt.stack, before)


@pytest.mark.parametrize("name", MENDED)
def test_given_what_repair_can_take_away_then_the_final_data_have_it_no_more_and_score_higher(name):
    check = DAMAGES[name][1]
    before = examine(damaged(name).record(), "standard")
    after = examine(damaged(name).record(repair=MENDED[name]), "standard")
    left = [item for item in after.deductions if item.check == check]
    assert all(item.repaired for item in left) and after.score > before.score
    assert after.score >= 70.0
    assert after.to_mapping()["repairs"]


def test_given_spikes_when_repair_is_conservative_then_they_stay_and_are_named():
    report = examine(damaged("spikes").record(repair="conservative"), "standard")
    assert "spikes" in {item.check for item in report.deductions}
    assert report.to_mapping()["repairs"] == []


def test_given_frames_that_are_listed_or_found_to_be_dead_then_they_are_not_called_repair():
    for dead_frames in ([34], "auto"):
        record = damaged("a frame of NaN").record(repair="conservative", dead_frames=dead_frames)
        assert examine(record, "basic").to_mapping()["repairs"] == []
    report = examine(damaged("a frame of NaN").record(repair="conservative", dead_frames="none"), "basic")
    assert [item["frames"] for item in report.to_mapping()["repairs"]] == [(34,)]


def test_given_repair_then_the_fingerprint_is_another_and_without_it_the_same_as_ever():
    assert case().record().fingerprint() == case().record(repair="disabled").fingerprint()
    prints = {case().record(repair=repair).fingerprint() for repair in ("disabled", "conservative", "aggressive")}
    assert len(prints) == 3
