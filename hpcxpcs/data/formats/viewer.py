"""The schema of the viewer's documents, /xpcs/g2 and /xpcs/qmap, with two-time matrices in /xpcs/twotime.

Every list of times, q and angles states its unit in its attribute `units`; without it the file is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.layout import (
    Layout,
    Place,
    Stack,
    bins_at,
    bins_without,
    lists_of_bins,
    step_of_times,
)
from hpcxpcs.data.formats.source import Source, dataset, quantity, whole_numbers
from hpcxpcs.data.formats.truth import write_truth
from hpcxpcs.errors import FormatError

NAME = "viewer"
LOOKS_FOR = "/xpcs/twotime/{c2, times, q_values, phi_values} and perhaps processed_bins, each with its units"

TWOTIME = "xpcs/twotime"
MATRICES = f"{TWOTIME}/c2"
TIMES = f"{TWOTIME}/times"
PROCESSED = f"{TWOTIME}/processed_bins"


def detect(source: Source) -> bool:
    """Tell whether the file has an array of two-time matrices in this layout."""
    return MATRICES in source


def open_layout(source: Source) -> Layout:
    """Describe the file: every matrix (bins, N, N) with the q and φ of its bin, in stated units."""
    cube = dataset(source, MATRICES)
    shape = tuple(cube.shape)
    if len(shape) != 3 or shape[1] != shape[2] or 0 in shape:
        raise FormatError(f"/{MATRICES} has shape {shape}; (bins, N, N) is needed")
    q, phi = lists_of_bins(source, TWOTIME, "q_values", "phi_values", "every bin")
    labels = _labels(source, shape[0], len(q.values))
    times = quantity(source, TIMES, "time", required=True)
    places = [Place(label, MATRICES, lead=(k,)) for k, label in enumerate(labels)]
    return Layout.of(
        NAME,
        source,
        bins_at(places, q.values, phi.values),
        n_frames=shape[1],
        units=(q.unit, phi.unit),
        step=step_of_times(times, f"/{TIMES}", shape[1]),
        absent=bins_without(labels, q.values, phi.values),
    )


def _labels(source: Source, count: int, n_bins: int) -> list[int]:
    """Return the 1-based number of the bin of every matrix."""
    if PROCESSED not in source:
        if count != n_bins:
            raise FormatError(
                f"/{MATRICES} has {count} matrices for {n_bins} bins, and /{PROCESSED}, which would say which "
                "bins these are, is missing"
            )
        return list(range(1, count + 1))
    labels = whole_numbers(source, PROCESSED).tolist()
    if len(labels) != count:
        raise FormatError(f"/{MATRICES} has {count} matrices, but /{PROCESSED} names {len(labels)} bins")
    if not all(1 <= label <= n_bins for label in labels) or len(set(labels)) < count:
        raise FormatError(f"/{PROCESSED} must name {count} different bins from 1 to {n_bins}")
    return labels


def write(path: Path, stack: Stack) -> None:
    """Write a stack in this schema: matrices, their g2 by lag, and a q-map of one pixel for every bin."""
    q, phi = stack.all_bins
    g2, errors = [], []
    with h5py.File(path, "w") as file:
        for index, matrix in enumerate(stack.stored_matrices()):
            if index == 0:
                stack.create(file, MATRICES, len(matrix), "q_first")
            file[MATRICES][index] = matrix
            g2.append(stack.diagonal_means(matrix))
            errors.append(_standard_errors(matrix, stack))
        times = np.arange(len(g2[0])) * stack.dt
        _put(file, TIMES, times, "s")
        _put(file, f"{TWOTIME}/q_values", q, "1/angstrom")
        _put(file, f"{TWOTIME}/phi_values", phi, "deg")
        file[PROCESSED] = np.arange(1, len(stack.q) + 1)
        file["xpcs/g2/g2"], file["xpcs/g2/g2_err"] = np.stack(g2, axis=1), np.stack(errors, axis=1)
        _put(file, "xpcs/g2/delay_times", times, "s")
        _put(file, "xpcs/g2/q_values", stack.q, "1/angstrom")
        _put(file, "xpcs/qmap/dqmap", q[None, :], "1/angstrom")
        _put(file, "xpcs/qmap/sqmap", q[None, :], "1/angstrom")
        _put(file, "xpcs/qmap/phis", phi[None, :], "deg")
        file["xpcs/qmap/mask"] = np.ones((1, len(q)), dtype=np.int32)
        file["xpcs/qmap/partition_map"] = np.arange(1, len(q) + 1, dtype=np.int32)[None, :]
        file.create_group("xpcs/metadata").attrs["shape"] = (1, len(q))
        write_truth(file, stack.truth)


def _put(file: h5py.File, path: str, values: NDArray[np.floating[Any]], unit: str) -> None:
    file[path] = values
    file[path].attrs["units"] = np.bytes_(unit)


def _standard_errors(matrix: NDArray[Any], stack: Stack) -> NDArray[np.float64]:
    """Return the standard error of the mean of every diagonal (N,); NaN where it has a single element."""
    diagonals = [diagonal.astype(np.float64) for diagonal in stack.diagonals(matrix)]
    return np.array([d.std(ddof=1) / np.sqrt(len(d)) if len(d) > 1 else np.nan for d in diagonals])
