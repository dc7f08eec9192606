"""Averages of repeats: the gates, the errors, and products of pixels before the division."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpcxpcs.errors import DataError
from hpcxpcs.g2.average import Gates, average_files
from hpcxpcs.g2.layouts import write_g2
from hpcxpcs.g2.reading import read_g2
from hpcxpcs.g2.simulate import G2Simulation, simulated_table


def repeats(folder: Path, count: int = 6, **changed) -> list[Path]:
    paths = []
    for k in range(count):
        path = folder / f"run_{k}.hdf"
        spec = G2Simulation("single", path, {"tau": 1e-3}, bins=3, delays=40, seed=k, **changed)
        write_g2("viewer", path, simulated_table(spec))
        paths.append(path)
    return paths


def shifted(path: Path, change) -> None:
    with h5py.File(path, "r+") as file:
        file["xpcs/g2/g2"][...] = change(file["xpcs/g2/g2"][...])


def test_given_repeats_then_the_mean_has_the_error_of_the_sum_over_n(tmp_path):
    paths = repeats(tmp_path)
    found = average_files(paths, Gates())
    every = [read_g2(path) for path in paths]
    assert all(one.accepted for one in found.files)
    assert found.data.g2 == pytest.approx(np.mean([data.g2 for data in every], axis=0))
    error = np.sqrt(np.sum([data.error**2 for data in every], axis=0)) / len(every)
    assert found.data.error == pytest.approx(error)
    assert found.data.partial.shape == (6, *found.data.g2.shape)


def test_given_files_that_do_not_belong_then_each_is_listed_with_its_reason(tmp_path):
    paths = repeats(tmp_path, 8)
    shifted(paths[1], lambda g2: g2 + 0.2)
    shifted(paths[2], lambda g2: g2 + 0.1 * np.sin(np.arange(40))[:, None] * (np.arange(40) < 25)[:, None])
    paths[3].write_bytes(b"nothing")
    with h5py.File(paths[4], "r+") as file:
        file["xpcs/g2/q_values"][...] *= 2
    found = average_files(paths, Gates())
    reasons = {Path(one.file).name: one.reason for one in found.files}
    assert [Path(one.file) for one in found.files] == paths
    assert "level 1.2" in reasons["run_1.hdf"] and "0.95 to 1.05" in reasons["run_1.hdf"]
    assert "robust deviations" in reasons["run_2.hdf"]
    assert "neither an HDF5" in reasons["run_3.hdf"]
    assert "has other q" in reasons["run_4.hdf"]
    assert sum(one.accepted for one in found.files) == 4
    assert len(found.data.partial) == 4


def test_given_an_entry_that_one_file_lacks_then_the_others_make_it(tmp_path):
    paths = repeats(tmp_path, 3, empty=0.2)
    found, every = average_files(paths, Gates(weights="errors")), [read_g2(path) for path in paths]
    there = np.sum([data.there for data in every], axis=0)
    assert np.array_equal(np.isfinite(found.data.g2), there > 0)
    one = np.argwhere(there == 1)[0]
    own = next(data for data in every if data.there[tuple(one)])
    assert found.data.g2[tuple(one)] == pytest.approx(own.g2[tuple(one)])
    assert found.data.error[tuple(one)] == pytest.approx(own.error[tuple(one)])


def test_given_nothing_that_passes_then_nothing_is_averaged(tmp_path):
    paths = repeats(tmp_path, 2)
    with pytest.raises(DataError, match=r"no file passes the gates.*run_0.hdf: level"):
        average_files(paths, Gates(low=2.0, high=3.0))
    with pytest.raises(DataError, match=r"is named twice"):
        average_files([paths[0], paths[0]], Gates())
    with pytest.raises(DataError, match=r"none of 1 files can be read.*no such file"):
        average_files([tmp_path / "none.hdf"], Gates())


def test_given_products_of_pixels_then_they_are_averaged_before_they_are_divided(tmp_path):
    rng, paths = np.random.default_rng(0), []
    labels = np.repeat([0, 1, 2], 100)
    sums = []
    for k in range(3):
        spec = G2Simulation("single", Path("unwritten"), bins=2, delays=8, seed=k)
        path = tmp_path / f"sparse_{k}.hdf"
        table = simulated_table(spec)
        write_g2("nexus", path, replace(table, g2=np.ones_like(table.g2)))
        products = rng.poisson(0.05, (8, 3, 30, 10)).astype(np.float32)
        with h5py.File(path, "r+") as file:
            file["xpcs/multitau/unnormalized_G2"] = products
            file["xpcs/qmap/dynamic_roi_map"] = labels.reshape(30, 10).astype(np.uint8)
            file["xpcs/qmap/static_roi_map"] = labels.reshape(30, 10).astype(np.uint8)
        sums.append(products.reshape(8, 3, -1))
        paths.append(path)
    found = average_files(paths, Gates())
    mean = np.mean(sums, axis=0)[:, :, labels == 1].mean(axis=2)
    assert found.data.g2[:, 0] == pytest.approx(mean[:, 0] / (mean[:, 1] * mean[:, 2]), rel=1e-5)
    assert "averaged, then divided" in found.words
