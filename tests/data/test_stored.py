"""Matrices that stay in their file: σ from the file, fingerprints, files that change."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from hpcxpcs.data.formats import cube, write
from hpcxpcs.data.select import load
from hpcxpcs.errors import DataError
from tests.data.stacks import config_for, edited, interval, matrix, off_diagonal, stack_of

N = 12
Q = [0.004, 0.005, 0.005, 0.005]
PHI = [0.0, 0.0, 45.0, 90.0]
LEVELS = [0.01, 0.02, 0.03, 0.04]
FULL = np.array([np.full((N, N), level) for level in LEVELS])
LAST_TWO = [interval(40, 100)]


@pytest.fixture
def path(tmp_path):
    """Four bins; q = 0.005 and 45…90 degrees select the last two."""
    path = tmp_path / "a.h5"
    write("nexus", path, stack_of(Q, PHI))
    return path


def levels(path, sigma="/analysis/sigma", **changes):
    data = load(config_for(path, phi_ranges=LAST_TWO, sigma=sigma, **changes))
    found = [data.angle(k).sigma for k in range(data.n_phi)]
    assert all(values.shape == (data.n_frames, data.n_frames) for values in found)
    return [float(np.unique(off_diagonal(values)).item()) for values in found]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (FULL, LEVELS[2:]),
        (np.triu(FULL), LEVELS[2:]),
        (FULL[2:], LEVELS[2:]),
        (np.array(LEVELS), LEVELS[2:]),
        (np.array(LEVELS[2:])[None, :], LEVELS[2:]),
        (np.array(0.07), [0.07, 0.07]),
        (np.array([[0.07]]), [0.07, 0.07]),
        (FULL[1], [0.02, 0.02]),
    ],
    ids=["all bins", "halves", "chosen bins", "per bin", "per chosen bin", "scalar", "(1, 1)", "one matrix"],
)
def test_given_sigma_in_the_file_then_every_chosen_angle_gets_its_own(path, stored, expected):
    with edited(path) as file:
        file["analysis/sigma"] = stored
    assert levels(path) == expected
    assert levels(path, start_frame=2) == expected


@pytest.mark.parametrize("names", [[f"c2_{k:05d}" for k in range(1, 5)], ["s1", "s2", "s10", "s11"]])
def test_given_a_group_of_sigmas_then_they_follow_the_names_or_the_order_of_the_matrices(path, names):
    with edited(path) as file:
        for name, values in zip(names, FULL, strict=True):
            file[f"analysis/sigma/{name}"] = values
    assert levels(path) == LEVELS[2:]


def test_given_a_cube_with_bins_last_and_sigma_of_the_same_shape_then_the_axes_agree(tmp_path):
    path = tmp_path / "a.h5"
    cube.write(path, stack_of(Q, PHI), order="q_last")
    with edited(path) as file:
        file["analysis/sigma"] = np.moveaxis(FULL, 0, -1)
    assert levels(path) == LEVELS[2:]


def test_given_sigma_in_an_npz_file_then_it_is_found(tmp_path):
    c2 = np.array([matrix(k) for k in range(4)])
    np.savez(tmp_path / "a.npz", c2=c2, q=Q, phi=PHI, t=np.arange(N) * 0.1, sigma=FULL)
    assert levels(tmp_path / "a.npz", sigma="sigma") == LEVELS[2:]


def test_given_sigma_as_a_number_then_it_is_left_to_the_fit(path):
    assert load(config_for(path, sigma=0.02)).angle(0).sigma is None


@pytest.mark.parametrize("stored", [np.ones(3), np.ones((3, N, N)), np.ones((4, N, N + 1)), np.ones((2, 3))])
def test_given_a_sigma_of_the_wrong_shape_then_shapes_are_told(path, stored):
    with edited(path) as file:
        file["analysis/sigma"] = stored
    with pytest.raises(DataError, match=r"noise\.sigma: /analysis/sigma has shape"):
        levels(path)


def test_given_a_group_of_sigmas_that_does_not_fit_then_it_is_refused(path):
    with edited(path) as file:
        for k in range(3):
            file[f"analysis/sigma/{k}"] = FULL[k]
    with pytest.raises(DataError, match="has 3 members; expected 4"):
        levels(path)
    with edited(path) as file:
        file["analysis/sigma/3"] = np.ones((N, N + 1))
    with pytest.raises(DataError, match="analysis/sigma/3 has shape"):
        levels(path)


def test_given_a_path_that_is_not_there_then_it_is_named(path):
    with pytest.raises(DataError, match="no dataset /analysis/sigma"):
        levels(path)


def fingerprint(path, **changes):
    return load(config_for(path, **changes)).fingerprint()


@pytest.mark.parametrize("name", ["nexus.h5", "legacy.h5", "cube.h5", "cube.npz"])
def test_given_a_copy_of_a_file_then_its_fingerprint_is_the_same(tmp_path, name):
    path = tmp_path / name
    write(name.split(".")[0], path, stack_of(Q, PHI))
    before = fingerprint(path)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(path, tmp_path / "elsewhere")
    os.utime(path, (0, 0))
    assert fingerprint(tmp_path / "elsewhere" / name) == fingerprint(path) == before


@pytest.mark.parametrize("name", ["nexus.h5", "legacy.h5", "cube.h5"])
def test_given_one_changed_value_then_the_fingerprint_changes_if_it_is_selected(tmp_path, name):
    path = tmp_path / name
    write(name.split(".")[0], path, stack_of(Q, PHI))
    selected, other = fingerprint(path), fingerprint(path, wavevector_q=0.004)
    where = {"nexus.h5": "xpcs/twotime/correlation_map/c2_00001", "legacy.h5": "exchange/C2T_all/g2_00001"}
    with edited(path) as file:
        key = (3, 7) if name in where else (0, 3, 7)
        file[where.get(name, "exchange/data")][key] += 1e-4
    assert fingerprint(path) == selected
    assert fingerprint(path, wavevector_q=0.004) != other


def test_given_another_selection_or_sigma_then_the_fingerprint_changes(path):
    with edited(path) as file:
        file["sigma/a"], file["sigma/b"] = 0.01, 0.02
    prints = [
        fingerprint(path),
        fingerprint(path, phi_ranges=LAST_TWO),
        fingerprint(path, start_frame=2),
        fingerprint(path, start_frame=2, time_origin="file"),
        fingerprint(path, dt=0.2),
        fingerprint(path, dead_frames=(3,)),
        fingerprint(path, sigma="sigma/a"),
        fingerprint(path, sigma="sigma/b"),
    ]
    assert len(set(prints)) == len(prints)


def test_given_a_file_that_changes_after_loading_then_it_is_refused(path):
    data = load(config_for(path))
    write("nexus", path, stack_of(Q, PHI, stride=2))
    with pytest.raises(DataError, match="has changed since it was opened"):
        data.angle(0)
