"""Where prepared matrices are kept: in RUN when they do not fit into memory, where the user says, or nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import hpcxpcs
from hpcxpcs.config import Config, config_from_mapping
from hpcxpcs.pipeline import loading
from hpcxpcs.pipeline.loading import RUN_CACHE, held_bytes, load_for_run

FRAMES, ANGLES = 3400, 2
"""46 MB of matrices: more than a quarter of the smallest memory that can be asked for, 64 MiB."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "it.hdf"
    spec = hpcxpcs.SimulationSpec("static", angles=ANGLES, frames=FRAMES, output=path, seed=1)
    return hpcxpcs.simulate(spec)


def configured(file: Path, **runtime: Any) -> Config:
    return config_from_mapping(
        {
            "analysis_mode": "static",
            "experimental_data": {"file_path": str(file)},
            "analyzer_parameters": {"scattering": {"wavevector_q": 0.0054}},
            "runtime": runtime,
        },
        None,
    )


def place_of(config: Config, run: Path) -> Path | None:
    data = load_for_run(config, run, print)
    return None if data.kept is None else data.kept.store.folder


def test_given_data_that_fit_into_memory_then_nothing_is_written(file, tmp_path):
    config = configured(file, memory="4 GiB")
    assert place_of(config, tmp_path) is None
    load_for_run(config, tmp_path, print).angle(0)
    assert list(tmp_path.iterdir()) == []


def test_given_data_larger_than_the_memory_then_they_are_kept_in_the_run(file, tmp_path):
    config = configured(file, memory="100 MiB")
    data = load_for_run(config, tmp_path, print)
    assert held_bytes(config) < data.nbytes == 4 * ANGLES * FRAMES**2
    assert place_of(config, tmp_path) == tmp_path / RUN_CACHE
    data.angle(0)
    assert len(data.kept.store.entries()) == 1


def test_given_a_process_that_helps_then_it_looks_where_the_first_one_kept_them_and_asks_nobody(
    file, tmp_path, monkeypatch
):
    monkeypatch.setattr(loading, "memory_budget", lambda config: pytest.fail("asked for the memory of the job"))
    config = configured(file, memory="100 MiB")
    assert load_for_run(config, tmp_path, print, alone=False).kept is None
    (tmp_path / RUN_CACHE).mkdir(parents=True)
    assert load_for_run(config, tmp_path, print, alone=False).kept.store.folder == tmp_path / RUN_CACHE


def test_given_a_folder_then_data_of_any_size_are_kept_there(file, tmp_path):
    config = configured(file, memory="4 GiB", data_cache=str(tmp_path / "shared"))
    assert place_of(config, tmp_path / "run") == tmp_path / "shared"


def test_given_null_then_nothing_is_kept(file, tmp_path):
    assert place_of(configured(file, memory="100 MiB", data_cache=None), tmp_path) is None


def test_given_more_than_the_limit_then_the_user_hears_of_it_and_nothing_is_kept(file, tmp_path):
    told: list[str] = []
    config = configured(file, memory="100 MiB", data_cache_limit="64 MiB")
    assert load_for_run(config, tmp_path, told.append).kept is None
    assert len(told) == 1 and "runtime.data_cache_limit" in told[0] and "0.1 GB" in told[0]


def test_where_matrices_are_kept_does_not_change_what_a_run_is(file, tmp_path):
    one, other = configured(file), configured(file, data_cache=str(tmp_path), data_cache_limit="5 GB")
    assert one.fingerprint() == other.fingerprint()
