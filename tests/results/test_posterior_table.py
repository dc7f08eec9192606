"""The posterior as the terminal shows it."""

from dataclasses import replace

import numpy as np

from hpcxpcs.results.table import parameter_rows, posterior_text, scaling_rows
from tests.results.sample import NAMES, PHI, TRUTH, sample_data
from tests.results.sample_posterior import rejected, sample_posterior, sampled_answer

KNOWN = dict(zip(NAMES, TRUTH.tolist(), strict=True))


def with_numbers(mean, std, median, hdi):
    """A posterior whose first parameter has these numbers."""
    posterior = sample_posterior()
    changes = {"mean": mean, "std": std, "median": median, "hdi": hdi}
    columns = {}
    for name, value in changes.items():
        column = np.array(getattr(posterior.summary, name))
        column[0] = value
        columns[name] = column
    return replace(posterior, summary=replace(posterior.summary, **columns))


def first_row(*numbers, truth=None):
    return parameter_rows(with_numbers(*numbers), {"D0": truth} if truth else {})[0]


def test_given_numbers_then_all_have_the_last_digit_that_the_deviation_leaves():
    row = first_row(12068.4, 121.7, 12070.9, (11840.2, 12325.0))
    assert (row.value, row.median, row.interval) == ("12070 ± 120", "12071", "11840 to 12325")


def test_given_large_numbers_then_all_are_on_one_power_of_ten():
    row = first_row(1.2345e8, 2.1e6, 1.23e8, (1.19e8, 1.277e8))
    assert (row.value, row.median, row.interval) == ("(1.234 ± 0.021)e+08", "1.230e+08", "(1.190 to 1.277)e+08")


def test_given_a_truth_then_the_distance_is_in_standard_deviations():
    row = first_row(12100.0, 50.0, 12100.0, (12000.0, 12200.0), truth=12000.0)
    assert (row.truth, row.off_by) == ("12000", "+2.0 sd")


def test_given_a_posterior_that_is_no_number_then_the_row_says_so():
    row = first_row(np.nan, np.nan, np.nan, (np.nan, np.inf))
    assert (row.value, row.interval) == ("—", "— to ∞")


def test_given_angles_then_contrast_and_offset_have_a_row_each():
    rows = scaling_rows(sample_posterior(), sample_data(), {"contrast": 0.23, "offset": [1.0, 1.0, 1.0]})
    expected = [f"{name} {phi:g}°" for name in ("contrast", "offset") for phi in PHI]
    assert [row.name for row in rows] == expected
    assert (rows[0].truth, rows[3].truth) == ("0.23", "1")


def test_given_a_posterior_then_the_text_is_aligned_and_ends_with_the_verdict():
    answer = sampled_answer()
    lines = posterior_text(answer.posterior, answer.fit, answer.data, {"parameters": KNOWN}).splitlines()
    place = lines[0].index("95% interval")
    assert all(line[place - 1] == " " != line[place] for line in lines[1:9])
    assert lines[-1].startswith("verdict  Certified: ")
    assert "R-hat: of the worst shard's chains" in "\n".join(lines)
    assert any(line.startswith("shards   3 of 4 were accepted") for line in lines)


def test_given_a_rejected_posterior_then_warnings_advice_and_reason_come_before_the_verdict():
    answer = sampled_answer(**rejected())
    lines = posterior_text(answer.posterior, answer.fit, answer.data).splitlines()
    assert [line.split()[0] for line in lines[-5:]] == ["careful", "careful", "advice", "because", "verdict"]
    assert "not a result" in lines[-1]


def test_given_exact_chains_then_nothing_is_said_about_shards():
    answer = sampled_answer(route="exact")
    text = posterior_text(answer.posterior, answer.fit, answer.data)
    assert "shard" not in text
    assert text.splitlines()[-1].startswith("verdict  Exact: ")


def test_given_many_angles_then_their_range_is_shown():
    answer = sampled_answer(12, tuple(np.linspace(0.0, 90.0, 9)))
    text = posterior_text(answer.posterior, answer.fit, answer.data)
    assert "contrast: 0.23" in text
    assert "over 9 angles" in text
    assert "contrast 0°" not in text


def test_given_the_point_fit_then_shared_noise_is_something_to_be_careful_about():
    answer = sampled_answer()
    serious = replace(answer.fit, robust_uncertainty=4 * answer.fit.uncertainty)
    assert "careful" not in posterior_text(answer.posterior, answer.fit, answer.data)
    assert "careful  points share noise" in posterior_text(answer.posterior, serious, answer.data)
