"""The average of repeats: which files belong in it, and why the others do not.

A file is taken if its level at the longest delays of one bin lies within limits and if its g2 is like the others'. The
mean of n files with equal weights has the error √(Σσ²)/n. Where every file has the unnormalised products of pixels,
these are averaged before they are divided, which is right for few photons: the mean of ratios is not the ratio of
means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcxpcs.arrays import Floats
from hpcxpcs.data.formats.nexus import PIXEL_MAP, STATIC_MAP
from hpcxpcs.data.formats.source import dataset, named, opened
from hpcxpcs.errors import DataError, FormatError, HpcxpcsError
from hpcxpcs.g2.reading import Units, read_g2
from hpcxpcs.g2.record import Correlation

PRODUCTS = ("xpcs/multitau/unnormalized_G2", "xpcs/multitau/unnormalized_g2")
"""Products of pixels (n, 3, H, W): ⟨I(t)I(t+τ)⟩, ⟨I(t)⟩, ⟨I(t+τ)⟩; both spellings occur."""

SAME = 1e-4
"""Relative difference of delays or q up to which files were correlated in the same way."""

FEWEST_TO_COMPARE = 4
"""Files below which none can be told to be unlike the others."""


@dataclass(frozen=True)
class Gates:
    """What files must pass: mean of the last `window` values of the bin nearest to `q` (1/Å; None: the middle bin)
    within `low` to `high`, and a distance to the median of all files within `outlier` robust deviations (None: any).

    `weights` are equal, or those of the errors.
    """

    q: float | None = None
    window: int = 10
    low: float = 0.95
    high: float = 1.05
    outlier: float | None = 5.0
    weights: str = "equal"


@dataclass(frozen=True)
class Judged:
    """One file: its level at long delays, its distance to the others (robust deviations), why it was left out ("")."""

    file: str
    level: float
    distance: float
    reason: str

    @property
    def accepted(self) -> bool:
        """Whether the file is in the average."""
        return not self.reason


@dataclass(frozen=True)
class Average:
    """The average as if read from a file (blocks are the files), every file with its verdict, and how it was made."""

    data: Correlation
    files: tuple[Judged, ...]
    words: str


def average_files(paths: Sequence[Path], gates: Gates, units: Units | None = None) -> Average:
    """Average the files that pass the gates; DataError if none does."""
    if len(set(paths)) < len(paths):
        raise DataError(f"{next(path for path in paths if paths.count(path) > 1)}: is named twice")
    read, broken = _read(paths, units)
    if not read:
        raise DataError(f"none of {len(paths)} files can be read: {broken[0].reason}")
    usual = _most_common(read)
    judged = _judged(read, usual, gates)
    taken = [data for data, one in zip(read, judged, strict=True) if one.accepted]
    every = sorted((*judged, *broken), key=lambda one: [str(path) for path in paths].index(one.file))
    if not taken:
        reasons = "; ".join(f"{one.file}: {one.reason}" for one in every[:5])
        raise DataError(f"no file passes the gates, so there is nothing to average: {reasons}")
    data, words = _mean(taken, gates)
    pixels = _from_products([Path(one.file) for one in taken], data)
    if pixels is not None:
        data, words = pixels, f"unnormalised products of {len(taken)} files averaged, then divided"
    return Average(data, tuple(every), words)


def _read(paths: Sequence[Path], units: Units | None) -> tuple[list[Correlation], list[Judged]]:
    """What can be read, and the files that cannot be with the reason."""
    read, broken = [], []
    for path in paths:
        try:
            read.append(read_g2(path, units))
        except HpcxpcsError as error:
            broken.append(Judged(str(path), np.nan, np.nan, str(error).splitlines()[0].removeprefix(f"{path}: ")))
    return read, broken


def _most_common(read: Sequence[Correlation]) -> Correlation:
    """A file of the shape that most have."""
    shapes = [data.g2.shape for data in read]
    return read[shapes.index(max(shapes, key=shapes.count))]


def _unlike(data: Correlation, usual: Correlation) -> str:
    """Why a file cannot be averaged with another one."""
    if data.g2.shape != usual.g2.shape:
        return f"has {data.g2.shape[0]} delays x {data.g2.shape[1]} bins, the others {usual.g2.shape}"
    for name in ("tau", "q", "phi"):
        own, other = getattr(data, name), getattr(usual, name)
        if not np.allclose(own, other, rtol=SAME, atol=0.0, equal_nan=True):
            k = int(np.argmax(~np.isclose(own, other, rtol=SAME, atol=0.0, equal_nan=True)))
            return f"has other {name} than the others ({own[k]:g} instead of {other[k]:g})"
    return ""


def _judged(read: Sequence[Correlation], usual: Correlation, gates: Gates) -> list[Judged]:
    reasons = [_unlike(data, usual) for data in read]
    middle = len(usual.q) // 2
    known = gates.q is not None and np.isfinite(usual.q).any()
    chosen = int(np.nanargmin(np.abs(usual.q - gates.q))) if known and gates.q is not None else middle
    levels = np.full(len(read), np.nan)
    for k, data in enumerate(read):
        if reasons[k]:
            continue
        values = data.g2[np.isfinite(data.g2[:, chosen]), chosen][-gates.window :]
        levels[k] = values.mean() if values.size else np.nan
        if not gates.low <= levels[k] <= gates.high:
            reasons[k] = (
                f"level {levels[k]:.4g} of the last {gates.window} delays at q = {usual.q[chosen]:.4g} is not within "
                f"{gates.low:g} to {gates.high:g}"
            )
    distances = _distances(read, reasons)
    for k, distance in enumerate(distances):
        if gates.outlier is not None and not reasons[k] and distance > gates.outlier:
            reasons[k] = f"is {distance:.3g} robust deviations from the other files; {gates.outlier:g} are allowed"
    return [
        Judged(data.file, float(level), float(distance), reason)
        for data, level, distance, reason in zip(read, levels, distances, reasons, strict=True)
    ]


def _distances(read: Sequence[Correlation], reasons: Sequence[str]) -> Floats:
    """How far each file is from the median of all (deviations of the others' distances), NaN for those left out.

    A file's distance is the mean |g2 − median| in units of its errors, to which no single delay contributes much.
    """
    found = np.full(len(read), np.nan)
    kept = [k for k, reason in enumerate(reasons) if not reason]
    if len(kept) < FEWEST_TO_COMPARE:
        return found
    every = np.stack([read[k].g2 for k in kept])
    blank = np.all(np.isnan(every), axis=0)
    every = np.where(blank, 0.0, every)
    centre = np.nanmedian(every, axis=0)
    apart = [np.nanmean(np.abs(every[i] - centre) / read[k].error) for i, k in enumerate(kept)]
    middle = np.median(apart)
    spread = 1.4826 * np.median(np.abs(apart - middle))
    found[kept] = (np.array(apart) - middle) / max(spread, 0.01 * middle, 1e-300)
    return found


def _mean(taken: Sequence[Correlation], gates: Gates) -> tuple[Correlation, str]:
    """Weighted mean of every entry over the files that have it; the files are its blocks."""
    g2, error = np.stack([data.g2 for data in taken]), np.stack([data.error for data in taken])
    there = np.isfinite(g2)
    weights = there / np.where(there, error, 1.0) ** 2 if gates.weights == "errors" else there.astype(float)
    total = weights.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(weights * np.nan_to_num(g2), axis=0) / total
        sigma = np.sqrt(np.sum((weights * np.where(there, error, 0.0)) ** 2, axis=0)) / total
    mean[total == 0] = sigma[total == 0] = np.nan
    first = taken[0]
    blocks = g2 if len(taken) > 1 else first.partial
    data = replace(
        first, g2=mean, error=sigma, partial=blocks, file="", simulated=None, layout=f"average, {first.layout}"
    )
    return data, f"g2 of {len(taken)} files averaged with {gates.weights} weights"


def _from_products(paths: Sequence[Path], data: Correlation) -> Correlation | None:
    """g2 from products of pixels averaged over files, None unless all files have them."""
    with_products = [_has_products(path) for path in paths]
    if not all(with_products):
        return None
    with opened(paths[0]) as source:
        dynamic = np.asarray(dataset(source, PIXEL_MAP)[...]).reshape(-1).astype(int)
        static = np.asarray(dataset(source, STATIC_MAP)[...]).reshape(-1).astype(int)
    count = len(data.labels)
    g2, error = np.full((2, len(data.tau), count), np.nan)
    for k in range(len(data.tau)):
        means = sum(_products(path, with_products[i], k) for i, path in enumerate(paths)) / len(paths)
        if means.shape[1] != dynamic.size:
            raise FormatError(f"{paths[0]}: /{PRODUCTS[0]} has {means.shape[1]} pixels, the q-map {dynamic.size}")
        for label in range(1, count + 1):
            g2[k, label - 1], error[k, label - 1] = _of_bin(means, dynamic == label, static)
    return replace(data, g2=g2, error=error, layout="average of unnormalised products")


def _has_products(path: Path) -> str:
    with named(path), opened(path) as source:
        return next((name for name in PRODUCTS if isinstance(source, h5py.File) and name in source), "")


def _products(path: Path, name: str, k: int) -> Any:
    with named(path), opened(path) as source:
        return np.asarray(dataset(source, name)[k], dtype=np.float64).reshape(3, -1)


def _of_bin(means: Floats, own: np.ndarray, static: np.ndarray) -> tuple[float, float]:
    """g2 and error of a bin: the mean over its static bins of ⟨G2⟩/(⟨IP⟩⟨IF⟩), and what pixels scatter by over √pixels.

    The scatter is that of g2 to first order in every pixel's three means: most pixels have no ratio of their own.
    """
    values = []
    for label in np.unique(static[own]):
        product, past, future = means[:, own & (static == label)].mean(axis=1)
        if past > 0 and future > 0:
            values.append(product / (past * future))
    product, past, future = means[:, own]
    if not values or not np.any(values) or product.size < 2:
        return float("nan"), float("nan")
    g2, level = float(np.mean(values)), float(past.mean() * future.mean())
    pixels = product / level - g2 * (past / past.mean() + future / future.mean())
    return g2, float(pixels.std(ddof=1) / np.sqrt(product.size))
