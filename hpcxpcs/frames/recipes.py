"""Recipes are read, and what they describe is made and written: a mask, a q-map, a partition.

Paths in a recipe start from its folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hpcxpcs.config.document import FileKind, read_document
from hpcxpcs.config.problems import config_error
from hpcxpcs.config.section import Section, read_section
from hpcxpcs.data.formats.qmap import Partition
from hpcxpcs.data.formats.source import HDF5_SIGNATURE, signature
from hpcxpcs.errors import ConfigError, FormatError
from hpcxpcs.frames import mask as masks
from hpcxpcs.frames import partition as partitions
from hpcxpcs.frames.geometry import Geometry, GeometryRecipe, Map, maps_of
from hpcxpcs.frames.schemas import (
    QMap,
    geometry_in,
    opened_arrays,
    read_flags,
    read_qmap,
    refuse_inputs,
    told_geometry,
    write_mask,
    write_partition,
    write_qmap,
)
from hpcxpcs.frames.stack import read_image

GEOMETRY = FileKind("det_dist", "docs/from-frames.md shows one")
Report = Callable[[str], None]


def read_recipe[S: Section](path: Path, section: type[S], kind: FileKind) -> S:
    """A recipe from a YAML or JSON file; ConfigError with every problem and its line."""
    document = read_document(path, kind)
    found, problems = read_section(section, document.data)
    if found is None:
        raise config_error(problems, document.place, str(path))
    return found


def read_geometry(path: Path) -> Geometry:
    """A geometry from a recipe, or from an HDF5 file that has one (frames, masks, q-maps, partitions, results)."""
    if not path.is_file() or not signature(path).startswith(HDF5_SIGNATURE):
        return read_recipe(path, GeometryRecipe, GEOMETRY).geometry()
    with opened_arrays(path) as source:
        found = geometry_in(source)
    if found is None:
        raise FormatError(f"{path}: has no geometry at /xpcs/metadata or /qmap; write one as docs/from-frames.md shows")
    return found


def read_maps(path: Path) -> QMap:
    """The maps of a q-map file, or those that follow from a geometry."""
    if path.is_file() and signature(path).startswith(HDF5_SIGNATURE):
        with opened_arrays(path) as source:
            has_maps = "xpcs/qmap/sqmap" in source or geometry_in(source) is None
        if has_maps:
            return read_qmap(path)
    geometry = read_geometry(path)
    maps = maps_of(geometry)
    return QMap(maps, maps["q"].values == maps["q"].values, geometry)


def build_mask(path: Path, output: Path, report: Report) -> None:
    """Make the mask of a recipe, tell what every operation removed, and write it."""
    recipe = read_recipe(path, masks.MaskRecipe, masks.RECIPE)
    folder = path.absolute().parent
    refuse_inputs(output, path, *(folder / name for name in (recipe.image, recipe.qmap) if name is not None))
    image = None if recipe.image is None else read_image(folder / recipe.image, recipe.image_dataset)
    maps = None if recipe.qmap is None else read_maps(folder / recipe.qmap)
    shapes = {
        "shape": recipe.shape,
        "image": None if image is None else image.shape,
        "qmap": None if maps is None else maps.mask.shape,
    }
    known = {name: shape for name, shape in shapes.items() if shape is not None}
    if not known:
        raise ConfigError(f"{path}: shape: is missing, and there is no image or qmap to take it from")
    if len(set(known.values())) > 1:
        told = ", ".join(f"{name} {list(shape)}" for name, shape in known.items())
        raise ConfigError(f"{path}: these are not of one detector: {told} pixels")
    scene = masks.Scene(next(iter(known.values())), folder, image, None if maps is None else maps.maps)
    try:
        mask, steps = masks.build([line.operation for line in recipe.operations], scene)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    report(f"{'operation':<14}{'mode':<12}{'removed':>10}{'restored':>10}{'left':>10}")
    for step in steps:
        report(f"{step.name:<14}{step.mode:<12}{step.removed:>10}{step.restored:>10}{step.left:>10}")
    if not mask.any():
        raise ConfigError(f"{path}: operations remove all {mask.size} pixels; the table says which do")
    geometry = maps.geometry if maps is not None else None
    write_mask(output, mask, geometry, f"made by {path.name}", path.read_text("utf-8"))
    report(f"wrote {output}: {int(mask.sum())} of {mask.size} pixels are used")


def build_qmap(path: Path, output: Path, report: Report, mask: Path | None = None) -> None:
    """Make the maps of a geometry and write them, with a mask if there is one."""
    refuse_inputs(output, path, *([] if mask is None else [mask]))
    geometry = read_geometry(path)
    maps = maps_of(geometry)
    flags = None if mask is None else read_flags(mask)
    if flags is not None and flags.shape != geometry.shape:
        raise ConfigError(f"{mask}: is a mask of {flags.shape}, but the geometry {path} of {geometry.shape} pixels")
    write_qmap(output, geometry, maps, flags)
    report(told_geometry(geometry))
    for name, map_ in maps.items():
        report(_range(name, map_))
    report(f"wrote {output}")


def _range(name: str, map_: Map) -> str:
    return f"{name:<6}{map_.values.min():>12.5g} to {map_.values.max():<12.5g} {map_.unit}"


def build_partition(path: Path, output: Path, report: Report) -> Partition:
    """Make the partition of a recipe and write it in all schemas."""
    recipe = read_recipe(path, partitions.PartitionRecipe, partitions.RECIPE)
    folder = path.absolute().parent
    refuse_inputs(output, path, *(folder / name for name in (recipe.qmap, recipe.mask) if name is not None))
    maps = read_maps(folder / recipe.qmap)
    flags = None if recipe.mask is None else read_flags(folder / recipe.mask)
    try:
        found = partitions.partition_of(recipe, maps, flags)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    write_partition(output, found, maps, recipe.q.spacing)
    q, phi, pixels = found.dynamic.centres("q"), found.dynamic.centres("phi"), found.dynamic.pixels
    report(f"{'bin':>5}{'q (1/Å)':>12}{'phi (deg)':>11}{'pixels':>9}")
    for label in range(found.dynamic.count):
        report(f"{label + 1:>5}{q[label]:>12.5g}{phi[label]:>11.4g}{pixels[label]:>9}")
    grid = len(found.dynamic.axes[0].values) * len(found.dynamic.axes[1].values)
    report(
        f"wrote {output}: {found.dynamic.count} of {grid} dynamic bins have pixels, {found.static.count} static bins "
        f"in them, {int(found.mask.sum())} pixels"
    )
    return found
