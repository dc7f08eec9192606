"""Linear algebra in one thread: how sums are split among threads changes their last digits, and with them draws."""

from __future__ import annotations

import os

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def one_blas_thread() -> None:
    """Let BLAS libraries that are loaded from now on, here and in child processes, use one thread.

    So a run gives the same bits on any number of cores. Tasks and XLA use the cores, on matrices that are small.
    """
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
