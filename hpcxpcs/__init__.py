"""hpcxpcs: from two-time X-ray photon correlation data to transport coefficients with error bars.

Public API, imported on first use: load, fit, simulate, SimulationSpec.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = ["SimulationSpec", "__version__", "fit", "load", "simulate"]

_HOMES = {
    "fit": "hpcxpcs.pipeline.fit",
    "load": "hpcxpcs.pipeline.fit",
    "simulate": "hpcxpcs.pipeline.simulate",
    "SimulationSpec": "hpcxpcs.pipeline.simulate",
}

if TYPE_CHECKING:
    from hpcxpcs.pipeline.fit import fit, load
    from hpcxpcs.pipeline.simulate import SimulationSpec, simulate


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'hpcxpcs' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
