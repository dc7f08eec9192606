"""Files of masks, q-maps and partitions: the schema of the viewer's documents, and that of APS files in `/qmap`.

/xpcs/qmap      sqmap, dqmap (q of every pixel, 1/Å), phis (degrees): float64 (H, W); mask int32 0/1 (H, W);
                partition_map int32 (H, W), dynamic labels
/xpcs/metadata  attributes bcx, bcy (pixels), det_dist, pix_dim (mm), lambda_ (Å), shape
/simplemask     mask/mask int32 0/1; partition/{partition_map, val_list (q, 1/Å), num_list, mask}
/maps           all other maps, each with its unit
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.arrays import Flags, Floats
from hpcxpcs.data.formats import qmap
from hpcxpcs.data.formats.hdf5 import attribute, values_of
from hpcxpcs.data.formats.qmap import Axis, Bins, Partition
from hpcxpcs.data.formats.source import (
    HDF5_SIGNATURE,
    NPY_SIGNATURE,
    Source,
    dataset,
    factor_of,
    named,
    npy_array,
    opened,
    quantity,
    scalar,
    signature,
    stated_unit,
    text,
    vector,
)
from hpcxpcs.errors import ConfigError, DataError, FormatError, OutputError
from hpcxpcs.files.atomic import replacing_file
from hpcxpcs.files.places import output_file
from hpcxpcs.frames.geometry import ANGLE_UNIT, Q_UNIT, Geometry, Map, from_aps

MASK, PARTITION = "simplemask/mask", "simplemask/partition"
SEED_QMAP, METADATA, MAPS, APS = "xpcs/qmap", "xpcs/metadata", "maps", "qmap"
VERSION = "1.0.0"
"""Of the groups below /simplemask, as the viewer's documents number them."""

MASKS_AT = ("simplemask/mask/mask", "simplemask/partition/mask", "qmap/mask", "xpcs/qmap/mask", "mask", "data/mask")
BLEMISHES_AT = ("qmap/blemish", "xpcs/qmap/blemish", "blemish", *MASKS_AT)
RESULTS = ("xpcs/twotime", "xpcs/multitau", "xpcs/g2", "exchange")
"""What files of correlations have, which may hold masks and maps besides."""
GEOMETRY_NAMES = ("bcx", "bcy", "det_dist", "pix_dim", "lambda_")


@contextmanager
def opened_arrays(path: Path) -> Iterator[Source]:
    """Open an HDF5, NPZ or NPY file; the array of an NPY file has the name "array"."""
    if not path.exists():
        raise DataError(f"{path}: no such file; check its name and the folder you are in")
    if signature(path).startswith(NPY_SIGNATURE):
        yield {"array": npy_array(path)}
        return
    with named(path), opened(path) as source:
        yield source


def refuse_inputs(output: Path, *inputs: Path) -> None:
    """Refuse to put a result in the place of a file that it is made from."""
    for path in inputs:
        if output.exists() and path.exists() and output.samefile(path):
            raise OutputError(f"{output}: is what the result is made from ({path}): name another output file")


@contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file that appears under its name when the block ends without an error."""
    with replacing_file(output_file(path)) as temporary, h5py.File(temporary, "w") as file:
        yield file


def map_at(source: Source, path: str) -> NDArray[Any]:
    """The map (H, W) at a path; FormatError for another shape or for texts."""
    values = values_of(dataset(source, path), path)
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise FormatError(f"/{path} is {values.dtype} {values.shape}; a map (rows, columns) of numbers is needed")
    return values


def read_flags(path: Path, name: str | None = None, places: tuple[str, ...] = MASKS_AT) -> Flags:
    """The pixels (H, W) that a mask file keeps, those above 0, from a dataset or the first of the usual places."""
    with opened_arrays(path) as source:
        found = next((place for place in ((name,) if name else (*places, "array")) if _is_map(source, place)), None)
        if found is None:
            where = f"/{name}" if name else f"any of {', '.join(f'/{place}' for place in places)}"
            raise FormatError(f"{path}: holds no mask (rows, columns) at {where}; name its place with `dataset`")
        values = map_at(source, found)
    return np.asarray(values > 0)


def _is_map(source: Source, place: str) -> bool:
    return place in source and len(getattr(source[place], "shape", ())) == 2


def write_mask(path: Path, mask: Flags, geometry: Geometry | None, description: str, recipe: str) -> None:
    """Write a mask (H, W), True for pixels that are used, with the recipe it was made by."""
    with new_file(path) as file:
        _put_mask(file, f"{MASK}/mask", mask)
        file[MASK].attrs.update({"version": VERSION, "description": description})
        file.create_group(f"{MASK}/metadata").attrs.update({"recipe": recipe, "used": int(mask.sum())})
        if geometry is not None:
            put_geometry(file, geometry)


def _put_mask(file: h5py.File, path: str, mask: Flags) -> None:
    file.create_dataset(path, data=mask.astype(np.int32), compression="gzip", compression_opts=4)


def put_geometry(file: h5py.File, geometry: Geometry) -> None:
    """Write a geometry as attributes of /xpcs/metadata."""
    told: dict[str, Any] = {name: float(getattr(geometry, name)) for name in GEOMETRY_NAMES}
    told |= {"shape": geometry.shape, "formula": geometry.formula}
    if geometry.incidence is not None:
        told["incidence"] = geometry.incidence
    file.require_group(METADATA).attrs.update(told)


def geometry_in(source: Source) -> Geometry | None:
    """The geometry of an open file: /xpcs/metadata (pixels, mm, Å), or a q-map of APS (pixels, m, keV)."""
    try:
        return _geometry_in(source)
    except (ConfigError, TypeError, ValueError) as error:  # lengths that are not positive; texts and lists for numbers
        raise FormatError(f"the geometry at /{METADATA} or /{APS} cannot be used: {error}; write it anew") from error


def _geometry_in(source: Source) -> Geometry | None:
    if METADATA in source and isinstance(source, h5py.File):
        told = {name: _number(source, name) for name in GEOMETRY_NAMES}
        missing = [name for name, value in told.items() if value is None]
        shape = attribute(source[METADATA], "shape")
        if len(missing) < len(told) and (missing or shape is None):
            raise FormatError(f"/{METADATA} has no {', '.join(missing) or 'shape'}: write it there, or use a recipe")
        if not missing:
            formula = text(attribute(source[METADATA], "formula") or "exact")
            incidence = attribute(source[METADATA], "incidence")
            numbers = {name: float(value) for name, value in told.items() if value is not None}
            rows, columns = (int(one) for one in shape)
            return Geometry(
                **numbers,
                shape=(rows, columns),
                formula="sin" if formula == "sin" else "exact",
                incidence=None if incidence is None else float(incidence),
            )
    for folder in (APS, SEED_QMAP):
        found = {name: scalar(source, f"{folder}/{name}") for name in qmap.GEOMETRY}
        known = {name: value for name, value in found.items() if value is not None}
        maps = next((f"{folder}/{name}" for name in ("mask", "dynamic_roi_map") if f"{folder}/{name}" in source), None)
        if known and maps is not None:
            rows, columns = map_at(source, maps).shape
            return from_aps(known, (rows, columns))
    return None


def _number(source: h5py.File, name: str) -> float | None:
    """A number of /xpcs/metadata, which programs keep as an attribute or as a dataset."""
    stored = attribute(source[METADATA], name)
    return float(stored) if stored is not None else scalar(source, f"{METADATA}/{name}")


def write_qmap(path: Path, geometry: Geometry, maps: Mapping[str, Map], mask: Flags | None = None) -> None:
    """Write the maps of a geometry; without a mask all pixels are used."""
    with new_file(path) as file:
        _put_maps(file, geometry, maps, np.ones(geometry.shape, dtype=np.bool_) if mask is None else mask)


def _put_maps(file: h5py.File, geometry: Geometry, maps: Mapping[str, Map], mask: Flags) -> None:
    own = {"sqmap": maps["q"], "dqmap": maps["q"], "phis": maps["phi"]}
    others = {f"{MAPS}/{name}": map_ for name, map_ in maps.items() if name not in ("q", "phi")}
    for place, map_ in ({f"{SEED_QMAP}/{name}": map_ for name, map_ in own.items()} | others).items():
        file.create_dataset(place, data=map_.values, compression="lzf")
        file[place].attrs["units"] = map_.unit
    _put_mask(file, f"{SEED_QMAP}/mask", mask)
    put_geometry(file, geometry)


@dataclass(frozen=True)
class QMap:
    """Maps by name, each (H, W) with its unit (1/Å, degrees, pixels), the mask, and the geometry if it is known."""

    maps: Mapping[str, Map]
    mask: Flags
    geometry: Geometry | None


def read_qmap(path: Path) -> QMap:
    """The maps of a q-map file, q in 1/Å and φ in degrees, converted from the units they state."""
    with opened_arrays(path) as source:
        place = f"{SEED_QMAP}/sqmap" if f"{SEED_QMAP}/sqmap" in source else f"{SEED_QMAP}/dqmap"
        if place not in source or source[place].dtype.kind != "f":
            labels = " (labels of bins, which have no q of their own, are there instead)" if place in source else ""
            raise FormatError(
                f"{path}: has no map of q at /{SEED_QMAP}/sqmap{labels}; `hpcxpcs qmap GEOMETRY -o FILE` makes one"
            )
        maps = {"q": _map(source, place, "q"), "phi": _map(source, f"{SEED_QMAP}/phis", "angle")}
        if MAPS in source and isinstance(source[MAPS], h5py.Group):
            for name in source[MAPS]:
                others = f"{MAPS}/{name}"
                maps[name] = Map(map_at(source, others).astype(np.float64), stated_unit(source, others) or "")
        at = f"{SEED_QMAP}/mask"
        mask = map_at(source, at) > 0 if at in source else np.ones(maps["q"].values.shape, dtype=np.bool_)
        shapes = {values.shape for values, _ in maps.values()} | {mask.shape}
        if len(shapes) > 1:
            raise FormatError(f"{path}: its maps have the shapes {sorted(shapes)}: they are not of one detector")
        return QMap(maps, np.asarray(mask), geometry_in(source))


def _map(source: Source, path: str, kind: Literal["q", "angle"]) -> Map:
    values, unit = map_at(source, path), stated_unit(source, path)
    if unit is None:
        example = Q_UNIT if kind == "q" else ANGLE_UNIT
        raise FormatError(
            f"/{path} has no attribute units, and its unit is not guessed: state it, for example in Python "
            f"with h5py.File(…, 'r+')['{path}'].attrs['units'] = '{example}'"
        )
    factor = factor_of(unit, kind, path)
    return Map(values.astype(np.float64) * factor, Q_UNIT if kind == "q" else ANGLE_UNIT)


def exported(partition: Partition) -> dict[str, Any]:
    """What the viewer's mask program hands over: partition_map int32 (H, W), num_pts, val_list (q, 1/Å), num_list."""
    return {
        "partition_map": partition.dynamic.labels.astype(np.int32),
        "num_pts": partition.dynamic.count,
        "val_list": partition.dynamic.centres("q").tolist(),
        "num_list": partition.dynamic.pixels.tolist(),
    }


def from_exported(told: Mapping[str, Any], phi: Floats | None = None) -> Partition:
    """A partition from that dictionary, its bins being static and dynamic; `phi` (degrees) 0 where nothing is known."""
    labels = np.asarray(told["partition_map"]).astype(np.int32)
    q, counts = np.asarray(told["val_list"], dtype=np.float64), np.asarray(told["num_list"])
    if not (len(q) == len(counts) == int(told["num_pts"]) and labels.ndim == 2):
        raise FormatError(f"num_pts is {told['num_pts']}, but val_list has {len(q)} and num_list {len(counts)} entries")
    if labels.min(initial=0) < 0 or labels.max(initial=0) > len(q):
        raise FormatError(f"partition_map has labels up to {labels.max()}, but val_list has {len(q)} entries")
    if phi is None and len(np.unique(q)) < len(q):
        raise FormatError("val_list has a q more than once, and nothing tells the angles: write phi_list beside it")
    angles = np.zeros(len(q)) if phi is None else phi
    (q_axis, i), (phi_axis, j) = (np.unique(values, return_inverse=True) for values in (q, angles))
    bins = Bins(labels, (Axis("q", q_axis), Axis("phi", phi_axis)), np.asarray(i * len(phi_axis) + j, dtype=np.int64))
    if not np.array_equal(bins.pixels, counts):
        raise FormatError("num_list does not count the pixels of partition_map: write the partition again")
    return Partition(labels > 0, bins, bins, {})


def write_partition(path: Path, partition: Partition, maps: QMap, method: str) -> None:
    """Write a partition in all schemas at once; `method` is linear or log."""
    with new_file(path) as file:
        if maps.geometry is not None:
            _put_maps(file, maps.geometry, maps.maps, partition.mask)
        told = exported(partition)
        file[f"{SEED_QMAP}/partition_map"] = told["partition_map"]
        for name in ("partition_map", "val_list", "num_list"):
            file[f"{PARTITION}/{name}"] = told[name]
        file[f"{PARTITION}/val_list"].attrs["units"] = Q_UNIT
        file[f"{PARTITION}/phi_list"] = partition.dynamic.centres("phi")
        file[f"{PARTITION}/phi_list"].attrs["units"] = ANGLE_UNIT
        _put_mask(file, f"{PARTITION}/mask", partition.mask)
        file[PARTITION].attrs.update({"num_pts": told["num_pts"], "version": VERSION, "method": method})
        _put_mask(file, f"{MASK}/mask", partition.mask)
        file[MASK].attrs.update({"version": VERSION, "description": "the mask of the partition"})
        qmap.write_partition(file, APS, partition)


def read_partition(path: Path) -> Partition:
    """The partition of a file: that of APS in /qmap or /xpcs/qmap, else that of /simplemask/partition."""
    with opened_arrays(path) as source:
        for folder in (APS, SEED_QMAP):
            if f"{folder}/dynamic_roi_map" in source:
                return qmap.read_partition(source, folder)
        if f"{PARTITION}/partition_map" not in source:
            hint = (
                " (labels without the q of their bins are of no use)" if f"{SEED_QMAP}/partition_map" in source else ""
            )
            raise FormatError(
                f"{path}: has no partition at /{APS}, /{SEED_QMAP} or /{PARTITION}{hint}; "
                "`hpcxpcs partition RECIPE -o FILE` makes one"
            )
        told = {name: vector(source, f"{PARTITION}/{name}") for name in ("num_list",)}
        q = quantity(source, f"{PARTITION}/val_list", "q", required=True).values
        angles = f"{PARTITION}/phi_list"
        phi = quantity(source, angles, "angle", required=True).values if angles in source else None
        count = attribute(source[PARTITION], "num_pts")
        maps = map_at(source, f"{PARTITION}/partition_map")
        return from_exported(
            {**told, "partition_map": maps, "val_list": q, "num_pts": len(q) if count is None else count}, phi
        )


def description_of(path: Path) -> list[tuple[str, str]] | None:
    """What a file of a mask, a q-map or a partition holds, as pairs of a word and a line; None for other files."""
    if not signature(path).startswith(HDF5_SIGNATURE):
        return None
    with opened_arrays(path) as source:
        if any(place in source for place in RESULTS):
            return None
        has_bins = any(f"{folder}/dynamic_roi_map" in source for folder in (APS, SEED_QMAP))
        has_bins = has_bins or f"{PARTITION}/partition_map" in source
        place = f"{SEED_QMAP}/sqmap"
        has_maps = place in source and source[place].dtype.kind == "f"
        has_mask = any(_is_map(source, place) for place in MASKS_AT[:2])
        geometry = geometry_in(source)
    if not (has_bins or has_maps or has_mask):
        return None
    lines = [("file", str(path))]
    if has_bins:
        lines += _bins_told(read_partition(path))
    elif has_maps:
        maps = read_qmap(path)
        lines += [("holds", f"maps of {maps.mask.shape[0]} x {maps.mask.shape[1]} pixels: {', '.join(maps.maps)}")]
        lines += [_range(name, maps.maps[name]) for name in ("q", "phi")]
        lines += [("mask", _used(maps.mask))]
    else:
        flags = read_flags(path)
        lines += [("holds", f"a mask of {flags.shape[0]} x {flags.shape[1]} pixels"), ("mask", _used(flags))]
    return lines if geometry is None else [*lines, ("geometry", told_geometry(geometry))]


def _used(mask: Flags) -> str:
    return f"{int(mask.sum())} of {mask.size} pixels are used ({mask.mean():.1%})"


def _range(name: str, map_: Map) -> tuple[str, str]:
    return name, f"{map_.values.min():.4g} to {map_.values.max():.4g} {map_.unit}"


def _bins_told(partition: Partition) -> list[tuple[str, str]]:
    rows, columns = partition.mask.shape
    lines = [("holds", f"a partition of {rows} x {columns} pixels"), ("mask", _used(partition.mask))]
    for name, bins in (("dynamic", partition.dynamic), ("static", partition.static)):
        grid = " x ".join(f"{len(axis.values)} {axis.name}" for axis in bins.axes)
        q, counts = bins.centres("q"), bins.pixels
        of = f"q {q.min():.4g} to {q.max():.4g} {Q_UNIT}, {counts.min()} to {counts.max()} pixels" if len(q) else ""
        lines.append((name, f"{bins.count} bins with pixels of {grid}: {of}"))
    return lines


def told_geometry(geometry: Geometry) -> str:
    """A geometry in one line."""
    where = f"beam at column {geometry.bcx:g}, row {geometry.bcy:g}, {geometry.det_dist:g} mm away"
    formula = "q = 2 k0 sin(α/2)" if geometry.formula == "exact" else "q = k0 sin α (as in old files)"
    way = "transmission" if geometry.incidence is None else f"reflection at {geometry.incidence:g} degrees"
    return f"{where}, pixels of {geometry.pix_dim:g} mm, wavelength {geometry.lambda_:.6g} Å, {way}, {formula}"
