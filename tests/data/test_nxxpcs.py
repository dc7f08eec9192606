"""NXxpcs: the four attributes, the numbers of regions, units, and what the file must not leave open."""

from __future__ import annotations

import numpy as np
import pytest

from hpcxpcs.data.formats import detect, nxxpcs, open_file
from hpcxpcs.data.select import load
from hpcxpcs.errors import FormatError
from tests.data.stacks import config_for, edited, matrix, off_diagonal, replace_dataset, stack_of

CORRELATION = "entry/twotime/two_time_corr_func"
MASKS = "entry/instrument/masks"
FRAME_TIME = "entry/instrument/detector/frame_time"
Q, PHI = [0.005] * 4, [0.0, 30.0, 60.0, 90.0]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.h5"
    nxxpcs.write(path, stack_of(Q, PHI, unprocessed=[(0.005, 15.0)]))
    return path


def attribute(path, name, value):
    with edited(path) as file:
        if value is None:
            del file[CORRELATION].attrs[name]
        else:
            file[CORRELATION].attrs[name] = value


def check(path, n=12, order=range(4)):
    """The matrices of the angles PHI are those of the stack, in the usual form."""
    with open_file(path) as layout:
        assert sorted(info.phi for info in layout.bins) == PHI
        for info, k in zip(sorted(layout.bins, key=lambda info: info.phi), order, strict=True):
            stored = layout.read(info)
            whole = np.triu(stored, 1) + np.tril(stored, -1).T
            expected = off_diagonal(matrix(k, n))
            assert np.array_equal(off_diagonal(whole), expected * (2 if np.tril(stored, -1).any() else 1))
        return layout.notes


def test_given_a_file_then_it_is_recognised_by_its_contents(path):
    assert detect(path) == "nxxpcs"
    check(path)


def test_given_an_entry_of_another_name_then_it_is_found(path):
    with edited(path) as file:
        file.move("entry", "scan_12")
        file["scan_12/instrument"].move("detector", "eiger")
    check(path)


def test_given_regions_without_matrices_then_the_others_keep_their_numbers(path):
    with open_file(path) as layout:
        assert [(info.label, info.phi) for info in layout.bins] == [(1, 0.0), (3, 30.0), (4, 60.0), (5, 90.0)]
        assert [(bin_.phi, bin_.reason) for bin_ in layout.absent] == [(15.0, "not populated")]


def test_given_keys_then_the_number_of_a_key_is_that_of_the_region_and_not_its_place(tmp_path):
    path = tmp_path / "a.h5"
    nxxpcs.write(path, stack_of(Q, PHI, unprocessed=[(0.005, 15.0)]), storage="data_exchange_keys")
    with edited(path) as file:
        assert sorted(file[CORRELATION]) == [f"c2_0000{label}" for label in (1, 3, 4, 5)]
        for label in (1, 3, 4, 5):
            file[CORRELATION].move(f"c2_0000{label}", f"{10 if label == 5 else label}")
        replace_dataset(file, f"{MASKS}/dynamic_q_list", np.full(10, 0.005))
        replace_dataset(file, f"{MASKS}/dynamic_phi_list", np.array([0, 15, 30, 60, -9, -8, -7, -6, -5, 90.0]))
        file[f"{MASKS}/dynamic_q_list"].attrs["units"] = "1/angstrom"
        file[f"{MASKS}/dynamic_phi_list"].attrs["units"] = "deg"
    check(path)


def test_given_baseline_0_then_1_is_added_and_dead_frames_stay_dead(tmp_path):
    path = tmp_path / "a.h5"
    matrices = [matrix(0, 20) for _ in PHI]
    for c2 in matrices:
        c2[4, :] = c2[:, 4] = 0.0
    stack = stack_of(Q, PHI, n=20)
    object.__setattr__(stack, "c2", matrices)
    nxxpcs.write(path, stack, baseline=0)
    with edited(path) as file:
        assert file[CORRELATION][0].min() == -1.0
    angle = load(config_for(path)).angle(0)
    assert np.flatnonzero(~angle.frame_ok).tolist() == [0, 4]
    assert np.array_equal(angle.c2, matrices[0])


@pytest.mark.parametrize("half", [True, False])
def test_given_t_0_in_the_last_row_then_windows_of_frames_are_cut_at_the_right_end(tmp_path, half):
    path = tmp_path / "a.h5"
    nxxpcs.write(path, stack_of(Q, PHI, n=30, half=half), origin="lower_left")
    data = load(config_for(path, start_frame=4, end_frame=20))
    assert np.array_equal(data.angle(2).c2, matrix(2, 30)[3:20, 3:20])


def test_given_lower_left_only_as_a_way_of_drawing_then_the_contents_decide_and_it_is_noted(path):
    attribute(path, "time_origin_location", "lower_left")
    assert any("only drawn that way" in note for note in check(path))


def test_given_upper_left_on_matrices_that_are_upside_down_then_it_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    nxxpcs.write(path, stack_of(Q, PHI), origin="lower_left")
    attribute(path, "time_origin_location", "upper_left")
    with pytest.raises(FormatError, match="t = 0 is in the last row"), open_file(path):
        pass


def test_given_the_other_half_than_stated_then_the_contents_decide_and_it_is_noted(path):
    attribute(path, "populated_elements", "lower_half")
    assert any("the other half holds the values" in note for note in check(path))


@pytest.mark.parametrize("filling", [np.nan, -1.0, 7.5])
def test_given_a_half_whose_other_half_is_filled_with_something_then_that_is_not_data(path, filling):
    with edited(path) as file:
        for k in range(4):
            stored = file[CORRELATION][k]
            stored[np.tril_indices(12, -1)] = filling
            file[CORRELATION][k] = stored
    check(path)


def test_given_junk_in_the_half_that_is_not_populated_then_it_is_left_out(path):
    with edited(path) as file:
        for k in range(4):
            stored = file[CORRELATION][k]
            stored[np.tril_indices(12, -1)] = np.arange(66)
            file[CORRELATION][k] = stored
    check(path)


def test_given_a_half_that_is_said_to_be_all_then_it_is_refused(path):
    attribute(path, "populated_elements", "all")
    with pytest.raises(FormatError, match="only the upper half of the matrices has values"), open_file(path):
        pass


def test_given_no_baseline_then_it_is_not_guessed(path):
    attribute(path, "baseline_reference", None)
    with pytest.raises(FormatError, match="no attribute baseline_reference"), open_file(path):
        pass


@pytest.mark.parametrize("name", ["storage_mode", "time_origin_location", "populated_elements"])
@pytest.mark.parametrize("origin", ["upper_left", "lower_left"])
def test_given_another_attribute_missing_then_the_contents_tell(tmp_path, name, origin):
    path = tmp_path / "a.h5"
    nxxpcs.write(path, stack_of(Q, PHI), origin=origin, baseline=0)
    attribute(path, name, None)
    check(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("storage_mode", "data_exchange_keys", "is one array, but its attribute storage_mode says"),
        ("storage_mode", "one_array_q_last", r"needs \(N, N, q\)"),
        ("storage_mode", "other", "storage_mode is 'other'"),
        ("baseline_reference", 2, "baseline_reference is '2'"),
    ],
)
def test_given_an_attribute_that_does_not_fit_then_it_is_refused(path, name, value, message):
    attribute(path, name, value)
    with pytest.raises(FormatError, match=message), open_file(path):
        pass


def test_given_attributes_as_bytes_and_arrays_then_they_are_understood(path):
    attribute(path, "storage_mode", np.bytes_(b"one_array_q_first"))
    attribute(path, "baseline_reference", np.array([1]))
    check(path)


def test_given_as_many_matrices_as_frames_then_the_attribute_tells_the_axes(tmp_path):
    phi = [10.0 * k for k in range(12)]
    for storage in ("one_array_q_first", "one_array_q_last"):
        path = tmp_path / f"{storage}.h5"
        nxxpcs.write(path, stack_of([0.005] * 12, phi), storage=storage)
        data = load(config_for(path))
        assert np.array_equal(data.angle(7).c2, matrix(7))


def test_given_matrices_that_fit_neither_list_nor_map_then_it_is_refused(path):
    with edited(path) as file:
        del file[f"{MASKS}/dynamic_roi_map"]
    with pytest.raises(FormatError, match="cannot be told which regions these are"), open_file(path):
        pass


@pytest.mark.parametrize("name", ["dynamic_q_list", "dynamic_phi_list"])
def test_given_a_list_without_unit_then_it_is_refused(path, name):
    with edited(path) as file:
        del file[f"{MASKS}/{name}"].attrs["units"]
    with pytest.raises(FormatError, match=f"{name} has no attribute units"), open_file(path):
        pass


def test_given_other_units_then_they_are_converted(path):
    with edited(path) as file:
        for name, factor, unit in (
            (f"{MASKS}/dynamic_q_list", 10.0, "nm^-1"),
            (f"{MASKS}/dynamic_phi_list", np.pi / 180, "rad"),
            (FRAME_TIME, 1e3, "ms"),
        ):
            values = np.asarray(file[name]) * factor
            replace_dataset(file, name, values)
            file[name].attrs["units"] = unit
    with open_file(path) as layout:
        assert [info.q for info in layout.bins] == pytest.approx(Q)
        assert [info.phi for info in layout.bins] == pytest.approx(PHI)
        assert layout.dt == pytest.approx(0.1)
        assert layout.units["q"] == "nm^-1 (stated), converted to Å⁻¹"


def test_given_angles_in_units_of_q_then_they_are_refused(path):
    with edited(path) as file:
        file[f"{MASKS}/dynamic_phi_list"].attrs["units"] = "1/angstrom"
    with (
        pytest.raises(FormatError, match="'1/angstrom' is not understood here; use deg or rad"),
        open_file(path),
    ):
        pass


def test_given_no_angles_then_the_remedy_is_told(path):
    with edited(path) as file:
        del file[f"{MASKS}/dynamic_phi_list"]
    with pytest.raises(FormatError, match="for full rings, 0"), open_file(path):
        pass


@pytest.mark.parametrize("value", [None, 0.0, np.nan])
def test_given_no_frame_time_then_dt_is_unknown(path, value):
    with edited(path) as file:
        del file[FRAME_TIME]
        if value is not None:
            file[FRAME_TIME] = value
    with open_file(path) as layout:
        assert layout.dt is None


def test_given_skipped_or_averaged_frames_then_the_file_holds_the_step_of_the_matrices(tmp_path):
    path = tmp_path / "a.h5"
    nxxpcs.write(path, stack_of(Q, PHI, dt=0.6, stride=3, average=2))
    with open_file(path) as layout:
        assert layout.dt == pytest.approx(0.6)
        assert any("no place for skipped or averaged frames" in note for note in layout.notes)


def test_given_another_baseline_in_the_same_bytes_then_the_fingerprint_differs(tmp_path):
    path = tmp_path / "a.h5"
    nxxpcs.write(path, stack_of(Q, PHI), storage="data_exchange_keys")
    before = load(config_for(path)).fingerprint()
    attribute(path, "baseline_reference", 0)
    assert load(config_for(path)).fingerprint() != before


def test_given_uncertainties_beside_matrices_of_baseline_0_then_nothing_is_added_to_them(tmp_path):
    path = tmp_path / "a.h5"
    nxxpcs.write(path, stack_of(Q, PHI), baseline=0, origin="lower_left")
    with edited(path) as file:
        file["sigma"] = np.full((4, 12, 12), 0.01)
    sigma = load(config_for(path, sigma="/sigma")).angle(1).sigma
    assert np.unique(off_diagonal(sigma)).tolist() == [0.01]
