"""A Slurm for each file of tests, and an empty queue for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcxpcs.batch.slurm import Slurm
from tests.installed import skip_or_fail
from tests.slurm.batch import Batch
from tests.slurm.lab import Lab, missing_programs

INSTALL = "tests/slurm/install.sh"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything that takes the fixture talks to a real controller."""
    for item in items:
        if "slurm_lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="module")
def slurm_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two nodes of four processors, which SLURM_CONF leads to; ended with all its jobs, whatever happens.

    Where Slurm can be installed it must be there; other machines skip these tests.
    """
    if missing := missing_programs():
        skip_or_fail(f"Slurm is not installed ({', '.join(missing)} not found): run {INSTALL} as root")
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch, Lab(folder / "lab") as lab:
        for name, value in lab.environment.items():
            patch.setenv(name, value)
        yield lab


@pytest.fixture
def batch(slurm_lab: Lab, tmp_path: Path) -> Iterator[Batch]:
    """Submits to an empty queue, and leaves one: no job, no process of one, all nodes up."""
    yield Batch(slurm_lab, Slurm(), tmp_path)
    slurm_lab.mend()
    slurm_lab.clear()
    slurm_lab.until(lambda: not slurm_lab.processes())
