"""Files that are missing, damaged or something else: one readable error each, and no traceback from below."""

from __future__ import annotations

import fcntl
import os

import h5py
import numpy as np
import pytest

from hpcxpcs.data.formats import detect, open_file, read_truth, write
from hpcxpcs.data.select import load
from hpcxpcs.errors import DataError, FormatError
from tests.data.stacks import config_for, edited, stack_of

FORMATS = ["nexus", "legacy", "cube", "nxxpcs", "viewer"]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.h5"
    write("nexus", path, stack_of([0.005, 0.005], [0.0, 90.0], n=100))
    return path


def test_given_a_missing_file_then_it_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.h5: no such file"):
        detect(tmp_path / "nowhere.h5")


def test_given_a_folder_then_it_is_named(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        detect(tmp_path)


def test_given_an_empty_file_then_it_is_called_empty(tmp_path):
    (tmp_path / "a.h5").touch()
    with pytest.raises(FormatError, match="empty"):
        detect(tmp_path / "a.h5")


@pytest.mark.parametrize("content", [b"q,phi,c2\n1,2,3\n", b"\x89", b"\x93NUMPX" + bytes(200)])
def test_given_something_else_then_it_is_called_neither_hdf5_nor_npz(tmp_path, content):
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(FormatError, match="neither an HDF5 nor an NPZ file"):
        detect(tmp_path / "a.h5")


def test_given_a_matlab_file_then_the_way_out_is_told(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(200))
    with pytest.raises(FormatError, match="MATLAB file; save c2, q, phi and t from it as HDF5 or NPZ"):
        detect(tmp_path / "a.mat")


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.99])
def test_given_a_truncated_hdf5_file_then_it_is_called_truncated(path, kept):
    os.truncate(path, int(path.stat().st_size * kept))
    with pytest.raises(FormatError, match=r"a\.h5: the HDF5 file is truncated"):
        detect(path)


def test_given_a_truncated_npz_file_then_it_is_called_damaged(tmp_path):
    path = tmp_path / "a.npz"
    write("cube", path, stack_of([0.005], [0.0]))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(FormatError, match="truncated or damaged"):
        detect(path)


@pytest.mark.parametrize("place", [6, 8, 10])
def test_given_an_npz_file_that_asks_for_what_zip_cannot_do_then_it_is_called_damaged(tmp_path, place):
    path = tmp_path / "a.npz"
    write("cube", path, stack_of([0.005], [0.0]))
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + place] = 0x7F
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"truncated or damaged|is broken"):
        detect(path)


@pytest.mark.parametrize("name", ["legacy", "cube", "nxxpcs", "viewer"])
def test_given_flipped_bytes_then_a_file_is_read_or_refused(tmp_path, name):
    path, random = tmp_path / ("a.npz" if name == "cube" else "a.h5"), np.random.default_rng(5)
    write(name, path, stack_of([0.005], [0.0]))
    whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    for _ in range(60):
        spoiled = whole.copy()
        spoiled[random.integers(0, len(whole), 5)] = random.integers(0, 256, 5)
        path.write_bytes(spoiled.tobytes())
        try:
            load(config_for(path)).angle(0)
        except DataError as error:
            assert str(path) in str(error)


def test_given_a_damaged_matrix_then_reading_it_names_the_file(path):
    with h5py.File(path) as file:
        where = file["xpcs/twotime/correlation_map/c2_00001"].id.get_chunk_info(0)
    with path.open("r+b") as stream:
        stream.seek(where.byte_offset)
        stream.write(b"\xff" * where.size)
    data = load(config_for(path))
    with pytest.raises(DataError, match=r"a\.h5: reading failed, the file is damaged"):
        data.angle(0)


def test_given_an_unknown_layout_then_the_error_lists_what_was_looked_for_and_what_is_there(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["measurement/frames"] = np.zeros((3, 4))
        file["comment"] = "hello"
    with pytest.raises(FormatError) as caught:
        detect(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    for expected in ("/xpcs/twotime/correlation_map", "/exchange/C2T_all", "/exchange/{data, t, phi, q}"):
        assert expected in message
    assert "/measurement/frames (3, 4)" in message
    assert "/comment" in message


def test_given_a_multitau_result_then_the_error_says_that_it_has_no_two_time_matrices(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["xpcs/multitau/normalized_g2"] = np.zeros((5, 2))
    with pytest.raises(FormatError, match=r"multi-tau .* no two-time matrices"):
        detect(tmp_path / "a.h5")


def test_given_a_huge_unknown_tree_then_the_list_is_cut(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for k in range(500):
            file[f"scan_{k:03d}/values"] = k
    with pytest.raises(FormatError, match="… and 960 more"):
        detect(tmp_path / "a.h5")


def test_given_an_empty_tree_then_the_error_says_so(tmp_path):
    h5py.File(tmp_path / "a.h5", "w").close()
    with pytest.raises(FormatError, match="nothing at all"):
        detect(tmp_path / "a.h5")


@pytest.mark.parametrize("name", FORMATS)
def test_given_a_misleading_file_name_then_the_contents_decide(tmp_path, name):
    path = tmp_path / "legacy_nexus_cube.npz.txt"
    write(name, path, stack_of([0.005], [0.0]))
    assert detect(path) == name


def test_given_another_format_than_asked_for_then_it_is_refused(path):
    with (
        pytest.raises(FormatError, match="format is legacy, but the file has no /exchange/C2T_all"),
        open_file(path, "legacy"),
    ):
        pass


def test_given_a_format_that_does_not_exist_then_the_known_ones_are_listed(path):
    with (
        pytest.raises(FormatError, match="known: nexus, legacy, cube, nxxpcs, viewer"),
        open_file(path, "nexsu"),
    ):
        pass


def test_given_a_read_only_file_that_another_program_has_locked_then_it_can_be_read(path):
    path.chmod(0o444)
    with path.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="lock"):
            h5py.File(path, "r", locking=True)
        assert detect(path) == "nexus"


def test_given_a_file_that_this_program_has_open_then_it_can_be_read(path):
    with h5py.File(path, "r"):
        assert detect(path) == "nexus"


@pytest.mark.parametrize("name", ["a.h5", "a.npz"])
@pytest.mark.parametrize("format_name", FORMATS)
def test_given_truth_then_it_comes_back_as_written(tmp_path, format_name, name):
    if format_name != "cube" and name == "a.npz":
        name = "b.h5"
    truth = {
        "model": "static",
        "D0": 1.2e4,
        "contrast": np.array([0.1, 0.2]),
        "seed": 3,
        "nested": {"a": [1, None]},
    }
    write(format_name, tmp_path / name, stack_of([0.005], [0.0], truth=truth))
    assert read_truth(tmp_path / name) == truth | {"contrast": [0.1, 0.2]}


def test_given_truth_in_hdf5_then_its_numbers_are_attributes(tmp_path):
    write("nexus", tmp_path / "a.h5", stack_of([0.005], [0.0], truth={"D0": 1.2e4, "contrast": [0.1, 0.2]}))
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["truth"].attrs["D0"] == 1.2e4
        assert file["truth"].attrs["contrast"].tolist() == [0.1, 0.2]


def test_given_no_truth_then_there_is_none(path):
    assert read_truth(path) is None


def test_given_truth_too_large_for_an_attribute_then_nothing_is_written(tmp_path):
    with pytest.raises(DataError, match="leave out arrays"):
        write("nexus", tmp_path / "a.h5", stack_of([0.005], [0.0], truth={"x": list(range(20000))}))
    assert list(tmp_path.iterdir()) == []


def test_given_truth_then_the_reader_of_matrices_does_not_see_it(path):
    plain = load(config_for(path)).fingerprint()
    with edited(path) as file:
        file.create_group("truth").attrs["json"] = '{"D0": 1}'
    told = load(config_for(path))
    assert told.fingerprint() == plain
    assert "truth" not in told.provenance
