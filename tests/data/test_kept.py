"""Prepared matrices kept on disk: a hit is exactly what would have been made, and nothing else is a hit."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hpcxpcs.config import config_from_mapping
from hpcxpcs.data import matrices as matrices_module
from hpcxpcs.data.formats import Stack, write
from hpcxpcs.data.matrices import AngleMatrix, KeptMatrices, Matrices
from hpcxpcs.data.select import load
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.files.array_store import ArrayStore

N = 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(4)
    c2 = 1.0 + 0.1 * rng.random((3, N, N))
    c2 = (c2 + c2.transpose(0, 2, 1)) / 2
    c2[:, 5, :] = c2[:, :, 5] = 0.0
    c2[1, 2, 9] = c2[1, 9, 2] = np.nan
    file = tmp_path / "it.hdf"
    write("nexus", file, Stack(c2, np.full(3, 0.005), np.array([-30.0, 0.0, 45.0]), 0.1))
    return file


def record(path: Path, store: Path | None, **sections: Any) -> TwoTime:
    sections.setdefault("data_filtering", {})["non_finite"] = "mask"
    mapping = {
        "analysis_mode": "static",
        "experimental_data": {"file_path": str(path)},
        "analyzer_parameters": {"scattering": {"wavevector_q": 0.005}, **sections.pop("analyzer_parameters", {})},
        **sections,
    }
    data = load(config_from_mapping(mapping, None))
    return data if store is None else replace(data, kept=KeptMatrices(ArrayStore(store, 1 << 40)))


def same(one: AngleMatrix, other: AngleMatrix) -> bool:
    fields = ("c2", "frame_ok", "pair_ok", "sigma")
    pairs = [(getattr(one, name), getattr(other, name)) for name in fields]
    return one.notes == other.notes and all(
        (a is None and b is None) or (a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
        for a, b in pairs
    )


class Counted:
    """Matrices that count how often they are read."""

    def __init__(self, inner: Matrices) -> None:
        self.inner, self.reads = inner, 0

    def c2(self, k: int) -> Any:
        self.reads += 1
        return self.inner.c2(k)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def reads_of(data: TwoTime, k: int = 0) -> int:
    counted = Counted(data.matrices)
    replace(data, matrices=counted).angle(k)
    return counted.reads


@pytest.mark.parametrize("k", [0, 1, 2])
def test_given_a_kept_matrix_then_it_is_that_which_would_be_made(path, tmp_path, k):
    fresh = record(path, None).angle(k)
    record(path, tmp_path / "store").angle(k)
    again = record(path, tmp_path / "store")
    assert reads_of(again, k) == 0
    assert same(again.angle(k), fresh)


@pytest.mark.parametrize("errors", [np.random.default_rng(1).uniform(0.01, 0.02, (N, N)), np.array([0.1, 0.2, 0.3])])
def test_given_uncertainties_in_the_file_then_they_are_kept_too(path, tmp_path, errors):
    with h5py.File(path, "a") as file:
        file["errors"] = errors
    noise = {"sigma": "/errors"}
    fresh = record(path, None, noise=noise).angle(1)
    record(path, tmp_path / "store", noise=noise).angle(1)
    again = record(path, tmp_path / "store", noise=noise)
    assert reads_of(again, 1) == 0
    assert same(again.angle(1), fresh)


def test_notes_of_a_kept_matrix_reach_the_provenance(path, tmp_path):
    record(path, tmp_path / "store").angle(1)
    again = record(path, tmp_path / "store")
    again.angle(1)
    assert any("dead frames" in note for note in again.provenance["notes"])
    assert any("without a finite value" in note for note in again.provenance["notes"])


CHANGES: dict[str, dict[str, Any]] = {
    "frames": {"analyzer_parameters": {"end_frame": N - 1}},
    "first frame": {"analyzer_parameters": {"start_frame": 2}},
    "dt": {"analyzer_parameters": {"dt": 0.3}},
    "dead frames": {"data_filtering": {"dead_frames": [3]}},
    "repair": {"quality_control": {"level": "basic", "auto_repair": "aggressive"}},
    "normalisation": {"preprocessing": {"normalization": "mean"}},
    "noise reduction": {"preprocessing": {"noise_reduction": "median"}},
    "precision": {"preprocessing": {"standard": "float64"}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_given_another_setting_then_it_is_no_hit(path, tmp_path, change):
    record(path, tmp_path / "store").angle(0)
    changed = record(path, tmp_path / "store", **CHANGES[change])
    assert reads_of(changed) == 1
    assert same(changed.angle(0), record(path, None, **CHANGES[change]).angle(0))


def test_given_one_changed_value_in_the_file_then_it_is_no_hit_whatever_the_clock_says(path, tmp_path):
    record(path, tmp_path / "store").angle(0)
    before = path.stat()
    with h5py.File(path, "a") as file:
        file["xpcs/twotime/correlation_map/c2_00001"][1, 3] = 1.5
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert record(path, tmp_path / "store").angle(0).c2[1, 3] == 1.5


def test_given_a_copy_of_the_file_elsewhere_then_it_is_a_hit(path, tmp_path):
    record(path, tmp_path / "store").angle(0)
    copy = tmp_path / "copy.hdf"
    copy.write_bytes(path.read_bytes())
    assert reads_of(record(copy, tmp_path / "store")) == 0


def test_given_another_version_of_the_code_then_it_is_no_hit(path, tmp_path, monkeypatch):
    record(path, tmp_path / "store").angle(0)
    monkeypatch.setattr(matrices_module, "code_version", lambda: "another")
    assert reads_of(record(path, tmp_path / "store")) == 1


def test_given_a_damaged_entry_then_the_matrix_is_made_again(path, tmp_path):
    fresh = record(path, None).angle(0)
    record(path, tmp_path / "store").angle(0)
    (entry,) = (tmp_path / "store").glob("??/*/c2.bin")
    content = bytearray(entry.read_bytes())
    content[17] ^= 4
    entry.write_bytes(content)
    assert same(record(path, tmp_path / "store").angle(0), fresh)


def test_given_no_room_then_that_is_told_once_and_the_matrices_are_right(path, tmp_path):
    told: list[str] = []
    kept = KeptMatrices(ArrayStore(tmp_path / "store", 100), told.append)
    data = replace(record(path, None), kept=kept)
    fresh = record(path, None)
    assert all(same(data.angle(k), fresh.angle(k)) for k in (0, 1, 2, 0))
    assert len(told) == 1 and "runtime.data_cache" in told[0]


def test_a_fingerprint_does_not_depend_on_what_is_kept(path, tmp_path):
    assert record(path, tmp_path / "store").fingerprint() == record(path, None).fingerprint()
