"""Each unordered pair once, with the weight that its masks and errors give it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.data.matrices import AngleMatrix
from hpcxpcs.likelihood.raw import EVERY_PAIR, lattices, mask_key, pair_data, pair_weights, slabs
from tests.likelihood.measured import usable_pairs

ALL_ROWS = slice(None)


def matrix(count: int = 9, seed: int = 0, **fields) -> AngleMatrix:
    """Random data of a few frames."""
    c2 = 1.0 + np.random.default_rng(seed).random((count, count))
    return AngleMatrix(c2 + c2.T, fields.pop("frame_ok", np.ones(count, dtype=bool)), **fields)


@given(st.integers(1, 5), st.integers(2, 30))
def test_the_lattices_of_a_stride_hold_every_pair_exactly_once(stride, count):
    first, second = np.triu_indices(count, 1)
    held = np.zeros(first.size, dtype=int)
    for lattice in lattices(stride):
        held += (first % lattice.stride == lattice.row) & (second % lattice.stride == lattice.column)
    assert np.all(held == 1)
    assert len(lattices(stride)) == stride**2


def test_stride_one_is_every_pair():
    assert lattices(1) == (EVERY_PAIR,)


@given(st.integers(2, 12), st.data())
def test_weights_are_one_on_usable_pairs_above_the_diagonal_and_zero_elsewhere(count, data):
    booleans = st.lists(st.booleans(), min_size=count, max_size=count)
    frame_ok = np.array(data.draw(booleans))
    pair_ok = np.array(data.draw(st.lists(booleans, min_size=count, max_size=count)))
    given_matrix = matrix(count, frame_ok=frame_ok, pair_ok=pair_ok & pair_ok.T)
    wanted = np.zeros((count, count))
    for pair in usable_pairs(given_matrix):
        wanted[pair] = 1.0
    assert np.array_equal(pair_weights(given_matrix, ALL_ROWS), wanted)


def test_given_errors_per_pair_then_weights_are_their_inverse_squares():
    sigma = 0.1 + np.random.default_rng(1).random((9, 9))
    weights = pair_weights(matrix(sigma=sigma), ALL_ROWS)
    assert np.allclose(weights, np.triu(sigma**-2.0, 1), rtol=1e-14)


def test_given_rows_and_columns_then_the_weights_are_that_part_of_the_whole():
    whole = matrix(pair_ok=np.random.default_rng(2).random((9, 9)) > 0.3)
    part = pair_weights(whole, slice(2, 5), slice(3, 9))
    assert np.array_equal(part, pair_weights(whole, ALL_ROWS)[2:5, 3:9])


def test_given_masked_pairs_that_hold_nan_in_data_and_error_then_nothing_leaks():
    pair_ok = np.ones((9, 9), dtype=bool)
    pair_ok[2, 5] = False
    broken = matrix(pair_ok=pair_ok, sigma=np.full((9, 9), 0.5))
    broken.c2[2, 5] = broken.sigma[2, 5] = np.nan
    broken.sigma[1, 1] = 0.0
    weights = pair_weights(broken, ALL_ROWS)
    data = pair_data(broken, ALL_ROWS, weights)
    assert weights[2, 5] == data[2, 5] == 0.0
    assert np.isfinite(weights).all() and np.isfinite(data).all()
    assert data[2, 6] == broken.c2[2, 6]


def test_data_are_in_double_precision_whatever_is_stored():
    single = AngleMatrix(np.ones((4, 4), dtype=np.float32), np.ones(4, dtype=bool))
    assert pair_data(single, ALL_ROWS, pair_weights(single, ALL_ROWS)).dtype == np.float64


def test_angles_share_a_mask_only_when_the_same_frames_are_usable():
    dead = np.ones(9, dtype=bool)
    dead[3] = False
    assert mask_key(matrix(seed=1)) == mask_key(matrix(seed=2))
    assert mask_key(matrix(frame_ok=dead)) != mask_key(matrix())


@pytest.mark.parametrize("field", ["pair_ok", "sigma"])
def test_angles_with_masks_or_errors_per_pair_share_with_none(field):
    assert mask_key(matrix(**{field: np.ones((9, 9))})) is None


@given(st.integers(1, 400), st.integers(1, 200_000))
def test_slabs_cover_every_row_once_and_stay_below_the_limit(count, limit):
    parts = slabs(count, limit)
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(count))
    assert all(8 * count * (part.stop - part.start) <= limit or part.stop - part.start == 1 for part in parts)
