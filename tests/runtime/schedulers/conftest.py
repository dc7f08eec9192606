"""Fixtures of the tests of batch schedulers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtime.schedulers.pbs_fixture import FakePbs, fake_pbs_queue

if TYPE_CHECKING:
    import submitit

__all__ = ["executor", "fake_pbs_queue"]


@pytest.fixture
def executor(fake_pbs: FakePbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> submitit.AutoExecutor:
    """What an outsider of submitit writes, with the fake queue."""
    import submitit

    from hpcxpcs.runtime.schedulers.pbs_submitit import PbsInfoWatcher, PbsJob

    monkeypatch.setattr(PbsJob, "watcher", PbsInfoWatcher())
    return submitit.AutoExecutor(tmp_path / "log", cluster="pbs")
