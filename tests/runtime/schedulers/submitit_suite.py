"""Puts our PBS executor where submitit's own tests name one of theirs, so that they run over it unchanged."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import submitit.auto.test_auto
import submitit.core.test_core
import submitit.local.test_debug
import submitit.local.test_local
import submitit.slurm.test_slurm
import submitit.test_pickle
from submitit.core import utils

from hpcxpcs.runtime.schedulers.pbs_environment import PbsJobEnvironment
from hpcxpcs.runtime.schedulers.pbs_submitit import PbsExecutor, PbsInfoWatcher, PbsJob
from tests.runtime.schedulers import loaded_python
from tests.runtime.schedulers.pbs_fixture import FakePbs


class LoadedExecutor(PbsExecutor):
    """Counts the time of a job from when Python has loaded: some of their walltimes are three seconds."""

    def __init__(self, folder: Path | str, **options: Any) -> None:
        super().__init__(folder, **{"python": loaded_python.COMMAND, **options})


OURS = SimpleNamespace(
    LocalExecutor=LoadedExecutor,
    LocalJob=PbsJob,
    DebugExecutor=PbsExecutor,
    DebugJob=PbsJob,
    SlurmExecutor=PbsExecutor,
    SlurmJob=PbsJob,
    SlurmJobEnvironment=PbsJobEnvironment,
)
THEIRS = (
    (submitit.local.test_local, "local", OURS),
    (submitit.local.test_debug, "debug", OURS),
    (submitit.slurm.test_slurm, "slurm", OURS),
    (submitit.test_pickle, "LocalExecutor", PbsExecutor),
    (submitit.core.test_core, "FakeExecutor", PbsExecutor),
    (submitit.core.test_core, "FakeJob", PbsJob),
)


class HeldQueue:
    """In place of their mocked Slurm: jobs are accepted and do not start, so that tests can play their part."""

    def set_job_state(self, job: str, state: str) -> None:
        """States are the queue's own here."""

    @contextlib.contextmanager
    def job_context(self, job: str) -> Iterator[None]:
        """Be inside of a job."""
        with utils.environment_variables(
            _USELESS_TEST_ENV_VAR_="1", SUBMITIT_EXECUTOR="pbs", PBS_JOBID=str(job)
        ):
            yield


@contextlib.contextmanager
def requeue_of_pbs(called_with: int | None = None, not_called: bool = False) -> Iterator[None]:
    """In place of their mock of Slurm's requeue."""
    with patch.object(PbsJobEnvironment, "_requeue", return_value=None) as requeue:
        yield
    if not_called:
        requeue.assert_not_called()
    else:
        requeue.assert_called_with(called_with)


@pytest.fixture(name="over_pbs")
def pbs_in_their_place(fake_pbs: FakePbs, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePbs]:
    """Let submitit's tests use PBS; signal handlers and the watcher's memory are put back afterwards."""

    @contextlib.contextmanager
    def held_queue() -> Iterator[HeldQueue]:
        fake_pbs.hold()
        yield HeldQueue()

    for module, name, ours in THEIRS:
        monkeypatch.setattr(module, name, ours)
    monkeypatch.setattr(submitit.slurm.test_slurm, "mocked_slurm", held_queue)
    monkeypatch.setattr(submitit.slurm.test_slurm, "mock_requeue", requeue_of_pbs)
    monkeypatch.setattr(PbsJob, "watcher", PbsInfoWatcher())
    monkeypatch.delenv("SUBMITIT_FOLDER", raising=False)
    names = [signal.SIGTERM, signal.SIGCONT, signal.SIGUSR2]
    handlers = [signal.getsignal(name) for name in names]
    try:
        yield fake_pbs
    finally:
        for name, handler in zip(names, handlers, strict=True):
            signal.signal(name, handler)
        os.environ.pop("SUBMITIT_FOLDER", None)


@pytest.fixture(name="executor")
def pbs_executor(over_pbs: FakePbs, tmp_path: Path) -> PbsExecutor:
    """In place of the executor that their tests take as an argument."""
    return PbsExecutor(tmp_path)
