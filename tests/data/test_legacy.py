"""The older 8-ID layout: numeric order of names, and numbers that may be labels or positions."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.data.formats import open_file, write
from hpcxpcs.data.formats.legacy import bin_labels
from hpcxpcs.errors import FormatError
from tests.data.stacks import edited, matrix, off_diagonal, replace_dataset, stack_of

MATRICES = "exchange/C2T_all"
PROCESSED = "xpcs/qphi_bin_to_process"


def renamed(path, names):
    """Give the matrices, in their order, other names."""
    with edited(path) as file:
        group = file[MATRICES]
        for k, old in enumerate(sorted(group)):
            group.move(old, f"temporary{k}")
        for k, name in enumerate(names):
            group.move(f"temporary{k}", name)


def matrices_by_bin(path):
    with open_file(path) as layout:
        return {(info.q, info.phi): layout.read(info) for info in layout.bins}


@pytest.fixture
def twelve(tmp_path):
    """Twelve angles of one q; the matrix of angle 10 k is matrix(k)."""
    path = tmp_path / "a.h5"
    write("legacy", path, stack_of([0.005] * 12, [10.0 * k for k in range(12)]))
    return path


@pytest.fixture
def some(tmp_path):
    """Bins 2, 4 and 5 of five."""
    path = tmp_path / "b.h5"
    missing = [(0.005, 0.0), (0.005, 20.0)]
    write("legacy", path, stack_of([0.005] * 3, [10.0, 30.0, 40.0], unprocessed=missing))
    return path


@pytest.mark.parametrize("name", ["{}", "g2_{}", "{:04d}"])
def test_given_keys_up_to_twelve_then_their_order_is_numeric(twelve, name):
    renamed(twelve, [name.format(k) for k in range(1, 13)])
    found = matrices_by_bin(twelve)
    for k in range(12):
        assert np.array_equal(off_diagonal(found[0.005, 10.0 * k]), off_diagonal(matrix(k)))


def test_given_keys_from_zero_then_the_first_is_the_first_bin(twelve):
    with edited(twelve) as file:
        del file[PROCESSED]
    renamed(twelve, [f"{k:04d}" for k in range(12)])
    found = matrices_by_bin(twelve)
    assert np.array_equal(off_diagonal(found[0.005, 110.0]), off_diagonal(matrix(11)))


def check_some(path):
    found = matrices_by_bin(path)
    assert sorted(found) == [(0.005, 10.0), (0.005, 30.0), (0.005, 40.0)]
    for k, phi in enumerate([10.0, 30.0, 40.0]):
        assert np.array_equal(off_diagonal(found[0.005, phi]), off_diagonal(matrix(k)))


def test_given_numbers_that_are_labels_then_they_name_the_bin(some):
    with h5py.File(some) as file:
        assert list(file[MATRICES]) == ["g2_00002", "g2_00004", "g2_00005"]
    check_some(some)


def test_given_labels_without_a_list_of_processed_bins_then_gaps_still_show_that_they_are_labels(some):
    with edited(some) as file:
        del file[PROCESSED]
    check_some(some)


def test_given_numbers_that_are_positions_then_the_list_of_processed_bins_names_the_bin(some):
    renamed(some, ["g2_00001", "g2_00002", "g2_00003"])
    check_some(some)


def test_given_positions_without_a_list_of_processed_bins_then_nothing_is_guessed(some):
    renamed(some, ["g2_00001", "g2_00002", "g2_00003"])
    with edited(some) as file:
        del file[PROCESSED]
    with pytest.raises(FormatError, match="qphi_bin_to_process, which would say which bins these are, is missing"):
        matrices_by_bin(some)


@pytest.mark.parametrize("listed", [[2, 4], [1, 2, 4, 5]])
def test_given_another_number_of_matrices_than_processed_bins_then_it_is_refused(some, listed):
    with edited(some) as file:
        replace_dataset(file, PROCESSED, listed)
    with pytest.raises(FormatError, match=f"3 matrices, but .* names {len(listed)} bins"):
        matrices_by_bin(some)


def test_given_numbers_that_fit_neither_reading_then_it_is_refused(some):
    with edited(some) as file:
        replace_dataset(file, PROCESSED, [1, 2, 3])
    with pytest.raises(FormatError, match=r"neither the bins of .* nor 1…3"):
        matrices_by_bin(some)


def test_given_more_matrices_than_bins_then_it_is_refused(twelve):
    with edited(twelve) as file:
        del file[PROCESSED]
        for name in ("dqlist", "dphilist"):
            replace_dataset(file, f"xpcs/{name}", np.full((1, 5), 0.005))
    with pytest.raises(FormatError, match="12 matrices"):
        matrices_by_bin(twelve)


def test_given_lists_of_unequal_length_then_it_is_refused(twelve):
    with edited(twelve) as file:
        replace_dataset(file, "xpcs/dphilist", np.zeros((1, 5)))
    with pytest.raises(FormatError, match="dqlist has 12 entries, /xpcs/dphilist 5"):
        matrices_by_bin(twelve)


def test_given_a_list_out_of_order_that_could_be_read_both_ways_then_it_is_refused():
    with pytest.raises(FormatError, match="could be labels or positions"):
        bin_labels([1, 2, 3], [3, 1, 2], 3)


@given(st.sets(st.integers(1, 30), min_size=1, max_size=10), st.booleans())
def test_given_any_selection_of_bins_then_labels_and_positions_mean_the_same_bins(labels, by_position):
    processed = sorted(labels)
    numbers = list(range(1, len(processed) + 1)) if by_position else processed
    assert list(bin_labels(numbers, processed, 30).values()) == processed


def test_given_stride_and_average_then_dt_is_their_product_with_the_exposure_period(tmp_path):
    write("legacy", tmp_path / "a.h5", stack_of([0.005], [0.0], dt=0.6, stride=3, average=4))
    with open_file(tmp_path / "a.h5") as layout:
        assert layout.dt == pytest.approx(0.6)
        assert layout.dt_source == "exposure_period 0.05 s x stride 3 x average 4"


@pytest.mark.parametrize("factor", [0.0, -1.0, np.nan])
def test_given_a_stride_that_is_no_count_then_dt_is_unknown(twelve, factor):
    with edited(twelve) as file:
        replace_dataset(file, "xpcs/stride_frames", np.full((1, 1), factor))
    with open_file(twelve) as layout:
        assert layout.dt is None


def test_given_no_exposure_period_then_dt_is_unknown(twelve):
    with edited(twelve) as file:
        del file["measurement/instrument/detector/exposure_period"]
    with open_file(twelve) as layout:
        assert layout.dt is None


def test_given_a_written_file_then_it_looks_like_a_real_one(twelve):
    with h5py.File(twelve) as file:
        stored = file[f"{MATRICES}/g2_00001"]
        assert (stored.compression, stored.compression_opts, stored.chunks) == ("gzip", 6, (12, 12))
        assert file["xpcs/dqlist"].shape == (1, 12)
        assert file["xpcs/stride_frames"].shape == (1, 1)
        assert not np.tril(stored[()], -1).any()
