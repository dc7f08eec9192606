"""Fixtures of the tests of batch schedulers."""

from tests.batch.pbs_fixture import fake_pbs_queue

__all__ = ["fake_pbs_queue"]
