"""I(q), I(t) and partial g2 of result files, and the verdict: each change is seen, and noise is none."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from hpcxpcs.errors import FormatError
from hpcxpcs.frames.correlate import CorrelatorSettings, correlate
from hpcxpcs.frames.scattering import read_scattering, stability_of, table_of
from hpcxpcs.results.drawing import png
from hpcxpcs.results.scattering_plots import saxs_picture, stability_picture
from tests.frames.detectors import SHAPE, partition, saved_frames, saved_partition

N = 400
COARSE = partition(q={"bins": 2, "static_bins": 2}, phi={"bins": 1})


def result(folder, level):
    """The result of independent photons, `level` (N, H, W) on average."""
    frames = np.random.default_rng(3).poisson(level).astype(np.uint16)
    path = saved_frames(folder / "frames.h5", frames)
    correlate(path, saved_partition(folder, COARSE), folder / "result.hdf", CorrelatorSettings())
    return folder / "result.hdf"


def words(path):
    verdict = stability_of(read_scattering(path))
    return verdict.verdict, {one.name: one.word for one in verdict.findings}


def ramp(amount):
    return (2.0 * (1.0 + amount * np.linspace(-0.5, 0.5, N)))[:, None, None] * np.ones(SHAPE)


def test_given_photon_noise_alone_then_all_is_stable(tmp_path):
    verdict, found = words(result(tmp_path, ramp(0.0)))
    assert verdict == "stable" and set(found.values()) == {"stable"}


def test_given_a_fading_beam_then_the_intensity_changes_and_the_shape_does_not(tmp_path):
    verdict, found = words(result(tmp_path, ramp(-0.3)))
    assert verdict == "changes"
    assert found["intensity"] == "changes" and found["shape of I(q)"] == "stable"
    finding = stability_of(read_scattering(tmp_path / "result.hdf")).findings[0]
    assert finding.value == pytest.approx(-0.3, abs=0.02) and f"{finding.value:+.2%}" in finding.text


def test_given_a_bin_that_brightens_then_the_shape_changes(tmp_path):
    level = ramp(0.0)
    level[:, COARSE.static.labels == 1] *= np.linspace(0.8, 1.2, N)[:, None]
    _, found = words(result(tmp_path, level))
    assert found["shape of I(q)"] == "changes"


def test_given_speckles_that_stay_for_half_of_the_time_then_the_shape_is_stable(tmp_path):
    rng = np.random.default_rng(1)
    early = (np.arange(N) < N // 2)[:, None, None]
    first, second = rng.exponential(size=(2, *SHAPE))
    path = result(tmp_path, 20.0 * np.where(early, first, second))
    finding = stability_of(read_scattering(path)).findings[1]
    assert finding.word == "stable" and finding.error > 0.1


def test_given_dynamics_that_begin_then_g2_of_blocks_changes(tmp_path):
    rng = np.random.default_rng(0)
    still, moving = rng.exponential(size=SHAPE), rng.exponential(size=(N, *SHAPE))
    early = (np.arange(N) < N // 2)[:, None, None]
    _, found = words(result(tmp_path, 2.0 * np.where(early, still, moving)))
    assert found["g2 of blocks"] == "changes"


def test_given_a_file_without_blocks_then_what_cannot_be_judged_is_unknown(tmp_path):
    path = result(tmp_path, ramp(0.0))
    with h5py.File(path, "r+") as file:
        del file["xpcs/multitau"], file["xpcs/temporal_mean/scattering_1d_segments"], file["xpcs/spatial_mean"]
    verdict, found = words(path)
    assert verdict == "unknown" and set(found.values()) == {"unknown"}


def test_given_a_result_then_i_of_q_is_the_mean_of_its_bins_in_text_and_pictures(tmp_path):
    path = result(tmp_path, ramp(0.0))
    found = read_scattering(path)
    q, mean = found.profile(found.intensity)
    np.testing.assert_allclose(q, COARSE.static.centres("q"))
    np.testing.assert_allclose(mean, 2.0, rtol=0.02)
    rows = [line.split() for line in table_of(found).splitlines() if not line.startswith("#")]
    np.testing.assert_allclose(np.array(rows, dtype=float)[:, :2], np.stack([q, mean], axis=1), rtol=1e-6)
    assert len(rows[0]) == 12
    for figure in (saxs_picture(found), stability_picture(found, stability_of(found))):
        assert png(figure).startswith(b"\x89PNG")


def test_given_the_legacy_layout_then_its_means_are_read(tmp_path):
    with h5py.File(tmp_path / "old.hdf", "w") as file:
        file["exchange/partition-mean-total"] = np.ones((1, 4))
        file["exchange/partition-mean-partial"] = np.ones((10, 4))
        file["exchange/frameSum"] = np.stack([np.arange(100), np.ones(100)])
        file["xpcs/sqlist"], file["xpcs/sphilist"] = [[0.01, 0.01, 0.02, 0.02]], [[0.0, 90.0, 0.0, 90.0]]
    found = read_scattering(tmp_path / "old.hdf")
    assert found.profile(found.intensity)[0].tolist() == [0.01, 0.02]
    assert stability_of(found).verdict == "stable"


def test_given_bins_that_do_not_belong_to_the_intensities_then_the_file_is_refused(tmp_path):
    path = result(tmp_path, ramp(0.0))
    with h5py.File(path, "r+") as file:
        del file["xpcs/temporal_mean/scattering_1d"]
        file["xpcs/temporal_mean/scattering_1d"] = np.ones((1, 5))
    with pytest.raises(FormatError, match="5 mean intensities for 2 static bins"):
        read_scattering(path)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("xpcs/spatial_mean/intensity_vs_time", np.ones(9), "I\\(t\\) has another shape"),
        ("xpcs/temporal_mean/scattering_2d", np.ones(9), "mean image has another shape"),
        ("xpcs/multitau/normalized_g2_partial_err", np.ones(9), "g2 of blocks has another shape"),
    ],
)
def test_given_arrays_of_other_shapes_then_the_file_is_refused(name, values, words, tmp_path):
    path = result(tmp_path, ramp(0.0)[:40])
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = values
    with pytest.raises(FormatError, match=words):
        read_scattering(path)


def test_given_a_file_without_intensities_then_it_is_said_where_they_would_be(tmp_path):
    h5py.File(tmp_path / "empty.hdf", "w").close()
    with pytest.raises(FormatError, match="has no mean intensities at /xpcs/temporal_mean"):
        read_scattering(tmp_path / "empty.hdf")
