"""Simulated frames: rings and sectors where the geometry says, with the photons, contrast and decay put in."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from hpcxpcs.data.formats import read_truth
from hpcxpcs.data.simulate import NoiseSpec
from hpcxpcs.errors import ConfigError
from hpcxpcs.frames.correlate import CorrelatorSettings, correlate
from hpcxpcs.frames.mask import MaskRecipe, Scene, build
from hpcxpcs.frames.partition import PartitionRecipe, partition_of
from hpcxpcs.frames.recipes import read_maps
from hpcxpcs.frames.schemas import read_partition, write_partition
from hpcxpcs.frames.simulate import detector_of
from hpcxpcs.frames.stack import read_image
from hpcxpcs.physics.model import build_model
from hpcxpcs.pipeline.simulate import SimulationSpec, result_path, simulate

SPEC = {
    "model": "static", "parameters": {"D0": 3e4, "alpha": 0.0, "D_offset": 0.0}, "frames": 60,
    "phi": (-60.0, 60.0, 180.0), "extra_q": 2,
    "format": "frames", "contrast": 0.3, "contrast_spread": 0.0, "dead_frames": (5,), "dt": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Three rings at three angles; the bin of the lowest q and angle is dark."""
    path = tmp_path_factory.mktemp("frames") / "frames.h5"
    noise = NoiseSpec("photon", photons=2.0, pixels=1500)
    config = path.with_suffix(".yaml")
    return simulate(SimulationSpec(noise=noise, missing_bins=(1,), output=path, config=config, **SPEC))


@pytest.fixture(scope="module")
def result(frames):
    """What the chain makes of them, with logarithmic bins between the rings."""
    maps = read_maps(frames)
    operations = MaskRecipe.model_validate({"operations": [{"threshold": {"low": 1e-6}}]}).operations
    scene = Scene(maps.mask.shape, image=read_image(frames))
    mask, _ = build([line.operation for line in operations], scene)
    q = 0.0054
    bins = {"bins": 3, "static_bins": 6, "spacing": "log", "min": q * 1.3**-1.5, "max": q * 1.3**1.5}
    recipe = PartitionRecipe.model_validate({"qmap": "-", "q": bins, "phi": {"bins": 3, "offset": "60 deg"}})
    place = frames.with_name("partition.h5")
    write_partition(place, partition_of(recipe, maps, mask), maps, "log")
    correlate(frames, place, result_path(frames), CorrelatorSettings())
    return read_partition(place), result_path(frames)


def test_given_rings_then_bins_are_at_their_q_and_angles_and_the_dark_one_has_no_pixels(result):
    made, _ = result
    assert made.dynamic.count == 8 and made.dynamic.natural.size == 8
    rings = np.unique(made.dynamic.centres("q").round(7))
    np.testing.assert_allclose(rings, (0.0054 * 1.3 ** np.arange(-1.0, 2.0)).round(7))
    assert set(made.dynamic.centres("phi").round(6)) == {-60.0, 60.0, 180.0}
    own = made.dynamic.pixels[np.isclose(made.dynamic.centres("q"), 0.0054)]
    np.testing.assert_allclose(own, 1500, rtol=0.05)


def test_given_speckle_then_every_bin_has_the_contrast_decay_and_photons_of_the_truth(frames, result):
    made, path = result
    truth = read_truth(frames)
    theta = np.array(list(truth["parameters"].values()))
    lags = np.array([1, 5, 20])
    with h5py.File(path) as file:
        for label, q in enumerate(made.dynamic.centres("q"), start=1):
            c2 = file[f"xpcs/twotime/correlation_map/c2_{label:05d}"][()]
            assert not c2[4].any()
            values = [np.mean([one for one in c2.diagonal(lag) if one > 0]) - 1 for lag in lags]
            model = build_model("static", q=float(q), gap=2e6)
            expected = 0.3 * np.array([float(model.shape(theta, 0.0, 0.1 * lag, 0.0)) for lag in lags])
            np.testing.assert_allclose(values, expected, atol=0.03)
        np.testing.assert_allclose(file["xpcs/temporal_mean/scattering_1d"], 2.0 * 59 / 60, rtol=0.06)


def test_given_the_same_seed_then_frames_are_the_same_and_others_are_not(frames, tmp_path):
    noise = NoiseSpec("photon", photons=2.0, pixels=1500)
    with h5py.File(frames) as file:
        first = file["entry/data/data"][()]
    for seed, same in ((0, True), (1, False)):
        path = tmp_path / f"{seed}.h5"
        simulate(SimulationSpec(noise=noise, missing_bins=(1,), output=path, seed=seed, **SPEC))
        with h5py.File(path) as file:
            assert np.array_equal(file["entry/data/data"], first) == same


@pytest.mark.parametrize(
    ("noise", "more", "words"),
    [
        (NoiseSpec("iid"), {}, "--noise-model photon"),
        (NoiseSpec("photon", speckle_size=2.0, pixels=100), {}, "--speckle-size 0"),
        (NoiseSpec("photon", pixels=100), {"q": 5.0}, "more than 45 degrees"),
        (NoiseSpec("photon", pixels=10**7), {}, "take fewer"),
        (NoiseSpec("photon", photons=1e5, pixels=100), {}, "16 bits"),
    ],
)
def test_given_what_frames_cannot_show_then_it_is_refused_and_nothing_is_written(noise, more, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        simulate(SimulationSpec(noise=noise, output=tmp_path / "a.h5", **{**SPEC, **more}))
    assert not list(tmp_path.iterdir())


def test_given_a_detector_then_the_ring_at_q_has_the_pixels_asked_for():
    geometry = detector_of(0.0054, 0.0054, 10, 1000)
    assert geometry.det_dist > 0 and geometry.shape[0] == geometry.shape[1] == 2 * int(geometry.bcx) + 1
