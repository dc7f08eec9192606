"""NPZ caches of homodyne and plain NPZ and NPY stacks; nothing is unpickled."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from hpcxpcs.data.formats import detect, open_file, read_truth
from hpcxpcs.data.select import load
from hpcxpcs.errors import DataError, FormatError
from tests.data.stacks import config_for, matrix

PHI = [0.0, 45.0, 90.0]
TOLD = {
    "config_wavevector_q": 0.0054,
    "actual_wavevector_q": 0.005,
    "start_frame": 3,
    "end_frame": 14,
    "cache_version": "2.0",
}


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def cache(path, save=np.savez_compressed, **changes):
    t = np.linspace(0.0, 0.1 * 11, 12)
    arrays = {
        "wavevector_q_list": np.full(3, 0.005),
        "phi_angles_list": np.array(PHI),
        "t1": t,
        "t2": t,
        "c2_exp": np.array([matrix(k) for k in range(3)]),
        "cache_metadata_json": np.array(json.dumps(TOLD)),
    } | changes
    save(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def refused(path, message):
    with pytest.raises(FormatError, match=message), open_file(path):
        pass


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_given_a_cache_of_homodyne_then_it_is_read_as_a_cube(tmp_path, save):
    path = cache(tmp_path / "cached_c2_frames_3_14.npz", save)
    assert detect(path) == "cube"
    data = load(config_for(path))
    assert (data.phi.tolist(), data.q, data.dt) == (PHI, 0.005, pytest.approx(0.1))
    assert np.array_equal(data.angle(2).c2, matrix(2))


def test_given_a_cache_then_the_notes_tell_what_it_was_made_with(tmp_path):
    with open_file(cache(tmp_path / "a.npz")) as layout:
        notes = " | ".join(layout.notes)
    assert "time step is the one of the configuration that wrote it" in notes
    assert "frames 3…14 of the measurement" in notes
    assert "made for q = 0.0054" in notes


def test_given_a_cache_whose_frames_do_not_count_up_then_it_is_noted(tmp_path):
    with open_file(
        cache(tmp_path / "a.npz", cache_metadata_json=np.array('{"start_frame": 1, "end_frame": 99}'))
    ) as layout:
        assert any(note == "warning: that would be 99 frames, the matrices have 12" for note in layout.notes)


@pytest.mark.parametrize(("factor", "warned"), [(1, False), (2, True)])
def test_given_a_cache_made_from_full_matrices_by_adding_both_halves_then_there_is_a_warning(tmp_path, factor, warned):
    doubled = factor * np.array([matrix(k) for k in range(3)])
    with open_file(cache(tmp_path / "a.npz", c2_exp=doubled)) as layout:
        assert any("both halves added up" in note for note in layout.notes) == warned


def test_given_a_cache_without_metadata_then_its_arrays_are_enough(tmp_path):
    assert load(config_for(cache(tmp_path / "a.npz", cache_metadata_json=None))).n_phi == 3


def test_given_metadata_that_is_no_json_then_the_cache_is_refused(tmp_path):
    refused(cache(tmp_path / "a.npz", cache_metadata_json=np.array("{'a'")), "is not the JSON of a cache")


def test_given_times_on_a_grid_then_the_old_cache_is_refused(tmp_path):
    t1, t2 = np.meshgrid(np.arange(12) * 0.1, np.arange(12) * 0.1, indexing="ij")
    refused(cache(tmp_path / "a.npz", t1=t1, t2=t2), r"shape \(12, 12\): times on a grid, as old caches")


def test_given_two_different_time_axes_then_the_cache_is_refused(tmp_path):
    refused(cache(tmp_path / "a.npz", t2=np.arange(12) * 0.2), "/t1 and /t2 differ")


def test_given_q_that_were_mixed_into_one_cache_then_only_one_ring_is_used(tmp_path):
    data = load(config_for(cache(tmp_path / "a.npz", wavevector_q_list=np.array([0.005, 0.0053, 0.005]))))
    assert data.phi.tolist() == [0.0, 90.0]


def test_given_an_old_cache_with_pickled_metadata_then_it_is_refused_and_nothing_runs(tmp_path):
    old = np.array(Trap(tmp_path / "sprung"), dtype=object)
    path = cache(tmp_path / "a.npz", cache_metadata_json=None, cache_metadata=old)
    refused(path, r"array cache_metadata holds pickled objects; .* let the program that wrote it make a new one")
    assert not (tmp_path / "sprung").exists()


def test_given_a_pickle_then_it_is_refused_and_nothing_runs(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    refused(path, "is a pickled Python object; .* write the numbers as plain arrays")
    assert not (tmp_path / "sprung").exists()


def test_given_a_stack_of_objects_then_it_is_refused_and_nothing_runs(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.array([Trap(tmp_path / "sprung")], dtype=object), allow_pickle=True)
    np.save(tmp_path / "a.q.npy", 0.005)
    np.save(tmp_path / "a.phi.npy", 0.0)
    refused(path, "holds pickled objects")
    assert not (tmp_path / "sprung").exists()


def npy(folder, **beside):
    np.save(folder / "a.npy", np.array([matrix(k) for k in range(3)]))
    for name, values in beside.items():
        np.save(folder / f"a.{name}.npy", values)
    return folder / "a.npy"


def test_given_an_npy_stack_with_lists_beside_it_then_it_is_read(tmp_path):
    data = load(config_for(npy(tmp_path, q=0.005, phi=PHI, t=np.arange(12) * 0.25)))
    assert (data.phi.tolist(), data.q, data.dt) == (PHI, 0.005, pytest.approx(0.25))
    assert np.array_equal(data.angle(1).c2, matrix(1))


def test_given_an_npy_stack_without_times_then_dt_comes_from_the_configuration(tmp_path):
    assert load(config_for(npy(tmp_path, q=0.005, phi=PHI), dt=0.5)).dt == 0.5


def test_given_an_npy_stack_without_times_or_dt_then_the_file_for_them_and_the_key_are_named(tmp_path):
    path = npy(tmp_path, q=0.005, phi=PHI)
    with pytest.raises(DataError, match=r"a\.npy: .*a\.t\.npy, which would hold the times \(s\), is missing") as caught:
        load(config_for(path))
    assert "analyzer_parameters.dt" in str(caught.value)


def test_given_times_beside_an_npy_stack_that_do_not_fit_then_their_file_is_named(tmp_path):
    refused(npy(tmp_path, q=0.005, phi=PHI, t=np.arange(11) * 0.25), r"a\.t\.npy has 11 times for 12 frames")


def test_given_uneven_times_beside_an_npy_stack_then_their_file_is_named(tmp_path):
    refused(npy(tmp_path, q=0.005, phi=PHI, t=np.arange(12.0) ** 2), r"a\.t\.npy: the times are not equally")


def test_given_an_npz_stack_without_times_then_the_array_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", c2=np.array([matrix(k) for k in range(3)]), q=0.005, phi=PHI)
    with pytest.raises(DataError, match=r"time step \(/t is missing\)"):
        load(config_for(tmp_path / "a.npz"))


def test_given_an_npy_stack_then_it_has_no_truth(tmp_path):
    assert read_truth(npy(tmp_path, q=0.005, phi=PHI)) is None


def test_given_an_npy_stack_alone_then_the_missing_lists_are_named(tmp_path):
    refused(npy(tmp_path, q=0.005), r"\(missing: \S*a\.phi\.npy\)")


def test_given_a_truncated_npy_stack_then_it_is_called_damaged(tmp_path):
    path = npy(tmp_path, q=0.005, phi=PHI)
    path.write_bytes(path.read_bytes()[:900])
    refused(path, "the NPY file is truncated or damaged")


def test_given_an_npz_without_q_then_the_error_lists_what_it_has(tmp_path):
    np.savez(tmp_path / "a.npz", np.array([matrix(0)]))
    refused(tmp_path / "a.npz", r"/arr_0 \(1, 12, 12\)")
