"""The NeXus-style layout of APS 8-ID results (boost_corr): /xpcs/twotime and the partition in /xpcs/qmap."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.filters import compression
from hpcxpcs.data.formats.layout import AbsentBin, BinInfo, Layout, Reason, Stack
from hpcxpcs.data.formats.source import Source, group, matrix, members, scalar, vector, whole_numbers
from hpcxpcs.data.formats.truth import write_truth
from hpcxpcs.data.formats.units import quantity, text
from hpcxpcs.errors import FormatError

NAME = "nexus"
LOOKS_FOR = "/xpcs/twotime/correlation_map with c2_00001 …, /xpcs/qmap"

MATRICES = "xpcs/twotime/correlation_map"
PROCESSED = "xpcs/twotime/processed_bins"
QMAP = "xpcs/qmap"
UNITS = f"{QMAP}/map_units"
BIN_PIXELS = "dynamic_roi_map"
BIN_COUNTS = "xpcs/temporal_mean/scattering_1d"
FRAME_COUNTS = "xpcs/spatial_mean/intensity_vs_time"
FRAME_TIME = "entry/instrument/detector_1/frame_time"


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
    q_axis, phi_axis, natural_to_pair, units = _axes(source)
    natural = _natural_indices(source, len(q_axis) * len(phi_axis), notes)
    if labels.size and not (labels.min() >= 1 and labels.max() <= len(natural)):
        raise FormatError(
            f"/{PROCESSED} names bins {labels.min()}…{labels.max()}, but the q-map has bins 1…{len(natural)}"
            + ("; bins count from 1: add 1 to each" if labels.min() == 0 and labels.max() < len(natural) else "")
        )
    bins = []
    for index, (name, label) in enumerate(zip(names, labels, strict=True)):
        i, j = natural_to_pair(int(natural[label - 1]))
        bins.append(BinInfo(index, int(label), float(q_axis[i]), float(phi_axis[j]), f"{MATRICES}/{name}"))
    dt, dt_source = _time_step(source, notes)
    first = matrix(source, bins[0].dataset)
    return Layout(
        format=NAME,
        bins=tuple(bins),
        n_frames=int(first.shape[-1]),
        dt=dt,
        dt_source=dt_source,
        dtype=str(first.dtype),
        compression=compression(first),
        absent=_absent(q_axis, phi_axis, natural_to_pair, natural, labels),
        notes=tuple(notes),
        units=units,
        source=source,
    )


def _sequence(source: Source, notes: list[str]) -> list[str]:
    """Return the dataset names in the order of their sequence numbers (from 1, or from 0), which are not bin labels."""
    numbered: dict[int, str] = {}
    for name in members(group(source, MATRICES)):
        match = re.fullmatch(r"c2_(\d+)", name)
        if match is None:
            raise FormatError(f"/{MATRICES}/{name}: expected names like c2_00001")
        if int(match.group(1)) in numbered:
            raise FormatError(f"/{MATRICES}: {name} and {numbered[int(match.group(1))]} have the same number")
        numbered[int(match.group(1))] = name
    if not numbered:
        raise FormatError(f"/{MATRICES} holds no matrices")
    first, last = (0 if 0 in numbered else 1), max(numbered)
    missing = [number for number in range(first, min(last, len(numbered) + first) + 1) if number not in numbered]
    if missing:
        raise FormatError(
            f"/{MATRICES}: {len(numbered)} matrices are numbered up to {last}, and c2_{missing[0]:05d} is missing; "
            f"their order tells their bins (/{PROCESSED}), so which bins these are is not guessed: write the file again"
        )
    if first == 0:
        notes.append(f"the matrices are numbered from 0: {numbered[0]} is that of the first processed bin")
    return [numbered[number] for number in sorted(numbered)]


def _axes(source: Source) -> tuple[NDArray[np.float64], NDArray[np.float64], Any, dict[str, str]]:
    """Return the q axis (Å⁻¹), the φ axis (degrees), the map from natural index to positions, and the units."""
    paths = [f"{QMAP}/dynamic_v_list_dim{k}" for k in (0, 1)]
    names = (
        [text(name).lower() for name in vector(source, f"{QMAP}/map_names")]
        if f"{QMAP}/map_names" in source
        else []
    )
    if names not in ([], ["q", "phi"], ["phi", "q"]):
        raise FormatError(
            f"/{QMAP}/map_names: the partition is over {' and '.join(names)}, it must be over q and phi"
        )
    swapped = names == ["phi", "q"]
    map_units = [text(unit).strip() for unit in vector(source, UNITS)] if UNITS in source else []
    known = map_units if len(map_units) == 2 else ["", ""]
    q = quantity(source, paths[swapped], "q", elsewhere=known[swapped] or None)
    phi = quantity(source, paths[not swapped], "angle", elsewhere=known[not swapped] or None)
    count = len(q.values) if swapped else len(phi.values)
    units = {"q": q.unit, "phi": phi.unit, "time": "s (that of the layout)"}
    if swapped:
        return q.values, phi.values, lambda natural: divmod(natural, count)[::-1], units
    return q.values, phi.values, lambda natural: divmod(natural, count), units


def _natural_indices(source: Source, grid: int, notes: list[str]) -> NDArray[np.int64]:
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


def _time_step(source: Source, notes: list[str]) -> tuple[float | None, str]:
    """Return the step of the processed frames (s): frame time x stride x average."""
    frame_time = scalar(source, FRAME_TIME)
    if frame_time is None or not frame_time > 0:
        return None, f"/{FRAME_TIME} is missing" if frame_time is None else f"/{FRAME_TIME} is {frame_time}"
    factors = {}
    for name in ("stride_frame", "avg_frame"):
        value = scalar(source, f"xpcs/twotime/config/{name}", f"xpcs/multitau/config/{name}")
        if value is None:
            notes.append(f"/xpcs/twotime/config/{name} is missing: taken as 1")
        factors[name] = 1 if value is None else value
    dt = float(frame_time * factors["stride_frame"] * factors["avg_frame"])
    return (
        dt if math.isfinite(dt) and min(factors.values()) >= 1 else None,
        f"frame_time {frame_time:g} s x stride {factors['stride_frame']} x average {factors['avg_frame']}",
    )


def _absent(
    q_axis: NDArray[np.float64],
    phi_axis: NDArray[np.float64],
    natural_to_pair: Any,
    natural: NDArray[np.int64],
    labels: NDArray[np.int64],
) -> tuple[AbsentBin, ...]:
    populated = set(natural.tolist())
    processed = set(natural[labels - 1].tolist())
    absent = []
    for index in range(len(q_axis) * len(phi_axis)):
        if index in processed:
            continue
        i, j = natural_to_pair(index)
        reason: Reason = "not processed" if index in populated else "not populated"
        absent.append(AbsentBin(float(q_axis[i]), float(phi_axis[j]), reason))
    return tuple(absent)


def write(path: Path, stack: Stack) -> None:
    """Write a stack as boost_corr would: matrices by sequence number, and a q-map."""
    with h5py.File(path, "w") as file:
        file.create_dataset(PROCESSED, data=_write_qmap(file, stack))
        averages = []
        for index, stored in enumerate(stack.stored_matrices()):
            options = stack.dataset_options(stored.shape, usual="lzf")
            file.create_dataset(f"{MATRICES}/c2_{index + 1:05d}", data=stored, **options)
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
    file[BIN_COUNTS] = np.full((1, bins), stack.photons.mean(), dtype=np.float32)
    file[FRAME_COUNTS] = np.stack([np.arange(len(stack.photons)), stack.photons]).astype(np.float32)


def _write_pixels(qmap: h5py.Group, bins: int, pixels: int) -> None:
    """Write label maps of a detector on which each of the bins is a strip of so many pixels; 0 is used by none."""
    width = math.ceil(math.sqrt(bins * pixels))
    labels = np.zeros(width * math.ceil(bins * pixels / width), dtype=np.min_scalar_type(bins))
    labels[: bins * pixels] = np.repeat(np.arange(1, bins + 1), pixels)
    for name in (BIN_PIXELS, "static_roi_map"):
        qmap.create_dataset(name, data=labels.reshape(-1, width), compression="lzf")


def _write_qmap(file: h5py.File, stack: Stack) -> NDArray[np.int64]:
    """Write the q-map and return the 1-based label of every matrix."""
    extra = np.asarray(stack.unprocessed, dtype=np.float64).reshape(-1, 2)
    all_q, all_phi = np.concatenate([stack.q, extra[:, 0]]), np.concatenate([stack.phi, extra[:, 1]])
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
        _write_pixels(qmap, len(populated), stack.pixels)
    qmap["map_names"] = np.array([b"q", b"phi"], dtype=object)
    qmap["map_units"] = np.array(["Å⁻¹".encode(), b"deg"], dtype=object)
    return labels[: len(stack.q)].astype(np.int64) + 1
