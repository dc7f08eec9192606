"""Fixtures of the tests of batch schedulers."""

from __future__ import annotations

from tests.runtime.schedulers.pbs_fixture import fake_pbs_queue

__all__ = ["fake_pbs_queue"]
