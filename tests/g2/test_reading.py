"""g2 of every layout comes out the same; what cannot be read is refused with the reason."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcxpcs
from hpcxpcs.data.formats import open_file
from hpcxpcs.errors import FormatError
from hpcxpcs.g2.layouts import WRITERS, Table, write_g2
from hpcxpcs.g2.reading import described, holds_g2, lag_groups, read_g2
from hpcxpcs.g2.record import Stored, cleaned
from hpcxpcs.g2.simulate import G2Simulation, multi_tau_lags, simulate_g2, simulated_table
from tests.g2.measured import stored


def table(bins: int = 4, blocks: int = 0, **more) -> Table:
    return simulated_table(G2Simulation("single", None, bins=bins, delays=20, blocks=blocks, **more))


@settings(max_examples=15, deadline=None)
@given(
    layout=st.sampled_from(sorted(WRITERS)),
    rings=st.lists(st.tuples(st.integers(1, 50), st.integers(-8, 8)), min_size=1, max_size=6, unique=True),
    seed=st.integers(0, 99),
    blocks=st.sampled_from([0, 3]),
)
def test_given_any_bins_then_every_layout_gives_them_back(tmp_path_factory, layout, rings, seed, blocks):
    rng = np.random.default_rng(seed)
    q, phi = np.array([(i * 1e-3, 20.0 * j) for i, j in rings]).T
    shape = (12, len(q))
    partial = 1 + 0.1 * rng.random((blocks, *shape)) if blocks and layout != "legacy" else None
    tau, g2, error = 2e-5 * multi_tau_lags(12), 1 + 0.1 * rng.random(shape), 0.01 + rng.random(shape)
    path = tmp_path_factory.mktemp("layout") / "result.hdf"
    write_g2(layout, path, Table(tau, g2, error, q, phi, 2e-5, partial, truth={"kind": "g2"}))
    read = read_g2(path)
    assert holds_g2(path) and read.simulated == {"kind": "g2"}
    order, own = np.lexsort((phi, q)), np.lexsort((read.phi, read.q))
    for name, values in (("q", q), ("phi", phi)):
        assert getattr(read, name)[own] == pytest.approx(values[order])
    assert read.tau == pytest.approx(tau)
    assert read.g2[:, own] == pytest.approx(g2[:, order], rel=1e-6)
    assert read.error[:, own] == pytest.approx(error[:, order], rel=1e-6)
    if partial is None:
        assert read.partial is None
    else:
        assert read.partial[..., own] == pytest.approx(partial[..., order], rel=1e-6)


def test_given_stride_and_average_and_scalars_as_matrices_then_delays_allow_for_them(tmp_path):
    path = tmp_path / "result.hdf"
    write_g2("nexus", path, table())
    with h5py.File(path, "r+") as file:
        for name, value in (("stride", 3), ("avg", 2)):
            del file[f"xpcs/multitau/config/{name}_frame"]
            file[f"xpcs/multitau/config/{name}_frame"] = np.full((1, 1), value)
    assert read_g2(path).tau[0] == pytest.approx(6 * 2e-5)


def test_given_entries_without_photons_and_errors_of_0_then_both_are_told(tmp_path):
    path = tmp_path / "result.hdf"
    write_g2("viewer", path, table(empty=0.3, zero_errors=5))
    data = read_g2(path)
    assert 0.1 < np.mean(np.isnan(data.g2)) < 0.5
    assert np.all(data.error[np.isfinite(data.g2)] > 0)
    assert any("no pair of photons" in note for note in data.notes)
    assert any("error 0 or none" in note for note in data.notes)


def test_given_no_errors_then_they_come_from_the_scatter():
    found, _ = stored("single", bins=2, noise=0.01)
    flat = 1 + 0.01 * np.random.default_rng(0).standard_normal(found.g2.shape)
    data = cleaned(Stored(found.tau, flat, None, found.q, found.phi, found.labels, "arrays"))
    assert data.error == pytest.approx(np.full_like(flat, 0.01), rel=0.5)
    assert "no errors" in data.notes[-1]


def test_given_a_two_time_file_then_cuts_are_means_of_diagonals(tmp_path):
    path = tmp_path / "twotime.hdf"
    hpcxpcs.simulate(hpcxpcs.SimulationSpec("static", output=path, angles=2, frames=40, contrast=0.3))
    data, young = read_g2(path), read_g2(path, age=(0.0, 1.5))
    assert not holds_g2(path)
    with open_file(path) as layout:
        matrix = layout.read(layout.bins[0])
    assert data.g2[0, 0] == pytest.approx(matrix.diagonal(1).mean(), rel=1e-5)
    assert data.tau[0] == pytest.approx(0.1) and data.partial.shape == (5, *data.g2.shape)
    ages = (np.arange(39) + 0.5) * 0.1
    assert young.g2[0, 0] == pytest.approx(matrix.diagonal(1)[ages <= 1.5].mean(), rel=1e-5)
    assert "ages 0 to 1.5 s" in young.layout
    with pytest.raises(FormatError, match=r"no pair of frames has an age"):
        read_g2(path, age=(100.0, 200.0))


@pytest.mark.parametrize("frames", [2, 9, 10, 100])
def test_given_frames_then_groups_hold_every_lag_once(frames):
    assert [lag for group in lag_groups(frames) for lag in group] == list(range(1, frames))


def test_given_text_and_npz_then_units_are_stated_or_demanded(tmp_path):
    text = tmp_path / "g2.txt"
    text.write_text("# units: ms\n# q: 0.1 0.2 1/nm\ntau,a,e,b,f\n1,1.2,.1,1.1,.1\n2 1.1 .1 1.0 .1\n")
    data = read_g2(text)
    assert data.tau == pytest.approx([1e-3, 2e-3]) and data.q == pytest.approx([0.01, 0.02])
    text.write_text("1 1.2 0.1\n2 1.1 0.1\n")
    with pytest.raises(FormatError, match=r"tau has no unit.*--time-unit"):
        read_g2(text)
    assert read_g2(text, {"time": "us"}).tau[0] == pytest.approx(1e-6)
    npz = tmp_path / "g2.npz"
    arrays = {"tau": [1.0, 2.0], "g2": np.ones((2, 3)), "g2_err": np.full((2, 3), 0.1), "q": [1.0, 2.0, 3.0]}
    np.savez(npz, **arrays, tau_unit="ms")
    with pytest.raises(FormatError, match=r"q has no unit.*q_unit"):
        read_g2(npz)
    np.savez(npz, **arrays, tau_unit="ms", q_unit="1/nm")
    assert read_g2(npz).q == pytest.approx([0.1, 0.2, 0.3])


def spoil(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def put(name, values):
    def change(file):
        del file[name]
        if values is not None:
            file[name] = values

    return change


NORMALIZED = "xpcs/multitau/normalized_g2"
BAD = {
    "another number of bins": ("nexus", put(NORMALIZED, np.ones((20, 7))), r"7 bins, and the q-map 4 with pixels"),
    "no frame time": ("nexus", put("entry/instrument/detector_1/frame_time", None), r"frame_time is missing"),
    "errors of other shape": ("nexus", put(f"{NORMALIZED}_err", np.ones((3, 4))), r"errors have shape \(3, 4\), g2"),
    "text": ("nexus", put(NORMALIZED, "none"), r"numbers are needed"),
    "a transpose": ("viewer", put("xpcs/g2/g2", np.ones((4, 20))), r"store its transpose"),
    "no unit": ("viewer", put("xpcs/g2/delay_times", np.arange(1.0, 21)), r"no attribute units"),
    "a cube": ("viewer", put("xpcs/g2/g2", np.ones((2, 4, 20))), r"2 axes are needed"),
    "equal delays": ("legacy", put("exchange/tau", np.ones((1, 20))), r"delays must be different numbers"),
    "lag 0 alone": ("legacy", put("exchange/tau", np.ones((1, 20)) * np.nan), r"delays must be different numbers"),
    "no list of q": ("legacy", put("xpcs/dqlist", None), r"/xpcs/dqlist is missing"),
}


@pytest.mark.parametrize(("layout", "change", "words"), BAD.values(), ids=BAD.keys())
def test_given_a_file_that_contradicts_itself_then_it_is_refused_by_name(tmp_path, layout, change, words):
    path = tmp_path / "bad.hdf"
    write_g2(layout, path, table())
    spoil(path, change)
    with pytest.raises(FormatError, match=words) as told:
        read_g2(path)
    assert str(told.value).startswith(str(path))


def test_given_a_file_without_g2_then_the_message_says_what_was_looked_for_and_what_is_there(tmp_path):
    path = tmp_path / "other.hdf"
    with h5py.File(path, "w") as file:
        file["something/else"] = [1.0]
    with pytest.raises(FormatError, match=r"(?s)no known g2.*normalized_g2.*/something/else"):
        read_g2(path)
    assert not holds_g2(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# units: s\n1 2 3 4\n2 3 4 5\n", "odd number"),
        ("# units: s\n1 2 3\n1 2\n", "line 3 has 2 columns"),
        ("# units: s\n1 2 3\na b c\n", "holds what is no number"),
        ("# units: parsec\n1 2 3\n2 2 3\n", "not understood"),
        ("# units: s\n1 2 3\n", "line per delay"),
    ],
)
def test_given_text_that_is_no_table_then_the_line_is_named(tmp_path, text, words):
    path = tmp_path / "g2.txt"
    path.write_text(text)
    with pytest.raises(FormatError, match=words):
        read_g2(path)


def test_given_a_simulated_file_then_inspection_tells_bins_and_blocks(tmp_path):
    path = tmp_path / "result.hdf"
    simulate_g2(G2Simulation("single", path, bins=18, delays=20, blocks=4))
    found = described(path)
    assert (found["bins"], found["delays"], found["blocks"], found["simulated"]) == (18, 20, 4, True)
