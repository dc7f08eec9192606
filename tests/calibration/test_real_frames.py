"""Frames of a gel at a synchrotron: their noise is that of speckles, with the photons and pixels that were counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.real_frames import RINGS, correlated, fitted, frames_in

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "nipa_gel"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"needs the frames of a gel in {FOLDER}")


@pytest.fixture(scope="module")
def rings():
    """Photons counted, pixels counted, and the fit, of every ring."""
    frames = frames_in(FOLDER)
    found = []
    for ring, q in RINGS.items():
        matrices, photons, pixels = correlated(frames, ring)
        found.append((np.array(photons), np.array(pixels), fitted(matrices, q)))
    return found


def test_what_is_left_over_is_white(rings):
    for _, _, fit in rings:
        assert fit.ok and fit.noise.model == "speckle"
        np.testing.assert_allclose(fit.noise.levels, 1.0, atol=0.25)


def test_photons_by_the_diagonal_are_those_counted_and_pixels_a_common_share_of_them(rings):
    for photons, pixels, fit in rings:
        np.testing.assert_allclose(fit.noise.photons, photons, rtol=0.15)
        share = fit.noise.pixels / pixels
        assert share.min() > 0.35 and share.max() < 0.95
        assert np.ptp(share) < 0.25


def test_rings_agree_on_the_diffusion_within_their_error_bars(rings):
    values = np.array([fit.values[0] for _, _, fit in rings])
    errors = np.array([fit.robust_uncertainty[0] for _, _, fit in rings])
    mean = np.sum(values / errors**2) / np.sum(errors**-2.0)
    assert np.sum(((values - mean) / errors) ** 2) < 9.2  # 99 % of χ² on 2 degrees of freedom
