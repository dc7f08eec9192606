"""The noise that photons alone must make, where a file tells how many pixels a bin has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from hpcxpcs.data.formats.one_file import values_of
from hpcxpcs.data.formats.source import dataset, named, opened

PIXEL_MAP = "xpcs/qmap/dynamic_roi_map"
"""Image (H, W) of bin labels, 0 outside of all bins."""


def pixel_counts(path: Path, labels: Sequence[int]) -> tuple[int, ...] | None:
    """Return the number of pixels of each bin, None when the file has no map of them."""
    with named(path), opened(path) as source:
        if not isinstance(source, h5py.File) or PIXEL_MAP not in source:
            return None
        pixels = dataset(source, PIXEL_MAP)
        if pixels.dtype.kind not in "iu" or len(pixels.shape) != 2:
            return None
        bins = values_of(pixels, PIXEL_MAP).reshape(-1)
        bins = bins[(bins >= 0) & (bins <= max(labels))].astype(np.int64)
        counts = np.bincount(bins, minlength=max(labels) + 1)
    return tuple(int(counts[label]) for label in labels)


def photon_sigma(shot_noise: float, contrast: float, pixels: int) -> float | None:
    """Return the noise of one pair that photons make, None when the diagonal shows no shot noise.

    `shot_noise` is 1 / photons per pixel and frame; the photons of two frames fluctuate independently.
    """
    if shot_noise <= 0.0 or pixels <= 0:
        return None
    return float(np.sqrt((shot_noise**2 + 2.0 * max(contrast, 0.0) * shot_noise) / pixels))
