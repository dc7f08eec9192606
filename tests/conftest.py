"""Settings that every test shares: one thread, no display, seeded hypothesis, a private cache."""

from __future__ import annotations

import gc
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.made_once import shared_folder

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ["MPLBACKEND"] = "Agg"
os.environ["JAX_PLATFORMS"] = "cpu"

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled code of the tests out of the user's cache folder; all test processes share one.

    Tests of parts, which do not set up the cache of a run, keep theirs beside it.
    """
    shared = shared_folder(tmp_path_factory)
    for folder in ("compiled", "compiled-parts"):
        (shared / folder).mkdir(mode=0o700, exist_ok=True)
    if "jax" in sys.modules:
        keep = sys.modules["jax"].config.update
        keep("jax_compilation_cache_dir", str(shared / "compiled-parts"))
        keep("jax_persistent_cache_min_compile_time_secs", 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HPCXPCS_CACHE_DIR", str(shared / "compiled"))
        yield


COMPUTING, WAITING = ("calibration", "acceptance", "fuzz"), ("slurm", "mpi")
"""Folders whose files take longest: because they compute, and because they wait for other processes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, in turn one that computes and one that waits: at the end all would wait for one."""
    files = list(dict.fromkeys(item.path for item in items))
    kinds = ([path for path in files if path.parent.name in kind] for kind in (COMPUTING, WAITING))
    first = [path for pair in itertools.zip_longest(*kinds) for path in pair if path is not None]
    place = {path: number for number, path in enumerate(first)}
    items.sort(key=lambda item: place.get(item.path, len(first)))


MOST_MAPPINGS = 20_000
"""Memory mappings of a process before compiled code is dropped: each compiled function takes some, and Linux allows
65530 by default, after which the process crashes."""


@pytest.fixture(scope="module", autouse=True)
def room_for_compiled_code() -> Iterator[None]:
    """Drop JAX's compiled code after a file of tests when there is a lot of it."""
    yield
    maps = Path("/proc/self/maps")
    if "jax" in sys.modules and maps.exists() and len(maps.read_text().splitlines()) > MOST_MAPPINGS:
        sys.modules["jax"].clear_caches()
        gc.collect()
