"""Runs inside MPI ranks like toy_ranks, with a log for each of them as `hpcxpcs fit` keeps it."""

from __future__ import annotations

import sys

from hpcxpcs.log.process import process_log
from tests.mpi import toy_ranks

if __name__ == "__main__":
    with process_log("lead"):
        code = toy_ranks.main()
    sys.exit(code)
