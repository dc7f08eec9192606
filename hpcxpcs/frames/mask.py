"""A mask made by a recipe: operations in order, each of which removes pixels or keeps some; undo is deleting a line.

x counts columns and y rows, pixel centres being whole numbers from 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from hpcxpcs.arrays import Flags, Floats
from hpcxpcs.config.document import FileKind
from hpcxpcs.config.section import Section
from hpcxpcs.config.values import Number, PathText, Whole, read_number
from hpcxpcs.errors import ConfigError, DataError
from hpcxpcs.frames.geometry import Map, Shape
from hpcxpcs.frames.schemas import BLEMISHES_AT, read_flags

RECIPE = FileKind("operations", "docs/from-frames.md shows one")

Mode = Literal["exclusive", "inclusive"]
"""exclusive removes the pixels that an operation names, inclusive keeps them and removes the others."""


@dataclass(frozen=True)
class Scene:
    """What operations look at: the shape (H, W), the mean image, the maps, and the folder that paths start from."""

    shape: tuple[int, int]
    folder: Path = field(default_factory=Path)
    image: Floats | None = None
    maps: Mapping[str, Map] | None = None
    mask: Flags = field(default_factory=lambda: np.ones((1, 1), dtype=np.bool_))

    @cached_property
    def grid(self) -> tuple[Floats, Floats]:
        """Column and row of every pixel, each (H, W)."""
        rows, columns = np.indices(self.shape, dtype=np.float64)
        return columns, rows

    def needed_image(self) -> Floats:
        """The mean image; ConfigError without one."""
        if self.image is None:
            raise ConfigError("needs an image: name one with the key `image` of the recipe")
        return self.image

    def needed_map(self, name: str) -> Map:
        """A map by name; ConfigError without a geometry or for a name that it has not."""
        if self.maps is None:
            raise ConfigError("needs maps: name a geometry or a q-map with the key `qmap` of the recipe")
        if name not in self.maps:
            raise ConfigError(f"there is no map {name!r}; there are {', '.join(self.maps)}")
        return self.maps[name]


def _pair(value: object) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("must be two numbers, such as [12, 40]")
    return read_number(value[0]), read_number(value[1])


def _pairs(value: object) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, list | tuple) or len(value) < 3:
        raise ValueError("must be three or more points, such as [[0, 0], [10, 0], [0, 10]]")
    return tuple(_pair(one) for one in value)


Pair = Annotated[tuple[float, float], BeforeValidator(_pair)]
Points = Annotated[tuple[tuple[float, float], ...], BeforeValidator(_pairs)]
Positive = Annotated[Number, Field(gt=0)]


class Operation(Section):
    """What all operations have: whether they remove the pixels they name, or keep them."""

    mode: Mode = Field(default="exclusive", description="exclusive removes what is named, inclusive removes the rest")

    def region(self, scene: Scene) -> Flags:
        """The pixels (H, W) that the operation names."""
        raise NotImplementedError


class File(Operation):
    """The pixels that a mask file (HDF5, NPY) has at 0 or below."""

    path: PathText = Field(description="file, from the folder of the recipe")
    dataset: str | None = Field(default=None, description="place in the file; null: the usual ones")

    def region(self, scene: Scene) -> Flags:
        """The pixels at 0 or below."""
        return self._bad(scene, None)

    def _bad(self, scene: Scene, places: tuple[str, ...] | None) -> Flags:
        path = scene.folder / self.path
        found = read_flags(path, self.dataset, places) if places else read_flags(path, self.dataset)
        if found.shape != scene.shape:
            raise DataError(f"{path}: is a mask of {found.shape}, but the detector has {scene.shape} pixels")
        return np.asarray(~found)


class Blemish(File):
    """The pixels that a blemish file has at 0 or below."""

    def region(self, scene: Scene) -> Flags:
        """The pixels at 0 or below, first looked for under the name blemish."""
        return self._bad(scene, BLEMISHES_AT)


class Threshold(Operation):
    """Pixels of a mean intensity from `low` up to below `high`, which are kept unless the mode is exclusive."""

    mode: Mode = Field(default="inclusive", description="inclusive keeps low <= intensity < high, exclusive removes it")
    low: Number | None = Field(default=None, description="smallest mean counts; null: no limit")
    high: Number | None = Field(default=None, description="mean counts that are too many; null: no limit")

    def region(self, scene: Scene) -> Flags:
        """Pixels within the limits."""
        image = scene.needed_image()
        low = -np.inf if self.low is None else self.low
        return np.asarray((image >= low) & (image < (np.inf if self.high is None else self.high)))


class Rectangle(Operation):
    """All pixels from one column and row to another, both included."""

    columns: Pair = Field(description="[first, last] column")
    rows: Pair = Field(description="[first, last] row")

    def region(self, scene: Scene) -> Flags:
        """Pixels inside."""
        x, y = scene.grid
        (left, right), (top, bottom) = sorted(self.columns), sorted(self.rows)
        return np.asarray((x >= left) & (x <= right) & (y >= top) & (y <= bottom))


class Circle(Operation):
    """All pixels with their centres inside of a circle."""

    centre: Pair = Field(description="[column, row]")
    radius: Positive = Field(description="in pixels")

    def region(self, scene: Scene) -> Flags:
        """Pixels inside."""
        x, y = scene.grid
        return np.asarray(np.hypot(x - self.centre[0], y - self.centre[1]) <= self.radius)


class Ellipse(Operation):
    """All pixels with their centres inside of an ellipse."""

    centre: Pair = Field(description="[column, row]")
    radii: Pair = Field(description="half axes in pixels, the first along the columns before it is turned")
    turn: Number = Field(default=0.0, description="degrees, counter-clockwise with row 0 at the top")

    def region(self, scene: Scene) -> Flags:
        """Pixels inside."""
        x, y = scene.grid[0] - self.centre[0], self.centre[1] - scene.grid[1]
        c, s = np.cos(np.radians(self.turn)), np.sin(np.radians(self.turn))
        return np.asarray(((c * x + s * y) / self.radii[0]) ** 2 + ((c * y - s * x) / self.radii[1]) ** 2 <= 1.0)


class Polygon(Operation):
    """All pixels with their centres inside of a polygon."""

    points: Points = Field(description="corners [[column, row], ...]")

    def region(self, scene: Scene) -> Flags:
        """Pixels inside: those from which a ray to the right crosses the edges an odd number of times."""
        x, y = scene.grid
        inside = np.zeros(scene.shape, dtype=np.bool_)
        for (x0, y0), (x1, y1) in zip(self.points, (*self.points[1:], self.points[0]), strict=True):
            if y0 != y1:
                inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        return inside


class Line(Operation):
    """All pixels with their centres closer than half a width to a line."""

    begin: Pair = Field(description="[column, row] of one end")
    end: Pair = Field(description="[column, row] of the other end")
    width: Positive = Field(default=1.0, description="in pixels")

    def region(self, scene: Scene) -> Flags:
        """Pixels on the line."""
        x, y = scene.grid[0] - self.begin[0], scene.grid[1] - self.begin[1]
        along = np.subtract(self.end, self.begin)
        place = np.clip((x * along[0] + y * along[1]) / max(float(along @ along), 1e-300), 0.0, 1.0)
        return np.asarray(np.hypot(x - place * along[0], y - place * along[1]) <= 0.5 * self.width)


class Outliers(Operation):
    """Pixels that differ from those of their ring of q: beyond percentiles, or by several deviations."""

    method: Literal["percentile", "sigma", "mad"] = Field(description="of the three, by which outliers are known")
    limits: Pair | None = Field(default=None, description="percentiles that are kept (percentile)  [5, 95]")
    limit: Positive = Field(default=3.0, description="standard deviations from the mean, or MAD from the median")
    rings: Annotated[Whole, Field(ge=1)] = Field(default=180, description="rings of equal width in q")

    def region(self, scene: Scene) -> Flags:
        """Pixels beyond the limits of their ring; of pixels that are all alike, none."""
        image, q = scene.needed_image(), scene.needed_map("q").values
        used = np.flatnonzero(scene.mask & np.isfinite(image))
        found = np.zeros(image.size, dtype=np.bool_)
        if used.size:
            values = q.ravel()[used]
            step = max(float(np.ptp(values)) / self.rings, 1e-300)
            ring = np.minimum(((values - values.min()) / step).astype(np.int64), self.rings - 1)
            order = np.argsort(ring, kind="stable")
            for members in np.split(used[order], np.flatnonzero(np.diff(ring[order])) + 1):
                found[members] = self._beyond(image.ravel()[members])
        return found.reshape(image.shape)

    def _beyond(self, values: Floats) -> Flags:
        if self.method == "percentile":
            low, high = np.percentile(values, self.limits or (5.0, 95.0))
            return np.asarray((values < low) | (values > high))
        if self.method == "sigma":
            return np.asarray(np.abs(values - values.mean()) > self.limit * values.std())
        away = np.abs(values - np.median(values))
        spread = float(np.median(away))
        return np.asarray(away > self.limit * spread) if spread > 0.0 else np.zeros(values.shape, dtype=np.bool_)


class Constraint(Operation):
    """Pixels where a map (q, phi, x, y, ...) is from `low` to `high`, which are kept unless the mode is exclusive."""

    mode: Mode = Field(default="inclusive", description="inclusive keeps low <= map <= high, exclusive removes it")
    map: str = Field(description="name of a map, such as q (1/Å) or phi (degrees)")
    low: Number = Field(description="in the unit of the map")
    high: Number = Field(description="in the unit of the map; of angles, below low to run through 180")

    def region(self, scene: Scene) -> Flags:
        """Pixels within the limits."""
        values, unit = scene.needed_map(self.map)
        if unit == "deg":
            return np.asarray(np.mod(values - self.low, 360.0) <= np.mod(self.high - self.low, 360.0))
        return np.asarray((values >= self.low) & (values <= self.high))


SHAPES = (Rectangle, Circle, Ellipse, Polygon, Line)
"""Operations that are drawn: inclusive ones that follow one another keep all that is inside of any."""


class RecipeLine(Section):
    """One line of a recipe: exactly one operation."""

    file: File | None = Field(default=None, description="pixels at 0 or below in a mask file")
    blemish: Blemish | None = Field(default=None, description="pixels at 0 or below in a blemish file")
    threshold: Threshold | None = Field(default=None, description="limits of the mean intensity")
    rectangle: Rectangle | None = Field(default=None, description="columns and rows")
    circle: Circle | None = Field(default=None, description="centre and radius")
    ellipse: Ellipse | None = Field(default=None, description="centre, radii, turn")
    polygon: Polygon | None = Field(default=None, description="points")
    line: Line | None = Field(default=None, description="begin, end, width")
    outliers: Outliers | None = Field(default=None, description="method and limits within rings of q")
    constraint: Constraint | None = Field(default=None, description="map, low, high")

    @model_validator(mode="after")
    def _exactly_one(self) -> RecipeLine:
        names = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(names) != 1:
            raise ValueError(f"must have one operation, not {len(names)}; begin a line with a dash for each")
        return self

    @property
    def operation(self) -> tuple[str, Operation]:
        """The operation and its name."""
        name = next(name for name in type(self).model_fields if getattr(self, name) is not None)
        return name, getattr(self, name)


class MaskRecipe(Section):
    """What a mask is made of."""

    shape: Shape | None = Field(default=None, description="[rows, columns]; null: that of image or qmap")
    image: PathText | None = Field(default=None, description="frames or a mean image, for threshold and outliers")
    image_dataset: str | None = Field(default=None, description="place of the frames in that file; null: as usual")
    qmap: PathText | None = Field(default=None, description="q-map or geometry, for outliers and constraint")
    operations: tuple[RecipeLine, ...] = Field(description="one operation in every line, in order")


@dataclass(frozen=True)
class Step:
    """What an operation did: pixels it removed, brought back (a further inclusive shape), and that are left."""

    name: str
    mode: Mode
    removed: int
    restored: int
    left: int


def build(operations: Sequence[tuple[str, Operation]], scene: Scene) -> tuple[Flags, list[Step]]:
    """The mask (H, W), True for pixels that are used, and what each operation did.

    An exclusive operation removes what it names, an inclusive one all else; inclusive shapes that directly follow one
    another keep what is inside of any of them.
    """
    mask, steps = np.ones(scene.shape, dtype=np.bool_), list[Step]()
    before, kept = mask, np.zeros(scene.shape, dtype=np.bool_)
    drawing = False
    for number, (name, operation) in enumerate(operations, start=1):
        try:
            region = operation.region(replace(scene, mask=mask))
        except ConfigError as error:
            raise ConfigError(f"operations[{number - 1}].{name}: {error}") from error
        if operation.mode == "exclusive":
            changed, drawing = mask & ~region, False
        elif isinstance(operation, SHAPES):
            before, kept = (before, kept | region) if drawing else (mask, region)
            changed, drawing = before & kept, True
        else:
            changed, drawing = mask & region, False
        removed, restored = int((mask & ~changed).sum()), int((changed & ~mask).sum())
        steps.append(Step(name, operation.mode, removed, restored, int(changed.sum())))
        mask = changed
    return mask, steps
