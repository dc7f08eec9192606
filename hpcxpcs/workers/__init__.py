"""Processes that work on a run: on this machine, over MPI; where they sit, and how they end in time."""
