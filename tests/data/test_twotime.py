"""The record: checked angle by angle, pictures, memory, fingerprints."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hpcxpcs.data.twotime import from_arrays
from hpcxpcs.errors import DataError
from tests.data.stacks import matrix, off_diagonal


def record(matrices=None, **settings):
    stack = [matrix(k) for k in range(2)] if matrices is None else matrices
    return from_arrays(stack, np.arange(len(stack)) * 45.0, 0.005, 0.1, **settings)


def test_given_arrays_then_times_start_at_zero_and_that_frame_is_not_used():
    data = record()
    assert (data.n_phi, data.n_frames, data.frames) == (2, 12, (1, 12))
    assert np.allclose(data.t, np.arange(12) * 0.1)
    assert data.angle(0).frame_ok.tolist() == [False] + [True] * 11


def test_given_times_without_a_zero_then_every_frame_is_used():
    assert record(t=0.1 * np.arange(1, 13)).angle(0).frame_ok.all()


def test_given_a_half_matrix_then_the_angle_is_symmetric():
    data = record([np.triu(matrix(0)), matrix(1)])
    assert np.array_equal(data.angle(0).c2, matrix(0))
    assert np.array_equal(data.angle(1).c2, matrix(1))


def test_given_single_precision_then_it_is_kept():
    assert record([matrix(0).astype("float32")]).angle(0).c2.dtype == np.float32


def test_given_a_bad_value_then_the_angle_is_named_with_its_degrees():
    bad = matrix(1)
    bad[2, 3] = bad[3, 2] = np.nan
    data = record([matrix(0), bad])
    data.angle(0)
    with pytest.raises(DataError, match=r"angle 1 \(phi = 45 degrees\): 1 pairs .* \(3, 4\)"):
        data.angle(1)


def test_given_masking_then_the_notes_say_what_was_masked():
    bad = matrix(1)
    bad[2, 3] = bad[3, 2] = np.nan
    bad[7, :] = bad[:, 7] = 0
    data = record([matrix(0), bad], non_finite="mask")
    for k in (0, 1, 1):
        data.angle(k)
    assert data.provenance["notes"] == [
        "phi = 45: 1 dead frames are masked: 8",
        "phi = 45: 1 pairs without a finite value are masked",
    ]
    json.dumps(data.provenance)


def test_given_unequal_triangles_then_the_notes_tell_the_largest_difference():
    lopsided = matrix(0)
    lopsided[2, 3] += 0.25
    data = record([lopsided])
    assert "differ by up to 0.25" in data.angle(0).notes[0]


def test_given_a_constant_matrix_then_the_angle_is_refused():
    data = record([matrix(0), np.full((12, 12), 1.05)])
    data.angle(0)
    with pytest.raises(DataError, match=r"angle 1 \(phi = 45 degrees\): the matrix is constant"):
        data.angle(1)


def test_given_so_many_dead_frames_that_seven_remain_then_the_angle_is_refused():
    with pytest.raises(DataError, match="only 7 usable frames of 12"):
        record(dead_frames=[2, 3, 4, 5]).angle(0)
    assert record(dead_frames=[2, 3, 4]).angle(0).frame_ok.sum() == 8


def test_given_an_angle_that_does_not_exist_then_it_is_refused():
    for k in (-1, 2):
        with pytest.raises(DataError, match="there are 2 angles"):
            record().angle(k)


def test_given_a_picture_then_it_is_double_symmetric_and_without_the_spike():
    dead = matrix(0).astype("float32")
    dead[4, :] = dead[:, 4] = 0
    picture = record([dead]).picture(0)
    assert picture.dtype == np.float64
    assert np.array_equal(picture, picture.T, equal_nan=True)
    assert np.isnan(picture[4]).all()
    assert np.nanmax(picture) < 1.2


def test_given_sigma_as_number_list_or_matrices_then_each_angle_gets_its_own():
    full = np.stack([np.full((12, 12), 0.01), np.full((12, 12), 0.02)])
    for sigma in ([0.01, 0.02], full, np.triu(full)):
        data = record(sigma=sigma)
        for k, expected in enumerate((0.01, 0.02)):
            assert data.angle(k).sigma.shape == (12, 12)
            assert np.all(off_diagonal(data.angle(k).sigma) == expected)
    assert np.all(record(sigma=0.03).angle(1).sigma == 0.03)
    assert record().angle(0).sigma is None


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_given_a_sigma_that_cannot_be_one_then_it_is_refused_where_it_is_used(bad):
    sigma = np.full((12, 12), 0.01)
    sigma[0, 5] = sigma[5, 0] = bad
    record(sigma=sigma).angle(0)
    sigma[3, 5] = sigma[5, 3] = bad
    with pytest.raises(DataError, match=r"noise\.sigma must be positive and finite"):
        record(sigma=sigma).angle(0)


def test_given_the_same_data_then_the_fingerprint_is_the_same_and_any_change_changes_it():
    other = [matrix(0), matrix(1)]
    other[1][3, 5] += 1e-9
    prints = [
        record().fingerprint(),
        record(other).fingerprint(),
        record(sigma=0.1).fingerprint(),
        record(sigma=0.2).fingerprint(),
        record(dead_frames="none").fingerprint(),
        record(dead_frames=[3]).fingerprint(),
        record(non_finite="mask").fingerprint(),
        record(t=np.arange(1, 13) * 0.1).fingerprint(),
        from_arrays([matrix(0), matrix(1)], [0, 45], 0.006, 0.1).fingerprint(),
        from_arrays([matrix(0), matrix(1)], [0, 46], 0.005, 0.1).fingerprint(),
    ]
    assert record().fingerprint() == prints[0]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(
    ("c2", "phi", "dt", "t"),
    [
        ([matrix(0)], [0.0, 1.0], 0.1, None),
        ([matrix(0), matrix(0, 13)], [0.0, 1.0], 0.1, None),
        ([], [], 0.1, None),
        ([matrix(0)], [0.0], 0.0, None),
        ([matrix(0)], [0.0], 0.1, np.arange(5)),
        ([matrix(0)], [0.0], 0.1, 0.2 * np.arange(12)),
        ([matrix(0)], [0.0], 0.1, 0.1 * np.arange(12) - 0.5),
        ([matrix(0)], [0.0], 0.1, 0.1 * np.arange(12) ** 1.01),
        ([np.ones(12)], [0.0], 0.1, None),
    ],
    ids=["angles", "sizes", "nothing", "dt", "times", "step", "before 0", "uneven", "not a matrix"],
)
def test_given_arrays_that_do_not_fit_together_then_they_are_refused(c2, phi, dt, t):
    with pytest.raises(DataError):
        from_arrays(c2, phi, 0.005, dt, t=t)


def test_given_a_sigma_of_the_wrong_shape_then_it_is_refused():
    with pytest.raises(DataError, match=r"sigma has shape \(3,\)"):
        record(sigma=[1.0, 2.0, 3.0])
