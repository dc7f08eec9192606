"""Settings that every test shares: one thread, no display, seeded hypothesis, a private cache."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ["MPLBACKEND"] = "Agg"
os.environ["JAX_PLATFORMS"] = "cpu"

hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled code of the tests out of the user's cache folder; all test processes share one."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"
    shared.mkdir(mode=0o700, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HPCXPCS_CACHE_DIR", str(shared))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that wait for Slurm come first: at the end, the others would wait for them."""
    items.sort(key=lambda item: "slurm" not in item.path.parent.name)


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
