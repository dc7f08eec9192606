"""The viewer's schema: units that are stated, and nothing else."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from hpcxpcs.data.formats import detect, open_file, write
from hpcxpcs.errors import FormatError
from tests.data.stacks import edited, matrix, off_diagonal, replace_dataset, stack_of

TWOTIME = "xpcs/twotime"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.h5"
    write("viewer", path, stack_of([0.005, 0.01, 0.005], [90.0, 0.0, 0.0], dt=0.5, unprocessed=[(0.01, 90.0)]))
    return path


def restated(path, name, factor, unit):
    with edited(path) as file:
        values = np.asarray(file[f"{TWOTIME}/{name}"]) * factor
        replace_dataset(file, f"{TWOTIME}/{name}", values)
        if unit is not None:
            file[f"{TWOTIME}/{name}"].attrs["units"] = unit


def refused(path, message):
    with pytest.raises(FormatError, match=message), open_file(path):
        pass


def test_given_a_file_then_every_matrix_has_its_q_phi_and_time_step(path):
    assert detect(path) == "viewer"
    with open_file(path) as layout:
        assert [(info.q, info.phi) for info in layout.bins] == [(0.005, 90.0), (0.01, 0.0), (0.005, 0.0)]
        assert [(bin_.q, bin_.phi, bin_.reason) for bin_ in layout.absent] == [(0.01, 90.0, "not processed")]
        assert layout.dt == pytest.approx(0.5)
        for k, info in enumerate(layout.bins):
            assert np.array_equal(off_diagonal(layout.read(info)), off_diagonal(matrix(k)))


def test_given_a_file_then_g2_and_q_map_are_as_the_schema_says(path):
    with h5py.File(path) as file:
        assert file["xpcs/g2/g2"].shape == file["xpcs/g2/g2_err"].shape == (12, 3)
        assert file["xpcs/g2/g2"][3, 1] == pytest.approx(matrix(1).diagonal(3).mean())
        assert file["xpcs/g2/delay_times"].attrs["units"] == b"s"
        assert file["xpcs/qmap/dqmap"].shape == file["xpcs/qmap/partition_map"].shape == (1, 4)
        assert file["xpcs/metadata"].attrs["shape"].tolist() == [1, 4]


@pytest.mark.parametrize("name", ["q_values", "phi_values", "times"])
def test_given_no_unit_then_it_is_refused_with_the_remedy(path, name):
    restated(path, name, 1.0, None)
    refused(path, rf"/{TWOTIME}/{name} has no attribute units, and its unit is not guessed: state it")


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("1/Å", 1), ("Å⁻¹", 1), ("A^-1", 1), ("1 / Angstrom", 1), ("nm⁻¹", 10), ("1/nm", 10), ("m**-1", 1e10)],
)
def test_given_q_in_any_spelling_then_it_is_in_inverse_angstrom(path, unit, factor):
    restated(path, "q_values", factor, unit)
    with open_file(path) as layout:
        assert [info.q for info in layout.bins] == pytest.approx([0.005, 0.01, 0.005])


@pytest.mark.parametrize(("unit", "factor"), [("degrees", 1), ("°", 1), ("rad", np.pi / 180)])
def test_given_angles_in_degrees_or_radians_then_they_are_in_degrees(path, unit, factor):
    restated(path, "phi_values", factor, unit)
    with open_file(path) as layout:
        assert [info.phi for info in layout.bins] == pytest.approx([90.0, 0.0, 0.0])


@pytest.mark.parametrize(("unit", "factor"), [("sec", 1), ("ms", 1e3), ("µs", 1e6), ("us", 1e6), ("ns", 1e9)])
def test_given_times_in_parts_of_a_second_then_dt_is_in_seconds(path, unit, factor):
    restated(path, "times", factor, unit)
    with open_file(path) as layout:
        assert layout.dt == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "unit", "understood"),
    [
        ("q_values", "nm", "1/angstrom or 1/nm"),
        ("phi_values", "pixel", "deg"),
        ("times", "frames", "s or ms"),
    ],
)
def test_given_a_unit_of_something_else_then_it_is_refused(path, name, unit, understood):
    restated(path, name, 1.0, unit)
    refused(path, rf"the unit '{unit}' is not understood here; use {understood}")


def test_given_fewer_matrices_than_bins_and_no_list_of_them_then_it_is_refused(path):
    with edited(path) as file:
        del file[f"{TWOTIME}/processed_bins"]
    refused(path, "3 matrices for 4 bins")


@pytest.mark.parametrize(
    ("labels", "message"), [([1, 2], "names 2 bins"), ([1, 2, 5], "from 1 to 4"), ([1, 2, 2], "3 different")]
)
def test_given_a_list_of_bins_that_does_not_fit_then_it_is_refused(path, labels, message):
    with edited(path) as file:
        replace_dataset(file, f"{TWOTIME}/processed_bins", labels)
    refused(path, message)


def test_given_matrices_that_are_not_square_then_they_are_refused(path):
    with edited(path) as file:
        replace_dataset(file, f"{TWOTIME}/c2", np.ones((3, 12, 11)))
    refused(path, r"shape \(3, 12, 11\); \(bins, N, N\) is needed")


@pytest.mark.parametrize("times", [np.arange(11.0), np.arange(12.0) ** 2, -np.arange(12.0)])
def test_given_times_that_are_no_grid_then_they_are_refused(path, times):
    with edited(path) as file:
        replace_dataset(file, f"{TWOTIME}/times", times)
        file[f"{TWOTIME}/times"].attrs["units"] = "s"
    refused(path, "times")


def test_given_g2_only_then_the_error_says_that_there_are_no_two_time_matrices(path):
    with edited(path) as file:
        del file[TWOTIME]
    refused(path, r"multi-tau .* no two-time matrices")
