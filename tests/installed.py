"""Programs that no Python package brings: whether a machine may skip the tests that need them."""

from __future__ import annotations

import os
import shutil

import pytest


def skip_or_fail(reason: str) -> None:
    """Skip a test, or fail where its program could have been installed.

    Root can install Debian's packages, and continuous integration must not pass without these tests.
    """
    if os.environ.get("CI") or (os.geteuid() == 0 and shutil.which("apt-get") is not None):
        pytest.fail(reason)
    pytest.skip(reason)
