"""The MPI wheel of the `mpi` extra starts ranks that see each other; without it these tests fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hpcxpcs.batch.launcher import without_launcher

HERE = Path(__file__).parent
MPIEXEC = Path(sys.prefix) / "bin" / "mpiexec"
ON_THIS_MACHINE = ["-launcher", "fork", "-iface", "lo", "-n", "2"]

WHO_AM_I = """
import sys
from mpi4py import MPI
sys.stdout.write(f"{MPI.COMM_WORLD.rank} of {MPI.COMM_WORLD.size}\\n")
"""


def mpiexec(*program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MPIEXEC, *ON_THIS_MACHINE, sys.executable, *program],
        env=without_launcher(os.environ),
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )


def test_given_the_wheel_when_two_ranks_start_then_both_see_a_world_of_two(tmp_path):
    script = tmp_path / "who_am_i.py"
    script.write_text(WHO_AM_I)
    ranks = mpiexec("-W", "error", "-m", "mpi4py", str(script))
    assert ranks.returncode == 0, ranks.stderr
    assert sorted(ranks.stdout.splitlines()) == ["0 of 2", "1 of 2"]


def test_given_the_wheel_when_pytest_runs_in_two_ranks_then_tests_for_ranks_pass():
    ranks = mpiexec(
        "-m",
        "pytest",
        "-p",
        "pytest_mpi",
        "--with-mpi",
        "-q",
        "-p",
        "no:cacheprovider",
        str(HERE / "ranks_world.py"),
    )
    assert ranks.returncode == 0, ranks.stdout + ranks.stderr
    assert ranks.stdout.count("1 passed") == 2
