"""Small stacks of matrices, and settings to load them with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.config.sections import Preprocessing
from hpcxpcs.data.formats import Stack

Q = 0.005


def matrix(seed: int, n: int = 12) -> NDArray[np.float64]:
    """A symmetric matrix around 1.05 whose values float32 holds exactly, with a spike on the diagonal."""
    draws = np.random.default_rng(seed).integers(1, 1000, (n, n))
    upper = np.triu(1.0 + draws / 8192.0)
    whole = upper + np.triu(upper, 1).T
    whole[np.diag_indices(n)] += 1.0
    return whole


def stack_of(q: Sequence[float], phi: Sequence[float], n: int = 12, **settings: Any) -> Stack:
    """A stack whose k-th matrix is `matrix(k)`."""
    settings = {"dt": 0.1, **settings}
    return Stack((matrix(k, n) for k in range(len(q))), np.array(q), np.array(phi), **settings)


def config_for(path: Path, **changes: Any) -> Any:
    """The part of a configuration that loading reads, with the schema's defaults and q = 0.005 per Å."""
    values = {
        "format": "auto",
        "dt": "auto",
        "start_frame": 1,
        "end_frame": -1,
        "time_origin": "window",
        "wavevector_q": Q,
        "q_tolerance": 0.1,
        "phi_ranges": (interval(-180, 180),),
        "dead_frames": "auto",
        "non_finite": "refuse",
        "sigma": "auto",
        "auto_repair": "disabled",
    } | changes
    return SimpleNamespace(
        data_file=path,
        joint=None,
        experimental_data=SimpleNamespace(format=values["format"]),
        analyzer_parameters=SimpleNamespace(
            dt=values["dt"],
            start_frame=values["start_frame"],
            end_frame=values["end_frame"],
            time_origin=values["time_origin"],
            scattering=SimpleNamespace(wavevector_q=values["wavevector_q"]),
        ),
        data_filtering=SimpleNamespace(
            **{key: values[key] for key in ("q_tolerance", "phi_ranges", "dead_frames", "non_finite")}
        ),
        preprocessing=Preprocessing(),
        quality_control=SimpleNamespace(auto_repair=values["auto_repair"]),
        noise=SimpleNamespace(sigma=values["sigma"]),
    )


def interval(low: float, high: float) -> Any:
    """A range of angles in degrees."""
    return SimpleNamespace(min=low, max=high)


def off_diagonal(array: NDArray[Any]) -> NDArray[Any]:
    """The strict upper triangle as a list."""
    return array[np.triu_indices(len(array), 1)]


def edited(path: Path) -> h5py.File:
    """The file, open for changes."""
    return h5py.File(path, "r+", locking=False)


def replace_dataset(file: h5py.File, name: str, value: Any) -> None:
    """Put another value in the place of a dataset."""
    del file[name]
    file[name] = value
