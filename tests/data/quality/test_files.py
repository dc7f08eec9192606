"""Quality of files: good ones of every format and kind of noise, and what only a file can tell."""

from __future__ import annotations

import numpy as np
import pytest

import hpcxpcs
from hpcxpcs.config import load_config
from hpcxpcs.data.formats import FORMATS
from hpcxpcs.data.formats.nexus import FRAME_MEANS, MEAN_IMAGE, PIXEL_MAP
from hpcxpcs.data.quality.photons import counted, photon_sigma, pixel_counts
from hpcxpcs.data.quality.report import examine
from hpcxpcs.data.quality.survey import EXCELLENT
from hpcxpcs.data.simulate import NoiseSpec
from tests.data.stacks import edited


def simulated(folder, model="laminar_flow", **settings):
    """A simulated file of a model with its configuration, and the record of it."""
    spec = {"angles": 8, "frames": 100, "seed": 4, **settings}
    config = folder / "a.yaml"
    hpcxpcs.simulate(hpcxpcs.SimulationSpec(model, output=folder / "a.hdf", config=config, **spec))
    return hpcxpcs.load(load_config(config))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("model", ["static", "laminar_flow", "two_component"])
def test_given_a_good_file_of_any_format_and_model_then_it_is_excellent(name, model, tmp_path):
    report = examine(simulated(tmp_path, model, format=name), "comprehensive", shear=model == "laminar_flow")
    assert report.score >= EXCELLENT, report.deductions


@pytest.mark.parametrize("noise", ["iid", "frame", "photon"])
@pytest.mark.parametrize("seed", [1, 2])
def test_given_any_noise_then_a_good_file_is_excellent_and_shared_noise_is_told(noise, seed, tmp_path):
    spread = {"offset_spread": 0.0} if noise == "photon" else {}
    record = simulated(tmp_path, angles=4, frames=150, noise=NoiseSpec(noise), seed=seed, **spread)
    report = examine(record, "comprehensive", shear=True)
    assert report.score >= EXCELLENT, report.deductions
    told = "frame_noise" in {item.check for item in report.deductions}
    assert told == (noise == "frame") or noise == "photon"


def test_given_bins_without_a_matrix_then_they_are_counted(tmp_path):
    record = simulated(tmp_path, missing_bins=(3, 6), extra_q=1)
    (item,) = [item for item in examine(record, "basic").deductions if item.check == "missing_bins"]
    assert item.value == pytest.approx(2 / 8) and item.stage == "filtered"


@pytest.fixture
def photons(tmp_path):
    """A file made of photons, and the folder; its bins have 400 pixels."""
    noise = NoiseSpec("photon", photons=0.2, pixels=400)
    return simulated(tmp_path, "static", angles=3, frames=120, noise=noise, offset_spread=0.0), tmp_path / "a.hdf"


def with_pixels(path, count):
    """Give every bin so many pixels in the file's map; with None the file has no map."""
    with edited(path) as file:
        del file[PIXEL_MAP]
        if count is not None:
            file[PIXEL_MAP] = np.repeat(np.arange(4, dtype=np.uint8), count).reshape(4, count)


@pytest.mark.parametrize(("pixels", "suspected"), [(400, False), (8000, True), (20, True), (None, False)])
def test_given_a_pixel_map_then_the_noise_is_compared_with_that_of_the_photons(photons, pixels, suspected):
    _, path = photons
    with_pixels(path, pixels)
    record = hpcxpcs.load(load_config(path.with_suffix(".yaml")))
    assert pixel_counts(path, (1, 2, 3)) == (None if pixels is None else (pixels,) * 3)
    checks = {item.check for item in examine(record, "comprehensive").deductions}
    assert ("photon_noise" in checks) == suspected


def test_given_mean_counts_then_photons_pixels_and_brightness_are_told_by_angle_and_frame(photons):
    record, path = photons
    told = counted(record)
    np.testing.assert_allclose(told.photons, 0.2, rtol=1e-6)
    np.testing.assert_array_equal(told.pixels, 400.0)
    np.testing.assert_allclose(told.drift, np.ones((3, 120)))
    with edited(path) as file:
        file[MEAN_IMAGE] = 0.1 * file[PIXEL_MAP][()][None].astype(np.float32)
        file[FRAME_MEANS][1, :] = np.linspace(0.1, 0.3, 120)
    config = load_config(path.with_suffix(".yaml"))
    told = counted(hpcxpcs.load(config))
    np.testing.assert_allclose(told.photons * told.drift.mean(axis=1), [0.1, 0.2, 0.3], rtol=1e-6)
    assert told.drift[0, -1] / told.drift[0, 0] == pytest.approx(3.0)
    assert np.mean(1.0 / told.drift[0]) == pytest.approx(1.0)
    with_pixels(path, None)
    assert counted(hpcxpcs.load(config)) is None


def test_given_no_shot_noise_on_the_diagonal_then_photons_say_nothing():
    assert photon_sigma(0.0, 0.1, 100) is None
    assert photon_sigma(-0.1, 0.1, 100) is None
    assert photon_sigma(1.0, 0.0, 100) == pytest.approx(0.1)
