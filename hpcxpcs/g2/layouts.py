"""Writing g2(τ): as boost_corr does (nexus), as the 8-ID pipeline did (legacy), and in the schema of the viewer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.arrays import Floats
from hpcxpcs.data.formats import legacy, nexus
from hpcxpcs.data.formats.layout import Stack
from hpcxpcs.data.formats.truth import write_truth
from hpcxpcs.errors import ConfigError


@dataclass(frozen=True)
class Table:
    """g2 and error (n, B) at delays (n,) that are whole numbers of steps (s), of bins at q (1/Å) and phi (degrees).

    Entries that are NaN are written as 0 with error 0. `partial` is (K, n, B). `about` are texts or lists of texts by
    path, `truth` that of a simulation.
    """

    tau: Floats
    g2: Floats
    error: Floats
    q: Floats
    phi: Floats
    step: float
    partial: Floats | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    truth: Mapping[str, Any] | None = None

    @property
    def lags(self) -> np.ndarray:
        """Delays (n,) in steps."""
        return np.rint(self.tau / self.step).astype(np.int64)

    @property
    def stack(self) -> Stack:
        """What the writers of two-time layouts want to know of bins."""
        return Stack(c2=(), q=self.q, phi=self.phi, dt=self.step)


def _plain(values: Floats) -> NDArray[np.float32]:
    return np.nan_to_num(np.asarray(values, dtype=np.float32))


def write_nexus(file: h5py.File, table: Table) -> None:
    """Columns by dynamic label, delays in frames, q and φ through the index mapping of the q-map."""
    place = nexus.write_qmap(file, table.stack) - 1
    group = file.create_group("xpcs/multitau")
    group["delay_list"] = table.lags
    for name, values in (("normalized_g2", table.g2), ("normalized_g2_err", table.error)):
        group[name] = _by_label(values, place)
    if table.partial is not None:
        group["normalized_g2_partial"] = _by_label(table.partial, place)
    for name, value in (("avg_frame", 1), ("stride_frame", 1)):
        group[f"config/{name}"] = value
    file[nexus.FRAME_TIME] = table.step


def _by_label(values: Floats, place: np.ndarray) -> NDArray[np.float32]:
    columns = np.empty(values.shape, dtype=np.float32)
    columns[..., place] = _plain(values)
    return columns


def write_legacy(file: h5py.File, table: Table) -> None:
    """Delays in frames as (1, n), scalars as (1, 1), one q and φ for every bin."""
    if table.partial is not None:
        raise ConfigError("format: legacy files have no place for g2 of blocks; choose nexus or viewer, or no blocks")
    place = legacy.write_lists(file, table.stack) - 1
    file["exchange/tau"] = table.lags[None, :].astype(np.float32)
    file["exchange/norm-0-g2"] = _by_label(table.g2, place)
    file["exchange/norm-0-stderr"] = _by_label(table.error, place)
    for name, value in ((legacy.PERIOD, table.step), ("xpcs/stride_frames", 1.0), ("xpcs/avg_frames", 1.0)):
        file[name] = np.full((1, 1), value)
    file["xpcs/Version"], file["xpcs/analysis_type"] = "1.0", "Multitau"


def write_viewer(file: h5py.File, table: Table) -> None:
    """/xpcs/g2 with units, φ and blocks beside what the schema asks for."""
    group = file.create_group("xpcs/g2")
    group["g2"], group["g2_err"] = np.nan_to_num(table.g2), np.nan_to_num(table.error)
    lists = {"delay_times": (table.tau, "s"), "q_values": (table.q, "1/angstrom"), "phi_values": (table.phi, "deg")}
    for name, (values, unit) in lists.items():
        if name != "phi_values" or np.isfinite(values).all():
            group[name] = values
            group[name].attrs["units"] = unit
    if table.partial is not None:
        group["g2_partial"] = np.nan_to_num(table.partial)


WRITERS: Mapping[str, Callable[[h5py.File, Table], None]] = {
    "nexus": write_nexus,
    "legacy": write_legacy,
    "viewer": write_viewer,
}


def write_g2(name: str, path: Path, table: Table) -> None:
    """Write a file in one of WRITERS; whoever calls sees to it that the file appears whole."""
    if name not in WRITERS:
        raise ConfigError(f"format: {name!r} has no place for g2; choose one of {', '.join(WRITERS)}")
    with h5py.File(path, "w") as file:
        WRITERS[name](file, table)
        for place, value in table.about.items():
            file[place] = value
        write_truth(file, table.truth)
