"""What `simulate` writes is read back to the same measurement, whatever the layout and however it is stored."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcxpcs
from hpcxpcs.data.formats import open_file
from hpcxpcs.data.select import load
from hpcxpcs.data.simulate import noise_spec
from tests.data.stacks import config_for

TARGETS = ["nexus.h5", "legacy.h5", "cube.h5", "cube.npz", "nxxpcs.h5", "viewer.h5"]
Q = 0.0054
QUIET = noise_spec("iid", sd=0.01, frame_sd=None, photons=None, pixels=None)


def written(spec, folder, name, **changes):
    """The measurement in a file that simulate has just written."""
    path = folder / name
    hpcxpcs.simulate(replace(spec, output=path, format=name.split(".")[0], **changes))
    return path, load(config_for(path, wavevector_q=Q))


@settings(max_examples=40, deadline=None)
@given(
    target=st.sampled_from(TARGETS),
    frames=st.sampled_from([12, 17, 40]),
    angles=st.sampled_from([1, 3, 8]),
    missing=st.sets(st.sampled_from([1, 2, 5, 9]), max_size=2),
    extra_q=st.sampled_from([0, 1]),
    half=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    compression=st.sampled_from(["auto", "lzf", "gzip", "none"]),
    dead=st.sampled_from([(), (4,)]),
    seed=st.integers(0, 3),
)
def test_given_anything_simulated_then_every_layout_is_read_back_to_the_same_measurement(
    target, frames, angles, missing, extra_q, half, dtype, compression, dead, seed
):
    bins = angles * (1 + extra_q)
    gone = tuple(sorted(number for number in missing if number <= bins))
    if set(range(1, angles + 1)) <= set(gone):
        gone = ()
    spec = hpcxpcs.SimulationSpec(
        "static", angles=angles, frames=frames, q=Q, noise=QUIET, extra_q=extra_q, missing_bins=gone,
        dead_frames=dead, dtype=dtype, seed=seed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, found = written(spec, folder, target, half=half, compression=compression)
        _, expected = written(spec, folder, "cube.reference.npz", half=False, compression="none")
        with open_file(path) as layout:
            assert layout.dtype == dtype
        assert (found.n_phi, found.n_frames, found.q) == (expected.n_phi, expected.n_frames, expected.q)
        assert found.dt == pytest.approx(expected.dt, rel=1e-12)
        order = [found.phi.tolist().index(angle) for angle in expected.phi]
        for k, place in enumerate(order):
            got, wanted = found.angle(place), expected.angle(k)
            np.testing.assert_array_equal(got.c2, wanted.c2)
            np.testing.assert_array_equal(got.frame_ok, wanted.frame_ok)
            assert got.frame_ok.sum() == frames - 1 - len(dead)
