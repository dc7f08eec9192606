"""Data beside fit: the right numbers, whatever the size of the blocks."""

from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.data.twotime import from_arrays
from tests.results.sample import PARTS, PHI, SIGMA, TRUTH, sample_answer, sample_data, sample_model, whole


@pytest.fixture(scope="module")
def answer():
    return sample_answer()


def test_given_a_fit_then_the_shape_is_the_models(answer):
    t = answer.data.t[1:]
    expected = sample_model().shape(answer.fit.values, t[:, None], t[None, :], PHI[2])
    assert whole(answer, 2)["shape"][1:, 1:] == pytest.approx(np.asarray(expected), abs=1e-14)


def test_given_a_fit_then_the_scaled_theory_has_the_angles_contrast_and_offset(answer):
    parts = whole(answer, 0)
    assert parts["scaled"][1:, 1:] == pytest.approx(0.996 + 0.23 * parts["shape"][1:, 1:])
    assert parts["residual"][1:, 1:] == pytest.approx((parts["c2"] - parts["scaled"])[1:, 1:])


def test_given_the_true_parameters_then_normalized_residuals_have_unit_spread():
    answer = sample_answer(120)
    answer = replace(answer, fit=replace(answer.fit, values=TRUTH))
    parts = whole(answer, 1)
    assert parts["normalized"][parts["good"]].std() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("block_points", [1, 130, 40 * 40 - 1, 10**7])
def test_given_any_block_size_then_the_matrices_are_the_same(answer, block_points):
    expected, found = whole(answer, 1), whole(answer, 1, block_points)
    for name in PARTS:
        assert np.array_equal(found[name], expected[name], equal_nan=True)


def test_given_time_zero_and_the_diagonal_then_they_are_not_good(answer):
    good = whole(answer, 0)["good"]
    assert not good[0].any()
    assert not good[:, 0].any()
    assert not good.diagonal().any()
    assert good.sum() == 39 * 38


def test_given_a_wrong_diagonal_in_the_file_then_it_is_repaired(answer):
    diagonal = whole(answer, 0)["c2"].diagonal()
    assert diagonal.max() < 1.4


def test_given_a_dead_frame_then_its_pairs_are_nan_and_not_good():
    answer = sample_answer()
    parts = whole(replace(answer, data=sample_data(dead_frames=(6,))), 0)
    assert np.isnan(parts["c2"][5]).all()
    assert not parts["good"][5].any()
    assert parts["good"].sum() == 38 * 37


def test_given_masked_pairs_then_they_are_not_good():
    answer = sample_answer()
    c2 = np.array([answer.data.angle(k).c2 for k in range(3)])
    c2[:, 7, 9] = c2[:, 9, 7] = np.nan
    parts = whole(replace(answer, data=from_arrays(c2, PHI, 0.0054, 0.1, non_finite="mask")), 0)
    assert not parts["good"][7, 9]
    assert not parts["good"][9, 7]
    assert parts["good"].sum() == 39 * 38 - 2


@pytest.mark.parametrize(
    ("source", "expected"), [("file", 3 * SIGMA), ("given", 3 * SIGMA), ("compression residual", SIGMA)]
)
def test_given_sigma_with_the_data_then_it_is_used_unless_the_fit_estimated_its_own(source, expected):
    answer = sample_answer(sigma_source=source)
    c2 = np.array([answer.data.angle(k).c2 for k in range(3)])
    data = from_arrays(c2, PHI, 0.0054, 0.1, sigma=np.full(c2.shape, 3 * SIGMA))
    parts = whole(replace(answer, data=data), 1)
    good = parts["good"]
    assert parts["normalized"][good] == pytest.approx(parts["residual"][good] / expected)
