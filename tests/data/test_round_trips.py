"""What is written comes back: any size, bins, holes, triangle, type and compression, in every format."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcxpcs.data.clean import stored_half, symmetric
from hpcxpcs.data.formats import Stack, nxxpcs, open_file, write
from hpcxpcs.data.select import load
from hpcxpcs.data.twotime import from_arrays
from hpcxpcs.errors import DataError
from tests.data.stacks import Q, config_for, matrix, stack_of

GRID = [(q, phi) for q in (0.003, 0.0054, 0.02) for phi in (-170.0, -45.0, 0.0, 12.5, 90.0)]

TARGETS = ["nexus.h5", "legacy.h5", "cube.h5", "cube.npz", "nxxpcs.h5", "viewer.h5"]


@settings(max_examples=120)
@given(
    target=st.sampled_from(TARGETS),
    n=st.integers(2, 40),
    bins=st.lists(st.sampled_from(GRID), unique=True, min_size=1, max_size=len(GRID)),
    split=st.integers(0, len(GRID)),
    half=st.booleans(),
    triangle=st.sampled_from(["upper", "lower"]),
    dtype=st.sampled_from(["float32", "float64"]),
    compression=st.sampled_from(["auto", "lzf", "gzip", "none"]),
    stride=st.integers(1, 4),
)
def test_given_any_stack_then_every_matrix_comes_back_under_its_own_q_and_phi(
    target, n, bins, split, half, triangle, dtype, compression, stride
):
    present, unprocessed = (bins[: len(bins) - split], bins[len(bins) - split :]) if split < len(bins) else (bins, [])
    q, phi = zip(*present, strict=True)
    stack = stack_of(
        q,
        phi,
        n,
        half=half,
        triangle=triangle,
        dtype=dtype,
        compression=compression,
        stride=stride,
        unprocessed=unprocessed,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / target
        write(target.split(".")[0], path, stack)
        with open_file(path) as layout:
            assert layout.n_frames == n
            assert layout.dtype == dtype
            assert layout.dt == pytest.approx(0.1)
            assert sorted((info.q, info.phi) for info in layout.bins) == sorted(present)
            for info in layout.bins:
                stored = layout.read(info)
                expected = matrix(present.index((info.q, info.phi)), n)
                assert stored_half(stored) == (triangle if half else "full")
                assert np.array_equal(symmetric(stored)[0], expected)


@settings(max_examples=120)
@given(
    target=st.sampled_from(TARGETS),
    n=st.integers(11, 40),
    phi=st.lists(st.sampled_from([-170.0, -45.5, 0.0, 12.5, 90.0, 180.0]), unique=True, min_size=1),
    missing=st.lists(st.sampled_from([-100.0, 33.0]), unique=True),
    dead=st.lists(st.integers(2, 9), unique=True, max_size=1),
    end_frame=st.sampled_from([-1, 11]),
    half=st.booleans(),
    triangle=st.sampled_from(["upper", "lower"]),
    dtype=st.sampled_from(["float32", "float64"]),
    compression=st.sampled_from(["auto", "lzf", "gzip", "none"]),
    times=st.sampled_from([(1, 1, 0.1), (3, 1, 0.3), (2, 5, 1e-3), (4, 7, 28e-6)]),
)
def test_given_any_measurement_then_every_format_gives_the_same_twotime(
    target, n, phi, missing, dead, end_frame, half, triangle, dtype, compression, times
):
    c2 = [whole(k, n, dead) for k in range(len(phi) + 1)]
    stride, average, dt = times
    stack = Stack(
        c2,
        np.array([Q] * len(phi) + [0.02]),
        np.array([*phi, 0.0]),
        dt,
        stride=stride,
        average=average,
        half=half,
        triangle=triangle,
        dtype=dtype,
        compression=compression,
        unprocessed=[(Q, angle) for angle in missing],
    )
    last = n if end_frame == -1 else end_frame
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / target
        write(target.split(".")[0], path, stack)
        found = load(config_for(path, end_frame=end_frame))
        same_twotime(found, from_arrays([m[:last, :last] for m in c2[:-1]], phi, Q, dt))


@settings(max_examples=120)
@given(
    n=st.integers(9, 70),
    bins=st.integers(1, 12),
    storage=st.sampled_from(["one_array_q_first", "one_array_q_last", "data_exchange_keys"]),
    baseline=st.sampled_from([0, 1]),
    origin=st.sampled_from(["upper_left", "lower_left"]),
    half=st.booleans(),
    triangle=st.sampled_from(["upper", "lower"]),
    window=st.tuples(st.integers(1, 3), st.sampled_from([-1, 13])),
)
def test_given_any_of_the_four_attributes_of_nxxpcs_then_the_twotime_is_the_same(
    n, bins, storage, baseline, origin, half, triangle, window
):
    phi = [-150.0 + 25.0 * k for k in range(bins)]
    stack = stack_of([Q] * bins, phi, n, half=half, triangle=triangle, unprocessed=[(Q, 170.0), (Q, -170.0)])
    first, last = window[0], min(n, window[1]) if window[1] > 0 else n
    if last - first < 9:
        first, last = 1, n
    cut = slice(first - 1, last)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        nxxpcs.write(path, stack, storage=storage, baseline=baseline, origin=origin)
        found = load(config_for(path, start_frame=first, end_frame=last))
        same_twotime(found, from_arrays([matrix(k, n)[cut, cut] for k in range(bins)], phi, Q, 0.1))


def whole(seed, n, dead):
    """A symmetric matrix with rows and columns of zeros for its dead frames (from 1)."""
    c2 = matrix(seed, n)
    for frame in dead:
        c2[frame - 1, :] = c2[:, frame - 1] = 0.0
    return c2


def same_twotime(found, expected):
    """Angles in any order; q, times, matrices and masks to the last bit (dt to rounding)."""
    order = [found.phi.tolist().index(angle) for angle in expected.phi]
    assert (found.n_phi, found.n_frames, found.q) == (expected.n_phi, expected.n_frames, expected.q)
    assert found.dt == pytest.approx(expected.dt, rel=1e-12)
    np.testing.assert_allclose(found.t, expected.t, rtol=1e-12)
    for k, place in enumerate(order):
        got, wanted = found.angle(place), expected.angle(k)
        assert np.array_equal(got.c2, wanted.c2)
        assert np.array_equal(got.frame_ok, wanted.frame_ok)
        assert got.pair_ok is None


def test_given_a_failing_source_of_matrices_then_no_file_appears_and_the_old_one_stays(tmp_path):
    path = tmp_path / "a.h5"
    write("nexus", path, stack_of([0.005], [0.0]))
    before = path.read_bytes()
    with pytest.raises(DataError, match="1 matrices for 2 bins"):
        write("nexus", path, Stack([matrix(0)], np.array([0.005, 0.01]), np.zeros(2), dt=0.1))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_given_matrices_of_unequal_size_then_the_stack_is_refused(tmp_path):
    stack = Stack([matrix(0, 12), matrix(1, 13)], np.array([0.005, 0.01]), np.zeros(2), dt=0.1)
    with pytest.raises(DataError, match=r"matrix 1 has shape \(13, 13\), expected \(12, 12\)"):
        write("legacy", tmp_path / "a.h5", stack)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dt": 0.0}, "dt must be a positive number"),
        ({"dt": float("nan")}, "dt must be a positive number"),
        ({"frame_time": 0.1, "stride": 2}, "is not dt"),
    ],
)
def test_given_times_that_contradict_each_other_then_the_stack_is_refused(settings, message):
    with pytest.raises(DataError, match=message):
        stack_of([0.005], [0.0], **settings)


def test_given_fewer_angles_than_q_then_the_stack_is_refused():
    with pytest.raises(DataError, match="one entry per matrix"):
        stack_of([0.005, 0.01], [0.0])
