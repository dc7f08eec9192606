"""HDF5 files that point elsewhere or hold damaged texts: refused by name at once, whole ones read as ever."""

from __future__ import annotations

import os
import struct

import h5py
import numpy as np
import pytest

from hpcxpcs.data.formats import nxxpcs, open_file, write
from hpcxpcs.data.inspect import describe
from hpcxpcs.data.select import load
from hpcxpcs.errors import DataError
from tests.data.stacks import Q, config_for, edited, stack_of

MATRIX = "xpcs/twotime/correlation_map/c2_00001"
UNITS = "xpcs/qmap/map_units"
AXIS = "xpcs/qmap/dynamic_v_list_dim0"


@pytest.fixture
def path(tmp_path):
    write("nexus", tmp_path / "a.h5", stack_of([Q, Q], [0.0, 90.0]))
    return tmp_path / "a.h5"


def refused(path, *words):
    for look in (describe, lambda path: load(config_for(path)).angle(0)):
        with pytest.raises(DataError) as caught:
            look(path)
        assert all(word in str(caught.value) for word in (str(path), *words)), str(caught.value)


def elsewhere(tmp_path, kind):
    if kind == "pipe":
        os.mkfifo(tmp_path / "other.h5")
    elif kind == "file":
        write("nexus", tmp_path / "other.h5", stack_of([Q], [0.0]))
    return "/dev/zero" if kind == "device" else str(tmp_path / "other.h5")


@pytest.mark.parametrize("kind", ["file", "pipe", "device", "nothing"])
@pytest.mark.parametrize("name", [MATRIX, "xpcs/twotime/correlation_map", "xpcs/qmap", "xpcs", AXIS])
def test_given_a_link_to_another_file_on_the_way_then_it_is_named_and_not_followed(name, kind, path, tmp_path):
    target = elsewhere(tmp_path, kind)
    with edited(path) as file:
        del file[name]
        file[name] = h5py.ExternalLink(target, f"/{name}")
    refused(path, f"/{name} is a link to another file ({target}, /{name})")


def test_given_a_link_within_the_file_to_one_that_leaves_it_then_it_is_refused_too(path, tmp_path):
    with edited(path) as file:
        del file[MATRIX]
        file["outside"] = h5py.ExternalLink(elsewhere(tmp_path, "pipe"), "/")
        file[MATRIX] = h5py.SoftLink("/outside/c2")
    refused(path, "/outside is a link to another file")


def test_given_links_within_the_file_then_they_are_followed(path):
    with edited(path) as file:
        file.move("xpcs/qmap", "kept/here")
        file["xpcs/qmap"] = h5py.SoftLink("/kept/here")
    assert load(config_for(path)).n_phi == 2


def test_given_links_in_a_circle_then_the_file_is_refused(path):
    with edited(path) as file:
        del file["xpcs/qmap"]
        file["xpcs/qmap"] = h5py.SoftLink("/xpcs/qmap")
    refused(path)


def test_given_a_link_to_another_file_that_nobody_asks_for_then_it_does_no_harm(path):
    with edited(path) as file:
        file["raw"] = h5py.ExternalLink("/dev/zero", "/")
    assert load(config_for(path)).angle(1).c2.shape == (12, 12)


@pytest.mark.parametrize("kind", ["external", "virtual"])
def test_given_values_in_another_file_then_the_dataset_is_refused(kind, path, tmp_path):
    target = elsewhere(tmp_path, "pipe")
    with edited(path) as file:
        del file[MATRIX]
        if kind == "external":
            file.create_dataset(MATRIX, (12, 12), "f4", external=[(target, 0, 576)])
        else:
            layout = h5py.VirtualLayout((12, 12), "f4")
            layout[...] = h5py.VirtualSource(target, MATRIX, (12, 12))
            file.create_virtual_dataset(MATRIX, layout)
    refused(path, f"/{MATRIX} has its values in another file", target)


def test_given_a_virtual_dataset_of_the_file_itself_then_it_is_read(path):
    with edited(path) as file:
        file.move(MATRIX, "kept")
        layout = h5py.VirtualLayout((12, 12), "f4")
        layout[...] = h5py.VirtualSource(".", "kept", (12, 12))
        file.create_virtual_dataset(MATRIX, layout)
    assert load(config_for(path)).angle(0).c2[0, 1] > 1.0


def test_given_something_that_is_no_file_in_the_place_of_data_then_it_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, words in (("pipe", "a named pipe"), ("folder", "a folder"), ("/dev/zero", "a device")):
        with pytest.raises(DataError, match=f"is {words}, not a data file"):
            describe(tmp_path / name)


def test_given_a_pipe_beside_a_stack_of_numbers_then_it_is_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 12, 12)))
    np.save(tmp_path / "a.q.npy", np.array([Q]))
    os.mkfifo(tmp_path / "a.phi.npy")
    with pytest.raises(DataError, match=r"a\.phi\.npy: is a named pipe"):
        describe(tmp_path / "a.npy")


ENTRIES = {
    "zeros": struct.pack("<HH4xQ", 0, 0, 0),
    "a length that runs around": struct.pack("<HH4xQ", 1, 1, 2**64 - 16),
    "a length beyond the block": struct.pack("<HH4xQ", 1, 1, 1 << 40),
    "the rest of the block is gone": bytes(4080),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_given_a_damaged_block_of_texts_then_the_answer_comes_at_once(entry, path):
    content = bytearray(path.read_bytes())
    start = content.index(b"GCOL") + 16
    content[start : start + len(ENTRIES[entry])] = ENTRIES[entry]
    path.write_bytes(content)
    refused(path, "texts of the file are damaged")


def test_given_a_text_of_impossible_length_in_a_dataset_then_no_memory_is_taken_for_it(path):
    with h5py.File(path) as file:
        place = file[UNITS].id.get_offset()
    content = bytearray(path.read_bytes())
    content[place : place + 4] = b"\xff" * 4
    path.write_bytes(content)
    refused(path, f"/{UNITS} holds texts of impossible length")


def test_given_an_attribute_of_impossible_length_then_no_memory_is_taken_for_it(tmp_path):
    path = tmp_path / "a.h5"
    write("viewer", path, stack_of([Q], [0.0]))
    with edited(path) as file:
        file["xpcs/twotime/q_values"].attrs["units"] = "1/angstrom"
    content = bytearray(path.read_bytes())
    place = content.index(struct.pack("<IQ", len("1/angstrom"), content.index(b"GCOL")))
    content[place : place + 4] = b"\xff" * 4
    path.write_bytes(content)
    refused(path, "/xpcs/twotime/q_values: attribute units is a text of impossible length")


def test_given_a_list_of_impossible_size_then_it_is_not_read(path):
    with edited(path) as file:
        del file[AXIS]
        file.create_dataset(AXIS, (10**12,), "f8", chunks=(1000,))
    refused(path, f"/{AXIS} has shape (1000000000000,)", "too many values")


def test_given_texts_of_variable_and_of_fixed_length_then_both_are_read(tmp_path):
    path = tmp_path / "a.h5"
    for text in ("1/nm", np.bytes_("1/nm")):
        nxxpcs.write(path, stack_of([0.05], [0.0]))
        with edited(path) as file:
            file["entry/instrument/masks/dynamic_q_list"].attrs["units"] = text
        with open_file(path) as layout:
            assert layout.bins[0].q == pytest.approx(0.005)


def test_given_what_controls_a_terminal_in_a_file_then_messages_show_it_instead(path):
    with edited(path) as file:
        file[AXIS].attrs["unit"] = "\x1b[31mred" + "x" * 50_000
    with pytest.raises(DataError) as caught:
        describe(path)
    assert r"\x1b[31mred" in str(caught.value) and "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 5000
