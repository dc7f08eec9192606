"""A small detector: its geometry, maps, partitions and frames, and hypothesis strategies for recipes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from hypothesis import strategies as st

from hpcxpcs.data.formats.nexus import FRAME_TIME
from hpcxpcs.data.formats.qmap import Partition
from hpcxpcs.frames.geometry import Geometry, maps_of
from hpcxpcs.frames.partition import PartitionRecipe, partition_of
from hpcxpcs.frames.schemas import QMap, write_partition

SHAPE = (21, 25)
GEOMETRY = Geometry(bcx=12.3, bcy=9.6, det_dist=5000.0, pix_dim=0.075, lambda_=1.0, shape=SHAPE)


def maps(geometry: Geometry = GEOMETRY, mask: np.ndarray | None = None) -> QMap:
    return QMap(maps_of(geometry), np.ones(geometry.shape, dtype=bool) if mask is None else mask, geometry)


def recipe(**changes) -> PartitionRecipe:
    settings = {"qmap": "geometry.yaml", "q": {"bins": 2, "static_bins": 6}, "phi": {"bins": 3}}
    return PartitionRecipe.model_validate(settings | changes)


def partition(**changes) -> Partition:
    return partition_of(recipe(**changes), maps(), None)


def saved_partition(folder: Path, made: Partition | None = None) -> Path:
    write_partition(folder / "partition.h5", made or partition(), maps(), "linear")
    return folder / "partition.h5"


def counts(frames: int = 64, seed: int = 0, mean: float = 3.0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Photons on speckles that decay within a few frames, on a static structure: uint16 (frames, H, W)."""
    rng = np.random.default_rng(seed)
    kernel = np.exp(-np.abs(np.subtract.outer(np.arange(frames), np.arange(frames))) / 10.0)
    fields = np.linalg.cholesky(kernel + 1e-9 * np.eye(frames)) @ rng.standard_normal((frames, 2 * shape[0] * shape[1]))
    power = 0.5 * (fields**2).reshape(frames, 2, *shape).sum(axis=1)
    return rng.poisson(mean * power * np.linspace(0.5, 2.0, shape[1])).astype(np.uint16)


def saved_frames(path: Path, frames: np.ndarray, place: str = "entry/data/data") -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset(place, data=frames, chunks=(min(5, len(frames)), *frames.shape[1:]), compression="gzip")
        file[FRAME_TIME] = 0.01
    return path


@st.composite
def partition_recipes(draw) -> PartitionRecipe:
    def axis(most: int) -> dict[str, int]:
        bins = draw(st.integers(1, most))
        return {"bins": bins, "static_bins": bins * draw(st.integers(1, 3))}

    q = axis(5) | {"spacing": draw(st.sampled_from(["linear", "log"])), "min": draw(st.sampled_from([1e-4, 3e-4]))}
    if draw(st.booleans()):
        q["max"] = draw(st.floats(5e-4, 2e-3))
    phi = axis(6) | {"symmetry": draw(st.integers(1, 4)), "offset": f"{draw(st.integers(-180, 180))} deg"}
    return recipe(q=q, phi=phi)


masks = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random(SHAPE) > 0.3)
