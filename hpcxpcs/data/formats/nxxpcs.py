"""The NeXus application definition NXxpcs: /entry/twotime/two_time_corr_func and the lists in its masks.

Four attributes say how the matrices are stored: `storage_mode`, `baseline_reference`, `time_origin_location`,
`populated_elements`. The baseline must be there, the others are checked against the contents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.hdf5 import attribute
from hpcxpcs.data.formats.layout import (
    BinInfo,
    Form,
    Layout,
    Order,
    Place,
    Stack,
    TimeStep,
    Triangle,
    arrangement,
    bins_at,
    bins_without,
    blank_triangles,
    diagonal_from_corner,
    lists_of_bins,
    read_matrix,
)
from hpcxpcs.data.formats.source import (
    Quantity,
    Source,
    dataset,
    factor_of,
    group,
    members,
    numbered,
    scalar,
    stated_unit,
    text,
    whole_numbers,
)
from hpcxpcs.data.formats.truth import write_truth
from hpcxpcs.errors import FormatError

NAME = "nxxpcs"
LOOKS_FOR = "/entry/twotime/two_time_corr_func with its attributes, /entry/instrument/masks"

Storage = Literal["one_array_q_first", "one_array_q_last", "data_exchange_keys"]
Origin = Literal["upper_left", "lower_left"]
POPULATED: dict[str, Triangle | None] = {"all": None, "upper_half": "upper", "lower_half": "lower"}

TWOTIME, MASKS = "entry/twotime", "entry/instrument/masks"

LOOKED_AT = 64
"""Frames on a side of the part of a matrix that is read to see which way up it is."""


def _entries(source: Source) -> Iterator[str]:
    """Yield the names of the entries with two-time matrices; the usual one, "entry", is the first."""
    names = sorted(source, key=lambda name: (name != "entry", str(name))) if isinstance(source, h5py.File) else []
    return (name for name in names if f"{name}/twotime/two_time_corr_func" in source)


def detect(source: Source) -> bool:
    """Tell whether the file has an entry with two-time matrices in this layout."""
    return any(_entries(source))


def open_layout(source: Source) -> Layout:
    """Describe the file: every matrix with the q and φ of its region, and the form it is stored in."""
    entry = next(_entries(source))
    path, masks = f"{entry}/twotime/two_time_corr_func", f"{entry}/instrument/masks"
    q, phi = _lists(source, masks)
    regions = _regions(source, masks)
    places = _places(source, path, regions, len(q.values))
    shape = tuple(dataset(source, places[0].dataset).shape)
    if len(shape) != len(places[0].lead) + 2 + len(places[0].trail) or 0 in shape:
        raise FormatError(f"/{places[0].dataset} has shape {shape}; a matrix (N, N) is needed")
    n_frames = int(shape[len(places[0].lead)])
    notes: list[str] = []
    form = _form(source, path, places[len(places) // 2], n_frames, notes)
    return Layout.of(
        NAME,
        source,
        bins_at(places, q.values, phi.values, form),
        n_frames,
        units=(q.unit, phi.unit),
        step=_time_step(source, entry, notes),
        absent=bins_without((at.label for at in places), q.values, phi.values, regions),
        notes=notes,
    )


def _lists(source: Source, masks: str) -> tuple[Quantity, Quantity]:
    """Return q and φ of every region, in the order of the region numbers."""
    if f"{masks}/dynamic_phi_list" not in source and f"{masks}/dynamic_q_list" in source:
        raise FormatError(f"/{masks}/dynamic_phi_list is missing: write the angle of every region (for full rings, 0)")
    return lists_of_bins(source, masks, "dynamic_q_list", "dynamic_phi_list", "every region of dynamic_roi_map")


def _regions(source: Source, masks: str) -> list[int] | None:
    """Return the numbers of the regions that have pixels, None when the file has no map of them."""
    path = f"{masks}/dynamic_roi_map"
    if path not in source:
        return None
    labels = np.unique(whole_numbers(source, path))
    return [int(label) for label in labels if label > 0]


def _places(source: Any, path: str, regions: list[int] | None, n_lists: int) -> list[Place]:
    """Find every matrix and the number of the region it belongs to."""
    item = source[path] if isinstance(source[path], h5py.Group) else dataset(source, path)
    mode = _attribute(item, path, "storage_mode", get_args(Storage), required=False)
    grouped = isinstance(item, h5py.Group)
    if mode is not None and grouped != (mode == "data_exchange_keys"):
        kind = "a group" if grouped else "one array"
        raise FormatError(f"/{path} is {kind}, but its attribute storage_mode says {mode}")
    if grouped:
        names = numbered(source, path, r"(\d+)$", "names that end in the number of their region")
        places = [Place(number, f"{path}/{name}") for number, name in names.items()]
    else:
        places = _slices(item, path, mode, regions, n_lists)
    outside = [at.label for at in places if not 1 <= at.label <= n_lists]
    if outside:
        raise FormatError(
            f"/{path} has matrices of the regions {outside[:5]}, but dynamic_q_list has {n_lists} entries"
        )
    return places


def _slices(item: h5py.Dataset, path: str, mode: str | None, regions: list[int] | None, n_lists: int) -> list[Place]:
    """Return the matrices of one array (q, N, N) or (N, N, q): the k-th is that of the k-th region with pixels."""
    shape = tuple(item.shape)
    if mode is None:
        order, grid = arrangement(item, path)
    else:
        order, grid = ("q_first", shape[:-2]) if mode == "one_array_q_first" else ("q_last", shape[2:])
    frames = shape[len(grid) :] if order == "q_first" else shape[:2]
    if len(grid) != 1 or len(frames) != 2 or frames[0] != frames[1] or 0 in shape:
        raise FormatError(
            f"/{path} has shape {shape}; storage_mode {mode or 'missing'} needs "
            f"{'(N, N, q)' if mode == 'one_array_q_last' else '(q, N, N)'}"
        )
    count = grid[0]
    if regions is not None and len(regions) == count:
        labels = regions
    elif count == n_lists:
        labels = list(range(1, count + 1))
    else:
        with_pixels = "unknown" if regions is None else len(regions)
        raise FormatError(
            f"/{path} has {count} matrices for {n_lists} entries of dynamic_q_list and {with_pixels} regions "
            "of dynamic_roi_map with pixels: it cannot be told which regions these are"
        )
    return [
        Place(label, path, (k,) if order == "q_first" else (), (k,) if order == "q_last" else ())
        for k, label in enumerate(labels)
    ]


def _form(source: Any, path: str, sample: Place, n: int, notes: list[str]) -> Form:
    """Return the form that the attributes state, corrected by what the middle of one matrix shows."""
    item = source[path]
    baseline = _attribute(item, path, "baseline_reference", ("0", "1"), required=True)
    origin = _attribute(item, path, "time_origin_location", get_args(Origin), required=False)
    populated = _attribute(item, path, "populated_elements", tuple(POPULATED), required=False)
    start = max(0, (n - LOOKED_AT) // 2)
    window = slice(start, n - start)
    info = BinInfo(0, sample.label, 0.0, 0.0, sample.dataset, sample.lead, sample.trail)
    seen = read_matrix(source, info, window)
    if seen.shape[0] != seen.shape[1]:
        raise FormatError(f"/{sample.dataset} holds no square matrix (N, N)")
    upside_down = _upside_down(seen, origin, path, notes)
    triangle = _triangle(seen[::-1] if upside_down else seen, populated, path, notes)
    return Form(1 if baseline == "1" else 0, upside_down, triangle)


def _upside_down(seen: NDArray[Any], origin: str | None, path: str, notes: list[str]) -> bool:
    """Tell whether t = 0 is in the last row: the diagonal then runs from the lower left corner."""
    as_stored, turned = diagonal_from_corner(seen), diagonal_from_corner(seen[::-1])
    if as_stored == turned:
        return origin == "lower_left"
    if turned and origin == "upper_left":
        raise FormatError(
            f"/{path}: time_origin_location is upper_left, but the matrices are symmetric about the other "
            "diagonal, so t = 0 is in the last row; correct the attribute to lower_left"
        )
    if as_stored and origin == "lower_left":
        notes.append("time_origin_location is lower_left, but t = 0 is in the first row: only drawn that way")
    return turned


def _triangle(matrix: NDArray[Any], populated: str | None, path: str, notes: list[str]) -> Triangle | None:
    """Return the only triangle that holds values; None when both do."""
    stated = POPULATED[populated] if populated is not None else None
    no_upper, no_lower = blank_triangles(matrix)
    if no_upper == no_lower:
        return stated
    shown: Triangle = "lower" if no_upper else "upper"
    if populated == "all":
        raise FormatError(
            f"/{path}: populated_elements is all, but only the {shown} half of the matrices has values; "
            f"correct the attribute to {shown}_half"
        )
    if stated is not None and stated != shown:
        notes.append(f"populated_elements is {populated}, but the other half holds the values")
    return shown


def _attribute(item: Any, path: str, name: str, allowed: tuple[str, ...], *, required: bool) -> str | None:
    stored = attribute(item, name)
    if stored is None:
        if required:
            raise FormatError(
                f"/{path} has no attribute {name} ({' or '.join(allowed)}): full decorrelation may be stored "
                "as 0 or as 1, and this is not guessed; write the attribute"
            )
        return None
    value = text(stored)
    if value not in allowed:
        raise FormatError(f"/{path}: attribute {name} is {value!r}; it must be {' or '.join(allowed)}")
    return value


def _time_step(source: Any, entry: str, notes: list[str]) -> TimeStep:
    """Return the frame time of the detector."""
    instrument = group(source, f"{entry}/instrument")
    names = sorted(name for name in members(instrument) if f"{entry}/instrument/{name}/frame_time" in source)
    if not names:
        return TimeStep(None, f"/{entry}/instrument/<detector>/frame_time is missing", "unknown")
    path = f"{entry}/instrument/{names[0]}/frame_time"
    value, unit = scalar(source, path), stated_unit(source, path)
    if value is None or not 0 < value < math.inf:
        return TimeStep(None, f"/{path} is {value}", unit or "unknown")
    dt = float(value) * (1.0 if unit is None else factor_of(unit, "time", path))
    notes.append(
        "dt is the frame time of the detector: this layout has no place for skipped or averaged frames; "
        "set analyzer_parameters.dt if the matrices have fewer"
    )
    words = f"{unit} (stated)" if unit else "s (by definition)"
    return TimeStep(dt, f"frame_time {value:g} {unit or 's'}", words)


def write(
    path: Path,
    stack: Stack,
    *,
    storage: Storage = "one_array_q_first",
    baseline: Literal[0, 1] = 1,
    origin: Origin = "upper_left",
) -> None:
    """Write what a simulation knows of an NXxpcs file: matrices, regions with q and φ, frame time."""
    triangle = stack.stored_triangle
    form = Form(baseline, origin == "lower_left", triangle)
    averages: dict[int, NDArray[np.float64]] = {}
    with h5py.File(path, "w") as file:
        labels = _write_regions(file, stack)
        ranks = np.argsort(np.argsort(labels))
        for label, rank, matrix in zip(labels, ranks, stack.stored_matrices(), strict=True):
            place = _created(file, stack, storage, int(rank), int(label), len(matrix))
            file[place.dataset][(*place.lead, ..., *place.trail)] = form.applied(matrix)
            averages[int(rank)] = stack.diagonal_means(matrix) - (1 - baseline)
        file[f"{TWOTIME}/two_time_corr_func"].attrs.update(
            {
                "storage_mode": np.bytes_(storage),
                "baseline_reference": baseline,
                "time_origin_location": np.bytes_(origin),
                "populated_elements": np.bytes_("all" if triangle is None else f"{triangle}_half"),
            }
        )
        file[f"{TWOTIME}/g2_from_two_time_corr_func"] = np.stack([averages[rank] for rank in sorted(averages)], axis=1)
        file[f"{TWOTIME}/g2_from_two_time_corr_func"].attrs.update(
            {"storage_mode": "one_array_q_last", "baseline_reference": baseline, "first_point_for_fit": 0}
        )
        write_truth(file, stack.truth)


def _created(file: h5py.File, stack: Stack, storage: Storage, index: int, label: int, n: int) -> Place:
    """Return where a matrix (n, n) is put; its dataset is made when it is not there yet."""
    path = f"{TWOTIME}/two_time_corr_func"
    axis: Order | None
    if storage == "data_exchange_keys":
        axis, place = None, Place(label, f"{path}/c2_{label:05d}")
    elif storage == "one_array_q_first":
        axis, place = "q_first", Place(label, path, lead=(index,))
    else:
        axis, place = "q_last", Place(label, path, trail=(index,))
    if place.dataset not in file:
        stack.create(file, place.dataset, n, axis)
    return place


def _write_regions(file: h5py.File, stack: Stack) -> NDArray[np.int64]:
    """Write entry, frame time, and lists of regions ordered by q then φ; return the number of each matrix.

    The map of regions has one pixel for every region with a matrix.
    """
    q, phi, labels = stack.ordered_bins()
    for name, kind in (
        ("entry", "NXentry"),
        (TWOTIME, "NXdata"),
        ("entry/instrument", "NXinstrument"),
        ("entry/instrument/detector", "NXdetector"),
        (MASKS, "NXnote"),
    ):
        file.require_group(name).attrs["NX_class"] = kind
    file["entry/definition"] = "NXxpcs"
    for name, value, unit in (
        (f"{MASKS}/dynamic_q_list", q, "1/angstrom"),
        (f"{MASKS}/dynamic_phi_list", phi, "deg"),
        (f"{MASKS}/dynamic_roi_map", np.sort(labels)[None, :], "au"),
        ("entry/instrument/detector/frame_time", stack.dt, "s"),
    ):
        file[name] = value
        file[name].attrs["units"] = np.bytes_(unit)
    return labels
