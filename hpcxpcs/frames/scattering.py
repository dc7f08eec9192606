"""What a result file shows besides correlations: mean image, I(q) of all frames and of segments, I(t), partial g2.

And whether the sample and the beam stayed as they were: numbers with thresholds, and a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from hpcxpcs.arrays import Floats
from hpcxpcs.data.formats import nexus
from hpcxpcs.data.formats.hdf5 import values_of
from hpcxpcs.data.formats.qmap import grid_of, read_axes, read_natural
from hpcxpcs.data.formats.source import Source, dataset, vector
from hpcxpcs.errors import FormatError
from hpcxpcs.frames.schemas import opened_arrays

DRIFT = 0.05
"""Relative change of intensity or of the shape of I(q) from which on it is named. Photon noise of C2 goes by the
inverse intensity, so that 5 % change weights by as much, which no error bar shows; a smaller change is within what
beams do within minutes."""
SURE = 7.0
"""Standard errors by which a change must differ from zero. They come from the scatter of ten blocks or segments, with 8
degrees of freedom: 1 in 9000 by chance (Student), and files have up to a few hundred q."""
SPECKLE = 1.5 * 2.0**0.5
"""Change from begin to end, over the fluctuation of a ring's mean, of a line through speckles that stay for half of the
time: the halves differ by sqrt(2) of it, and a line through a step rises by 1.5 times the step."""
SURE_OF_SPECKLE = 4.0
"""Of these by which a change must exceed it; its size is known, not estimated from blocks: 1 in 16 000 by chance."""
WORSE_CHI_SQUARED = 2.0
"""Scatter of partial g2, relative to its errors squared, from which on blocks of time are called different. Errors
over pixels leave out that pixels share speckles. Frames of a gel that did not age: 0.94, the worst of 36 bins 1.65."""
STANDARD_BLOCKS = 10
"""Blocks of time that I(t) is averaged in, to see a trend above its scatter."""

PARTIAL = "xpcs/multitau/normalized_g2_partial"
DELAYS = "xpcs/multitau/delay_list"
LEGACY = {
    "image": "exchange/pixelSum",
    "mean": "exchange/partition-mean-total",
    "segments": "exchange/partition-mean-partial",
    "time": "exchange/frameSum",
}


@dataclass(frozen=True)
class Scattering:
    """Means of a result file, in counts per pixel and frame; what the file does not have is None or NaN.

    `image` (H, W); `q` (1/Å) and `phi` (degrees) of static bins (n,), their means `intensity` (n,) and `segments`
    (blocks, n); `time` frame numbers and means (2, N); `partial` g2 and errors (blocks, delays, bins), `delays` frames;
    `pixels` of static bins (n,); `contrast` g2 - 1 at the first delay, the median of bins.
    """

    file: str
    image: NDArray[np.float64] | None
    q: Floats
    phi: Floats
    intensity: Floats
    segments: Floats | None
    time: Floats | None
    delays: Floats | None
    partial: tuple[Floats, Floats] | None
    pixels: Floats
    contrast: float

    def speckle_noise(self) -> Floats:
        """Relative fluctuation of the mean of every q (k,) by speckles of one pixel, sqrt(contrast / pixels)."""
        q, of = np.unique(self.q, return_inverse=True)
        pixels = np.bincount(of, weights=self.pixels, minlength=len(q))
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.sqrt(max(self.contrast, 0.0) / pixels)
        return np.where(np.isfinite(found), found, 0.0)

    def profile(self, values: Floats) -> tuple[Floats, Floats]:
        """q (k,) and the mean of values (n,) or (blocks, n) over the static bins of each q, bins without light left
        out.
        """
        q, of = np.unique(self.q, return_inverse=True)
        known = np.isfinite(values)
        weights = np.eye(len(q))[of]
        count = known.astype(np.float64) @ weights
        with np.errstate(invalid="ignore", divide="ignore"):
            return q, np.asarray(np.where(known, values, 0.0) @ weights / count)


def read_scattering(path: Path) -> Scattering:
    """The means of a result file of the nexus or the legacy layout; FormatError when there are none."""
    with opened_arrays(path) as source:
        if isinstance(source, h5py.File) and nexus.BIN_MEANS in source:
            return _nexus(path, source)
        if isinstance(source, h5py.File) and LEGACY["mean"] in source:
            return _legacy(path, source)
    raise FormatError(
        f"{path}: has no mean intensities at /{nexus.BIN_MEANS} or /{LEGACY['mean']}; `hpcxpcs correlate` writes them"
    )


def _nexus(path: Path, source: Source) -> Scattering:
    axes = read_axes(source, nexus.QMAP, "static")
    q, phi = grid_of(axes, "q").values, grid_of(axes, "phi").values
    natural = read_natural(source, nexus.QMAP, len(q), [], "static")
    partial = None
    if PARTIAL in source and f"{PARTIAL}_err" in source:
        partial = _values(source, PARTIAL), _values(source, f"{PARTIAL}_err")
    image = _optional(source, nexus.MEAN_IMAGE)
    return _checked(
        Scattering(
            file=str(path),
            image=None if image is None else image.reshape(image.shape[-2:]),
            q=q[natural],
            phi=phi[natural],
            intensity=vector(source, nexus.BIN_MEANS).astype(np.float64),
            segments=_optional(source, nexus.BIN_SEGMENTS),
            time=_optional(source, nexus.FRAME_MEANS),
            delays=vector(source, DELAYS).astype(np.float64) if partial is not None else None,
            partial=partial,
            pixels=_pixels(source, nexus.STATIC_MAP, len(natural)),
            contrast=_contrast(source, "xpcs/multitau/normalized_g2"),
        )
    )


def _pixels(source: Source, path: str, count: int) -> Floats:
    """Pixels of every static bin (count,), NaN without a map of them."""
    if path not in source:
        return np.full(count, np.nan)
    labels = _values(source, path).ravel().astype(np.int64)
    return np.bincount(labels[(labels > 0) & (labels <= count)], minlength=count + 1)[1:].astype(np.float64)


def _contrast(source: Source, path: str) -> float:
    """g2 - 1 at the first delay, the median of bins that have photon pairs; NaN without g2."""
    first = _values(source, path)[0] if path in source else np.zeros(0)
    told = first[np.isfinite(first) & (first > 0.0)]
    return float(np.median(told) - 1.0) if told.size else np.nan


def _legacy(path: Path, source: Source) -> Scattering:
    q, phi = (vector(source, f"xpcs/{name}").astype(np.float64) for name in ("sqlist", "sphilist"))
    return _checked(
        Scattering(
            file=str(path),
            image=_optional(source, LEGACY["image"]),
            q=q,
            phi=phi,
            intensity=vector(source, LEGACY["mean"]).astype(np.float64),
            segments=_optional(source, LEGACY["segments"]),
            time=_optional(source, LEGACY["time"]),
            delays=None,
            partial=None,
            pixels=_pixels(source, "xpcs/sqmap", len(q)),
            contrast=_contrast(source, "exchange/norm-0-g2"),
        )
    )


def _values(source: Source, path: str) -> Floats:
    return np.asarray(values_of(dataset(source, path), path), dtype=np.float64)


def _optional(source: Source, path: str) -> Floats | None:
    return _values(source, path) if path in source else None


def _checked(found: Scattering) -> Scattering:
    """Refuse arrays of other shapes than the layout's, of which nothing could be drawn."""
    count = len(found.intensity)
    if len(found.q) != count or (found.segments is not None and found.segments.shape[-1] != count):
        raise FormatError(
            f"{found.file}: {count} mean intensities for {len(found.q)} static bins; the index mapping of the bins and "
            "their intensities do not belong together"
        )
    axes = {"mean image": (found.image, 2), "I(q) of segments": (found.segments, 2), "I(t)": (found.time, 2)}
    wrong = [name for name, (values, number) in axes.items() if values is not None and values.ndim != number]
    if found.time is not None and len(found.time) != 2:
        wrong.append("I(t)")
    if found.partial is not None and found.delays is not None:
        shapes = {one.shape for one in found.partial}
        if len(shapes) > 1 or found.partial[0].ndim != 3 or found.partial[0].shape[1] != len(found.delays):
            wrong.append("g2 of blocks")
    if wrong:
        raise FormatError(f"{found.file}: {wrong[0]} has another shape than the layout's; write the file again")
    return found


Word = Literal["stable", "changes", "unknown"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: its number and error (relative), the limit, what it is, and in words what it says.

    `word` is unknown where the file does not hold what is needed.
    """

    name: str
    word: Word
    value: float = np.nan
    error: float = np.nan
    limit: float = np.nan
    text: str = ""


@dataclass(frozen=True)
class Stability:
    """What was found of a file, and the verdict: changes if anything does, stable if all that is known is."""

    file: str
    findings: tuple[Finding, ...] = field(default_factory=tuple)

    @property
    def verdict(self) -> Word:
        """The worst of the findings."""
        words = {finding.word for finding in self.findings}
        return "changes" if "changes" in words else "stable" if "stable" in words else "unknown"

    def to_mapping(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"file": self.file, "verdict": self.verdict, "findings": [vars(one) for one in self.findings]}


def stability_of(found: Scattering) -> Stability:
    """Look at intensity in time, at the shape of I(q) in segments, and at partial g2."""
    return Stability(found.file, (_drift(found), _shape(found), _ageing(found)))


def _trend(blocks: Floats) -> tuple[Floats, Floats]:
    """The change from begin to end of a straight line through consecutive blocks (blocks, ...), and its error."""
    count = len(blocks)
    place = (np.arange(count) + 0.5) / count - 0.5
    slope = np.tensordot(place, blocks, axes=1) / (place @ place)
    left = blocks - blocks.mean(axis=0) - np.multiply.outer(place, slope)
    return np.asarray(slope), np.sqrt((left**2).sum(axis=0) / (count - 2) / (place @ place))


def _drift(found: Scattering) -> Finding:
    """The change of a line through means of blocks of I(t), from begin to end, relative to the mean; and by how much
    blocks differ (standard deviation) beyond what the scatter of frames inside of them explains.
    """
    name = "intensity"
    if found.time is None or found.time.ndim != 2 or found.time.shape[1] < 2 * STANDARD_BLOCKS:
        return Finding(name, "unknown", text="the file has no intensity against time, or too few frames")
    values = found.time[1][np.isfinite(found.time[1]) & (found.time[1] > 0.0)]
    if values.size < 2 * STANDARD_BLOCKS:
        return Finding(name, "unknown", text="too few frames have light")
    parts = np.array_split(values / values.mean(), STANDARD_BLOCKS)
    blocks = np.array([part.mean() for part in parts])
    inside = float(np.mean([part.var(ddof=1) / len(part) for part in parts]))
    slope, error = (float(one) for one in _trend(blocks))
    spread = float(np.sqrt(max(blocks.var(ddof=1) - inside, 0.0)))
    moved = spread > DRIFT or (abs(slope) > DRIFT and abs(slope) > SURE * error)
    text = f"changes by {slope:+.2%} ± {error:.2%} from begin to end, and blocks of frames scatter by {spread:.2%}"
    if moved:
        text += "; frames are normalised by their sums, but photon noise changes, and sample or beam may have moved"
    return Finding(name, "changes" if moved else "stable", slope, error, DRIFT, text)


def _shape(found: Scattering) -> Finding:
    """The largest relative change of I(q)/ΣI from the first segment to the last, of those that are sure."""
    name = "shape of I(q)"
    if found.segments is None or len(found.segments) < 4:
        return Finding(name, "unknown", text="the file has no I(q) of segments")
    q, profile = found.profile(found.segments)
    lit = (profile > 0.0).all(axis=0)
    if not lit.any():
        return Finding(name, "unknown", text="no q has light in every segment")
    profile = profile[:, lit] / profile[:, lit].sum(axis=1, keepdims=True)
    change, error = _trend(profile / profile.mean(axis=0))
    speckle = SPECKLE * found.speckle_noise()[lit]
    sure = np.abs(change) > np.hypot(SURE * error, SURE_OF_SPECKLE * speckle)
    error = np.hypot(error, speckle)
    worst = int(np.argmax(np.where(sure, np.abs(change), 0.0))) if sure.any() else int(np.argmax(np.abs(change)))
    moved = bool(sure[worst] and abs(change[worst]) > DRIFT)
    text = (
        f"changes most at q = {q[lit][worst]:.4g} 1/Å, by {change[worst]:+.2%} ± {error[worst]:.2%} from begin to end"
    )
    if moved:
        text += "; the structure of the sample changes (radiation, ageing, sedimentation)"
    return Finding(name, "changes" if moved else "stable", float(change[worst]), float(error[worst]), DRIFT, text)


def _ageing(found: Scattering) -> Finding:
    """The scatter of g2 between blocks of time over its errors squared, of the bin with the largest."""
    name = "g2 of blocks"
    if found.partial is None:
        return Finding(name, "unknown", text="the file has no partial g2")
    values, errors = found.partial
    known = (values != 0.0) & (errors > 0.0) & np.isfinite(values) & np.isfinite(errors)
    complete = known.sum(axis=0) >= 3
    if not complete.any():
        return Finding(name, "unknown", text="no delay is in three blocks")
    weights = np.where(known, 1.0 / np.where(known, errors, 1.0) ** 2, 0.0)
    mean = (weights * values).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-300)
    squares = np.where(known, (values - mean) ** 2 * weights, 0.0).sum(axis=0)
    freedom = np.where(complete, known.sum(axis=0) - 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(complete, squares, 0.0).sum(axis=0) / freedom.sum(axis=0)
    worst = int(np.nanargmax(ratios))
    middle = float(np.nanmedian(ratios))
    moved = middle > WORSE_CHI_SQUARED
    text = f"scatter between blocks {middle:.2f} times its errors squared (median of bins, worst {ratios[worst]:.2f})"
    if moved:
        text += "; dynamics change with time: fit two-time matrices, not an averaged g2"
    return Finding(name, "changes" if moved else "stable", middle, np.nan, WORSE_CHI_SQUARED, text)


def table_of(found: Scattering) -> str:
    """I(q) as text: q, mean, and the segments, a row for each q; and a header that names the columns and units."""
    q, mean = found.profile(found.intensity)
    columns = [q, mean]
    names = ["q_1/angstrom", "intensity_counts/pixel/frame"]
    if found.segments is not None:
        _, segments = found.profile(found.segments)
        columns += list(segments)
        names += [f"segment_{k + 1}" for k in range(len(segments))]
    rows = [" ".join(f"{value:.8g}" for value in row) for row in np.stack(columns, axis=1)]
    return "\n".join([f"# {found.file}", f"# {' '.join(names)}", *rows]) + "\n"


def write_scattering(file: h5py.File, found: Scattering) -> None:
    """Write the means of a file: /saxs/{q, intensity, segments, image, time}, with units."""
    q, mean = found.profile(found.intensity)
    content: Mapping[str, tuple[Any, str]] = {
        "q": (q, "1/angstrom"),
        "intensity": (mean, "counts/pixel/frame"),
        "segments": (None if found.segments is None else found.profile(found.segments)[1], "counts/pixel/frame"),
        "image": (found.image, "counts/pixel/frame"),
        "time": (found.time, "frame, counts/pixel/frame"),
    }
    for name, (values, unit) in content.items():
        if values is not None:
            file[f"saxs/{name}"] = values
            file[f"saxs/{name}"].attrs["units"] = unit
    file["saxs"].attrs["source"] = found.file
