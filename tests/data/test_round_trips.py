"""What is written comes back: any size, bins, holes, triangle, type and compression, in every format."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcxpcs.data.clean import stored_half, symmetric
from hpcxpcs.data.formats import Stack, open_file, write
from hpcxpcs.errors import DataError
from tests.data.stacks import matrix, stack_of

GRID = [(q, phi) for q in (0.003, 0.0054, 0.02) for phi in (-170.0, -45.0, 0.0, 12.5, 90.0)]


@settings(max_examples=60)
@given(
    target=st.sampled_from(["nexus.h5", "legacy.h5", "cube.h5", "cube.npz"]),
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
    present, unprocessed = (
        (bins[: len(bins) - split], bins[len(bins) - split :]) if split < len(bins) else (bins, [])
    )
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
