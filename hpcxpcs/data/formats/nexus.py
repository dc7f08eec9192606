"""The NeXus-style layout of APS 8-ID results (boost_corr): /xpcs/twotime and the partition in /xpcs/qmap."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.layout import Layout, Place, Stack, bins_at, bins_without, step_of_frames
from hpcxpcs.data.formats.qmap import Axis, Bins, Partition, grid_of, read_axes, read_natural, write_partition
from hpcxpcs.data.formats.source import Quantity, Source, matrix, numbered, whole_numbers
from hpcxpcs.data.formats.truth import write_truth
from hpcxpcs.errors import FormatError

NAME = "nexus"
LOOKS_FOR = "/xpcs/twotime/correlation_map with c2_00001 …, /xpcs/qmap"

MATRICES = "xpcs/twotime/correlation_map"
PROCESSED = "xpcs/twotime/processed_bins"
QMAP = "xpcs/qmap"
FRAME_TIME = "entry/instrument/detector_1/frame_time"
STRIDE, AVERAGE = (
    tuple(f"xpcs/{kind}/config/{name}_frame" for kind in ("twotime", "multitau")) for name in ("stride", "avg")
)
"""Where the file may say that frames were skipped or averaged, the first that is there counts."""

PIXEL_MAP, STATIC_MAP = f"{QMAP}/dynamic_roi_map", f"{QMAP}/static_roi_map"
"""Images (H, W) of bin labels, 0 outside of all bins: of the matrices, and of the finer ones of mean intensities."""

SEGMENTS = 5
"""Consecutive blocks of time whose g2 the layout has besides that of all."""

MEAN_IMAGE, BIN_MEANS = "xpcs/temporal_mean/scattering_2d", "xpcs/temporal_mean/scattering_1d"
"""Mean counts per raw frame: of every pixel (1, H, W), of every static bin (1, bins)."""

BIN_SEGMENTS = "xpcs/temporal_mean/scattering_1d_segments"
"""The same of every static bin in consecutive blocks of time (blocks, bins)."""

FRAME_MEANS = "xpcs/spatial_mean/intensity_vs_time"
"""Number of every raw frame, and mean counts of its pixels (2, frames)."""


def detect(source: Source) -> bool:
    """Tell whether the file has a group of two-time matrices in this layout."""
    return MATRICES in source


def open_layout(source: Source) -> Layout:
    """Describe the file: every processed bin with its q and φ, through the bin numbering of the q-map."""
    notes: list[str] = []
    names = _sequence(source, notes)
    labels = whole_numbers(source, PROCESSED)
    if len(names) != len(labels):
        raise FormatError(f"/{MATRICES} has {len(names)} matrices, but /{PROCESSED} names {len(labels)} bins")
    q, phi = grid_of_bins(source)
    natural = natural_indices(source, len(q.values), notes)
    if labels.size and not (labels.min() >= 1 and labels.max() <= len(natural)):
        raise FormatError(
            f"/{PROCESSED} names bins {labels.min()}…{labels.max()}, but the q-map has bins 1…{len(natural)}"
            + ("; bins count from 1: add 1 to each" if labels.min() == 0 and labels.max() < len(natural) else "")
        )
    places = [Place(int(label), f"{MATRICES}/{name}") for label, name in zip(labels, names, strict=True)]
    step = step_of_frames(source, FRAME_TIME, STRIDE, AVERAGE, notes)
    return Layout.of(
        NAME,
        source,
        bins_at(places, q.values[natural], phi.values[natural]),
        n_frames=int(matrix(source, places[0].dataset).shape[-1]),
        units=(q.unit, phi.unit),
        step=step,
        absent=bins_without((natural[labels - 1] + 1).tolist(), q.values, phi.values, (natural + 1).tolist()),
        notes=notes,
    )


def _sequence(source: Source, notes: list[str]) -> list[str]:
    """Return the dataset names in the order of their sequence numbers (from 1, or from 0), which are not bin labels."""
    names = numbered(source, MATRICES, r"\Ac2_(\d+)\Z", "names like c2_00001")
    first, last = (0 if 0 in names else 1), max(names)
    missing = [number for number in range(first, min(last, len(names) + first) + 1) if number not in names]
    if missing:
        raise FormatError(
            f"/{MATRICES}: {len(names)} matrices are numbered up to {last}, and c2_{missing[0]:05d} is missing; "
            f"their order tells their bins (/{PROCESSED}), so which bins these are is not guessed: write the file again"
        )
    if first == 0:
        notes.append(f"the matrices are numbered from 0: {names[0]} is that of the first processed bin")
    return list(names.values())


def grid_of_bins(source: Source) -> tuple[Quantity, Quantity]:
    """Return q (Å⁻¹) and φ (degrees) of every dynamic bin of the grid, by natural index, and their units."""
    axes = read_axes(source, QMAP)
    return grid_of(axes, "q"), grid_of(axes, "phi")


def natural_indices(source: Source, grid: int, notes: list[str]) -> NDArray[np.int64]:
    """Return the natural (0-based, grid) index of every populated dynamic bin; position b - 1 belongs to label b."""
    return read_natural(source, QMAP, grid, notes)


def write(path: Path, stack: Stack) -> None:
    """Write a stack as boost_corr would: matrices by sequence number, and a q-map."""
    with h5py.File(path, "w") as file:
        file.create_dataset(PROCESSED, data=write_qmap(file, stack))
        averages, segments = [], []
        for index, stored in enumerate(stack.stored_matrices()):
            stack.create(file, f"{MATRICES}/c2_{index + 1:05d}", len(stored), None)[...] = stored
            averages.append(stack.diagonal_means(stored))
            segments.append(_segments(stored, stack))
        file["xpcs/twotime/normalized_g2"] = np.stack(averages, axis=1).astype(np.float32)
        file["xpcs/twotime/normalized_g2_segments"] = np.stack(segments, axis=2).astype(np.float32)
        n_raw = len(averages[0]) * stack.stride * stack.average
        _write_scalars(file, stack, n_raw)
        _write_intensity(file, stack)
        write_truth(file, stack.truth)


def _segments(matrix: NDArray[Any], stack: Stack) -> NDArray[np.float64]:
    """Mean of every diagonal of the blocks of equal length along t1 = t2, (lags, blocks)."""
    length = len(matrix) // SEGMENTS
    blocks = [slice(k * length, (k + 1) * length) for k in range(SEGMENTS)]
    return np.stack([stack.diagonal_means(matrix[block, block]) for block in blocks], axis=1)


def _write_scalars(file: h5py.File, stack: Stack, n_raw: int) -> None:
    shape = (1, 1) if stack.matrix_scalars else ()
    config = {"avg_frame": stack.average, "stride_frame": stack.stride, "begin_frame": 0, "end_frame": n_raw}
    values = {f"xpcs/twotime/config/{name}": value for name, value in config.items()}
    for name, value in {**values, FRAME_TIME: stack.frame_time}.items():
        file[name] = np.full(shape, value)
    file["xpcs/twotime/config/analysis_type"] = "Twotime"


def _write_intensity(file: h5py.File, stack: Stack) -> None:
    """Write mean counts per pixel, of every bin over the frames and of every frame over the detector."""
    if stack.photons is None:
        return
    bins = len(file[f"{QMAP}/static_index_mapping"])
    file[BIN_MEANS] = np.full((1, bins), stack.photons.mean(), dtype=np.float32)
    file[FRAME_MEANS] = np.stack([np.arange(len(stack.photons)), stack.photons]).astype(np.float32)


def _pixels(bins: int, pixels: int) -> NDArray[np.int32]:
    """Label map of a detector on which each of the bins is a strip of so many pixels; 0 is used by none."""
    width = math.ceil(math.sqrt(bins * pixels))
    labels = np.zeros(width * math.ceil(bins * pixels / width), dtype=np.int32)
    labels[: bins * pixels] = np.repeat(np.arange(1, bins + 1), pixels)
    return labels.reshape(-1, width)


def write_qmap(file: h5py.File, stack: Stack) -> NDArray[np.int64]:
    """Write the q-map and return the 1-based label of every matrix."""
    if stack.partition is not None:
        write_partition(file, QMAP, stack.partition)
        return np.arange(1, stack.partition.dynamic.count + 1)
    all_q, all_phi = stack.all_bins
    q_axis, i = np.unique(all_q, return_inverse=True)
    phi_axis, j = np.unique(all_phi, return_inverse=True)
    natural = i * len(phi_axis) + j
    populated, labels = np.unique(natural, return_inverse=True)
    pixels = np.zeros((1, 1), dtype=np.int32) if stack.pixels is None else _pixels(len(populated), stack.pixels)
    bins = Bins(pixels, (Axis("q", q_axis), Axis("phi", phi_axis)), populated)
    write_partition(file, QMAP, Partition(pixels > 0, bins, bins, {}), maps=stack.pixels is not None)
    return labels[: len(stack.q)].astype(np.int64) + 1
