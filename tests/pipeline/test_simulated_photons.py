"""Photons on speckle: what `simulate` draws, and where its nexus files say how many photons and pixels there were."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import hpcxpcs
from hpcxpcs.cli import main
from hpcxpcs.data.simulate import NoiseSpec


def test_given_photons_that_drift_then_the_file_says_how_many_there_were_per_pixel_frame_and_bin(tmp_path):
    path = tmp_path / "x.hdf"
    noise = ["--noise-model", "photon", "--photons", "2", "--pixels", "300", "--photon-drift", "0.5"]
    asked = ["static", "-o", str(path), "--angles", "3", "--frames", "21", "--dead-frames", "4", *noise]
    assert main(["simulate", *asked]) == 0
    with h5py.File(path) as file:
        frames, counts = file["xpcs/spatial_mean/intensity_vs_time"][()]
        by_bin = file["xpcs/temporal_mean/scattering_1d"][()]
        labels = file["xpcs/qmap/dynamic_roi_map"][()]
        same = file["xpcs/qmap/static_roi_map"][()]
        diagonal = np.diagonal(file["xpcs/twotime/correlation_map/c2_00001"][()])
    alive = np.arange(21) != 3
    np.testing.assert_array_equal(frames, np.arange(21))
    np.testing.assert_allclose(counts[alive], np.linspace(1.5, 2.5, 21)[alive], rtol=1e-6)
    assert counts[3] == 0.0
    np.testing.assert_allclose(by_bin, np.full((1, 3), counts.mean()), rtol=1e-6)
    assert [int(np.sum(labels == label)) for label in (1, 2, 3)] == [300, 300, 300] and labels.max() == 3
    np.testing.assert_array_equal(labels, same)
    # On the diagonal the shot noise of n photons adds 1/n to contrast and offset: fewer photons, more of it.
    excess = diagonal[alive] - 1.15
    assert np.polyfit(1.0 / counts[alive], excess, 1)[0] == pytest.approx(1.0, abs=0.35)


def test_given_noise_without_photons_then_the_file_says_nothing_of_them(tmp_path):
    path = tmp_path / "x.hdf"
    hpcxpcs.simulate(hpcxpcs.SimulationSpec("static", output=path, angles=2, frames=10))
    with h5py.File(path) as file:
        assert "xpcs/temporal_mean" not in file and "dynamic_roi_map" not in file["xpcs/qmap"]


@pytest.mark.parametrize("format", ["nexus", "legacy", "cube", "nxxpcs", "viewer"])
def test_given_larger_speckles_then_every_layout_is_read_back(format, tmp_path):
    noise = NoiseSpec("photon", photons=5.0, pixels=500, speckle_size=2.0)
    path = tmp_path / f"x.{format}.hdf"
    config, shape = tmp_path / "x.yaml", {"angles": 2, "frames": 12, "offset_spread": 0.0}
    hpcxpcs.simulate(hpcxpcs.SimulationSpec("static", output=path, config=config, format=format, noise=noise, **shape))
    data = hpcxpcs.load(config)
    assert data.n_phi == 2 and np.all(np.isfinite(data.angle(0).c2))


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [("--speckle-size", "9", "0 (independent pixels) to 8"), ("--photon-drift", "2", "between -2 and 2")],
)
def test_given_what_no_detector_sees_then_refused_with_the_range(option, value, reason, tmp_path, capfd):
    asked = ["simulate", "static", "-o", str(tmp_path / "x.hdf"), "--noise-model", "photon", option, value]
    assert main(asked) != 0
    assert reason in capfd.readouterr().err


def test_given_speckles_without_photons_then_refused(tmp_path, capfd):
    assert main(["simulate", "static", "-o", str(tmp_path / "x.hdf"), "--speckle-size", "2"]) != 0
    assert "speckle_size" in capfd.readouterr().err
