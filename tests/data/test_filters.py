"""Files packed with filters that HDF5 does not come with: read with hdf5plugin, and named without it."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest

from hpcxpcs.data.formats import FORMATS, open_file, write
from hpcxpcs.data.inspect import describe
from hpcxpcs.data.select import load
from hpcxpcs.errors import DataError, FormatError
from tests.data.packed import FILTERS, NOBODYS, pack, pack_as_nobody_can_read
from tests.data.stacks import Q, config_for, edited, matrix, off_diagonal, stack_of

FIRST = "xpcs/twotime/correlation_map/c2_00001"


def packed_file(path, options, name="nexus"):
    write(name, path, stack_of([Q, Q], [0.0, 90.0], 20))
    assert pack(path, options)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_given_bitshuffle_in_any_layout_then_inspection_and_fit_read_it(tmp_path, name):
    path = packed_file(tmp_path / "a.h5", FILTERS["bitshuffle"], name)
    found = describe(path)
    assert found.compression == "bitshuffle"
    assert [item.non_finite_pairs for item in found.examined] == [0, 0]
    data = load(config_for(path))
    for k in range(2):
        assert np.array_equal(off_diagonal(data.angle(k).c2), off_diagonal(matrix(k, 20)))


@pytest.mark.parametrize("used", FILTERS)
def test_given_any_of_the_filters_then_the_values_are_those_that_were_packed(tmp_path, used):
    path = packed_file(tmp_path / "a.h5", FILTERS[used])
    data = load(config_for(path))
    assert np.array_equal(off_diagonal(data.angle(1).c2), off_diagonal(matrix(1, 20)))
    assert describe(path).compression == used.split()[0]
    assert data.fingerprint() == load(config_for(path)).fingerprint()


def test_given_uncertainties_and_lists_that_are_packed_then_they_are_read_too(tmp_path):
    path = tmp_path / "a.h5"
    write("nexus", path, stack_of([Q, Q], [0.0, 90.0], 20))
    with edited(path) as file:
        file["noise/c2_00001"] = file["noise/c2_00002"] = np.full((20, 20), 0.01)
    assert len(pack(path, FILTERS["LZ4"], least=1)) > 8
    assert load(config_for(path, sigma="noise")).angle(1).sigma[3, 4] == 0.01


@pytest.mark.parametrize("used", FILTERS)
def test_given_a_chunk_that_is_damaged_then_the_file_is_called_damaged(tmp_path, used):
    path = packed_file(tmp_path / "a.h5", FILTERS[used])
    with h5py.File(path) as file:
        chunk = file[FIRST].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.h5: reading failed, the file is damaged"):
        load(config_for(path)).angle(0)


@pytest.mark.parametrize("used", FILTERS)
def test_given_a_chunk_that_unpacks_to_fewer_values_then_no_memory_behind_it_is_taken_for_data(tmp_path, used):
    path = packed_file(tmp_path / "a.h5", FILTERS[used])
    with edited(path) as file:
        options = {"chunks": (10, 20), **FILTERS[used]}
        short = file.create_dataset("short", data=matrix(0, 20)[:10].astype(np.float32), **options)
        _, content = short.id.read_direct_chunk((0, 0))
        del file[FIRST]
        file.create_dataset(FIRST, (20, 20), np.float32, chunks=(20, 20), **FILTERS[used])
        file[FIRST].id.write_direct_chunk((0, 0), content)
    with pytest.raises(DataError, match=r"a\.h5: reading failed, the file is damaged"):
        load(config_for(path)).angle(0)


@pytest.mark.parametrize("at", range(16))
@pytest.mark.parametrize("used", ["bitshuffle", "bitshuffle and Zstandard", "LZ4"])
def test_given_a_wrong_length_in_a_chunk_then_the_file_is_called_damaged_and_nothing_dies(tmp_path, used, at):
    path = packed_file(tmp_path / "a.h5", FILTERS[used])
    with h5py.File(path) as file:
        place = file[FIRST].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place + at] ^= 0x41
    path.write_bytes(content)
    if at in (8, 9, 10):  # a larger block than there are values: still one block, and nothing else changes
        assert np.array_equal(off_diagonal(load(config_for(path)).angle(0).c2), off_diagonal(matrix(0, 20)))
        return
    with pytest.raises(DataError, match="the file is damaged"):
        load(config_for(path)).angle(0)


@pytest.mark.parametrize("chunks", [(1, 20, 20), (2, 7, 20), (1, 20, 9), (1, 6, 6)])
def test_given_chunks_of_any_shape_then_a_damaged_one_spoils_what_is_in_it_and_no_more(tmp_path, chunks):
    path = tmp_path / "a.h5"
    write("viewer", path, stack_of([Q, Q], [0.0, 90.0], 20))
    with edited(path) as file:
        values = file["xpcs/twotime/c2"][()]
        del file["xpcs/twotime/c2"]
        file.create_dataset("xpcs/twotime/c2", data=values, chunks=chunks, **FILTERS["bitshuffle"])
        places = [file["xpcs/twotime/c2"].id.get_chunk_info(k) for k in range(8 // chunks[1] + 1)]
        chunk = next(item for item in places if item.chunk_offset == (0, 0, 0))
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + 8] = b"\xff" * 8
    path.write_bytes(content)
    data, late = load(config_for(path)), load(config_for(path, start_frame=10))
    with pytest.raises(DataError, match=r"the chunk at \(0, 0, 0\) states lengths"):
        data.angle(0)
    if chunks == (1, 6, 6):
        assert np.array_equal(off_diagonal(late.angle(0).c2), off_diagonal(matrix(0, 20)[9:, 9:]))
    if chunks[0] == 1:
        assert np.array_equal(off_diagonal(data.angle(1).c2), off_diagonal(matrix(1, 20)))


@pytest.mark.parametrize("more", [{"fletcher32": True}, {"shuffle": True}])
def test_given_a_checksum_or_ordered_bytes_beside_a_filter_then_the_values_are_read(tmp_path, more):
    path = packed_file(tmp_path / "a.h5", FILTERS["LZ4"] | more)
    assert np.array_equal(off_diagonal(load(config_for(path)).angle(1).c2), off_diagonal(matrix(1, 20)))


@pytest.mark.parametrize("look", [describe, lambda path: load(config_for(path))])
def test_given_a_filter_that_nobody_knows_then_its_number_and_dataset_are_named(tmp_path, look):
    path = tmp_path / "a.h5"
    write("nexus", path, stack_of([Q, Q], [0.0, 90.0], 20))
    pack_as_nobody_can_read(path, FIRST)
    with pytest.raises(FormatError, match=rf"a\.h5: /{FIRST} .*number {NOBODYS}.*neither HDF5 nor hdf5plugin") as told:
        look(path)
    assert "pip install" not in str(told.value)
    assert "damaged" not in str(told.value)


def test_given_an_unknown_filter_that_no_chunk_has_gone_through_then_the_values_are_read(tmp_path):
    path = tmp_path / "a.h5"
    write("nexus", path, stack_of([Q, Q], [0.0, 90.0], 20))
    pack_as_nobody_can_read(path, FIRST, skipped=True)
    with open_file(path) as layout:
        assert np.array_equal(layout.read(layout.bins[0]), np.triu(matrix(0, 20)))


WITHOUT_PLUGIN = """
    import sys

    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name == "hdf5plugin":
                raise ModuleNotFoundError("No module named 'hdf5plugin'", name=name)

    sys.meta_path.insert(0, Missing())
    from hpcxpcs.cli import main
    sys.exit(main())
"""
IMPORTED_PLUGIN = """
    import atexit, sys
    atexit.register(lambda: print("hdf5plugin" if "hdf5plugin" in sys.modules else "without"))
    from hpcxpcs.cli import main
    sys.exit(main())
"""


def run(script, *arguments):
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


def test_given_no_hdf5plugin_then_filter_dataset_and_remedy_are_told(tmp_path):
    path = packed_file(tmp_path / "a.h5", FILTERS["bitshuffle"])
    ended = run(WITHOUT_PLUGIN, "inspect", path)
    assert ended.returncode == 1
    assert f"{path}: /{FIRST} is packed with the HDF5 filter bitshuffle (number 32008)" in ended.stderr
    assert "hdf5plugin is not installed; pip install 'hpcxpcs[filters]' brings it" in ended.stderr
    assert "damaged" not in ended.stderr


def test_given_ordinary_files_then_hdf5plugin_is_not_imported(tmp_path):
    plain = tmp_path / "plain.h5"
    write("nexus", plain, stack_of([Q, Q], [0.0, 90.0], 20))
    packed = packed_file(tmp_path / "packed.h5", FILTERS["Zstandard"])
    told = {file: run(IMPORTED_PLUGIN, "inspect", file).stdout.splitlines()[-1] for file in (plain, packed)}
    assert told == {plain: "without", packed: "hdf5plugin"}
