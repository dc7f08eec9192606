"""`hpcxpcs cache`: what is kept is shown, and removed when asked for; nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcxpcs.cli import main
from hpcxpcs.files.array_store import ArrayStore

KEYS = [f"{k:064x}" for k in range(1, 46)]


def kept(folder: Path, count: int = 2) -> ArrayStore:
    """A store with some matrices of 80 kB."""
    store = ArrayStore(folder, 1 << 40)
    for k in range(count):
        store.put(KEYS[k], {"c2": np.zeros((100, 100))}, {"phi": -10.5 + k, "q": 0.0054, "file": "/data/shear.hdf"})
    return store


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder that keeps two matrices."""
    kept(tmp_path / "run" / "data" / "cache")
    (tmp_path / "run" / "results").mkdir()
    return tmp_path / "run"


def test_given_a_run_then_its_matrices_are_listed(run, capsys):
    assert main(["cache", "list", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "2 prepared matrices, 160." in shown
    assert "phi = -9.5°, q = 0.0054 1/Å, shear.hdf" in shown


def test_given_a_run_that_keeps_nothing_then_that_is_said(tmp_path, capsys):
    (tmp_path / "results").mkdir()
    assert main(["cache", "list", str(tmp_path)]) == 0
    assert "0 prepared matrices, 0 B" in capsys.readouterr().out


def test_given_many_matrices_then_the_list_is_short(tmp_path, capsys):
    kept(tmp_path, 45)
    assert main(["cache", "list", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("… and 5 more\n")


def test_given_a_damaged_description_then_it_is_shown_as_that(run, capsys):
    entry = run / "data" / "cache" / KEYS[0][:2] / KEYS[0][2:] / "entry.json"
    entry.write_text("{")
    assert main(["cache", "list", str(run)]) == 0
    assert "damaged" in capsys.readouterr().out


@pytest.mark.parametrize("named", ["run", "folder", "configuration"])
def test_clearing_removes_what_is_kept_however_it_is_named(run, tmp_path, capsys, named):
    store = kept(run / "data" / "cache")
    config = tmp_path / "run.yaml"
    config.write_text(
        "analysis_mode: static\nexperimental_data: {file_path: x.hdf}\n"
        "analyzer_parameters: {scattering: {wavevector_q: 0.0054}}\n"
        f"output: {{directory: '{tmp_path}'}}\n"
    )
    place = {"run": run, "folder": store.folder, "configuration": config}[named]
    assert main(["cache", "clear", str(place)]) == 0
    assert "removed 2 prepared matrices" in capsys.readouterr().out
    assert not store.folder.exists()
    assert (run / "results").is_dir()


def test_given_a_configuration_that_names_a_folder_then_that_is_meant(tmp_path, capsys):
    kept(tmp_path / "shared")
    config = tmp_path / "it.yaml"
    config.write_text(
        "analysis_mode: static\nexperimental_data: {file_path: x.hdf}\n"
        "analyzer_parameters: {scattering: {wavevector_q: 0.0054}}\n"
        f"runtime: {{data_cache: '{tmp_path}/shared'}}\n"
    )
    assert main(["cache", "list", str(config)]) == 0
    assert "2 prepared matrices" in capsys.readouterr().out


def test_given_a_folder_of_something_else_then_it_is_refused_and_stays(tmp_path, capsys):
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "notes.txt").write_text("mine")
    assert main(["cache", "clear", str(tmp_path)]) == 1
    assert "neither a run folder" in capsys.readouterr().err
    assert (tmp_path / "ab" / "notes.txt").read_text() == "mine"


def test_given_no_such_place_then_that_is_said(tmp_path, capsys):
    assert main(["cache", "list", str(tmp_path / "none")]) == 1
    assert "is not there" in capsys.readouterr().err


def test_compiled_code_is_shown_and_removed(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HPCXPCS_CACHE_DIR", str(tmp_path))
    code = tmp_path / "compiled" / "jaxlib-1" / "entry"
    code.parent.mkdir(parents=True)
    code.write_bytes(bytes(2000))
    assert main(["cache", "list"]) == 0
    assert "2.0 kB of compiled code" in capsys.readouterr().out
    assert main(["cache", "clear", "--compiled"]) == 0
    assert not code.exists() and tmp_path.is_dir()


@pytest.mark.parametrize("words", [[], ["--compiled", "runs/it"]])
def test_clearing_without_saying_what_is_a_usage_error(words, capsys):
    assert main(["cache", "clear", *words]) == 2
    assert "--compiled" in capsys.readouterr().err
