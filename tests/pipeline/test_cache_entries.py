"""Entries of the compile cache: whole ones stay, torn and altered ones go, nothing else is touched."""

from __future__ import annotations

import json
import sys
import types
import zlib
from pathlib import Path

import pytest

from hpcxpcs.pipeline import compile_cache
from hpcxpcs.pipeline.compile_cache import INDEX_NAME, check_entries

CODE = bytes(range(256)) * 40


def entry(folder: Path, name: str, content: bytes | None = None) -> Path:
    path = folder / f"{name}-cache"
    path.write_bytes(zlib.compress(CODE) if content is None else content)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*-cache")}


def test_given_whole_entries_then_all_stay_and_are_in_the_index(tmp_path):
    entry(tmp_path, "a")
    entry(tmp_path, "b")
    assert check_entries(tmp_path).whole == 2
    assert set(json.loads((tmp_path / INDEX_NAME).read_bytes())["sha256"]) == {"a-cache", "b-cache"}


@pytest.mark.parametrize("length", [0, 1, 2, 10, -5, -1])
def test_given_an_entry_cut_anywhere_then_it_is_removed_and_named(length, tmp_path):
    entry(tmp_path, "whole")
    entry(tmp_path, "torn", zlib.compress(CODE)[:length])
    assert check_entries(tmp_path).dropped == ("torn-cache",)
    assert names(tmp_path) == {"whole-cache"}


@pytest.mark.parametrize("position", [0, 3, 20, -2])
def test_given_a_flipped_bit_in_a_new_entry_then_it_is_removed(position, tmp_path):
    content = bytearray(zlib.compress(CODE))
    content[position] ^= 4
    entry(tmp_path, "flipped", bytes(content))
    assert check_entries(tmp_path).dropped == ("flipped-cache",)


def test_given_zeros_where_the_system_lost_the_end_then_the_entry_is_removed(tmp_path):
    content = zlib.compress(CODE)
    entry(tmp_path, "lost", content[:50] + bytes(len(content) - 50))
    assert check_entries(tmp_path).dropped == ("lost-cache",)


def test_given_an_entry_in_the_index_then_other_content_is_not_taken_for_it_even_if_it_decompresses(tmp_path):
    entry(tmp_path, "a")
    check_entries(tmp_path)
    entry(tmp_path, "a", zlib.compress(CODE + b"more"))
    assert check_entries(tmp_path).dropped == ("a-cache",)


def test_given_a_removed_entry_then_its_successor_is_taken_as_new(tmp_path):
    entry(tmp_path, "a", b"torn")
    check_entries(tmp_path)
    entry(tmp_path, "a")
    assert check_entries(tmp_path).whole == 1
    assert check_entries(tmp_path).dropped == ()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema_version": 2, "sha256": {"a-cache": "0"}}', "null"])
def test_given_an_index_that_says_nothing_then_entries_are_judged_by_themselves(text, tmp_path):
    entry(tmp_path, "a")
    (tmp_path / INDEX_NAME).write_text(text)
    assert check_entries(tmp_path).dropped == ()
    assert "a-cache" in json.loads((tmp_path / INDEX_NAME).read_bytes())["sha256"]


def test_given_an_entry_that_is_just_being_written_then_it_stays(tmp_path, monkeypatch):
    path = entry(tmp_path, "growing", zlib.compress(CODE)[:30])
    monkeypatch.setattr(
        compile_cache, "time", types.SimpleNamespace(sleep=lambda _: path.write_bytes(zlib.compress(CODE)))
    )
    assert check_entries(tmp_path).dropped == ()
    assert path.exists()


def test_given_an_entry_that_cannot_be_removed_then_it_is_not_said_to_be(tmp_path, monkeypatch):
    entry(tmp_path, "torn", b"torn")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", refuse)
    assert check_entries(tmp_path).dropped == ()


def test_given_other_files_in_the_folder_then_they_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    check_entries(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_given_an_empty_folder_then_nothing_is_written(tmp_path):
    assert check_entries(tmp_path).whole == 0
    assert list(tmp_path.iterdir()) == []


class TornError(Exception):
    """What a zstd package raises; its class is not known beforehand."""


def test_given_zstd_entries_then_the_package_that_jax_uses_judges_them(tmp_path, monkeypatch):
    class ZstdDecompressor:
        def decompress(self, content: bytes) -> bytes:
            if not content.endswith(b"end"):
                raise TornError
            return CODE

    package = types.ModuleType("zstandard")
    package.ZstdDecompressor = ZstdDecompressor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    monkeypatch.setitem(sys.modules, "zstandard", package)
    entry(tmp_path, "whole", b"\x28\xb5\x2f\xfd...end")
    entry(tmp_path, "torn", b"\x28\xb5\x2f\xfd...e")
    assert check_entries(tmp_path).dropped == ("torn-cache",)


def test_given_zstd_entries_that_nothing_here_can_read_then_they_are_removed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    entry(tmp_path, "foreign", b"\x28\xb5\x2f\xfd...end")
    assert check_entries(tmp_path).dropped == ("foreign-cache",)
