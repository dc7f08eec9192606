"""Simulated frames of a small detector: rings of speckle with known dynamics, for the chain from frames to a fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.nexus import FRAME_TIME
from hpcxpcs.data.formats.truth import write_truth
from hpcxpcs.data.simulate import (
    Bin,
    MatrixOfBin,
    Recipe,
    field_root,
    mode_weights,
    scaling_of,
    speckle_intensity,
)
from hpcxpcs.errors import ConfigError
from hpcxpcs.frames.geometry import Geometry, maps_of
from hpcxpcs.frames.schemas import new_file, put_geometry

HALF_WIDTH = 0.08
"""Of a ring, relative to its q: rings of simulated files are a factor 1.3 apart, so that dark pixels lie between."""
PIXEL, WAVELENGTH = 0.075, 1.0
"""mm and Å, as usual detectors and beams have them."""
SMALLEST_RADIUS = 20.0
"""Pixels: a ring has a width of three at least."""
MOST_PIXELS = 4096
"""Rows and columns of the largest simulated detector."""
FRAMES_IN_CHUNK = 16


def detector_of(q: float, largest_q: float, angles: int, pixels: int) -> Geometry:
    """A detector on which a ring of half the width HALF_WIDTH at q (1/Å) has about so many pixels at each angle.

    The area of the ring is 4π·HALF_WIDTH·R² = R², R being its radius in pixels.
    """
    radius = max(SMALLEST_RADIUS, math.sqrt(pixels * angles / (4.0 * math.pi * HALF_WIDTH)))
    steepest = largest_q * (1.0 + HALF_WIDTH) * WAVELENGTH / (4.0 * math.pi)
    if steepest >= math.sin(math.pi / 8.0):
        raise ConfigError(f"q: {largest_q:g} 1/Å is scattered by more than 45 degrees: too far for one flat detector")
    distance = radius * PIXEL / math.tan(2.0 * math.asin(q * WAVELENGTH / (4.0 * math.pi)))
    outermost = distance * math.tan(2.0 * math.asin(steepest)) / PIXEL
    middle = math.ceil(outermost) + 2
    if 2 * middle + 1 > MOST_PIXELS:
        raise ConfigError(f"pixels: {pixels} in each of {angles} angles need more than {MOST_PIXELS} rows: take fewer")
    return Geometry(middle, middle, distance, PIXEL, WAVELENGTH, (2 * middle + 1, 2 * middle + 1))


def sectors_of(geometry: Geometry, bins: Sequence[Bin], phi: Sequence[float]) -> NDArray[np.int64]:
    """The number of the bin of every pixel (H, W), 0 outside of all: within a ring, the one at the nearest angle."""
    maps = maps_of(geometry)
    away = np.abs(np.mod(maps["phi"].values[..., None] - np.asarray(phi) + 180.0, 360.0) - 180.0)
    nearest = away.argmin(axis=-1)
    labels = np.zeros(geometry.shape, dtype=np.int64)
    for item in bins:
        inside = np.abs(maps["q"].values / item.q - 1.0) <= HALF_WIDTH
        labels[inside & (nearest == item.angle)] = item.number
    return labels


def write_frames(
    path: Path,
    recipe: Recipe,
    bins: Sequence[Bin],
    phi: Sequence[float],
    field_matrix: MatrixOfBin,
    dt: float,
    truth: Mapping[str, Any],
) -> tuple[int, int, int]:
    """Write photons counted on the speckle of every bin as frames, with geometry and truth; return their shape.

    Pixels are independent, and all pixels of a bin have the dynamics at its centre.
    """
    if recipe.noise.model != "photon" or recipe.noise.speckle_size > 0.0:
        raise ConfigError("format frames: needs --noise-model photon, with independent pixels (--speckle-size 0)")
    own = next(item.q for item in bins if item.ring == 0)
    geometry = detector_of(own, max(item.q for item in bins), len(phi), recipe.noise.pixels)
    labels = sectors_of(geometry, bins, phi)
    frames = np.zeros((recipe.frames, *geometry.shape), dtype=np.uint16)
    level = recipe.noise.photons_of(recipe.frames)[:, None]
    for item in bins:
        rng = np.random.default_rng(np.random.SeedSequence(recipe.seed, spawn_key=(item.number,)))
        root, weights = field_root(field_matrix(item)), mode_weights(scaling_of(recipe, item)[0])
        place = labels == item.number
        counts = rng.poisson(level * speckle_intensity(root, weights, int(place.sum()), rng))
        if counts.max(initial=0) >= np.iinfo(np.uint16).max:
            raise ConfigError(f"photons: {recipe.noise.photons:g} per pixel and frame do not fit into 16 bits")
        frames[:, place] = counts
    frames[recipe.dead] = 0
    with new_file(path) as file:
        chunk = (min(FRAMES_IN_CHUNK, recipe.frames), *geometry.shape)
        file.create_dataset("entry/data/data", data=frames, chunks=chunk, compression="lzf")
        file[FRAME_TIME] = dt
        put_geometry(file, geometry)
        write_truth(file, truth)
    return frames.shape[0], frames.shape[1], frames.shape[2]
