"""Which q, which angles, which frames, which time step."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.data.formats import write
from hpcxpcs.data.select import frame_window, in_phi_ranges, load, wrapped
from hpcxpcs.errors import DataError, SelectionError
from tests.data.stacks import config_for, edited, interval, matrix, off_diagonal, stack_of

ANGLES = [-170.0, -90.0, 0.0, 45.0, 170.0]
RINGS = {"q": np.repeat([0.004, 0.005, 0.0065], 5).tolist(), "phi": ANGLES * 3}


@pytest.fixture(params=["nexus.h5", "legacy.h5", "cube.h5", "cube.npz"])
def path(request, tmp_path):
    """Three q with five angles each; the matrix of bin k is matrix(k)."""
    path = tmp_path / request.param
    write(request.param.split(".")[0], path, stack_of(**RINGS, n=20))
    return path


@pytest.fixture
def nexus(tmp_path):
    write("nexus", tmp_path / "a.h5", stack_of(**RINGS, n=20))
    return tmp_path / "a.h5"


def test_given_a_q_then_only_the_matrices_of_the_nearest_ring_are_loaded(path):
    data = load(config_for(path, wavevector_q=0.0051))
    assert data.q == 0.005
    assert data.phi.tolist() == ANGLES
    for k in range(5):
        assert np.array_equal(off_diagonal(data.angle(k).c2), off_diagonal(matrix(5 + k, 20)))


def test_given_few_angles_then_other_q_are_never_taken_to_fill_up(path):
    data = load(config_for(path, wavevector_q=0.0065, phi_ranges=[interval(-10, 10)]))
    assert (data.q, data.phi.tolist()) == (0.0065, [0.0])


def test_given_a_q_beyond_the_tolerance_then_it_is_refused_with_the_available_ones(path):
    with pytest.raises(
        SelectionError, match=r"0\.0065, is 35\.0% off .* allows 10\.0%; available: 0\.004, 0\.005, 0\.0065"
    ):
        load(config_for(path, wavevector_q=0.01))


def test_given_a_q_at_the_edge_of_the_tolerance_then_the_tolerance_decides(nexus):
    assert load(config_for(nexus, wavevector_q=0.0059, q_tolerance=0.11)).q == 0.0065
    with pytest.raises(SelectionError):
        load(config_for(nexus, wavevector_q=0.0059, q_tolerance=0.1))


@pytest.mark.parametrize("q", [0.0, -0.005])
def test_given_a_q_that_is_not_positive_then_it_is_refused(nexus, q):
    with pytest.raises(SelectionError, match="q must be positive"):
        load(config_for(nexus, wavevector_q=q))


def test_given_q_values_that_differ_by_rounding_then_they_are_one_ring(tmp_path):
    q = [0.005, float(np.float32(0.005)), 0.0051]
    write("legacy", tmp_path / "a.h5", stack_of(q, [0.0, 90.0, 0.0], n=12))
    assert sorted(load(config_for(tmp_path / "a.h5")).phi) == [0.0, 90.0]


def test_given_bins_without_a_q_then_they_are_never_the_nearest(tmp_path):
    write("legacy", tmp_path / "a.h5", stack_of([np.nan, 0.005], [0.0, 90.0], n=12))
    assert load(config_for(tmp_path / "a.h5")).phi.tolist() == [90.0]


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([(-180, 180)], ANGLES),
        ([(0, 360)], ANGLES),
        ([(-360, 360)], ANGLES),
        ([(160, -160)], [-170.0, 170.0]),
        ([(160, 200)], [-170.0, 170.0]),
        ([(-100, 10)], [-90.0, 0.0]),
        ([(0, 45)], [0.0, 45.0]),
        ([(0, 0)], [0.0]),
        ([(-10, 10), (160, 175)], [0.0, 170.0]),
        ([(10, -10)], [-170.0, -90.0, 45.0, 170.0]),
        ([], ANGLES),
    ],
)
def test_given_ranges_of_angles_then_these_are_selected(nexus, ranges, expected):
    data = load(config_for(nexus, phi_ranges=[interval(*limits) for limits in ranges]))
    assert data.phi.tolist() == expected


def test_given_a_filter_then_each_angle_keeps_its_own_matrix(path):
    data = load(config_for(path, phi_ranges=[interval(160, -160)]))
    assert data.phi.tolist() == [-170.0, 170.0]
    for k, original in enumerate([5, 9]):
        assert np.array_equal(off_diagonal(data.angle(k).c2), off_diagonal(matrix(original, 20)))


def test_given_ranges_without_an_angle_then_the_available_ones_are_listed(nexus):
    with pytest.raises(SelectionError, match=r"phi_ranges 100…120 \(degrees\); available: -170, -90, 0, 45, 170"):
        load(config_for(nexus, phi_ranges=[interval(100, 120)]))


@given(st.floats(-720, 720))
def test_given_any_angle_then_wrapping_keeps_the_direction(phi):
    found = wrapped(np.array([phi]))[0]
    assert -180 < found <= 180
    assert (found - phi) / 360 == pytest.approx(round((found - phi) / 360), abs=1e-9)


@given(st.integers(-360, 360), st.integers(-360, 360), st.integers(-360, 360))
def test_given_any_range_then_it_holds_the_angles_met_on_the_way_from_min_to_max(low, high, phi):
    way = range(low, high + 1) if low <= high else range(low, low + (high - low) % 360 + 1)
    expected = any((phi - angle) % 360 == 0 for angle in way)
    assert in_phi_ranges(np.array([float(phi)]), [interval(low, high)])[0] == expected


@given(
    st.lists(st.tuples(st.floats(-360, 360), st.floats(-360, 360)), min_size=1, max_size=4),
    st.floats(-180, 180),
)
def test_given_several_ranges_then_an_angle_is_in_if_it_is_in_any(limits, phi):
    angle = np.array([phi])
    intervals = [interval(*pair) for pair in limits]
    assert in_phi_ranges(angle, intervals)[0] == any(in_phi_ranges(angle, [one])[0] for one in intervals)


@given(st.floats(-180, 180), st.sampled_from([-720, -360, 360, 720]), st.floats(-180, 180), st.floats(-180, 180))
def test_given_the_same_direction_written_otherwise_then_the_selection_is_the_same(phi, turns, low, high):
    inside = in_phi_ranges(np.array([phi, phi + turns]), [interval(low, high)])
    distance = min(abs((phi - end + 180) % 360 - 180) for end in (low, high))
    assert inside[0] == inside[1] or distance < 1e-6


@given(st.integers(1, 60), st.integers(-3, 65), st.integers(-3, 65))
def test_given_any_window_then_it_is_inside_the_file_or_refused(n, start, end):
    last = n if end == -1 else end
    if 1 <= start <= last <= n:
        assert frame_window(start, end, n) == (start, last)
    else:
        with pytest.raises(SelectionError, match="frame"):
            frame_window(start, end, n)


def test_given_a_window_then_its_first_and_last_frame_are_included(path):
    data = load(config_for(path, start_frame=3, end_frame=14))
    assert (data.frames, data.n_frames) == ((3, 14), 12)
    assert np.array_equal(off_diagonal(data.angle(0).c2), off_diagonal(matrix(5, 20)[2:14, 2:14]))


@pytest.mark.parametrize(("origin", "first"), [("window", 0.0), ("file", 0.4)])
def test_given_a_time_origin_then_times_count_from_there(nexus, origin, first):
    data = load(config_for(nexus, start_frame=5, time_origin=origin))
    assert np.allclose(data.t, first + 0.1 * np.arange(16))
    assert data.angle(0).frame_ok.sum() == (15 if origin == "window" else 16)


@pytest.mark.parametrize(("start", "end"), [(0, -1), (21, -1), (1, 21), (9, 8)])
def test_given_frames_out_of_range_then_they_are_refused(path, start, end):
    with pytest.raises(SelectionError, match=r"_frame"):
        load(config_for(path, start_frame=start, end_frame=end))


def test_given_too_few_frames_then_it_is_refused_on_loading(nexus):
    load(config_for(nexus, start_frame=1, end_frame=9))
    with pytest.raises(DataError, match="leave 7 usable frames"):
        load(config_for(nexus, start_frame=1, end_frame=8))


def test_given_dt_in_the_file_then_it_is_used_and_its_source_is_told(path):
    data = load(config_for(path))
    assert data.dt == pytest.approx(0.1)
    assert data.provenance["dt_source"].split()[0] in ("frame_time", "exposure_period", "spacing")


def test_given_no_dt_anywhere_then_the_key_to_set_is_named(nexus):
    with edited(nexus) as file:
        del file["entry"]
    with pytest.raises(DataError, match=r"a\.h5: .*frame_time is missing.*set analyzer_parameters\.dt"):
        load(config_for(nexus))
    assert load(config_for(nexus, dt=0.5)).dt == 0.5


@pytest.mark.parametrize(("dt", "noted"), [(0.1005, False), (0.0995, False), (0.102, True), (0.05, True)])
def test_given_another_dt_than_the_file_then_it_is_used_and_noted_beyond_a_percent(nexus, dt, noted):
    data = load(config_for(nexus, dt=dt))
    assert data.dt == dt
    assert data.provenance["dt_source"] == "analyzer_parameters.dt"
    assert any(f"dt = {dt:g} s is used, but the file says 0.1 s" in note for note in data.provenance["notes"]) == noted


def test_given_a_selection_then_its_provenance_is_json(path):
    told = json.loads(json.dumps(load(config_for(path, wavevector_q=0.0051)).provenance))
    assert (told["q"], told["q_wanted"], told["frames"], told["frames_in_file"]) == (
        0.005,
        0.0051,
        [1, 20],
        20,
    )


def test_given_dead_frames_then_they_are_found_in_the_window_and_counted_in_the_file(nexus):
    with edited(nexus) as file:
        for stored in file["xpcs/twotime/correlation_map"].values():
            stored[11, :] = stored[:, 11] = 0
    data = load(config_for(nexus, start_frame=5))
    assert np.flatnonzero(~data.angle(0).frame_ok).tolist() == [0, 7]
    assert data.provenance["notes"] == ["phi = -170: 1 dead frames are masked: 12"]


def test_given_a_list_of_dead_frames_then_they_are_masked_or_refused_outside_the_file(nexus):
    data = load(config_for(nexus, start_frame=5, dead_frames=(2, 12)))
    assert np.flatnonzero(~data.angle(0).frame_ok).tolist() == [0, 7]
    with pytest.raises(SelectionError, match=r"dead_frames \[21\] are not among the frames 1…20"):
        load(config_for(nexus, dead_frames=(2, 21)))


def test_given_a_value_that_is_no_number_then_the_message_names_file_angle_and_frames_of_the_file(nexus):
    with edited(nexus) as file:
        file["xpcs/twotime/correlation_map/c2_00007"][5, 9] = np.nan
    data = load(config_for(nexus, start_frame=3))
    with pytest.raises(DataError, match=r"a\.h5: angle 1 \(phi = -90 degrees\): 1 pairs .* \(6, 10\)"):
        data.angle(1)
    masked = load(config_for(nexus, start_frame=3, non_finite="mask")).angle(1)
    assert np.argwhere(~masked.pair_ok).tolist() == [[3, 7], [7, 3]]


def test_given_a_selection_then_only_its_matrices_are_read_and_each_once(nexus, monkeypatch):
    read = []
    original = h5py.Dataset.__getitem__

    def counted(dataset, key, **options):
        if dataset.ndim == 2:
            read.append(dataset.name.rsplit("/", 1)[-1])
        return original(dataset, key, **options)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    data = load(config_for(nexus, phi_ranges=[interval(-10, 60)]))
    assert read == []
    for k in range(data.n_phi):
        data.angle(k)
    assert read == ["c2_00008", "c2_00009"]
