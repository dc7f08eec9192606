"""Measurements that ended before their matrices do: the last frames hold NaN or 0, in each angle other ones."""

from __future__ import annotations

import numpy as np
import pytest

from hpcxpcs.config.sections import Preprocessing
from hpcxpcs.data.formats import FORMATS, nxxpcs, write
from hpcxpcs.data.inspect import describe
from hpcxpcs.data.select import load
from hpcxpcs.data.twotime import from_arrays
from hpcxpcs.errors import DataError
from tests.data.stacks import Q, config_for, edited, matrix, stack_of

N = 40
LAST_WITH_DATA = (40, 33, 20)
"""The last frame with data of each angle, from 1."""

WRITERS = {
    **{name: (lambda path, stack, name=name: write(name, path, stack)) for name in FORMATS},
    "nxxpcs, last axis": lambda path, stack: nxxpcs.write(path, stack, storage="one_array_q_last"),
    "nxxpcs, keys": lambda path, stack: nxxpcs.write(path, stack, storage="data_exchange_keys"),
    "nxxpcs, from 0": lambda path, stack: nxxpcs.write(path, stack, baseline=0),
    "nxxpcs, upside down": lambda path, stack: nxxpcs.write(path, stack, origin="lower_left"),
}


def emptied(stored, frames, empty, upside_down=False):
    """The stored matrix with nothing in these frames, in both triangles."""
    matrix = stored[::-1] if upside_down else stored
    matrix[frames, :] = empty
    matrix[:, frames] = empty


def without(path, frames_of, empty, upside_down=False):
    """Empty the frames of each matrix of a file, whatever its layout; `frames_of` gives them by its number."""
    with edited(path) as file:
        found = []
        file.visititems(lambda name, item: found.append(name) if has_matrices(name, item) else None)
        if len(found) == 1:
            cube = file[found[0]][()]
            first = cube.shape[-1] == cube.shape[-2]
            for k in range(cube.shape[0] if first else cube.shape[-1]):
                emptied(cube[k] if first else cube[..., k], frames_of(k), empty, upside_down)
            file[found[0]][...] = cube
            return
        for k, name in enumerate(sorted(found)):
            stored = file[name][()]
            emptied(stored, frames_of(k), empty, upside_down)
            file[name][...] = stored


def has_matrices(name, item):
    return getattr(item, "shape", None) is not None and np.prod(item.shape) % (N * N) == 0 and item.shape


def tail(k):
    return slice(LAST_WITH_DATA[k], N)


@pytest.mark.parametrize("empty", [np.nan, 0.0, np.inf])
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("name", WRITERS)
def test_given_angles_that_end_early_then_each_is_read_to_its_own_end(tmp_path, name, half, empty):
    path = tmp_path / "a.h5"
    WRITERS[name](path, stack_of([Q] * 3, [0.0, 45.0, 90.0], N, half=half))
    without(path, tail, empty, upside_down=name == "nxxpcs, upside down")
    data = load(config_for(path))
    for k, last in enumerate(LAST_WITH_DATA):
        read = data.angle(k)
        assert np.flatnonzero(read.frame_ok).tolist() == list(range(1, last))
        assert read.pair_ok is None
        expected = matrix(k, N)[:last, :last]
        np.fill_diagonal(expected, read.c2.diagonal()[:last])
        np.testing.assert_allclose(read.c2[:last, :last], expected, atol=2e-7)
    assert data.provenance["notes"][-2:] == [
        "phi = 45: 7 dead frames are masked: 34…40; the last frame used is 33",
        "phi = 90: 20 dead frames are masked: 21…40; the last frame used is 20",
    ]


@pytest.mark.parametrize("empty", [np.nan, 0.0])
@pytest.mark.parametrize("name", WRITERS)
def test_given_a_late_begin_and_a_window_then_what_is_described_is_what_is_read(tmp_path, name, empty):
    path = tmp_path / "a.h5"
    WRITERS[name](path, stack_of([Q] * 3, [0.0, 45.0, 90.0], N))
    without(path, lambda k: slice(0, 5 * k), empty, upside_down=name == "nxxpcs, upside down")
    data = load(config_for(path))
    read = [data.angle(k) for k in range(3)]
    told = [tuple((np.flatnonzero(~item.frame_ok & (data.t > 0)) + 1).tolist()) for item in read]
    described = [tuple(f for f in item.dead_frames if f > 1) for item in describe(path).examined]
    assert described == told == [(), (2, 3, 4, 5), tuple(range(2, 11))]


def test_given_an_angle_without_any_number_then_it_is_refused_with_how_to_leave_it_out(tmp_path):
    path = tmp_path / "a.h5"
    write("nexus", path, stack_of([Q] * 3, [0.0, 45.0, 90.0], N))
    without(path, lambda k: slice(0, N if k == 1 else 0), np.nan)
    data = load(config_for(path))
    data.angle(0)
    with pytest.raises(DataError, match=r"phi = 45 .*no pair of the 40 frames holds a number.*phi_ranges"):
        data.angle(1)


@pytest.mark.parametrize("method", ["baseline", "mean", "z_score"])
def test_given_a_measurement_that_ended_early_then_it_is_normalised_as_one_of_its_length(method):
    c2 = np.full((N, N), np.nan)
    c2[:24, :24] = matrix(5, 24)
    processing = Preprocessing(normalization=method)
    ended = from_arrays([c2], [0.0], Q, 0.1, processing=processing).angle(0)
    short = from_arrays([matrix(5, 24)], [0.0], Q, 0.1, processing=processing).angle(0)
    np.testing.assert_allclose(ended.c2[:24, :24], short.c2, rtol=1e-12)
