"""The answer as rows."""

import math

import numpy as np

from hpcxpcs.results.table import HEADINGS, filled, plain_text, summary_lines, true_values
from tests.results.sample import NAMES, PHI, TRUTH, sample_data, sample_fit

KNOWN = dict(zip(NAMES, TRUTH.tolist(), strict=True))


def rows(truth=None, **changes):
    return {row.name: row for row in summary_lines(sample_fit(**changes), sample_data(), truth)}


def test_given_a_fit_then_every_parameter_and_every_angle_has_a_row():
    names = [*NAMES, *(f"{part} {phi:g}°" for part in ("contrast", "offset") for phi in PHI)]
    assert list(rows()) == names


def test_given_a_parameter_then_its_row_shows_both_uncertainties_and_the_unit():
    row = rows()["D0"]
    assert row[:5] == ("D0", "12050 ± 120", "170", "Å²/s^(1+alpha)", "")


def test_given_a_truth_then_the_distance_is_in_error_bars():
    row = rows(KNOWN)["D0"]
    assert (row.truth, row.off_by) == ("12000", "+0.4 σ")


def test_given_no_truth_then_the_table_has_no_such_columns():
    assert "truth" in plain_text(HEADINGS, list(rows(KNOWN).values()))
    assert "truth" not in plain_text(HEADINGS, list(rows().values()))


def test_given_a_fixed_and_a_stuck_parameter_then_the_rows_say_why_there_is_no_error_bar():
    uncertainty = np.array([math.nan, math.nan, *0.01 * np.abs(TRUTH[2:])])
    free, stuck = np.arange(7) != 0, np.arange(7) == 1
    table = rows(uncertainty=uncertainty, robust_uncertainty=None, free=free, at_bound=stuck)
    assert (table["D0"].value, table["D0"].remark) == ("12048", "fixed")
    assert (table["alpha"].value, table["alpha"].remark) == ("-0.4016", "at bound")
    assert table["beta"].remark == ""


def test_given_no_robust_uncertainties_then_that_column_is_left_out():
    fit = sample_fit(robust_uncertainty=None)
    physical = summary_lines(fit, sample_data())[:7]
    assert "robust ±" not in filled(HEADINGS, physical).headings
    assert "robust ±" in filled(HEADINGS, summary_lines(sample_fit(), sample_data())).headings


def test_given_a_table_then_its_columns_line_up():
    lines = plain_text(HEADINGS, list(rows(KNOWN).values())).splitlines()
    assert len(lines) == 1 + 7 + 6
    start = lines[0].index("value")
    assert {line[start - 2 : start] for line in lines} == {"  "}
    assert all(line[start] != " " for line in lines)


def test_given_a_truth_under_parameters_or_flat_then_it_is_found():
    assert true_values({"parameters": {"D0": 1}, "model": "static"}, PHI) == {"D0": 1.0}
    assert true_values({"D0": 1, "contrast": [0.1, 0.2, 0.3]}, PHI) == {
        "D0": 1.0,
        "contrast": [0.1, 0.2, 0.3],
    }
    assert true_values(None, PHI) == {}


def test_given_a_truth_per_angle_then_each_angle_of_the_data_gets_its_own():
    truth = {"phi": [90.0, 45.00001, 0.0, -12.5], "contrast": [0.9, 0.45, 0.1, 0.125], "offset": 1.0}
    assert rows(truth)["contrast 45°"].truth == "0.45"
    assert rows(truth)["contrast -12.5°"].truth == "0.125"
    assert rows(truth)["offset 0°"].truth == "1"


def test_given_a_truth_for_other_angles_then_it_is_not_used():
    assert rows({"phi": [0.0, 1.0, 2.0], "contrast": [0.1, 0.2, 0.3]})["contrast 0°"].truth == "—"
    assert rows({"contrast": [0.2, 0.3]})["contrast 45°"].truth == "—"
