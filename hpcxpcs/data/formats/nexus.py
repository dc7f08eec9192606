"""The NeXus-style layout of APS 8-ID results (boost_corr): /xpcs/twotime and the partition in /xpcs/qmap."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.layout import Layout, Place, Stack, bins_at, bins_without, step_of_frames
from hpcxpcs.data.formats.source import (
    Quantity,
    Source,
    matrix,
    numbered,
    quantity,
    text,
    vector,
    whole_numbers,
)
from hpcxpcs.data.formats.truth import write_truth
from hpcxpcs.errors import FormatError

NAME = "nexus"
LOOKS_FOR = "/xpcs/twotime/correlation_map with c2_00001 …, /xpcs/qmap"

MATRICES = "xpcs/twotime/correlation_map"
PROCESSED = "xpcs/twotime/processed_bins"
QMAP = "xpcs/qmap"
UNITS = f"{QMAP}/map_units"
FRAME_TIME = "entry/instrument/detector_1/frame_time"
STRIDE, AVERAGE = (
    tuple(f"xpcs/{kind}/config/{name}_frame" for kind in ("twotime", "multitau")) for name in ("stride", "avg")
)
"""Where the file may say that frames were skipped or averaged, the first that is there counts."""

PIXEL_MAP, STATIC_MAP = f"{QMAP}/dynamic_roi_map", f"{QMAP}/static_roi_map"
"""Images (H, W) of bin labels, 0 outside of all bins: of the matrices, and of the finer ones of mean intensities."""

MEAN_IMAGE, BIN_MEANS = "xpcs/temporal_mean/scattering_2d", "xpcs/temporal_mean/scattering_1d"
"""Mean counts per raw frame: of every pixel (1, H, W), of every static bin (1, bins)."""

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
    """Return q (Å⁻¹) and φ (degrees) of every bin of the grid, by natural index, and their units."""
    paths = [f"{QMAP}/dynamic_v_list_dim{k}" for k in (0, 1)]
    names = (
        [text(name).lower() for name in vector(source, f"{QMAP}/map_names")] if f"{QMAP}/map_names" in source else []
    )
    if names not in ([], ["q", "phi"], ["phi", "q"]):
        raise FormatError(f"/{QMAP}/map_names: the partition is over {' and '.join(names)}, it must be over q and phi")
    swapped = names == ["phi", "q"]
    map_units = [text(unit).strip() for unit in vector(source, UNITS)] if UNITS in source else []
    known = map_units if len(map_units) == 2 else ["", ""]
    q = quantity(source, paths[swapped], "q", elsewhere=known[swapped] or None)
    phi = quantity(source, paths[not swapped], "angle", elsewhere=known[not swapped] or None)
    outer, inner = (phi, q) if swapped else (q, phi)
    slow = Quantity(np.repeat(outer.values, len(inner.values)), outer.unit)
    fast = Quantity(np.tile(inner.values, len(outer.values)), inner.unit)
    return (fast, slow) if swapped else (slow, fast)


def natural_indices(source: Source, grid: int, notes: list[str]) -> NDArray[np.int64]:
    """Return the natural (0-based, grid) index of every populated bin; position b - 1 belongs to label b."""
    path = f"{QMAP}/dynamic_index_mapping"
    if path not in source:
        notes.append(f"/{path} is missing: every one of the {grid} bins is taken as populated")
        return np.arange(grid)
    natural = whole_numbers(source, path)
    outside = natural[(natural < 0) | (natural >= grid)]
    if outside.size:
        raise FormatError(f"/{path}: index {outside[-1]} is outside the grid of {grid} bins")
    return natural


def write(path: Path, stack: Stack) -> None:
    """Write a stack as boost_corr would: matrices by sequence number, and a q-map."""
    with h5py.File(path, "w") as file:
        file.create_dataset(PROCESSED, data=write_qmap(file, stack))
        averages = []
        for index, stored in enumerate(stack.stored_matrices()):
            stack.create(file, f"{MATRICES}/c2_{index + 1:05d}", len(stored), None)[...] = stored
            averages.append(stack.diagonal_means(stored))
        file["xpcs/twotime/normalized_g2"] = np.stack(averages, axis=1).astype(np.float32)
        n_raw = len(averages[0]) * stack.stride * stack.average
        _write_scalars(file, stack, n_raw)
        _write_intensity(file, stack)
        write_truth(file, stack.truth)


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


def _write_pixels(file: h5py.File, bins: int, pixels: int) -> None:
    """Write label maps of a detector on which each of the bins is a strip of so many pixels; 0 is used by none."""
    width = math.ceil(math.sqrt(bins * pixels))
    labels = np.zeros(width * math.ceil(bins * pixels / width), dtype=np.min_scalar_type(bins))
    labels[: bins * pixels] = np.repeat(np.arange(1, bins + 1), pixels)
    for path in (PIXEL_MAP, STATIC_MAP):
        file.create_dataset(path, data=labels.reshape(-1, width), compression="lzf")


def write_qmap(file: h5py.File, stack: Stack) -> NDArray[np.int64]:
    """Write the q-map and return the 1-based label of every matrix."""
    all_q, all_phi = stack.all_bins
    q_axis, i = np.unique(all_q, return_inverse=True)
    phi_axis, j = np.unique(all_phi, return_inverse=True)
    natural = i * len(phi_axis) + j
    populated, labels = np.unique(natural, return_inverse=True)
    qmap = file.create_group(QMAP)
    for kind in ("dynamic", "static"):
        qmap[f"{kind}_num_pts"] = np.array([len(q_axis), len(phi_axis)])
        for k, (name, unit, axis) in enumerate((("q", "Å⁻¹", q_axis), ("phi", "deg", phi_axis))):
            qmap[f"{kind}_v_list_dim{k}"] = axis
            qmap[f"{kind}_v_list_dim{k}"].attrs.update({"name": name, "unit": unit, "size": len(axis)})
        qmap[f"{kind}_index_mapping"] = populated.astype(np.min_scalar_type(int(populated.max())))
    if stack.pixels is not None:
        _write_pixels(file, len(populated), stack.pixels)
    qmap["map_names"] = np.array([b"q", b"phi"], dtype=object)
    qmap["map_units"] = np.array(["Å⁻¹".encode(), b"deg"], dtype=object)
    return labels[: len(stack.q)].astype(np.int64) + 1
