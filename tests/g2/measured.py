"""Multi-tau measurements of known truth for the tests of this room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hpcxpcs.arrays import Floats
from hpcxpcs.config.g2 import G2
from hpcxpcs.g2.fit import FileFit, fit_correlation
from hpcxpcs.g2.record import Correlation, Stored, cleaned
from hpcxpcs.g2.simulate import G2Simulation, simulated_table, true_rows

NLSQ = G2(method="nlsq")


def stored(model: str = "stretched", **settings: Any) -> tuple[Stored, Any]:
    """A simulated table as a reader would hand it on, and its truth."""
    settings.setdefault("bins", 36)
    table = simulated_table(G2Simulation(model, Path("unwritten"), **settings))
    labels = np.arange(1, len(table.q) + 1)
    g2, error = np.nan_to_num(table.g2), np.nan_to_num(table.error)
    return Stored(table.tau, g2, error, table.q, table.phi, labels, "simulated", table.partial), table.truth


def measured(model: str = "stretched", **settings: Any) -> Correlation:
    """A simulated measurement."""
    found, truth = stored(model, **settings)
    return cleaned(found, "simulated.hdf", truth)


def fitted(data: Correlation, **settings: Any) -> FileFit:
    """Its fit, by least squares unless asked otherwise."""
    return fit_correlation(data, G2(**{"method": "nlsq", **settings}))


def deviations(fit: FileFit, name: str) -> Floats:
    """(value − truth)/error of a parameter in all bins that have an answer."""
    truth = true_rows(fit.data.simulated, fit.shape.parameters)
    assert truth is not None
    j = fit.shape.parameters.index(name)
    z = (fit.answer.value[:, j] - truth[:, j]) / fit.answer.sd[:, j]
    return z[fit.usable]


def held(fit: FileFit, name: str, ends: tuple[int, int]) -> int:
    """In how many bins an interval (ends of Estimates.ends) holds the truth."""
    truth = true_rows(fit.data.simulated, fit.shape.parameters)
    assert truth is not None
    j = fit.shape.parameters.index(name)
    low, high = (fit.answer.ends[fit.usable, j, k] for k in ends)
    return int(np.sum((low <= truth[fit.usable, j]) & (truth[fit.usable, j] <= high)))
