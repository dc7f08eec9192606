"""The q-map of APS files: which pixels belong to which bin, and which q and φ a bin has.

A group (`/qmap` of a partition file, `/xpcs/qmap` of a result) with two sets of bins, `dynamic` (of the correlations)
and, finer, `static` (of the mean intensities). Labels count populated bins from 1; `index_mapping` leads from label - 1
to the place in the grid of both axes, i0·n1 + i1.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.arrays import Flags, Floats, Integers
from hpcxpcs.data.formats.hdf5 import values_of
from hpcxpcs.data.formats.source import Quantity, Source, dataset, quantity, scalar, text, vector, whole_numbers
from hpcxpcs.errors import DataError, FormatError

Level = Literal["dynamic", "static"]
LEVELS: tuple[Level, Level] = ("dynamic", "static")
VERSION = "1.0.0"
"""Of the group as it is written here, in its attribute `version`."""

UNITS = {"q": "Å⁻¹", "phi": "deg"}


@dataclass(frozen=True)
class Axis:
    """One axis of a grid of bins: `name` q or phi, centres (n,) in Å⁻¹ or degrees, and in words the unit stored."""

    name: str
    values: Floats
    unit: str = ""


@dataclass(frozen=True)
class Bins:
    """Bins on the detector: `labels` int32 (H, W), 0 for pixels in none; two axes; the place of every label (n,)."""

    labels: NDArray[np.int32]
    axes: tuple[Axis, Axis]
    natural: Integers

    @property
    def count(self) -> int:
        """How many bins have pixels."""
        return len(self.natural)

    @property
    def pixels(self) -> Integers:
        """Pixels of every bin (n,)."""
        return np.bincount(self.labels.ravel(), minlength=self.count + 1)[1:].astype(np.int64)

    def centres(self, name: str) -> Floats:
        """The centre of every bin (n,) along the axis of that name, in Å⁻¹ or degrees."""
        return np.asarray(grid_of(self.axes, name).values[self.natural])


@dataclass(frozen=True)
class Partition:
    """The bins of a detector, static ones inside dynamic ones, and the pixels (H, W) that may be used at all.

    `geometry` holds what the file says of it by the names of the layout: pixels, metres, keV.
    """

    mask: Flags
    dynamic: Bins
    static: Bins
    geometry: dict[str, float]
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse maps of different detectors and static bins that are not inside one dynamic bin."""
        shapes = {self.mask.shape, self.dynamic.labels.shape, self.static.labels.shape}
        if len(shapes) > 1 or self.mask.ndim != 2:
            raise DataError(
                f"mask {self.mask.shape}, dynamic {self.dynamic.labels.shape} and static "
                f"{self.static.labels.shape} bins are not maps of one detector"
            )
        self.parents()

    def parents(self) -> Integers:
        """The dynamic label in which each static bin (n_static,) is; DataError if there are two, or other pixels."""
        used = self.dynamic.labels > 0
        if not np.array_equal(used, self.static.labels > 0):
            raise DataError("static and dynamic bins cover different pixels: make the partition again")
        pairs = np.unique(np.stack([self.static.labels[used], self.dynamic.labels[used]]), axis=1)
        if len(np.unique(pairs[0])) < pairs.shape[1]:
            first = pairs[0][1:][np.diff(pairs[0]) == 0][0]
            raise DataError(f"the static bin {first} is in more than one dynamic bin: make the partition again")
        return pairs[1].astype(np.int64)


def grid_of(axes: tuple[Axis, Axis], name: str) -> Quantity:
    """The values along one axis of all places of a grid (n0·n1,), by natural index."""
    outer, inner = axes
    if outer.name == name:
        return Quantity(np.repeat(outer.values, len(inner.values)), outer.unit)
    return Quantity(np.tile(inner.values, len(outer.values)), inner.unit)


def read_axes(source: Source, folder: str, level: Level = "dynamic") -> tuple[Axis, Axis]:
    """The two axes of a level's grid, q and phi in the order of the file, in Å⁻¹ and degrees."""
    named, units = f"{folder}/map_names", f"{folder}/map_units"
    names = [text(name).lower() for name in vector(source, named)] if named in source else ["q", "phi"]
    if names not in (["q", "phi"], ["phi", "q"]):
        raise FormatError(f"/{named}: the partition is over {' and '.join(names)}, it must be over q and phi")
    map_units = [text(unit).strip() for unit in vector(source, units)] if units in source else []
    known = map_units if len(map_units) == 2 else ["", ""]
    first, second = (
        Axis(
            name,
            *quantity(
                source,
                f"{folder}/{level}_v_list_dim{k}",
                "q" if name == "q" else "angle",
                elsewhere=known[k] or None,
            ),
        )
        for k, name in enumerate(names)
    )
    return first, second


def read_natural(
    source: Source, folder: str, grid: int, notes: list[str], level: Level = "dynamic"
) -> NDArray[np.int64]:
    """The natural (0-based, grid) index of every populated bin; position b - 1 belongs to label b."""
    path = f"{folder}/{level}_index_mapping"
    if path not in source:
        notes.append(f"/{path} is missing: every one of the {grid} bins is taken as populated")
        return np.arange(grid)
    natural = whole_numbers(source, path)
    outside = natural[(natural < 0) | (natural >= grid)]
    if outside.size:
        raise FormatError(f"/{path}: index {outside[-1]} is outside the grid of {grid} bins")
    return natural


GEOMETRY = ("beam_center_x", "beam_center_y", "detector_distance", "pixel_size", "energy")
"""Numbers of the group that say where the pixels are: pixels, pixels, metres, metres, keV."""


def read_partition(source: Source, folder: str) -> Partition:
    """The partition in a group of an open file."""
    dynamic, static = (_read_bins(source, folder, level) for level in LEVELS)
    mask = f"{folder}/mask"
    used = values_of(dataset(source, mask), mask) > 0 if mask in source else dynamic.labels > 0
    told = {name: scalar(source, f"{folder}/{name}") for name in GEOMETRY}
    geometry = {name: value for name, value in told.items() if value is not None}
    return Partition(np.asarray(used, dtype=np.bool_), dynamic, static, geometry)


def _read_bins(source: Source, folder: str, level: Level) -> Bins:
    path, notes = f"{folder}/{level}_roi_map", list[str]()
    labels = values_of(dataset(source, path), path)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise FormatError(f"/{path} is {labels.dtype} {labels.shape}; a map (rows, columns) of whole labels is needed")
    axes = read_axes(source, folder, level)
    grid = len(axes[0].values) * len(axes[1].values)
    natural = read_natural(source, folder, grid, notes, level)
    last = int(labels.max(initial=0))
    if notes and last != grid:
        raise FormatError(
            f"/{folder}/{level}_index_mapping is missing, and /{path} has {last} labels for a grid of {grid} bins: "
            "which q and phi they have is not guessed; make the partition again"
        )
    if last > len(natural) or labels.min(initial=0) < 0:
        raise FormatError(f"/{path} has labels {labels.min()} to {last}, but {len(natural)} bins are listed")
    return Bins(labels.astype(np.int32), axes, natural)


def fields_of(bins: Bins, level: Level) -> dict[str, NDArray[Any]]:
    """What a group holds of one set of bins, by name; labels and places in the smallest type that holds them."""
    largest = int(bins.natural.max(initial=0))
    return {
        f"{level}_roi_map": bins.labels.astype(np.min_scalar_type(bins.count)),
        f"{level}_num_pts": np.array([len(axis.values) for axis in bins.axes]),
        **{f"{level}_v_list_dim{k}": axis.values for k, axis in enumerate(bins.axes)},
        f"{level}_index_mapping": bins.natural.astype(np.min_scalar_type(largest)),
    }


def write_partition(file: h5py.File, folder: str, partition: Partition, *, maps: bool = True) -> None:
    """Write the group of a partition, with its hash: the SHA-256 of all names, in order, and values behind them.

    `maps` False leaves the maps of pixels out, of bins whose pixels are not known.
    """
    content: dict[str, Any] = fields_of(partition.dynamic, "dynamic") | fields_of(partition.static, "static")
    content |= {name: np.float64(value) for name, value in partition.geometry.items()}
    if maps:
        content["mask"] = partition.mask
    group, digest = file.create_group(folder), hashlib.sha256()
    for name in sorted(content):
        if name.endswith("_roi_map") and not maps:
            continue
        packed = "lzf" if getattr(content[name], "ndim", 0) == 2 else None
        group.create_dataset(name, data=content[name], compression=packed)
        digest.update(name.encode() + np.ascontiguousarray(content[name]).tobytes())
    names = [axis.name for axis in partition.dynamic.axes]
    for level, bins in zip(LEVELS, (partition.dynamic, partition.static), strict=True):
        for k, axis in enumerate(bins.axes):
            told = {"name": axis.name, "unit": UNITS[axis.name], "size": len(axis.values)}
            group[f"{level}_v_list_dim{k}"].attrs.update(told)
    group["map_names"] = np.array([name.encode() for name in names], dtype=object)
    group["map_units"] = np.array([UNITS[name].encode() for name in names], dtype=object)
    if partition.source:
        group["source_file"] = partition.source
    group.attrs.update({"hash": digest.hexdigest(), "version": VERSION})
