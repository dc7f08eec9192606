"""Memory of this process: what it has, and the most it has had, whoever has started it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from hpcxpcs.files.process_memory import peak_memory, resident_memory

MB = 1_000_000
LOOK = "from hpcxpcs.files.process_memory import peak_memory; print(peak_memory())"


def test_given_an_array_then_it_is_counted_now_and_its_memory_stays_in_the_peak():
    before = resident_memory()
    held = np.ones(20 * MB)
    assert resident_memory() - before > 150 * MB
    del held
    assert resident_memory() - before < 100 * MB
    assert peak_memory() > before + 150 * MB


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's account of an address space is Linux's")
def test_given_a_large_parent_then_a_child_counts_its_own_memory_only():
    held = np.ones(40 * MB)
    told = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True).stdout
    assert int(told) < 150 * MB < held.nbytes
