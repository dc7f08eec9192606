"""Print how long `hpcxpcs --help` takes: median and extremes of ten runs in fresh processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 10
TARGET_SECONDS = 0.3


def help_seconds() -> float:
    """Return the wall time of one `python -m hpcxpcs --help` in seconds."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "hpcxpcs", "--help"], check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    """Measure after one run that fills the caches, and print one line."""
    help_seconds()
    seconds = [help_seconds() for _ in range(RUNS)]
    median, low, high = statistics.median(seconds), min(seconds), max(seconds)
    spread = f"{low:.3f} to {high:.3f} s in {RUNS} runs"
    print(f"hpcxpcs --help: median {median:.3f} s ({spread}), target < {TARGET_SECONDS} s")


if __name__ == "__main__":
    main()
