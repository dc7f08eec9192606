"""Frames of a gel at a synchrotron: rings at the q that is known of them, light as counted, g2 that decays."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from hpcxpcs.frames.correlate import CorrelatorSettings, correlate
from hpcxpcs.frames.recipes import build_mask, build_partition
from hpcxpcs.frames.scattering import read_scattering, stability_of
from hpcxpcs.frames.schemas import read_partition

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "nipa_gel"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs the frames of a gel in {FOLDER}")

GEOMETRY = """
shape: [256, 256]
bcx: 143
bcy: 132
det_dist: 2230 mm
pix_dim: 0.108 mm
lambda_: 1.546 Å
"""
RADII = ((30, 38, 0.0067, 9.0), (38, 48, 0.0085, 0.8), (54, 68, 0.0120, 0.6))
"""Of rings in pixels, the q (1/Å) that the frames' page states, and photons per pixel and frame."""


@pytest.fixture(scope="module")
def rings(tmp_path_factory):
    """The partition and the result of every ring, in six sectors."""
    folder = tmp_path_factory.mktemp("gel")
    (stack,) = FOLDER.glob("*.npy.zip")
    (folder / "geometry.yaml").write_text(GEOMETRY)
    (folder / "mask.yaml").write_text(
        f"image: {stack}\nqmap: geometry.yaml\noperations:\n  - threshold: {{low: 0.02, high: 60}}\n"
        "  - rectangle: {columns: [142, 144], rows: [0, 255]}\n"
    )
    build_mask(folder / "mask.yaml", folder / "mask.h5", str)
    found = []
    for inner, outer, _, _ in RADII:
        low, high = (float(2 * np.pi / 1.546 * np.arctan(radius * 0.108 / 2230)) for radius in (inner, outer))
        recipe = f"qmap: geometry.yaml\nmask: mask.h5\nphi: {{bins: 6}}\nq: {{bins: 1, static_bins: {outer - inner}, "
        (folder / "partition.yaml").write_text(f"{recipe}min: {low!r}, max: {high!r}}}\n")
        build_partition(folder / "partition.yaml", folder / "partition.h5", str)
        correlate(stack, folder / "partition.h5", folder / f"{inner}.hdf", CorrelatorSettings(frame_time=1.30068e-3))
        found.append((read_partition(folder / "partition.h5"), folder / f"{inner}.hdf"))
    return found


def test_rings_are_at_the_q_that_is_stated(rings):
    for (made, _), (_, _, q, _) in zip(rings, RADII, strict=True):
        assert made.dynamic.centres("q") == pytest.approx(q, rel=0.02)
        assert made.dynamic.count == 6


def test_photons_are_those_counted(rings):
    for (_, path), (_, _, _, photons) in zip(rings, RADII, strict=True):
        found = read_scattering(path)
        assert np.median(found.intensity) == pytest.approx(photons, rel=0.4)


def test_g2_begins_with_the_contrast_and_decays(rings):
    for _, path in rings:
        with h5py.File(path) as file:
            g2 = np.mean(file["xpcs/twotime/normalized_g2"], axis=1)
            slow = np.mean(file["xpcs/multitau/normalized_g2"], axis=1)
            delays = file["xpcs/multitau/delay_list"][()]
        assert 0.08 < g2[1:4].mean() - 1 < 0.2
        assert g2[40:60].mean() - 1 < 0.75 * (g2[1:4].mean() - 1)
        np.testing.assert_allclose(slow[delays < 20], g2[delays[delays < 20]], atol=0.02)


def test_the_gel_was_stable(rings):
    for _, path in rings:
        words = {one.name: one.word for one in stability_of(read_scattering(path)).findings}
        assert set(words.values()) == {"stable"}
