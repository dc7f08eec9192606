"""Sealed files return what was written, or say what is wrong with them."""

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hpcxpcs.errors import ForeignFile, FutureFile, OutputError, StoreError, TornFile
from hpcxpcs.files import atomic
from hpcxpcs.runs.sealed import (
    HEADER_BYTES,
    Sealed,
    newest_good,
    peek,
    previous_generation,
    read_sealed,
    write_sealed,
)
from tests.patience import PATIENCE
from tests.runs.store import age, sample_sealed

RUN_ID = "1234abcd"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "00003.h5"


def read(path):
    return read_sealed(path, kind="shard", run_id=RUN_ID)


def newest(path):
    """The newest good generation of a file, None when there is none, and the warnings on the way."""
    warnings = []
    found = newest_good(path, kind="shard", run_id=RUN_ID, warn=warnings.append)
    return (None if found is None else found.progress["generation"]), warnings


def flip(path, position, bit=0):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def reworded(path, **changes):
    """Give a file another header, with the right hash of itself."""
    content = path.read_bytes()
    magic, _, rest = content[:HEADER_BYTES].partition(b"\n")
    header = json.loads(rest.partition(b"\n")[0]) | changes
    text = json.dumps(header).encode()
    first = magic[: -len(hashlib.sha256().hexdigest())] + hashlib.sha256(text).hexdigest().encode()
    path.write_bytes((first + b"\n" + text + b"\n").ljust(HEADER_BYTES, b"\0") + content[HEADER_BYTES:])


names = st.lists(st.text("abcxyz _.-é0", min_size=1, max_size=5).filter(lambda part: part != "."), min_size=1)
dtypes = st.sampled_from(["?", "<u4", "<i8", ">i4", "<f8", ">f8", "<f4", "<f2", "u1", "<u8", "<c16"])
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=60)
@given(
    st.dictionaries(names.map("/".join), arrays, max_size=4),
    st.dictionaries(texts, json_values, max_size=4),
    st.dictionaries(texts, numbers | st.integers(-(2**70), 2**70), max_size=3),
)
def test_given_any_arrays_and_attributes_when_read_back_then_every_bit_and_type_is_the_same(
    tmp_path_factory, content, attributes, progress
):
    path = tmp_path_factory.mktemp("sealed") / "a.h5"
    clashes = any(f"{other}/".startswith(f"{name}/") for name in content for other in content if other != name)
    sealed = Sealed("shard", RUN_ID, "a", "running", progress, content, attributes)
    if clashes or "attributes" in {name.split("/")[0] for name in content}:
        return
    write_sealed(path, sealed)
    found = read(path)
    assert set(found.arrays) == set(content)
    for name, array in content.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape
        assert found.arrays[name].tobytes() == array.tobytes()
    assert (found.attributes, found.progress) == (attributes, progress)


def test_given_a_sealed_file_then_any_hdf5_program_opens_it(path):
    write_sealed(path, sample_sealed(1))
    with h5py.File(path) as file:
        assert file.userblock_size == HEADER_BYTES
        assert (file["draws/z"][:] == 1).all()
        assert file["key"].dtype == np.uint32
        assert json.loads(file["attributes"][()]) == {"step_size": [0.5, 0.25]}


def test_given_equal_content_then_the_files_have_equal_bytes(path, tmp_path):
    write_sealed(path, sample_sealed(1))
    write_sealed(tmp_path / "again.h5", sample_sealed(1))
    assert path.read_bytes() == (tmp_path / "again.h5").read_bytes()


def test_given_a_sealed_file_then_its_header_can_be_read_as_text(path):
    write_sealed(path, sample_sealed(1))
    lines = path.read_bytes()[:HEADER_BYTES].split(b"\n")
    assert lines[0].startswith(b"hpcxpcs-sealed ")
    assert json.loads(lines[1])["name"] == "shard-00003"


def test_given_attributes_larger_than_an_hdf5_attribute_may_be_then_they_are_kept(path):
    attributes = {"long": list(range(30_000))}
    write_sealed(path, Sealed("shard", RUN_ID, "a", "running", attributes=attributes))
    assert read(path).attributes == attributes


def test_given_every_single_altered_bit_then_it_is_noticed(path):
    write_sealed(path, Sealed("shard", RUN_ID, "a", "running", {}, {"x": np.arange(3)}))
    content = path.read_bytes()
    positions = [*range(400), *range(400, len(content), 37)]
    for position in positions:
        flip(path, position, bit=position % 8)
        with pytest.raises(TornFile):
            read(path)
        path.write_bytes(content)
    assert (read(path).arrays["x"] == [0, 1, 2]).all()


@pytest.mark.parametrize("length", [0, 1, 100, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, -1])
def test_given_a_file_that_was_cut_then_it_is_torn_and_has_no_header_to_trust(path, length):
    write_sealed(path, sample_sealed(1))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(TornFile, match=r"00003\.h5.*run the same command again"):
        read(path)
    assert peek(path) is None


def test_given_a_file_with_something_behind_its_end_then_it_is_torn(path):
    write_sealed(path, sample_sealed(1))
    with path.open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(TornFile, match="instead of"):
        read(path)


def test_given_zeros_where_the_content_should_be_then_no_hdf5_is_parsed(path, monkeypatch):
    write_sealed(path, sample_sealed(1))
    content = path.read_bytes()
    path.write_bytes(content[:HEADER_BYTES] + bytes(len(content) - HEADER_BYTES))
    monkeypatch.setattr(h5py, "File", None)
    with pytest.raises(TornFile, match="hash"):
        read(path)


@pytest.mark.parametrize(("kind", "run_id", "words"), [("exact", RUN_ID, "exact"), ("shard", "other", "run 1234abcd")])
def test_given_a_file_of_another_kind_or_run_then_it_is_foreign_and_no_other_generation_is_tried(
    path, kind, run_id, words
):
    write_sealed(path, sample_sealed(1))
    write_sealed(path, sample_sealed(2))
    with pytest.raises(ForeignFile, match=words):
        read_sealed(path, kind=kind, run_id=run_id)
    with pytest.raises(ForeignFile):
        newest_good(path, kind=kind, run_id=run_id, warn=pytest.fail)


def test_given_a_file_of_a_future_format_then_the_error_says_so_and_no_other_generation_is_tried(path):
    write_sealed(path, sample_sealed(1))
    write_sealed(path, sample_sealed(2))
    reworded(path, format=2, unheard_of=True)
    with pytest.raises(FutureFile, match=r"format 2.*up to 1.*version that wrote it"):
        read(path)
    with pytest.raises(FutureFile):
        newest(path)
    assert peek(path) is None


def test_given_no_file_then_reading_says_that_it_is_missing(path):
    with pytest.raises(StoreError, match="is missing"):
        read(path)
    assert peek(path) is None
    assert newest(path) == (None, [])


def test_given_a_disk_error_when_read_then_it_is_not_called_torn(path, monkeypatch):
    write_sealed(path, sample_sealed(1))

    def failing(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(StoreError, match="Input/output error") as caught:
        read(path)
    assert not isinstance(caught.value, TornFile)


def test_given_three_generations_then_the_newest_two_are_kept(path):
    for generation in (1, 2, 3):
        write_sealed(path, sample_sealed(generation))
    assert read(path).progress["generation"] == 3
    assert read(previous_generation(path)).progress["generation"] == 2
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["00003.h5", "00003.prev.h5"]


def test_given_a_torn_file_then_the_previous_generation_is_used_with_a_warning(path):
    write_sealed(path, sample_sealed(1))
    write_sealed(path, sample_sealed(2))
    flip(path, -1)
    generation, warnings = newest(path)
    assert generation == 1
    assert len(warnings) == 1
    assert str(path) in warnings[0]


def test_given_only_the_previous_generation_then_it_is_used(path):
    write_sealed(path, sample_sealed(1))
    path.rename(previous_generation(path))
    assert newest(path) == (1, [])


def test_given_two_torn_generations_then_there_is_none_and_both_are_named(path):
    write_sealed(path, sample_sealed(1))
    write_sealed(path, sample_sealed(2))
    flip(path, -1)
    flip(previous_generation(path), -1)
    generation, warnings = newest(path)
    assert generation is None
    assert [str(path) in warnings[0], str(previous_generation(path)) in warnings[1]] == [True, True]


def test_given_a_torn_file_when_written_again_then_the_good_previous_generation_stays(path):
    write_sealed(path, sample_sealed(1))
    write_sealed(path, sample_sealed(2))
    flip(path, -1)
    write_sealed(path, sample_sealed(3))
    assert read(previous_generation(path)).progress["generation"] == 1


def test_given_a_disk_that_returns_other_bytes_than_were_written_then_the_old_file_stays(path, monkeypatch):
    write_sealed(path, sample_sealed(1))

    def corrupt(step):
        if step.startswith("synced"):
            temporary = next(path.parent.glob(".*.tmp"))
            flip(temporary, -1)

    monkeypatch.setattr(atomic, "reached", corrupt)
    with pytest.raises(OutputError, match="does not return what was written"):
        write_sealed(path, sample_sealed(2))
    assert read(path).progress["generation"] == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["00003.h5"]


def test_given_a_write_then_content_is_durable_before_its_name_and_the_name_at_the_end(path, monkeypatch):
    write_sealed(path, sample_sealed(1))
    order = []
    sync, replace = os.fsync, os.replace

    def recorded_sync(descriptor):
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        order.append("sync folder" if target.is_dir() else "sync file")
        sync(descriptor)

    def recorded_replace(source, target, **_):
        order.append(f"rename to {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    write_sealed(path, sample_sealed(2))
    assert order == ["sync file", "rename to 00003.prev.h5", "rename to 00003.h5", "sync folder"]


def test_given_a_reader_while_a_writer_replaces_the_file_then_the_reader_always_finds_a_whole_one(path):
    write_sealed(path, sample_sealed(0))
    program = (
        "import sys; from pathlib import Path; from hpcxpcs.runs.sealed import write_sealed\n"
        "from tests.runs.store import sample_sealed\n"
        "for n in range(1, 60): write_sealed(Path(sys.argv[1]), sample_sealed(n))"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(path)], cwd=Path(__file__).parents[2])
    seen = []
    while writer.poll() is None:
        seen.append(read(path).progress["generation"])
        assert peek(path) is not None
    assert writer.wait(timeout=PATIENCE) == 0
    assert seen == sorted(seen)
    assert read(path).progress["generation"] == 59


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_given_two_writers_of_one_file_at_once_then_none_fails_and_a_whole_file_stays(path, links):
    program = (
        "import errno, os, sys; from pathlib import Path; from hpcxpcs.runs.sealed import write_sealed\n"
        "from tests.runs.store import sample_sealed\n"
        "def refuse(*_): raise OSError(errno.EPERM, '')\n"
        "if sys.argv[2] == 'False': os.link = refuse\n"
        "for n in range(1, 60): write_sealed(Path(sys.argv[1]), sample_sealed(n))"
    )
    command = [sys.executable, "-c", program, str(path), str(links)]
    writers = [subprocess.Popen(command, cwd=Path(__file__).parents[2]) for _ in range(2)]
    assert [writer.wait(timeout=PATIENCE) for writer in writers] == [0, 0]
    assert read(path).progress["generation"] == 59
    assert len(list(path.parent.iterdir())) == 2


def test_given_left_overs_of_killed_writers_then_old_ones_are_removed_and_young_ones_stay(path):
    old, young = path.with_name(f".{path.name}.1-a.tmp"), path.with_name(f".{path.name}.2-b.tmp")
    for left_over in (old, young):
        left_over.touch()
    age(old, 7200)
    write_sealed(path, sample_sealed(1))
    assert (old.exists(), young.exists()) == (False, True)


def test_given_a_finished_file_then_its_header_says_so_without_its_content(path):
    write_sealed(path, sample_sealed(4, status="done"))
    header = peek(path)
    assert (header.status, header.name, header.run_id) == ("done", "shard-00003", RUN_ID)
    assert header.progress == {"generation": 4}
    assert header.length == path.stat().st_size - HEADER_BYTES


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "a/./b", ".", "attributes", "a\0b"])
def test_given_a_name_that_hdf5_would_change_then_it_is_refused_and_nothing_is_written(path, name):
    with pytest.raises(ValueError, match="cannot name an array"):
        write_sealed(path, Sealed("shard", RUN_ID, "a", "running", {}, {name: np.zeros(1)}))
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.array(["2024"], "M8[D]")])
def test_given_an_array_that_is_not_numbers_then_it_is_refused(path, array):
    with pytest.raises(TypeError, match="no place in a sealed file"):
        write_sealed(path, Sealed("shard", RUN_ID, "a", "running", {}, {"x": array}))


def test_given_progress_that_does_not_fit_the_header_then_it_is_refused(path):
    with pytest.raises(ValueError, match="progress is too long"):
        write_sealed(path, Sealed("shard", RUN_ID, "a", "running", {"text": "x" * HEADER_BYTES}))
    assert list(path.parent.iterdir()) == []


def test_given_an_ordinary_hdf5_file_then_it_is_not_taken_for_a_sealed_one(path):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["x"] = np.zeros(1000)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(TornFile, match="header"):
        read(path)
