"""Triangles, dead frames, values that are no numbers, the diagonal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.data import clean
from hpcxpcs.data.clean import Screening
from hpcxpcs.errors import DataError
from tests.data.stacks import matrix, off_diagonal

TOLERANT = Screening(non_finite="mask")


@pytest.mark.parametrize(("cut", "half"), [(np.triu, "upper"), (np.tril, "lower"), (np.array, "full")])
def test_given_any_form_of_storage_then_the_same_symmetric_matrix_results(cut, half):
    stored = cut(matrix(1))
    assert clean.stored_half(stored) == half
    whole, asymmetry = clean.symmetric(stored)
    assert np.array_equal(whole, matrix(1))
    assert asymmetry == 0.0


def test_given_a_full_matrix_whose_lower_corner_is_all_there_is_then_it_is_full():
    stored = np.triu(matrix(1))
    stored[-1, 0] = 1e-3
    assert clean.stored_half(stored) == "full"


def test_given_unequal_triangles_then_their_mean_is_used_and_the_largest_difference_reported():
    stored = matrix(1)
    stored[3, 5] += 0.25
    stored[2, 7] -= 0.125
    whole, asymmetry = clean.symmetric(stored)
    assert asymmetry == 0.25
    assert whole[3, 5] == whole[5, 3] == matrix(1)[3, 5] + 0.125


def test_given_a_matrix_of_ones_own_then_it_is_made_whole_where_it_is():
    stored = np.triu(matrix(1))
    assert clean.symmetric(stored)[0] is stored


def test_given_integers_then_the_mean_of_the_triangles_is_not_cut_to_integers():
    whole, _ = clean.symmetric(np.array([[1, 2], [3, 4]]))
    assert whole[0, 1] == 2.5


@given(st.sets(st.integers(0, 11), max_size=4))
def test_given_any_zero_rows_then_exactly_these_frames_are_dead(frames):
    c2 = matrix(2)
    c2[list(frames), :] = 0
    c2[:, list(frames)] = 0
    found = clean.masks(c2, Screening(), "it", 1)
    assert set(np.flatnonzero(found.dead)) == frames
    assert found.pair_ok is None


def test_given_a_zero_row_with_something_on_the_diagonal_then_the_frame_is_still_dead():
    c2 = matrix(2)
    c2[4, :] = c2[:, 4] = 0
    c2[4, 4] = 3.0
    assert np.flatnonzero(clean.masks(c2, Screening(), "it", 1).dead).tolist() == [4]


def test_given_a_list_of_dead_frames_then_they_count_from_the_first_frame_of_the_file():
    found = clean.masks(matrix(2), Screening(dead_frames=(3, 21, 25, 40)), "it", first_frame=20)
    assert np.flatnonzero(found.dead).tolist() == [1, 5]


def test_given_none_then_zero_rows_stay_data():
    c2 = matrix(2)
    c2[4, :] = c2[:, 4] = 0
    assert not clean.masks(c2, Screening(dead_frames="none"), "it", 1).dead.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_given_a_value_that_is_no_number_then_angle_count_place_and_remedy_are_named(bad):
    c2 = matrix(3)
    for i, j in ((2, 5), (4, 9)):
        c2[i, j] = c2[j, i] = bad
    with pytest.raises(DataError, match=r"angle 7: 2 pairs .* first is \(12, 15\); .*data_filtering\.non_finite: mask"):
        clean.masks(c2, Screening(), "angle 7", first_frame=10)


def test_given_masking_then_only_the_bad_pairs_go():
    c2 = matrix(3)
    c2[2, 5] = c2[5, 2] = np.nan
    found = clean.masks(c2, TOLERANT, "it", 1)
    assert not found.dead.any()
    assert np.argwhere(~found.pair_ok).tolist() == [[2, 5], [5, 2]]


@pytest.mark.parametrize("non_finite", ["refuse", "mask"])
@pytest.mark.parametrize("frames", [[6], [0, 1], [9, 10, 11], [0, 6, 10, 11]])
def test_given_frames_that_are_nan_throughout_then_they_are_dead_frames_wherever_they_are(frames, non_finite):
    c2 = matrix(3)
    c2[frames, :] = c2[:, frames] = np.nan
    found = clean.masks(c2, Screening(non_finite=non_finite), "it", 1)
    assert np.flatnonzero(found.dead).tolist() == frames
    assert found.pair_ok is None


def test_given_a_nan_frame_that_is_not_among_the_listed_dead_ones_then_masking_takes_it_too():
    c2 = matrix(3)
    c2[6, :] = c2[:, 6] = np.nan
    found = clean.masks(c2, Screening(dead_frames=(2,), non_finite="mask"), "it", 1)
    assert np.flatnonzero(found.dead).tolist() == [1, 6]
    assert found.pair_ok is None


def test_given_zero_and_nan_frames_that_cross_then_both_are_dead():
    c2 = matrix(3)
    c2[6, :] = c2[:, 6] = 0
    c2[8, :] = c2[:, 8] = np.nan
    found = clean.masks(c2, TOLERANT, "it", 1)
    assert np.flatnonzero(found.dead).tolist() == [6, 8]


@pytest.mark.parametrize("dead_frames", ["none", (3,)])
def test_given_nan_frames_that_are_not_looked_for_then_they_are_refused_with_their_numbers(dead_frames):
    c2 = matrix(3)
    c2[[6, 10, 11], :] = c2[:, [6, 10, 11]] = np.nan
    with pytest.raises(DataError, match=r"frames 7, 11, 12: data_filtering\.dead_frames: auto"):
        clean.masks(c2, Screening(dead_frames=dead_frames), "it", 1)


def test_given_a_nan_pair_beside_nan_frames_then_the_pair_is_refused_and_the_frames_are_not():
    c2 = matrix(3)
    c2[9:, :] = c2[:, 9:] = np.nan
    c2[2, 5] = c2[5, 2] = np.nan
    with pytest.raises(DataError, match=r"1 pairs of frames .* \(3, 6\); set data_filtering.non_finite: mask"):
        clean.masks(c2, Screening(), "it", 1)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([3], "23"),
        ([3, 4], "23, 24"),
        ([3, 4, 5, 8], "23…25, 28"),
        ([0, 1, 2], "20…22; the first frame used is 23"),
        ([5, 9, 10, 11], "25, 29…31; the last frame used is 28"),
        (list(range(12)), "20…31"),
    ],
)
def test_given_dead_frames_then_runs_and_the_ends_of_the_measurement_are_told(frames, words):
    dead = np.zeros(12, dtype=bool)
    dead[frames] = True
    assert clean.dead_words(dead, 20) == words


@pytest.mark.parametrize("nan", [np.nan, np.float32(np.nan)])
@pytest.mark.parametrize(("cut", "half"), [(np.triu, "upper"), (np.tril, "lower")])
def test_given_a_half_with_nan_in_both_triangles_then_it_is_still_a_half_and_not_averaged(cut, half, nan):
    stored = cut(matrix(1, 30))
    stored[25:, :] = stored[:, 25:] = nan
    assert clean.stored_half(stored) == half
    whole, asymmetry = clean.symmetric(stored)
    assert asymmetry == 0.0
    assert np.array_equal(whole[:25, :25], matrix(1, 30)[:25, :25])
    assert np.isnan(whole[25:]).all()


@pytest.mark.parametrize(("cut", "half"), [(np.triu, "upper"), (np.tril, "lower")])
def test_given_a_half_whose_other_triangle_is_nan_then_it_is_mirrored(cut, half):
    stored = np.where(cut(np.ones((12, 12))) > 0, matrix(1), np.nan)
    assert clean.stored_half(stored) == half
    assert np.array_equal(clean.symmetric(stored)[0], matrix(1))


def test_given_nan_on_the_diagonal_or_in_a_listed_dead_frame_then_nothing_is_refused():
    c2 = matrix(3)
    c2[1, 1] = np.nan
    c2[6, :] = c2[:, 6] = np.nan
    found = clean.masks(c2, Screening(dead_frames=(7,)), "it", 1)
    assert found.pair_ok is None


def check_variation(c2, usable=None):
    usable = np.ones(len(c2), dtype=bool) if usable is None else usable
    clean.check_variation(c2, usable, clean.masks(c2, TOLERANT, "it", 1), "it")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_given_a_constant_matrix_up_to_rounding_then_it_is_refused(dtype):
    c2 = np.full((12, 12), 1.05, dtype=dtype)
    c2[3, 5] = c2[5, 3] = np.nextafter(c2[3, 5], np.asarray(2, dtype))
    np.fill_diagonal(c2, 3.0)
    with pytest.raises(DataError, match="constant"):
        check_variation(c2)


def test_given_variation_in_unusable_frames_only_then_it_is_refused():
    c2 = np.full((12, 12), 1.05)
    c2[0, 1] = c2[1, 0] = 1.2
    usable = np.arange(12) > 0
    check_variation(c2)
    with pytest.raises(DataError, match="constant"):
        check_variation(c2, usable)


def test_given_seven_usable_frames_then_it_is_refused_and_eight_suffice():
    check_variation(matrix(1), np.arange(12) < 8)
    with pytest.raises(DataError, match="only 7 usable frames of 12, 8 are needed"):
        check_variation(matrix(1), np.arange(12) < 7)


def test_given_a_spike_on_the_diagonal_then_it_is_replaced_by_the_mean_of_its_neighbours():
    c2 = matrix(4)
    none_dead = np.zeros(12, dtype=bool)
    picture = clean.pictured(c2, none_dead, clean.mean_beside(c2, none_dead))
    assert picture[0, 0] == c2[0, 1]
    assert picture[5, 5] == (c2[4, 5] + c2[5, 6]) / 2
    assert picture[11, 11] == c2[10, 11]
    assert np.array_equal(off_diagonal(picture), off_diagonal(c2))


def test_given_a_dead_frame_then_its_cross_is_blank_and_its_neighbours_use_the_other_side():
    c2 = matrix(4)
    dead = np.arange(12) == 5
    picture = clean.pictured(c2, dead, clean.mean_beside(c2, dead))
    assert np.isnan(picture[5]).all()
    assert np.isnan(picture[:, 5]).all()
    assert picture[4, 4] == c2[3, 4]
    assert picture[6, 6] == c2[6, 7]
    assert np.isfinite(picture[~dead][:, ~dead]).all()
