"""What inspection finds in a file, and the heat maps it draws."""

from __future__ import annotations

import numpy as np
import pytest

from hpcxpcs.config.load import config_from_mapping
from hpcxpcs.data.clean import Screening
from hpcxpcs.data.formats import FORMATS, write
from hpcxpcs.data.inspect import InspectionSettings, Missing, describe, describe_selected
from hpcxpcs.data.select import load
from hpcxpcs.errors import SelectionError
from tests.data.stacks import edited, interval, matrix, stack_of

MATRICES = "xpcs/twotime/correlation_map"


@pytest.fixture
def path(tmp_path):
    """Two q, three angles, (0.01, 0) without pixels, (0.01, 45) without matrix; frame 4 of bin 2 is dead."""
    path = tmp_path / "a.h5"
    stack = stack_of([0.005, 0.005, 0.005, 0.01], [0.0, 45.0, 90.0, 90.0], n=20, unprocessed=[(0.01, 45.0)])
    write("nexus", path, stack)
    with edited(path) as file:
        stored = file[f"{MATRICES}/c2_00002"]
        stored[3, :] = stored[:, 3] = 0
    return path


def test_given_a_file_then_its_layout_bins_and_missing_bins_are_described(path):
    found = describe(path)
    assert (found.format, found.n_matrices, found.n_frames) == ("nexus", 4, 20)
    assert (found.dtype, found.compression) == ("float32", "lzf")
    assert [(ring.q, ring.phi) for ring in found.rings] == [(0.005, (0.0, 45.0, 90.0)), (0.01, (90.0,))]
    assert found.rings[1].missing == (Missing(0.0, "not populated"), Missing(45.0, "not processed"))


def test_given_several_q_and_none_asked_for_then_nothing_is_selected_and_the_first_ring_examined(path):
    found = describe(path)
    assert (found.selected_q, found.selected_phi) == (None, ())
    assert [item.q for item in found.examined] == [0.005] * 3


def test_given_many_matrices_and_no_q_then_only_a_few_are_read(tmp_path):
    write("cube", tmp_path / "a.h5", stack_of([0.005] * 9 + [0.01], [10.0 * k for k in range(10)]))
    assert len(describe(tmp_path / "a.h5").examined) == 6
    assert len(describe(tmp_path / "a.h5", q=0.005).examined) == 9


def test_given_a_q_then_its_angles_would_be_selected(path):
    found = describe(path, q=0.0051, ranges=[interval(30, 100)])
    assert (found.asked_q, found.selected_q, found.selected_phi) == (0.0051, 0.005, (45.0, 90.0))


def test_given_ranges_then_angles_outside_and_angles_without_matrix_are_told_apart(tmp_path):
    missing = [(0.005, 30.0), (0.005, -90.0)]
    write("nexus", tmp_path / "a.h5", stack_of([0.005] * 3, [0.0, 60.0, 120.0], n=20, unprocessed=missing))
    found = describe(tmp_path / "a.h5", ranges=[interval(-10, 70)])
    assert (found.selected_phi, found.left_out_phi) == ((0.0, 60.0), (120.0,))
    assert found.missing_phi == (Missing(30.0, "not processed"),)


def test_given_a_window_then_its_frames_and_time_step_are_told(path):
    found = describe(path, settings=InspectionSettings(start_frame=3, end_frame=15, dt=0.2))
    assert (found.selected_frames, found.selected_dt) == ((3, 15), 0.2)
    assert any("the file says 0.1 s" in note for note in found.notes)
    assert (describe(path).selected_frames, describe(path).selected_dt) == ((1, 20), 0.1)


def test_given_no_time_step_anywhere_then_it_is_unknown(path):
    with edited(path) as file:
        del file["entry/instrument/detector_1/frame_time"]
    assert describe(path).selected_dt is None


def test_given_frames_beyond_the_last_then_they_are_refused(path):
    with pytest.raises(SelectionError, match="end_frame 21"):
        describe(path, settings=InspectionSettings(end_frame=21))


@pytest.mark.parametrize("name", FORMATS)
def test_given_any_layout_then_the_units_of_q_phi_and_time_are_told(tmp_path, name):
    write(name, tmp_path / "a.h5", stack_of([0.005], [0.0]))
    units = describe(tmp_path / "a.h5").units
    assert list(units) == ["q", "phi", "time"]
    stated = name in ("nxxpcs", "viewer")
    assert all(("(stated)" in unit) == stated for unit in units.values()) or name == "nexus"


@pytest.mark.parametrize(("compression", "told"), [("auto", "deflate"), ("none", "none")])
def test_given_an_npz_then_the_compression_of_its_archive_is_told(tmp_path, compression, told):
    path = tmp_path / "a.npz"
    write("cube", path, stack_of([0.005], [0.0], compression=compression))
    assert describe(path).compression == told


def test_given_a_configuration_then_what_it_would_select_is_described(path):
    settings = config_from_mapping(
        {
            "analysis_mode": "static",
            "experimental_data": {"file_path": str(path)},
            "analyzer_parameters": {"start_frame": 2, "scattering": {"wavevector_q": 0.0051}},
            "data_filtering": {"phi_range": {"min": 30, "max": 100}},
        }
    )
    found = describe_selected(settings)
    data = load(settings)
    assert found.selected_phi == tuple(data.phi) == (45.0, 90.0)
    assert (found.selected_q, found.selected_frames) == (data.q, data.frames) == (0.005, (2, 20))


def test_given_a_file_without_a_finite_q_then_it_is_refused(path):
    with edited(path) as file:
        file["xpcs/qmap/dynamic_v_list_dim0"][...] = np.nan
    with pytest.raises(SelectionError, match="no finite q"):
        describe(path)


def test_given_a_q_that_is_not_there_then_the_available_ones_are_listed(path):
    with pytest.raises(SelectionError, match=r"available: 0\.005, 0\.01"):
        describe(path, q=0.1)


def test_given_dead_frames_and_bad_values_then_they_are_counted(path):
    with edited(path) as file:
        file[f"{MATRICES}/c2_00003"][2, 5:8] = np.nan
    examined = describe(path, q=0.005).examined
    assert [item.dead_frames for item in examined] == [(), (4,), ()]
    assert [item.non_finite_pairs for item in examined] == [0, 0, 3]
    assert [item.half for item in examined] == ["upper"] * 3
    assert examined[0].smallest == np.min(matrix(0, 20)[np.triu_indices(20, 1)])


def test_given_a_matrix_without_any_value_then_it_has_no_range(path):
    with edited(path) as file:
        file[f"{MATRICES}/c2_00004"][...] = 0
    item = describe(path, q=0.01).examined[0]
    assert len(item.dead_frames) == 20
    assert (item.smallest, item.largest) == (None, None)


def test_given_truth_in_the_file_then_it_counts_as_simulated(tmp_path, path):
    write("legacy", tmp_path / "b.h5", stack_of([0.005], [0.0], truth={"D0": 1.0}))
    assert describe(tmp_path / "b.h5").simulated
    assert not describe(path).simulated


def test_given_a_window_and_settings_then_the_state_is_that_of_what_a_fit_would_use(path):
    with edited(path) as file:
        stored = file[f"{MATRICES}/c2_00003"]
        stored[2, 5:8] = np.nan
        stored[17:, :] = stored[:, 17:] = np.nan
    examined = describe(path, q=0.005).examined
    assert [item.dead_frames for item in examined] == [(), (4,), (18, 19, 20)]
    assert [item.refused is None for item in examined] == [True, True, False]
    assert "data_filtering.non_finite: mask" in examined[2].refused
    later = describe(path, q=0.005, settings=InspectionSettings(start_frame=4, end_frame=18)).examined
    assert [item.dead_frames for item in later] == [(), (4,), (18,)]
    assert [item.non_finite_pairs for item in later] == [0, 0, 0]
    kept = InspectionSettings(screening=Screening("none", "mask"))
    assert describe(path, q=0.005, settings=kept).examined[1].dead_frames == ()
    assert describe(path, q=0.005, settings=kept).examined[2].refused is None
