"""The correlator against plain NumPy definitions, from every kind of file, in blocks, and what it refuses."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from hpcxpcs.config import config_from_mapping
from hpcxpcs.data.formats import open_file
from hpcxpcs.data.quality.photons import counted
from hpcxpcs.data.select import load
from hpcxpcs.data.simulate import normalised_correlation
from hpcxpcs.errors import ConfigError, DataError, FormatError, HpcxpcsError, SelectionError
from hpcxpcs.frames import stack as stacks
from hpcxpcs.frames.correlate import CorrelatorSettings, correlate
from hpcxpcs.frames.products import delays_of, multi_tau
from hpcxpcs.frames.schemas import read_partition
from tests.frames.detectors import SHAPE, counts, saved_frames, saved_partition

FRAMES = counts()
FRAMES[6] = 0
LABELS = 6
"""Bins of the usual partition."""


def run(folder, frames=FRAMES, **settings):
    path = frames if not isinstance(frames, np.ndarray) else saved_frames(folder / "frames.h5", frames)
    done = correlate(path, saved_partition(folder), folder / "result.hdf", CorrelatorSettings(**settings))
    return folder / "result.hdf", done


def contents(path):
    with h5py.File(path) as file:
        names = []
        file.visit(names.append)
        return {name: np.asarray(file[name][()]) for name in names if isinstance(file[name], h5py.Dataset)}


def plain_two_time(light, static, smoothing):
    """C2 by its definition, double precision, a pixel at a time."""
    light = light.astype(np.float64)
    groups = {"sqmap": static, "dqmap": np.zeros_like(static)}.get(smoothing)
    if groups is not None:
        for label in np.unique(groups):
            mean = light[:, groups == label].mean(axis=1, keepdims=True)
            light[:, groups == label] /= np.where(mean > 0, mean, 1.0)
    return normalised_correlation(light @ light.T, light.sum(axis=1), light.shape[1])


@pytest.mark.parametrize("smoothing", ["sqmap", "dqmap", "none"])
def test_given_frames_then_c2_is_its_plain_definition_to_rounding(smoothing, tmp_path):
    path, done = run(tmp_path, smoothing=smoothing)
    made = read_partition(tmp_path / "partition.h5")
    assert (done.bins, done.frames, done.dead) == (LABELS, len(FRAMES), (7,))
    for label in range(1, LABELS + 1):
        inside = made.dynamic.labels == label
        expected = plain_two_time(FRAMES[:, inside], made.static.labels[inside], smoothing)
        stored = contents(path)[f"xpcs/twotime/correlation_map/c2_{label:05d}"]
        assert stored.dtype == np.float32
        np.testing.assert_allclose(stored, np.triu(expected), rtol=3e-6, atol=1e-9)
        assert not stored[6].any() and not stored[:, 6].any()


def plain_g2(light, static, delay, alive):
    """g2 at one delay by its definition: averages of frames, pairs of them, static bins weighted by pixels."""
    size = 1
    while delay // size > 8:
        size *= 2
    count = len(light) // size
    average = light[: count * size].reshape(count, size, -1).mean(axis=1)
    kept = alive[: count * size].reshape(count, size).all(axis=1)
    lag = delay // size
    pairs = [(t, t + lag) for t in range(count - lag) if kept[t] and kept[t + lag]]
    first, second = (average[[pair[k] for pair in pairs]] for k in (0, 1))
    if not pairs:
        return 0.0
    total = 0.0
    for label in np.unique(static):
        own = static == label
        ratio = (first * second)[:, own].mean() / (first[:, own].mean() * second[:, own].mean())
        total += own.sum() * ratio
    return total / len(static)


def test_given_frames_then_g2_is_its_plain_definition_to_rounding(tmp_path):
    path, _ = run(tmp_path)
    made, found = read_partition(tmp_path / "partition.h5"), contents(path)
    delays, alive = found["xpcs/multitau/delay_list"], np.arange(len(FRAMES)) != 6
    assert delays.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56]
    for label in range(1, LABELS + 1):
        inside = made.dynamic.labels == label
        light, static = FRAMES[:, inside].astype(float), made.static.labels[inside]
        expected = [plain_g2(light, static, delay, alive) for delay in delays]
        np.testing.assert_allclose(found["xpcs/multitau/normalized_g2"][:, label - 1], expected, rtol=3e-6)
        early = [plain_g2(light[:12], static, delay, alive[:12]) for delay in (1, 2, 3, 8)]
        np.testing.assert_allclose(
            found["xpcs/multitau/normalized_g2_partial"][0, [0, 1, 2, 7], label - 1], early, rtol=3e-6
        )
    assert np.all((found["xpcs/multitau/normalized_g2_err"] > 0) == (found["xpcs/multitau/normalized_g2"] > 0))
    blocks = found["xpcs/multitau/normalized_g2_partial"]
    assert blocks.shape == (5, len(delays), LABELS)
    assert not blocks[:, delays > 11].any() and not found["xpcs/multitau/normalized_g2_partial_err"][:, 9:].any()


def test_given_many_measurements_then_the_error_of_g2_is_their_scatter():
    rng, frames, pixels, modes = np.random.default_rng(0), 40, 100, 10
    root = np.linalg.cholesky(np.exp(-np.abs(np.subtract.outer(np.arange(frames), np.arange(frames))) / 10.0))
    static, delays = np.repeat(np.arange(4), pixels // 4), delays_of(frames)
    found = []
    for _ in range(60):
        fields = (root @ rng.standard_normal((frames, 2 * modes * pixels))).reshape(frames, 2 * modes, pixels)
        light = rng.poisson(3.0 * 0.5 / modes * (fields**2).sum(axis=1)).astype(np.float32)
        found.append(multi_tau(light, static, delays, np.ones(frames, dtype=bool)))
    values, errors = (np.array([getattr(one, name) for one in found]) for name in ("g2", "error"))
    ratio = values.std(axis=0, ddof=1) / np.sqrt((errors**2).mean(axis=0))
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.1)


def test_given_a_result_then_means_pixels_and_photons_are_those_of_the_frames(tmp_path):
    path, done = run(tmp_path)
    made, found = read_partition(tmp_path / "partition.h5"), contents(path)
    image = np.where(made.mask, FRAMES.mean(axis=0), 0.0)
    np.testing.assert_allclose(found["xpcs/temporal_mean/scattering_2d"][0], image, rtol=1e-6)
    static = [FRAMES[:, made.static.labels == k + 1].mean() for k in range(made.static.count)]
    np.testing.assert_allclose(found["xpcs/temporal_mean/scattering_1d"][0], static, rtol=1e-6)
    assert found["xpcs/temporal_mean/scattering_1d_segments"].shape == (10, made.static.count)
    np.testing.assert_allclose(
        found["xpcs/spatial_mean/intensity_vs_time"], [np.arange(64), FRAMES[:, made.mask].mean(axis=1)], rtol=1e-6
    )
    assert found["xpcs/twotime/normalized_g2_segments"].shape == (12, 5, LABELS)
    assert done.photons == pytest.approx((min(static), max(static)))
    np.testing.assert_array_equal(found["xpcs/qmap/dynamic_roi_map"], made.dynamic.labels)


def test_given_a_result_then_the_program_reads_bins_time_step_pixels_and_photons(tmp_path):
    path, _ = run(tmp_path, average=2, stride=2)
    made = read_partition(tmp_path / "partition.h5")
    with open_file(path) as layout:
        assert (layout.format, layout.n_frames, layout.dt) == ("nexus", 16, pytest.approx(0.04))
        np.testing.assert_allclose([bin_.q for bin_ in layout.bins], made.dynamic.centres("q"))
        np.testing.assert_allclose([bin_.phi for bin_ in layout.bins], made.dynamic.centres("phi"))
    q = float(made.dynamic.centres("q")[0])
    settings = {
        "analysis_mode": "static",
        "experimental_data": {"file_path": str(path)},
        "analyzer_parameters": {"scattering": {"wavevector_q": q}},
    }
    told = counted(load(config_from_mapping(settings)))
    np.testing.assert_array_equal(told.pixels, made.dynamic.pixels[:3])
    raw = FRAMES[::2]
    expected = [2 * raw[:, made.dynamic.labels == k + 1].mean() for k in range(3)]
    np.testing.assert_allclose(told.photons, expected, rtol=1e-5)


def test_given_small_or_dark_static_bins_then_what_they_do_is_noted(tmp_path):
    _, done = run(tmp_path)
    (small,) = done.doubts
    assert small.startswith("6 of 18 static bins have fewer than 20 pixels")
    dark = np.minimum(FRAMES, 1) * (np.arange(25) % 9 == 0).astype(np.uint16)
    assert "18 of 18 static bins have fewer than 10 photons per frame" in run(tmp_path, dark)[1].doubts[1]
    assert run(tmp_path, dark, smoothing="dqmap")[1].doubts == ()


def same(first, second):
    assert first.keys() == second.keys()
    for name, values in first.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, second[name], rtol=2e-6, err_msg=name)
        elif values.dtype.kind in "iu":
            np.testing.assert_array_equal(values, second[name], err_msg=name)


def sparse(path, frames):
    flat = frames.reshape(len(frames), -1)
    frame, index = np.nonzero(flat)
    with h5py.File(path, "w") as file:
        file["entry/data/frame_ptr"] = np.searchsorted(frame, np.arange(len(frames) + 1))
        file["entry/data/index"], file["entry/data/intensity"] = index.astype("u4"), flat[frame, index]
        file["entry/data"].attrs["shape"] = frames.shape[1:]
    return path


def test_given_other_files_blocks_threads_or_less_memory_then_the_result_is_the_same(tmp_path, monkeypatch):
    usual = contents(run(tmp_path)[0])
    np.save(tmp_path / "frames.npy", FRAMES)
    np.savez(tmp_path / "frames.npz", any_name=FRAMES.astype(np.float32))
    sparse(tmp_path / "sparse.h5", FRAMES)
    saved_frames(tmp_path / "elsewhere.h5", FRAMES, "a/b")
    for name, more in {
        "frames.npy": {},
        "frames.npz": {},
        "sparse.h5": {"threads": 3},
        "elsewhere.h5": {"dataset": "a/b", "memory": 4 * 64 * 200},
    }.items():
        same(usual, contents(run(tmp_path, tmp_path / name, frame_time=0.01, **more)[0]))
    monkeypatch.setattr(stacks, "BLOCK_BYTES", 1)
    same(usual, contents(run(tmp_path)[0]))


def test_given_a_window_stride_and_average_then_frames_are_those(tmp_path):
    path, _ = run(tmp_path, first=3, last=52, stride=2, average=3, smoothing="none")
    other = tmp_path / "other"
    other.mkdir()
    picked = FRAMES[2:50:2].astype(np.uint32).reshape(8, 3, *SHAPE).sum(axis=1)
    expected, _ = run(other, picked, smoothing="none")
    name = "xpcs/twotime/correlation_map/c2_00003"
    first, second = (contents(one)[name] for one in (path, expected))
    np.testing.assert_allclose(first[1:, 1:], second[1:, 1:], rtol=2e-6)  # one of the first three is dead
    assert not first[0].any() and second[0].any()


def spoiled(value, dtype=None, frame=20):
    frames = FRAMES.astype(dtype or FRAMES.dtype)
    frames[frame, 5, 8] = value
    return frames


WRONG = {
    "NaN": (lambda: spoiled(np.nan, float), {}, DataError, ["frames.h5: frame 21, row 5, column 8: nan", "mask"]),
    "a broken pixel": (lambda: spoiled(65535), {}, DataError, ["frame 21", "65535", "broken"]),
    "a negative mark": (lambda: spoiled(-1, np.int32), {}, DataError, ["frame 21", "negative"]),
    "another detector": (lambda: FRAMES[:, :20], {}, DataError, ["partition.h5", "(20, 25)", str(SHAPE)]),
    "one image": (lambda: FRAMES[0][None], {}, SelectionError, ["1 frames", "at least 8"]),
    "frames beyond": (lambda: FRAMES, {"last": 100}, SelectionError, ["1 to 100", "1 to 64"]),
    "no such place": (lambda: FRAMES, {"dataset": "x/y"}, FormatError, ["no frames", "/x/y", "/entry"]),
    "no stride": (lambda: FRAMES, {"stride": 0}, ConfigError, ["stride: 0"]),
    "no time": (lambda: FRAMES, {"frame_time": -1.0}, ConfigError, ["frame time: -1.0"]),
}


@pytest.mark.parametrize(("frames", "settings", "kind", "words"), WRONG.values(), ids=WRONG)
def test_given_bad_input_then_one_error_says_where_and_nothing_is_written(frames, settings, kind, words, tmp_path):
    with pytest.raises(HpcxpcsError) as error:
        run(tmp_path, np.ascontiguousarray(frames()), **settings)
    assert isinstance(error.value, kind), error.value
    assert all(word in str(error.value) for word in words), str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) in (["frames.h5", "partition.h5"], ["frames.h5"])


def test_given_frames_without_a_time_then_it_is_asked_for(tmp_path):
    np.save(tmp_path / "frames.npy", FRAMES)
    with pytest.raises(DataError, match="--frame-time"):
        run(tmp_path, tmp_path / "frames.npy")


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("frame_ptr", [0, 5, 3], "rise from 0"),
        ("frame_ptr", [0, 10**6], "ends at 1000000"),
        ("index", None, "no frames"),
    ],
)
def test_given_spoiled_sparse_frames_then_they_are_refused(name, values, words, tmp_path):
    path = sparse(tmp_path / "sparse.h5", FRAMES)
    with h5py.File(path, "r+") as file:
        del file["entry/data"][name]
        if values is not None:
            file["entry/data"][name] = values
    with pytest.raises(DataError, match=words):
        run(tmp_path, path, frame_time=0.01)


def test_given_any_number_of_frames_then_every_delay_has_a_pair():
    for frames in range(2, 200):
        delays = delays_of(frames)
        assert delays[0] == 1 and np.all(np.diff(delays) > 0) and delays[-1] < frames
