"""The NeXus-style layout: numbers in dataset names are positions, bins go through the index mapping."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest

from hpcxpcs.data.formats import open_file, write
from hpcxpcs.errors import DataError, FormatError
from tests.data.stacks import edited, matrix, off_diagonal, replace_dataset, stack_of

TWOTIME = "xpcs/twotime"
HOLES = {"q": [0.005, 0.005, 0.01, 0.01], "phi": [0.0, 90.0, 45.0, 90.0]}


@pytest.fixture
def path(tmp_path):
    """Neither (0.005, 45) nor (0.01, 0) nor (0.01, 135) has pixels, (0.005, 135) has no matrix."""
    path = tmp_path / "with blanks 'and quotes'.hdf"
    write("nexus", path, stack_of(**HOLES, unprocessed=[(0.005, 135.0)]))
    return path


def bins_of(path):
    with open_file(path) as layout:
        return [(info.q, info.phi) for info in layout.bins]


def test_given_holes_in_the_index_mapping_then_q_and_phi_follow_the_populated_bins(path):
    with h5py.File(path) as file:
        mapping = file["xpcs/qmap/dynamic_index_mapping"][()]
    assert mapping.tolist() != list(range(len(mapping)))
    assert bins_of(path) == list(zip(HOLES["q"], HOLES["phi"], strict=True))


def test_given_an_unprocessed_bin_then_the_numbers_of_matrices_are_positions_not_labels(path):
    with h5py.File(path) as file:
        assert file[f"{TWOTIME}/processed_bins"][()].tolist() == [1, 2, 4, 5]
        assert list(file[f"{TWOTIME}/correlation_map"]) == ["c2_00001", "c2_00002", "c2_00003", "c2_00004"]
    with open_file(path) as layout:
        assert [info.label for info in layout.bins] == [1, 2, 4, 5]
        for k, info in enumerate(layout.bins):
            assert np.array_equal(off_diagonal(layout.read(info)), off_diagonal(matrix(k)))


def test_given_processed_bins_out_of_order_then_each_matrix_keeps_its_own_bin(tmp_path):
    q, phi = [0.01, 0.005, 0.005], [0.0, 90.0, 0.0]
    write("nexus", tmp_path / "a.h5", stack_of(q, phi))
    assert bins_of(tmp_path / "a.h5") == list(zip(q, phi, strict=True))


def test_given_more_than_nine_matrices_then_their_order_is_numeric(tmp_path):
    path = tmp_path / "a.h5"
    phi = np.linspace(0, 110, 12).tolist()
    write("nexus", path, stack_of([0.005] * 12, phi))
    with edited(path) as file:
        group = file[f"{TWOTIME}/correlation_map"]
        for k in range(1, 13):
            group.move(f"c2_{k:05d}", f"c2_{k}")
    with open_file(path) as layout:
        assert np.array_equal(off_diagonal(layout.read(layout.bins[1])), off_diagonal(matrix(1)))


@pytest.mark.parametrize("listed", [[1, 2, 4], [1, 2, 3, 4, 5]], ids=["more matrices", "fewer matrices"])
def test_given_another_number_of_matrices_than_processed_bins_then_it_is_refused(path, listed):
    with edited(path) as file:
        replace_dataset(file, f"{TWOTIME}/processed_bins", listed)
    with pytest.raises(FormatError, match=f"4 matrices, but .* names {len(listed)} bins"):
        bins_of(path)


def test_given_a_gap_in_the_sequence_then_it_is_refused_instead_of_shifted(path):
    with edited(path) as file:
        file[f"{TWOTIME}/correlation_map"].move("c2_00002", "c2_00009")
    with pytest.raises(FormatError, match=r"4 matrices are numbered up to 9, and c2_00002 is missing"):
        bins_of(path)


def renamed(path, name):
    """Give every matrix another name, made of its number."""
    with edited(path) as file:
        matrices = file[f"{TWOTIME}/correlation_map"]
        for k in range(1, len(matrices) + 1):
            matrices.move(f"c2_{k:05d}", f"moved_{k}")
        for k in range(1, len(matrices) + 1):
            matrices.move(f"moved_{k}", name(k))


def test_given_numbers_from_0_then_the_first_is_that_of_the_first_processed_bin_and_this_is_told(path):
    before = bins_of(path)
    renamed(path, lambda k: f"c2_{k - 1:05d}")
    assert bins_of(path) == before
    with open_file(path) as layout:
        assert any("numbered from 0: c2_00000" in note for note in layout.notes)
        for k, info in enumerate(layout.bins):
            assert np.array_equal(off_diagonal(layout.read(info)), off_diagonal(matrix(k)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (lambda k: f"c2_{k - 1 + (k > 2):05d}", "4 matrices are numbered up to 4, and c2_00002 is missing"),
        (lambda k: f"c2_{k + 1:05d}", "4 matrices are numbered up to 5, and c2_00001 is missing"),
        (lambda k: f"c2_{max(k, 2):0{k}d}", "c2_2 and c2_02 have the same number"),
    ],
    ids=["a gap", "from 2", "twice"],
)
def test_given_numbers_that_leave_the_order_open_then_the_true_reason_is_told(path, name, words):
    renamed(path, name)
    with pytest.raises(FormatError, match=words):
        bins_of(path)


def test_given_bins_counted_from_0_then_the_remedy_is_told(path):
    with edited(path) as file:
        replace_dataset(file, f"{TWOTIME}/processed_bins", [0, 1, 3, 4])
    with pytest.raises(FormatError, match=r"bins count from 1: add 1 to each"):
        bins_of(path)


@pytest.mark.parametrize("label", [0, 6])
def test_given_a_label_beyond_the_populated_bins_then_it_is_refused(path, label):
    with edited(path) as file:
        replace_dataset(file, f"{TWOTIME}/processed_bins", [1, 2, 4, label])
    with pytest.raises(FormatError, match="the q-map has bins 1…5"):
        bins_of(path)


def test_given_a_mapping_beyond_the_grid_then_it_is_refused(path):
    with edited(path) as file:
        replace_dataset(file, "xpcs/qmap/dynamic_index_mapping", [0, 1, 2, 3, 99])
    with pytest.raises(FormatError, match="index 99 is outside the grid of 8 bins"):
        bins_of(path)


def test_given_a_partition_over_phi_and_q_then_the_axes_are_taken_by_name(tmp_path):
    path = tmp_path / "a.h5"
    write("nexus", path, stack_of([0.005, 0.005, 0.01, 0.01], [0.0, 90.0, 0.0, 90.0]))
    with edited(path) as file:
        replace_dataset(file, "xpcs/qmap/map_names", [b"phi", b"q"])
        replace_dataset(file, "xpcs/qmap/map_units", [b"deg", "Å⁻¹".encode()])
        for k, axis in enumerate(([0.0, 90.0], [0.005, 0.01])):
            replace_dataset(file, f"xpcs/qmap/dynamic_v_list_dim{k}", axis)
    assert bins_of(path) == [(0.005, 0.0), (0.01, 0.0), (0.005, 90.0), (0.01, 90.0)]


def test_given_a_partition_over_other_axes_then_it_is_refused(path):
    with edited(path) as file:
        replace_dataset(file, "xpcs/qmap/map_names", [b"x", b"y"])
    with pytest.raises(FormatError, match="over x and y, it must be over q and phi"):
        bins_of(path)


def test_given_no_mapping_then_all_bins_count_as_populated_and_the_file_says_so(tmp_path):
    path = tmp_path / "a.h5"
    write("nexus", path, stack_of([0.005, 0.005], [0.0, 90.0]))
    with edited(path) as file:
        del file["xpcs/qmap/dynamic_index_mapping"]
    with open_file(path) as layout:
        assert [info.phi for info in layout.bins] == [0.0, 90.0]
        assert any("dynamic_index_mapping is missing" in note for note in layout.notes)


def test_given_no_q_map_then_the_missing_dataset_is_named(path):
    with edited(path) as file:
        del file["xpcs/qmap"]
    with pytest.raises(FormatError, match=f"{re.escape(str(path))}: /xpcs/qmap/dynamic_v_list_dim0 is missing"):
        bins_of(path)


@pytest.mark.parametrize("matrix_scalars", [False, True])
def test_given_stride_and_average_then_dt_is_their_product_with_the_frame_time(tmp_path, matrix_scalars):
    path = tmp_path / "a.h5"
    settings = {"dt": 0.6, "frame_time": 0.05, "stride": 3, "average": 4}
    write("nexus", path, stack_of([0.005], [0.0], **settings, matrix_scalars=matrix_scalars))
    with h5py.File(path) as file:
        shape = file["entry/instrument/detector_1/frame_time"].shape
    with open_file(path) as layout:
        assert shape == ((1, 1) if matrix_scalars else ())
        assert layout.dt == pytest.approx(0.6)
        assert "stride 3 x average 4" in layout.dt_source


@pytest.mark.parametrize("factor", [0, -1, np.nan, np.inf])
@pytest.mark.parametrize("name", ["stride_frame", "avg_frame"])
def test_given_a_stride_or_average_that_is_no_count_then_dt_is_unknown(path, name, factor):
    with edited(path) as file:
        replace_dataset(file, f"xpcs/twotime/config/{name}", factor)
    with open_file(path) as layout:
        assert layout.dt is None


@pytest.mark.parametrize("unit", ["nm⁻¹", "1/nm"])
@pytest.mark.parametrize("where", ["axis", "map"])
def test_given_q_in_another_unit_then_it_is_converted_wherever_the_unit_is_stated(path, unit, where):
    with open_file(path) as layout:
        before = [info.q for info in layout.bins]
    with edited(path) as file:
        axis = file["xpcs/qmap/dynamic_v_list_dim0"]
        if where == "axis":
            axis.attrs["unit"] = unit
        else:
            del axis.attrs["unit"]
            replace_dataset(file, "xpcs/qmap/map_units", np.array([unit.encode(), b"deg"], dtype=object))
    with open_file(path) as layout:
        assert [info.q for info in layout.bins] == pytest.approx([q / 10 for q in before])


def test_given_no_unit_at_all_then_it_is_that_of_the_layout(path):
    with edited(path) as file:
        del file["xpcs/qmap/dynamic_v_list_dim0"].attrs["unit"], file["xpcs/qmap/map_units"]
    with open_file(path) as layout:
        assert layout.units["q"] == "Å⁻¹ (not stated: that of the layout)"


def test_given_a_unit_that_is_none_of_q_then_it_is_refused(path):
    with edited(path) as file:
        file["xpcs/qmap/dynamic_v_list_dim0"].attrs["unit"] = "pixel"
    with pytest.raises(FormatError, match="the unit 'pixel' is not understood here"), open_file(path):
        pass


def test_given_a_name_of_an_unfinished_result_then_it_is_noted(path):
    unfinished = path.rename(path.with_suffix(".temp"))
    with open_file(unfinished) as layout:
        assert any("may still be being written" in note for note in layout.notes)


def test_given_no_frame_time_then_dt_is_unknown_not_guessed(path):
    with edited(path) as file:
        del file["entry/instrument/detector_1/frame_time"]
    with open_file(path) as layout:
        assert layout.dt is None
        assert "frame_time is missing" in layout.dt_source


def test_given_no_stride_then_one_is_taken_and_noted(path):
    with edited(path) as file:
        del file[f"{TWOTIME}/config/stride_frame"]
    with open_file(path) as layout:
        assert layout.dt == pytest.approx(0.1)
        assert any("stride_frame is missing" in note for note in layout.notes)


def test_given_missing_bins_then_they_are_listed_with_the_reason(path):
    with open_file(path) as layout:
        found = {(absent.q, absent.phi): absent.reason for absent in layout.absent}
    assert found == {
        (0.005, 45.0): "not populated",
        (0.005, 135.0): "not processed",
        (0.01, 0.0): "not populated",
        (0.01, 135.0): "not populated",
    }


def test_given_a_written_file_then_it_looks_like_a_real_one(path):
    with h5py.File(path) as file:
        stored = file[f"{TWOTIME}/correlation_map/c2_00001"]
        assert (stored.dtype, stored.compression, stored.chunks) == (np.float32, "lzf", (12, 12))
        assert not np.tril(stored[()], -1).any()
        assert stored[()].diagonal().all()
        assert file["xpcs/qmap/dynamic_v_list_dim0"].attrs["unit"] == "Å⁻¹"
        assert file["xpcs/qmap/dynamic_index_mapping"].dtype == np.uint8
        diagonal_means = [matrix(0).diagonal(lag).mean() for lag in range(12)]
        assert np.allclose(file[f"{TWOTIME}/normalized_g2"][:, 0], diagonal_means)


def test_given_names_that_are_not_matrices_then_they_are_refused(path):
    with edited(path) as file:
        file[f"{TWOTIME}/correlation_map/extra"] = 1.0
    with pytest.raises(DataError, match="extra: expected names like c2_00001"):
        bins_of(path)


def test_given_bins_in_half_precision_then_they_are_read_without_a_word_of_numpy(path):
    with edited(path) as file:
        replace_dataset(file, f"{TWOTIME}/processed_bins", np.array([1, 2, 4, 5], dtype=np.float16))
    assert bins_of(path) == list(zip(HOLES["q"], HOLES["phi"], strict=True))
