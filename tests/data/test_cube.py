"""Plain cubes: bins first or last, HDF5 or NPZ, and no guess where the axes could be either."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from hpcxpcs.data.formats import cube, detect, open_file
from hpcxpcs.errors import FormatError
from tests.data.stacks import edited, matrix, off_diagonal, replace_dataset, stack_of


def check_bins(path, q, phi, n=12):
    with open_file(path) as layout:
        assert layout.format == "cube"
        assert [(info.q, info.phi) for info in layout.bins] == list(zip(q, phi, strict=True))
        for k, info in enumerate(layout.bins):
            assert np.array_equal(off_diagonal(layout.read(info)), off_diagonal(matrix(k, n)))


@pytest.mark.parametrize("order", ["q_first", "q_last"])
@pytest.mark.parametrize("names", cube.FLAVOURS, ids=lambda names: names.c2)
def test_given_bins_first_or_last_then_the_matrices_are_the_same(tmp_path, order, names):
    path = tmp_path / "a.h5"
    cube.write(path, stack_of([0.005, 0.005, 0.01], [0.0, 90.0, 90.0]), order=order, names=names)
    check_bins(path, [0.005, 0.005, 0.01], [0.0, 90.0, 90.0])


@pytest.mark.parametrize("order", ["q_first", "q_last"])
@pytest.mark.parametrize("half", [True, False])
def test_given_as_many_bins_as_frames_then_the_contents_tell_the_axes(tmp_path, order, half):
    path = tmp_path / "a.h5"
    phi = [10.0 * k for k in range(12)]
    cube.write(path, stack_of([0.005] * 12, phi, half=half), order=order)
    check_bins(path, [0.005] * 12, phi)


def test_given_axes_that_cannot_be_told_apart_then_it_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["c2"], file["q"], file["phi"] = np.ones((9, 9, 9)), 0.005, np.arange(9.0)
    with pytest.raises(FormatError, match="cannot be told which axes are the frames"), open_file(path):
        pass


def test_given_a_grid_of_q_and_phi_then_every_bin_gets_its_pair(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["c2"] = np.array([matrix(k) for k in range(6)]).reshape(2, 3, 12, 12)
        file["q"], file["phi"], file["t"] = [0.005, 0.01], [0.0, 45.0, 90.0], np.arange(12) * 0.1
    check_bins(path, np.repeat([0.005, 0.01], 3), [0.0, 45.0, 90.0] * 2)


def test_given_one_q_for_all_angles_then_every_bin_has_it(tmp_path):
    path = tmp_path / "a.npz"
    c2 = np.array([matrix(k) for k in range(3)])
    np.savez(path, data=c2, q=0.005, phi=[0.0, 45.0, 90.0], t=np.arange(12) * 0.1)
    check_bins(path, [0.005] * 3, [0.0, 45.0, 90.0])


def test_given_a_single_matrix_then_it_is_one_bin(tmp_path):
    np.savez(tmp_path / "a.npz", c2=matrix(0), q=0.005, phi=0.0)
    check_bins(tmp_path / "a.npz", [0.005], [0.0])


def test_given_an_npz_file_under_another_name_then_it_is_recognised(tmp_path):
    cube.write(tmp_path / "a.npz", stack_of([0.005, 0.01], [0.0, 0.0]))
    (tmp_path / "a.npz").rename(tmp_path / "a.h5")
    assert detect(tmp_path / "a.h5") == "cube"
    check_bins(tmp_path / "a.h5", [0.005, 0.01], [0.0, 0.0])


def test_given_an_npz_file_with_pickled_objects_then_it_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", c2=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match="pickled objects"):
        detect(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("q", "phi"),
    [([0.005, 0.01], [0.0, 1.0, 2.0]), ([0.005], [0.0, 1.0])],
    ids=["q too short", "phi too short"],
)
def test_given_axes_of_the_wrong_length_then_it_is_refused(tmp_path, q, phi):
    np.savez(tmp_path / "a.npz", c2=np.array([matrix(k) for k in range(3)]), q=q, phi=phi)
    with pytest.raises(FormatError, match=r"do not fit the bin axes \(3,\)"), open_file(tmp_path / "a.npz"):
        pass


def test_given_no_square_axes_then_it_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", c2=np.ones((3, 12, 13)), q=0.005, phi=0.0)
    with (
        pytest.raises(FormatError, match="no two neighbouring axes of equal length"),
        open_file(tmp_path / "a.npz"),
    ):
        pass


def test_given_times_then_their_spacing_is_dt(tmp_path):
    cube.write(tmp_path / "a.h5", stack_of([0.005], [0.0], dt=0.25))
    with open_file(tmp_path / "a.h5") as layout:
        assert layout.dt == pytest.approx(0.25)


def test_given_no_times_then_dt_is_unknown(tmp_path):
    cube.write(tmp_path / "a.h5", stack_of([0.005], [0.0]))
    with edited(tmp_path / "a.h5") as file:
        del file["exchange/t"]
    with open_file(tmp_path / "a.h5") as layout:
        assert layout.dt is None


@pytest.mark.parametrize(
    ("t", "message"),
    [
        (np.arange(12) ** 1.1, "not equally spaced"),
        (-np.arange(12.0), "not equally"),
        (np.arange(5.0), "5 times for 12"),
    ],
)
def test_given_times_that_are_no_grid_then_it_is_refused(tmp_path, t, message):
    path = tmp_path / "a.h5"
    cube.write(path, stack_of([0.005], [0.0]))
    with edited(path) as file:
        replace_dataset(file, "exchange/t", t)
    with pytest.raises(FormatError, match=message), open_file(path):
        pass
