"""Bins of q and φ on a detector: static ones, over which intensities are averaged, inside dynamic, correlated ones."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from hpcxpcs.arrays import Flags, Floats, Integers
from hpcxpcs.config.document import FileKind
from hpcxpcs.config.section import Section
from hpcxpcs.config.values import Number, PathText, Whole
from hpcxpcs.data.formats.qmap import Axis, Bins, Partition
from hpcxpcs.errors import ConfigError, DataError
from hpcxpcs.frames.geometry import Angle
from hpcxpcs.frames.schemas import QMap

RECIPE = FileKind("q", "docs/from-frames.md shows one")
ROUNDING = 1e-9
"""Of a range: a pixel so little outside belongs to the last bin. Limits are written with fewer digits."""

Count = Annotated[Whole, Field(ge=1)]


class QBins(Section):
    """Bins along q."""

    bins: Count = Field(description="dynamic bins")
    static_bins: Count | None = Field(default=None, description="static bins, a multiple of bins; null: ten times")
    spacing: Literal["linear", "log"] = Field(default="linear", description="edges equally spaced in q or in log q")
    min: Annotated[Number, Field(ge=0)] | None = Field(default=None, description="1/Å; null: the smallest that is used")
    max: Annotated[Number, Field(gt=0)] | None = Field(default=None, description="1/Å; null: the largest that is used")

    @property
    def factor(self) -> int:
        """Static bins in a dynamic one."""
        return _factor(self.bins, 10 * self.bins if self.static_bins is None else self.static_bins)

    @model_validator(mode="after")
    def _nested(self) -> QBins:
        _ = self.factor
        return self


class PhiBins(Section):
    """Bins along φ, over the whole turn or, folded, over a sector of it."""

    bins: Count = Field(default=1, description="dynamic bins of a sector")
    static_bins: Count | None = Field(default=None, description="static bins of a sector; null: bins")
    offset: Angle = Field(default=0.0, validate_default=False, description="where bins begin, from -180 deg, with unit")
    symmetry: Count = Field(default=1, description="number of sectors that are alike and share their bins")

    @property
    def factor(self) -> int:
        """Static bins in a dynamic one."""
        return _factor(self.bins, self.static_bins or self.bins)

    @model_validator(mode="after")
    def _nested(self) -> PhiBins:
        _ = self.factor
        return self


def _factor(dynamic: int, static: int) -> int:
    if static % dynamic:
        raise ValueError(f"has {static} static bins for {dynamic} dynamic ones; give a multiple of {dynamic}")
    return static // dynamic


class PartitionRecipe(Section):
    """What a partition is made of."""

    qmap: PathText = Field(description="q-map or geometry, from the folder of the recipe")
    mask: PathText | None = Field(default=None, description="mask file, from the folder of the recipe; null: no mask")
    q: QBins = Field(description="bins along q")
    phi: PhiBins = Field(default_factory=PhiBins, description="bins along φ")


def partition_of(recipe: PartitionRecipe, maps: QMap, mask: Flags | None) -> Partition:
    """The partition that a recipe makes of the maps, and of a mask (H, W) besides their own.

    The finer index of each axis is found once, and the coarser one is that divided by their ratio: every static bin is
    inside one dynamic bin, whatever rounding does to edges.
    """
    if mask is not None and mask.shape != maps.mask.shape:
        raise DataError(f"the mask is of {mask.shape} pixels, but the q-map of {maps.mask.shape}")
    used = maps.mask if mask is None else maps.mask & mask
    q, phi = maps.maps["q"].values, maps.maps["phi"].values
    used = used & np.isfinite(q) & np.isfinite(phi)
    if not used.any():
        raise DataError("no pixel is left to make bins of: the mask removes all")
    edges = q_edges(recipe.q, q[used])
    of_q, inside = _q_index(edges, q, recipe.q)
    of_phi = phi_index(phi, recipe.phi)
    used = used & inside
    if not used.any():
        raise DataError(f"no pixel that is used has a q from {edges[0]:g} to {edges[-1]:g} 1/Å: see q.min and q.max")
    dynamic, static = (
        _bins(
            used,
            (of_q // (recipe.q.factor // fine_q), of_phi // (recipe.phi.factor // fine_phi)),
            (
                Axis("q", _centres(edges[:: recipe.q.factor // fine_q], recipe.q.spacing)),
                Axis("phi", phi_centres(recipe.phi, recipe.phi.bins * fine_phi)),
            ),
        )
        for fine_q, fine_phi in ((1, 1), (recipe.q.factor, recipe.phi.factor))
    )
    geometry = maps.geometry.aps() if maps.geometry is not None else {}
    return Partition(np.asarray(used), dynamic, static, geometry)


def q_edges(recipe: QBins, q: Floats) -> Floats:
    """Edges (n + 1,) of the static bins in 1/Å, from the smallest to the largest q of the pixels if not stated."""
    low = float(q.min()) if recipe.min is None else recipe.min
    high = float(q.max()) if recipe.max is None else recipe.max
    if not low < high:
        raise ConfigError(f"q: min {low:g} must be below max {high:g} 1/Å")
    count = recipe.bins * recipe.factor
    if recipe.spacing == "linear":
        return np.linspace(low, high, count + 1)
    if low <= 0.0:
        raise ConfigError(f"q.min: {low:g} has no logarithm; state a positive min, or use linear spacing")
    return np.geomspace(low, high, count + 1)


def _centres(edges: Floats, spacing: str) -> Floats:
    return np.asarray(np.sqrt(edges[1:] * edges[:-1]) if spacing == "log" else 0.5 * (edges[1:] + edges[:-1]))


def _q_index(edges: Floats, q: Floats, recipe: QBins) -> tuple[Integers, Flags]:
    """The static bin along q of every pixel (H, W), and whether it is in the range; the largest q is in the last."""
    slack = ROUNDING * (edges[-1] - edges[0])
    index = np.clip(np.searchsorted(edges, q, side="right") - 1, 0, len(edges) - 2)
    return index.astype(np.int64), np.asarray((q >= edges[0] - slack) & (q <= edges[-1] + slack))


def phi_index(phi: Floats, recipe: PhiBins) -> Integers:
    """The static bin along φ of every pixel (H, W): sectors that are alike share their bins."""
    sector, count = 360.0 / recipe.symmetry, recipe.bins * recipe.factor
    place = np.mod(phi + 180.0 - recipe.offset, sector) / sector * count
    return np.minimum(np.floor(place + ROUNDING).astype(np.int64), count) % count


def phi_centres(recipe: PhiBins, count: int) -> Floats:
    """Centres (count,) of bins of the first sector in degrees, within (-180, 180]."""
    sector = 360.0 / recipe.symmetry
    centres = -180.0 + recipe.offset + (np.arange(count) + 0.5) * sector / count
    return np.asarray(180.0 - np.mod(180.0 - centres, 360.0))


def _bins(used: Flags, index: tuple[Integers, Integers], axes: tuple[Axis, Axis]) -> Bins:
    """Bins with pixels, labelled from 1 in the order of the grid; pixels that are not used have the label 0."""
    natural, place = np.unique((index[0] * len(axes[1].values) + index[1])[used], return_inverse=True)
    labels = np.zeros(used.shape, dtype=np.int32)
    labels[used] = place + 1
    return Bins(labels, axes, natural.astype(np.int64))
