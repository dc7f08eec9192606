"""The array store: what comes back is what went in, byte for byte, or nothing does."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from hpcxpcs.files import array_store
from hpcxpcs.files.array_store import DESCRIPTION, TAG_FILE, ArrayStore

KEYS = [f"{k:064x}" for k in range(1, 9)]
KEY = KEYS[0]
PLENTY = 1 << 40


@pytest.fixture
def store(tmp_path: Path) -> ArrayStore:
    return ArrayStore(tmp_path / "store", PLENTY)


def matrix(value: float = 1.0) -> dict[str, np.ndarray]:
    return {"c2": np.full((10, 10), value)}


def put_at(store: ArrayStore, key: str, used: float, value: float = 1.0) -> None:
    assert store.put(key, matrix(value), {})
    os.utime(place(store, key) / DESCRIPTION, (used, used))


def place(store: ArrayStore, key: str) -> Path:
    return store.folder / key[:2] / key[2:]


@given(
    arrays_of.arrays(
        st.sampled_from([np.float32, np.float64, np.bool_, np.int16]),
        arrays_of.array_shapes(min_dims=0, max_dims=3, max_side=5),
    )
)
def test_given_any_array_then_the_same_bytes_come_back(tmp_path_factory, array):
    store = ArrayStore(tmp_path_factory.mktemp("store"), PLENTY)
    assert store.put(KEY, {"a": array}, {"notes": ["β"]})
    found = store.get(KEY)
    assert found is not None
    arrays, values = found
    assert arrays["a"].dtype == array.dtype and arrays["a"].shape == array.shape
    assert arrays["a"].tobytes() == array.tobytes()
    assert values == {"notes": ["β"]}


def test_given_a_view_with_strides_then_its_values_are_kept(store):
    whole = np.arange(20.0).reshape(4, 5)
    store.put(KEY, {"a": whole.T[::-1]}, {})
    np.testing.assert_array_equal(store.get(KEY)[0]["a"], whole.T[::-1])


def test_given_an_unknown_key_then_there_is_nothing(store):
    assert store.get(KEY) is None


@pytest.mark.parametrize("place_of_damage", [0, 399, 799])
def test_given_one_altered_byte_then_there_is_no_entry_any_more(store, place_of_damage):
    store.put(KEY, matrix(), {})
    file = place(store, KEY) / "c2.bin"
    content = bytearray(file.read_bytes())
    content[place_of_damage] ^= 1
    file.write_bytes(content)
    assert store.get(KEY) is None
    assert store.entries() == ()


@pytest.mark.parametrize("length", [0, 799, 801])
def test_given_another_length_then_there_is_no_entry_any_more(store, length):
    store.put(KEY, matrix(), {})
    file = place(store, KEY) / "c2.bin"
    file.write_bytes((file.read_bytes() + b"x")[:length])
    assert store.get(KEY) is None


def test_given_an_array_that_is_gone_then_there_is_no_entry_any_more(store):
    store.put(KEY, matrix(), {})
    (place(store, KEY) / "c2.bin").unlink()
    assert store.get(KEY) is None and store.entries() == ()


def test_given_an_array_that_this_process_cannot_read_then_the_entry_stays_for_others(store, monkeypatch):
    store.put(KEY, matrix(), {})

    def failing(*_: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(array_store, "_read", failing)
        assert store.get(KEY) is None
    assert store.get(KEY) is not None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"arrays": {"c2": {}}, "values": {}}', '{"arrays": [1], "values": 2}'],
)
def test_given_a_spoiled_description_then_there_is_no_entry(store, text):
    store.put(KEY, matrix(), {})
    (place(store, KEY) / DESCRIPTION).write_text(text)
    assert store.get(KEY) is None


def test_given_a_description_that_asks_for_objects_then_there_is_no_entry(store):
    store.put(KEY, matrix(), {})
    file = place(store, KEY) / DESCRIPTION
    described = json.loads(file.read_text())
    described["arrays"]["c2"]["dtype"] = "|O"
    file.write_text(json.dumps(described))
    assert store.get(KEY) is None


def test_given_a_full_store_then_what_was_not_used_for_longest_goes(tmp_path):
    store = ArrayStore(tmp_path, 4_500)
    for age, key in enumerate(KEYS[:4]):
        put_at(store, key, 1000.0 + age)
    assert store.get(KEYS[0]) is not None  # used just now: KEYS[1] is the oldest
    assert store.put(KEYS[4], matrix(), {})
    assert {one.key for one in store.entries()} == {KEYS[0], KEYS[2], KEYS[3], KEYS[4]}


def test_given_more_than_the_limit_then_nothing_is_kept_and_nothing_goes(tmp_path):
    store = ArrayStore(tmp_path, 1_000)
    assert store.put(KEY, matrix(), {})
    assert not store.put(KEYS[1], {"c2": np.zeros(1000)}, {})
    assert [one.key for one in store.entries()] == [KEY]


def test_given_a_disk_without_room_then_nothing_is_kept(store, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12, 10**9))
    assert not store.put(KEY, matrix(), {})
    assert store.get(KEY) is None


def test_given_a_disk_that_fills_up_then_nothing_is_left_of_the_entry(store, monkeypatch):
    def full(path: Path, array: np.ndarray) -> dict[str, object]:
        path.write_bytes(b"begun")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(array_store, "_write", full)
    assert not store.put(KEY, matrix(), {})
    assert [path.name for path in store.folder.iterdir()] == [TAG_FILE]


def test_given_a_file_in_place_of_the_folder_then_nothing_is_kept(tmp_path):
    (tmp_path / "store").write_text("in the way")
    assert not ArrayStore(tmp_path / "store", PLENTY).put(KEY, matrix(), {})


def test_given_what_a_killed_process_left_then_it_goes_after_a_day(store):
    left = store.folder / "unfinished-node-1-ab"
    left.mkdir(parents=True)
    store.put(KEY, matrix(), {})
    assert left.exists()
    os.utime(left, (1000.0, 1000.0))
    store.put(KEYS[1], matrix(), {})
    assert not left.exists()


def test_clearing_removes_entries_and_leaves_what_others_put_there(store):
    store.put(KEY, matrix(), {})
    foreign = [store.folder / "ab" / "notes.txt", store.folder / "cd" / "results" / "x", store.folder / "my.h5"]
    for file in foreign:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
    count, size = store.clear()
    assert count == 1 and size > 800
    assert all(file.read_text() == "mine" for file in foreign)


def test_clearing_a_store_of_its_own_removes_the_folder(store):
    store.put(KEY, matrix(), {})
    store.clear()
    assert not store.folder.exists()


def test_entries_tell_what_they_were_told_the_last_used_first(store):
    put_at(store, KEYS[0], 1000.0)
    store.put(KEYS[1], matrix(), {"phi": 3.0})
    entries = store.entries()
    assert [one.key for one in entries] == [KEYS[1], KEYS[0]]
    assert entries[0].values == {"phi": 3.0} and entries[1].used == 1000.0


def _use(folder: Path, seed: int, wrong: multiprocessing.Queue) -> None:
    """Put and get a few keys over and over in a store that has room for half of them."""
    store, rng = ArrayStore(folder, 20_000), np.random.default_rng(seed)
    for _ in range(150):
        k = int(rng.integers(len(KEYS)))
        expected = np.full((25, 25), float(k))
        found = store.get(KEYS[k])
        if found is None:
            store.put(KEYS[k], {"c2": expected}, {})
        elif not np.array_equal(found[0]["c2"], expected):
            wrong.put(k)


def test_given_many_processes_at_once_then_nobody_ever_gets_another_array(tmp_path):
    context = multiprocessing.get_context("spawn")
    wrong = context.Queue()
    processes = [context.Process(target=_use, args=(tmp_path, seed, wrong)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 4
    assert wrong.empty()
    assert not list(tmp_path.glob("unfinished-*")) and not list(tmp_path.glob("discarded-*"))
    assert sum(one.size for one in ArrayStore(tmp_path, 0).entries()) < 4 * 20_000
