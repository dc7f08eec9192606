"""Photons and pixels of a bin as a file tells them, and the noise that photons alone must make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.data.formats.hdf5 import values_of
from hpcxpcs.data.formats.nexus import (
    AVERAGE,
    BIN_MEANS,
    FRAME_MEANS,
    MEAN_IMAGE,
    PIXEL_MAP,
    STATIC_MAP,
    STRIDE,
)
from hpcxpcs.data.formats.source import Source, dataset, named, opened, scalar
from hpcxpcs.data.twotime import TwoTime


@dataclass(frozen=True)
class Counted:
    """Of every angle (n_phi,): photons per pixel and processed frame (NaN where the file has none), and pixels.

    Photons are the mean over frames or, where the brightness of each is known, 1/mean(1/photons), by which shot noise
    goes. `drift` (n_phi, N) is that brightness, the mean of 1/drift being 1 over frames with light; None where the file
    does not tell, or raw frames are not those of the matrices.
    """

    photons: NDArray[np.float64]
    pixels: NDArray[np.float64]
    drift: NDArray[np.float64] | None


def counted(data: TwoTime) -> Counted | None:
    """What the file says of photons and pixels in the bins of each angle; None without a map of pixels.

    In a joint fit all files have to have one, or none counts.
    """
    if "file" not in data.provenance or "bins" not in data.provenance:
        return None
    if not data.sets:
        return _counted(data, Path(data.provenance["file"]), list(data.provenance["bins"]))
    found = [_counted(data, Path(one.file), list(one.bins)) for one in data.sets]
    told = [one for one in found if one is not None]
    if len(told) < len(found):
        return None
    drifts = [one.drift for one in told if one.drift is not None]
    drift = np.concatenate(drifts) if len(drifts) == len(told) else None
    return Counted(np.concatenate([one.photons for one in told]), np.concatenate([one.pixels for one in told]), drift)


def _counted(data: TwoTime, path: Path, labels: list[int]) -> Counted | None:
    """What one file says of the bins with these labels."""
    with named(path), opened(path) as source:
        bins = _pixel_map(source)
        if bins is None:
            return None
        image = _mean_counts(source, bins.size)
        stride, average = (scalar(source, *paths) or 1.0 for paths in (STRIDE, AVERAGE))
        drift = _drift(source, data) if stride == average == 1.0 else None
    pixels = _count(bins, labels)
    photons = np.full(len(labels), np.nan)
    if image is not None:
        for k, label in enumerate(labels):
            values = image[bins == label]
            values = values[np.isfinite(values)]
            photons[k] = values.mean() * average if values.size else np.nan
    if drift is not None:
        photons /= np.nanmean(drift)
    each = None if drift is None else np.tile(drift, (len(labels), 1))
    return Counted(np.where(photons > 0.0, photons, np.nan), np.asarray(pixels, dtype=np.float64), each)


def _drift(source: Source, data: TwoTime) -> NDArray[np.float64] | None:
    """How bright each frame that is used is, (N,)."""
    first, last = data.frames
    means = _numbers(source, FRAME_MEANS)
    if means is None or means.ndim != 2 or len(means) != 2 or means.shape[1] < last:
        return None
    if last - first + 1 != data.n_frames:
        return None
    means = means[1, first - 1 : last]
    some = np.isfinite(means) & (means > 0.0)
    if not np.any(some):
        return None
    return np.where(some, means, np.nan) * np.mean(1.0 / means[some])


def _mean_counts(source: Source, pixels: int) -> NDArray[np.float64] | None:
    """Mean counts of every pixel of the detector (pixels,), NaN where unknown."""
    image = _numbers(source, MEAN_IMAGE)
    if image is not None:
        return image.reshape(-1) if image.size == pixels else None
    means, static = _numbers(source, BIN_MEANS), _numbers(source, STATIC_MAP)
    if means is None or static is None or static.size != pixels:
        return None
    labels = np.where(np.isfinite(static), static, 0.0).reshape(-1).astype(np.int64)
    if labels.max(initial=0) > means.size:
        return None
    return np.append(means.reshape(-1), np.nan)[np.where(labels > 0, labels - 1, means.size)]


def _numbers(source: Source, path: str) -> NDArray[np.float64] | None:
    """The numbers at a path, None where there is nothing or something else."""
    if not isinstance(source, h5py.File) or not isinstance(source.get(path), h5py.Dataset):
        return None
    found = dataset(source, path)
    return values_of(found, path).astype(np.float64) if found.dtype.kind in "iuf" else None


def pixel_counts(path: Path, labels: Sequence[int]) -> tuple[int, ...] | None:
    """Return the number of pixels of each bin, None when the file has no map of them."""
    with named(path), opened(path) as source:
        bins = _pixel_map(source)
    return None if bins is None else _count(bins, labels)


def _pixel_map(source: Source) -> NDArray[Any] | None:
    """The bin labels of all pixels, None when the file has no map of them."""
    if not isinstance(source, h5py.File) or PIXEL_MAP not in source:
        return None
    pixels = dataset(source, PIXEL_MAP)
    if pixels.dtype.kind not in "iu" or len(pixels.shape) != 2:
        return None
    return values_of(pixels, PIXEL_MAP).reshape(-1)


def _count(bins: NDArray[Any], labels: Sequence[int]) -> tuple[int, ...]:
    known = bins[(bins >= 0) & (bins <= max(labels))].astype(np.int64)
    counts = np.bincount(known, minlength=max(labels) + 1)
    return tuple(int(counts[label]) for label in labels)


def photon_sigma(shot_noise: float, contrast: float, pixels: int) -> float | None:
    """Return the noise of one pair that photons make, None when the diagonal shows no shot noise.

    `shot_noise` is 1 / photons per pixel and frame; the photons of two frames fluctuate independently.
    """
    if shot_noise <= 0.0 or pixels <= 0:
        return None
    return float(np.sqrt((shot_noise**2 + 2.0 * max(contrast, 0.0) * shot_noise) / pixels))
