"""CPU seconds of least squares and NUTS of a multi-tau file, compiled code ready: python -m bench.g2 [BINS]."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from hpcxpcs.config.g2 import G2
from hpcxpcs.g2.fit import FileFit, fit_correlation
from hpcxpcs.g2.record import Correlation, Stored, cleaned
from hpcxpcs.g2.simulate import G2Simulation, simulated_table

TARGETS = {"nlsq": 0.5, "nuts": 60.0}
"""CPU seconds for 270 bins of 60 delays."""


def simulated(bins: int) -> Correlation:
    """A multi-tau measurement like real ones: stretched, a fifth of the entries empty."""
    spec = G2Simulation("stretched", Path("unwritten"), {"exponent": 1.4}, bins=bins, empty=0.2)
    table = simulated_table(spec)
    labels = list(range(1, bins + 1))
    return cleaned(Stored(table.tau, table.g2, table.error, table.q, table.phi, labels, "simulated"))  # type: ignore[arg-type]


def timed(data: Correlation, method: str) -> tuple[FileFit, float, float]:
    """A fit with its CPU and wall seconds, after one that compiled."""
    settings = G2(method=method)  # type: ignore[arg-type]
    fit_correlation(data, settings)
    cpu, wall = time.process_time(), time.perf_counter()
    found = fit_correlation(data, settings)
    return found, time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Print a line for each method."""
    data = simulated(int(sys.argv[1]) if len(sys.argv) > 1 else 270)
    for method, target in TARGETS.items():
        found, cpu, wall = timed(data, method)
        print(f"{method}: {cpu:.3g} s CPU, {wall:.3g} s wall (270 bins: at most {target:g} s CPU); {found.words}")


if __name__ == "__main__":
    main()
