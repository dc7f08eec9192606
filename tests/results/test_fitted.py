"""fitted_data.npz: right, readable by anyone, and never larger in memory than an angle."""

import errno
import os
import shutil
import tracemalloc
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.data.twotime import from_arrays
from hpcxpcs.errors import OutputError
from hpcxpcs.results.fitted import FITTED_MATRICES, reason_to_skip, write_fitted_data
from tests.results.sample import PHI, SIGMA, sample_answer, whole


@pytest.fixture(scope="module")
def answer():
    return sample_answer()


@pytest.fixture(scope="module")
def archive(answer, tmp_path_factory):
    path = tmp_path_factory.mktemp("fitted") / "fitted_data.npz"
    write_fitted_data(path, answer)
    with np.load(path, allow_pickle=False) as members:
        return dict(members)


def test_given_an_archive_then_it_has_the_public_names_and_shapes(archive):
    assert {name: array.shape for name, array in archive.items()} == {
        "phi_angles": (3,),
        "per_angle_scaling": (3, 2),
        "t1": (40,),
        "t2": (40,),
        "q": (1,),
        **dict.fromkeys(FITTED_MATRICES, (3, 40, 40)),
    }


def test_given_an_archive_then_the_raw_theory_is_the_shape_and_scaling_turns_it_into_c2(archive):
    raw, scaled = archive["c2_theoretical_raw"], archive["c2_theoretical_scaled"]
    contrast, offset = archive["per_angle_scaling"].T
    inside = np.s_[:, 1:, 1:]
    assert raw[inside].max() == pytest.approx(1.0)
    assert (offset[:, None, None] + contrast[:, None, None] * raw)[inside] == pytest.approx(scaled[inside], rel=1e-6)


def test_given_an_archive_then_residuals_are_in_units_of_the_noise_not_of_the_data(archive):
    inside = np.s_[:, 1:, 1:]
    assert archive["residuals_normalized"][inside] == pytest.approx(archive["residuals"][inside] / SIGMA, rel=1e-5)
    difference = archive["c2_exp"] - archive["c2_theoretical_scaled"]
    assert archive["residuals"][inside] == pytest.approx(difference[inside], abs=1e-6)


def test_given_an_archive_then_every_angle_is_in_its_place(archive, answer):
    for k in range(3):
        assert archive["c2_exp"][k] == pytest.approx(whole(answer, k)["c2"], rel=1e-6)
    assert archive["phi_angles"].tolist() == list(PHI)
    assert archive["t1"].tolist() == answer.data.t.tolist()
    assert archive["q"].tolist() == [0.0054]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_given_data_of_a_precision_then_the_matrices_keep_it(tmp_path, answer, dtype):
    c2 = np.array([answer.data.angle(k).c2 for k in range(3)], dtype=dtype)
    write_fitted_data(tmp_path / "f.npz", replace(answer, data=from_arrays(c2, PHI, 0.0054, 0.1)))
    with np.load(tmp_path / "f.npz") as members:
        assert {members[name].dtype for name in FITTED_MATRICES} == {np.dtype(dtype)}


def test_given_many_angles_then_memory_holds_only_one(tmp_path):
    answer = sample_answer(150, tuple(np.linspace(0.0, 90.0, 20)))
    write_fitted_data(tmp_path / "warm.npz", answer)
    tracemalloc.start()
    write_fitted_data(tmp_path / "f.npz", answer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "f.npz").stat().st_size > 20 * 5 * 150**2 * 4
    assert peak < 24 * 150**2 * 8 + 3 * 2**20


def test_given_a_limit_then_a_larger_archive_is_skipped_with_the_reason(tmp_path, answer):
    size = 5 * 3 * 40**2 * 4
    assert reason_to_skip(tmp_path / "f.npz", answer.data, limit=size) is None
    assert "more than the limit" in reason_to_skip(tmp_path / "f.npz", answer.data, limit=size - 1)


def test_given_too_little_room_on_the_disk_then_the_archive_is_skipped_with_the_reason(tmp_path, answer, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 10))
    assert "are free on the disk" in reason_to_skip(tmp_path / "f.npz", answer.data)


def test_given_a_disk_that_fills_up_then_the_error_names_it_and_nothing_is_left(tmp_path, answer, monkeypatch):
    def failing(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OutputError, match="disk is full"):
        write_fitted_data(tmp_path / "f.npz", answer)
    assert list(tmp_path.iterdir()) == []


def test_given_what_a_killed_writer_left_then_it_does_not_disturb(tmp_path, answer):
    (tmp_path / ".f.npz.parts").mkdir()
    (tmp_path / ".f.npz.parts" / "c2_exp").write_text("half")
    write_fitted_data(tmp_path / "f.npz", answer)
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]
