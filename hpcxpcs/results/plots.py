"""The pictures of a point fit as PNG: one page per angle, residual checks, scaling by angle, an overview.

Millions of points are reduced to what a picture can show: pixels, curves over lag, counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hpcxpcs.answer.fit_verdict import noise_meaning, weighs_speckles
from hpcxpcs.data.clean import averaged
from hpcxpcs.results.comparison import Block
from hpcxpcs.results.drawing import (
    DATA_COLOUR,
    DPI,
    FIT_COLOUR,
    MAP,
    MUTED,
    PIXELS,
    colour_range,
    evenly_chosen,
    heat_map,
    legend,
    png,
    show,
)
from hpcxpcs.results.records import Answer
from hpcxpcs.results.table import measurement

LAG_EPOCHS = 3
"""Lag curves are drawn for pairs that start in the first, second and last third of the measurement."""
RESIDUAL_EDGES = np.linspace(-6.0, 6.0, 121)
"""Bins of the residual histogram in units of σ; what lies outside is counted in the first and last."""
DISTANCES = (1, 2, 4, 8, 16, 32)
"""Distances in frames at which residuals that share a frame are compared."""


@dataclass(frozen=True)
class LagCurves:
    """Sums over the pairs of one angle with lag 0…N-1 frames (columns) that start in one epoch (rows)."""

    count: np.ndarray
    data: np.ndarray
    fit: np.ndarray
    normalized: np.ndarray


@dataclass(frozen=True)
class AngleSummary:
    """One angle, small: maps (pixels,pixels) of data, fit and residual/σ, and sums for curves and counts.

    `neighbours` holds, per distance of DISTANCES, the sum of products of residual/σ and their number, (d,2).
    """

    angle: int
    data: np.ndarray
    fit: np.ndarray
    residual: np.ndarray
    frames_per_pixel: int
    lags: LagCurves
    histogram: np.ndarray
    neighbours: np.ndarray


class AngleReduction:
    """Takes one angle's blocks of rows and sums them up."""

    def __init__(self, angle: int, n_frames: int) -> None:
        self.angle, self.n_frames = angle, n_frames
        self.frames_per_pixel = -(-n_frames // PIXELS)
        pixels = -(-n_frames // self.frames_per_pixel)
        names = ("data", "fit", "residual")
        self._maps = {name: np.zeros((pixels, pixels)) for name in names}
        self._counts = {name: np.zeros((pixels, pixels)) for name in names}
        self._lags = np.zeros((4, LAG_EPOCHS * n_frames))
        self._histogram = np.zeros(len(RESIDUAL_EDGES) - 1, dtype=np.int64)
        self._neighbours = np.zeros((len(DISTANCES), 2))

    def add(self, block: Block) -> None:
        """Add rows of the angle's matrices."""
        residual = np.where(block.good, block.normalized, np.nan)
        for name, values in (("data", block.c2), ("fit", block.scaled), ("residual", residual)):
            self._add_pixels(name, block.start, values)
        self._add_neighbours(np.where(block.good, block.normalized, 0.0), block.good)
        rows, columns = np.nonzero(np.triu(block.good, block.start + 1))
        normalized = block.normalized[rows, columns]
        frame = rows + block.start
        place = columns - frame + self.n_frames * np.minimum(frame * LAG_EPOCHS // self.n_frames, LAG_EPOCHS - 1)
        weights = (None, block.c2[rows, columns], block.scaled[rows, columns], normalized)
        for total, weight in zip(self._lags, weights, strict=True):
            total += np.bincount(place, weight, self._lags.shape[1])
        self._histogram += residual_counts(normalized)

    def summary(self) -> AngleSummary:
        """What the blocks add up to."""
        with np.errstate(invalid="ignore"):
            maps = {name: total / self._counts[name] for name, total in self._maps.items()}
        count, data, fit, normalized = self._lags.reshape(4, LAG_EPOCHS, self.n_frames)
        return AngleSummary(
            angle=self.angle,
            frames_per_pixel=self.frames_per_pixel,
            lags=LagCurves(count, data, fit, normalized),
            histogram=self._histogram,
            neighbours=self._neighbours,
            **maps,
        )

    def _add_pixels(self, name: str, start: int, values: np.ndarray) -> None:
        known = np.isfinite(values)
        self._sum_pixels(self._maps[name], start, np.where(known, values, 0.0))
        self._sum_pixels(self._counts[name], start, known.astype(float))

    def _sum_pixels(self, total: np.ndarray, start: int, values: np.ndarray) -> None:
        size = self.frames_per_pixel
        first = start // size
        rows = np.maximum(np.arange(first, -(-(start + len(values)) // size)) * size - start, 0)
        narrow = np.add.reduceat(values, np.arange(0, self.n_frames, size), axis=1)
        total[first : first + len(rows)] += np.add.reduceat(narrow, rows, axis=0)

    def _add_neighbours(self, residual: np.ndarray, good: np.ndarray) -> None:
        for total, distance in zip(self._neighbours, DISTANCES, strict=True):
            if distance < self.n_frames:
                total[0] += np.einsum("ij,ij->", residual[:, :-distance], residual[:, distance:])
                total[1] += np.count_nonzero(good[:, :-distance] & good[:, distance:])


def residual_counts(normalized: np.ndarray) -> np.ndarray:
    """Histogram of residual/σ in RESIDUAL_EDGES; larger ones are counted in the outermost bins."""
    low, high, bins = RESIDUAL_EDGES[0], RESIDUAL_EDGES[-1], len(RESIDUAL_EDGES) - 1
    place = np.clip((normalized - low) * (bins / (high - low)), 0, bins - 1).astype(np.intp)
    return np.bincount(place, minlength=bins)


def mean_by_lag(total: np.ndarray, count: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Means of grouped lags: `groups` (N,) is the group of each lag, -1 to leave it out; NaN if empty."""
    inside = groups >= 0
    sums = np.bincount(groups[inside], total[inside])
    counts = np.bincount(groups[inside], count[inside])
    with np.errstate(invalid="ignore"):
        means: np.ndarray = sums / counts
    return means


def lag_groups(n_frames: int, per_decade: int = 12) -> np.ndarray:
    """Group numbers (N,) of lags 0…N-1: single lags, then equal steps on a logarithmic axis; lag 0 is out."""
    lags = np.arange(1, max(2, n_frames))
    steps = np.floor(np.log10(lags) * per_decade).astype(int)
    return np.concatenate([[-1], np.unique(steps, return_inverse=True)[1]])[:n_frames]


def thinned(values: np.ndarray, pixels: int) -> np.ndarray:
    """A map (n,n) averaged to at most so many pixels, NaN where a pixel has nothing."""
    return averaged(values, -(-len(values) // pixels))


DIFFERENCE = "RdBu_r"
EPOCH_COLOURS = ("#31688e", "#35a06b", "#d18f00")
TILE_PIXELS = 110
MOST_TILES = 60
"""Angles on the overview; of more, evenly spaced ones are shown."""


def angle_file_names(phi: Sequence[float] | np.ndarray) -> tuple[str, ...]:
    """One file name per angle (degrees) with all its digits; equal angles also carry their position."""
    texts = [f"{float(angle)!r}" for angle in phi]
    return tuple(
        f"c2_phi_{text}.png" if texts.count(text) == 1 else f"c2_phi_{text}_angle{k}.png"
        for k, text in enumerate(texts)
    )


class AnglePage:
    """Data, fit and residual maps and curves over lag of one angle; built once and redrawn for each angle."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._figure = Figure(figsize=(13.4, 3.45), dpi=DPI, layout="constrained")
        FigureCanvasAgg(self._figure)
        axes = self._figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.1))
        self._data, self._fit = (heat_map(ax, unit=answer.data.time_unit) for ax in axes[:2])
        self._residual = heat_map(axes[2], DIFFERENCE, answer.data.time_unit)
        self._figure.colorbar(self._fit, ax=axes[:2], label="c2", pad=0.02)
        self._scale = self._figure.colorbar(self._residual, ax=axes[2], pad=0.02)
        for ax, title in zip(axes[:3], ("data", "fit", "(data − fit) / σ"), strict=True):
            ax.set_title(title)
        axes[0].set_ylabel(f"t1 ({answer.data.time_unit})")
        for ax in axes[1:3]:
            ax.tick_params(labelleft=False)
        self._curves = axes[3]
        self._lines = self._lag_lines(axes[3])
        self._laid_out = False

    def draw(self, summary: AngleSummary) -> bytes:
        """The page of one angle as PNG."""
        size = summary.frames_per_pixel
        low, high = colour_range(summary.data, summary.fit)
        for image, values in ((self._data, summary.data), (self._fit, summary.fit)):
            show(image, values, size, self._answer.data, low, high)
        limit = _residual_limit(summary.residual, size)
        show(self._residual, summary.residual, size, self._answer.data, -limit, limit)
        self._scale.set_label(f"mean of {size}×{size} frames" if size > 1 else "")
        self._draw_lags(summary)
        self._figure.suptitle(self._title(summary.angle), fontsize=11)
        return self._png()

    def _lag_lines(self, ax: Axes) -> list[tuple[Any, Any]]:
        lines = []
        for colour, words in zip(EPOCH_COLOURS, ("first", "middle", "last"), strict=True):
            (points,) = ax.plot([], [], "o", ms=3.2, color=colour, label=f"start in the {words} third")
            (line,) = ax.plot([], [], "-", lw=1.3, color=colour)
            lines.append((points, line))
        _lag_axis(ax, self._answer.data.time_unit)
        ax.set_ylabel("mean c2")
        ax.set_title("points: data, lines: fit")
        legend(ax)
        return lines

    def _draw_lags(self, summary: AngleSummary) -> None:
        lags = np.arange(summary.lags.count.shape[1])
        groups = lag_groups(len(lags))
        for epoch, (points, line) in enumerate(self._lines):
            count = summary.lags.count[epoch]
            lag = mean_by_lag(count * lags, count, groups) * self._answer.data.dt
            points.set_data(lag, mean_by_lag(summary.lags.data[epoch], count, groups))
            line.set_data(lag, mean_by_lag(summary.lags.fit[epoch], count, groups))
        self._curves.relim()
        self._curves.autoscale_view()

    def _title(self, angle: int) -> str:
        fit, scaling = self._answer.fit, self._answer.fit.scaling
        contrast = measurement(scaling.contrast[angle], scaling.contrast_uncertainty[angle])
        offset = measurement(scaling.offset[angle], scaling.offset_uncertainty[angle])
        per_point = fit.chi_squared_per_angle[angle] / max(1, fit.pairs[angle])
        noise = "" if fit.sigma_source == "file" else f"σ = {fit.sigma[angle]:.3g}     "
        return (
            f"φ = {self._answer.data.angle_name(angle)}     contrast {contrast}     offset {offset}     "
            f"{noise}χ² per point {per_point:.4g}"
        )

    def _png(self) -> bytes:
        content = png(self._figure)
        if not self._laid_out:  # the layout of the first page fits all, and takes longer than drawing
            self._figure.set_layout_engine("none")
            self._laid_out = True
        return content


def residual_checks(answer: Answer, summaries: Sequence[AngleSummary]) -> bytes:
    """Are the residuals noise: their distribution, their mean by lag, their correlation along a frame.

    Where points are weighed by their speckles, also whether the weighed residuals are white.
    """
    weighed = weighs_speckles(answer.fit)
    figure = Figure(figsize=(18.0 if weighed else 13.6, 3.7), dpi=DPI, layout="constrained")
    histogram, lags, neighbours, *spectrum = figure.subplots(1, 4 if weighed else 3)
    for ax in spectrum:
        _draw_spectrum(ax, answer)
    _draw_histogram(histogram, summaries)
    _draw_mean_by_lag(lags, answer, summaries)
    _draw_neighbours(neighbours, summaries)
    return png(figure)


def angle_scaling(answer: Answer, truth: Mapping[str, float | list[float]] | None = None) -> bytes:
    """Contrast, offset, noise and χ² per point by angle (degrees), with one-sigma error bars."""
    fit, phi, scaling = answer.fit, answer.data.phi, answer.fit.scaling
    figure = Figure(figsize=(11.5, 5.6), dpi=DPI, layout="constrained")
    (contrast, offset), (noise, misfit) = figure.subplots(2, 2, sharex=True)
    known = truth or {}
    _draw_with_errors(
        contrast, phi, scaling.contrast, scaling.contrast_uncertainty, scaling.robust_contrast_uncertainty
    )
    _draw_with_errors(offset, phi, scaling.offset, scaling.offset_uncertainty, scaling.robust_offset_uncertainty)
    for ax, name in ((contrast, "contrast"), (offset, "offset")):
        _draw_truth(ax, phi, known.get(name))
        ax.set_ylabel(name)
    noise.plot(phi, fit.sigma, "o", color=DATA_COLOUR)
    noise.set_ylabel(noise_meaning(fit))
    misfit.plot(phi, fit.chi_squared_per_angle / np.maximum(fit.pairs, 1), "o", color=DATA_COLOUR)
    misfit.axhline(1.0, color=MUTED, lw=1)
    misfit.set_ylabel("χ² per point")
    for ax in (noise, misfit):
        ax.set_xlabel("φ (degrees)")
    legend(contrast)
    return png(figure)


def overview(answer: Answer, summaries: Sequence[AngleSummary]) -> bytes:
    """Every angle as a small square: data above and fit below the diagonal, and the residuals beside."""
    chosen = evenly_chosen(list(summaries), MOST_TILES)
    columns = int(np.ceil(np.sqrt(len(chosen))))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(13.4, 0.5 + 5.9 * rows / columns), dpi=DPI, layout="constrained")
    both, residual = figure.subplots(1, 2)
    scaling = answer.fit.scaling
    shapes = [_half_and_half(one, scaling.contrast[one.angle], scaling.offset[one.angle]) for one in chosen]
    left = both.imshow(_mosaic(shapes, columns), cmap=MAP, vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(left, ax=both, label="(c2 − offset) / contrast", shrink=0.8)
    tiles = [thinned(one.residual, TILE_PIXELS) for one in chosen]
    frames = chosen[0].frames_per_pixel * -(-len(chosen[0].residual) // len(tiles[0]))
    limit = max(_residual_limit(tile, frames) for tile in tiles)
    right = residual.imshow(_mosaic(tiles, columns), cmap=DIFFERENCE, vmin=-limit, vmax=limit, interpolation="nearest")
    averaged = f"(data − fit) / σ, mean of {frames}×{frames} frames"
    figure.colorbar(right, ax=residual, label=averaged, shrink=0.8)
    both.set_title("upper left: data, lower right: fit")
    residual.set_title("residuals (white is good)")
    for ax in (both, residual):
        _label_tiles(ax, [float(answer.data.phi[one.angle]) for one in chosen], columns, len(tiles[0]))
    return png(figure)


def _draw_spectrum(ax: Axes, answer: Answer) -> None:
    """Variance of the weighed residuals over that expected, by how much of it is shared."""
    assert answer.fit.noise is not None
    strength, level, count = answer.fit.noise.spectrum
    ax.errorbar(strength, level, level * np.sqrt(2.0 / count), fmt="o", ms=4, color=DATA_COLOUR)
    ax.axhline(1.0, color=FIT_COLOUR, lw=1.3)
    ax.set_xscale("log")
    ax.set_ylim(0.0, max(2.0, 1.1 * float(level.max(initial=0.0))))
    ax.set_xlabel("expected variance / that of counting alone")
    ax.set_ylabel("variance found / expected")
    ax.set_title("are residuals white when weighed by speckles?")


def _draw_histogram(ax: Axes, summaries: Sequence[AngleSummary]) -> None:
    counts = np.sum([one.histogram for one in summaries], axis=0)
    density = counts / (max(1, counts.sum()) * np.diff(RESIDUAL_EDGES))
    centres = (RESIDUAL_EDGES[1:] + RESIDUAL_EDGES[:-1]) / 2
    ax.stairs(density, RESIDUAL_EDGES, fill=True, color=DATA_COLOUR, alpha=0.45, label="residuals")
    normal = np.exp(-(centres**2) / 2) / np.sqrt(2 * np.pi)
    ax.plot(centres, normal, color=FIT_COLOUR, lw=1.3, label="pure noise")
    ax.set_yscale("log")
    ax.set_ylim(max(1e-8, 0.3 / max(1, counts.sum())), 1.5)
    ax.set_xlabel("(data − fit) / σ")
    ax.set_ylabel("density")
    ax.set_title("distribution of the residuals")
    legend(ax)


def _draw_mean_by_lag(ax: Axes, answer: Answer, summaries: Sequence[AngleSummary]) -> None:
    n_frames, dt = answer.data.n_frames, answer.data.dt
    groups = lag_groups(n_frames)
    counts = np.array([one.lags.count.sum(axis=0) for one in summaries])
    totals = np.array([one.lags.normalized.sum(axis=0) for one in summaries])
    lags = np.arange(n_frames)
    all_counts = counts.sum(axis=0)
    times = mean_by_lag(all_counts * lags, all_counts, groups) * dt
    for total, count in zip(totals, counts, strict=True):
        ax.plot(times, mean_by_lag(total, count, groups), color=MUTED, lw=0.5, alpha=0.6)
    inside = groups >= 0
    with np.errstate(divide="ignore"):
        band = 2 / np.sqrt(np.bincount(groups[inside], all_counts[inside]))
    ax.fill_between(times, -band, band, color=FIT_COLOUR, alpha=0.18, lw=0, label="±2 sd of pure noise")
    mean = mean_by_lag(totals.sum(axis=0), all_counts, groups)
    ax.plot(times, mean, "o-", ms=3, lw=1.2, color=DATA_COLOUR, label="all angles (grey: one by one)")
    ax.axhline(0.0, color=MUTED, lw=0.8)
    _lag_axis(ax, answer.data.time_unit)
    ax.set_ylabel("mean (data − fit) / σ")
    ax.set_title("does the model miss anything, by lag?")
    legend(ax)


def _draw_neighbours(ax: Axes, summaries: Sequence[AngleSummary]) -> None:
    products, counts = np.sum([one.neighbours for one in summaries], axis=0).T
    known = counts > 0
    distance, count = np.array(DISTANCES)[known], counts[known]
    band = 2 * np.sqrt(2 / count)  # each product occurs twice: the matrix is symmetric
    ax.fill_between(distance, -band, band, color=FIT_COLOUR, alpha=0.18, lw=0, label="±2 sd of pure noise")
    ax.plot(distance, products[known] / count, "o-", color=DATA_COLOUR, label="residuals")
    ax.axhline(0.0, color=MUTED, lw=0.8)
    ax.set_xscale("log", base=2)
    ax.set_xticks(distance, [str(d) for d in distance])
    ax.set_xlabel("distance along a frame (frames)")
    ax.set_ylabel("correlation")
    ax.set_title("is noise shared by points of the same frame?")
    legend(ax, loc="upper right")


def _draw_with_errors(
    ax: Axes, phi: np.ndarray, values: np.ndarray, narrow: np.ndarray, wide: np.ndarray | None
) -> None:
    if wide is not None:
        ax.errorbar(phi, values, wide, fmt="none", ecolor=MUTED, elinewidth=1, capsize=3, label="robust")
    ax.errorbar(phi, values, narrow, fmt="o", ms=4, color=DATA_COLOUR, elinewidth=2.2, label="fit")


def _draw_truth(ax: Axes, phi: np.ndarray, truth: float | list[float] | None) -> None:
    if isinstance(truth, float):
        ax.axhline(truth, color=FIT_COLOUR, lw=1, ls="--", label="truth")
    elif truth is not None and len(truth) == len(phi):
        ax.plot(phi, truth, "x", color=FIT_COLOUR, label="truth")


def _lag_axis(ax: Axes, unit: str) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel(f"lag t2 − t1 ({unit})")


def _half_and_half(summary: AngleSummary, contrast: float, offset: float) -> np.ndarray:
    data, fit = thinned(summary.data, TILE_PIXELS), thinned(summary.fit, TILE_PIXELS)
    upper_left = np.tri(len(data), dtype=bool)
    tile: np.ndarray = (np.where(upper_left, data, fit) - offset) / (contrast or 1.0)
    return tile


def _mosaic(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Tiles with their time origin at the lower left, row by row, with gaps for their labels."""
    size = len(tiles[0])
    gap, side = _gap(size), size + _gap(size)
    rows = -(-len(tiles) // columns)
    mosaic = np.full((rows * side, columns * side - gap), np.nan)
    for k, tile in enumerate(tiles):
        top, left = (k // columns) * side + gap, (k % columns) * side
        mosaic[top : top + size, left : left + size] = tile[::-1]
    return mosaic


def _label_tiles(ax: Axes, phi: Sequence[float], columns: int, size: int) -> None:
    side = size + _gap(size)
    for k, angle in enumerate(phi):
        place = ((k % columns) * side, (k // columns) * side + 0.85 * _gap(size))
        ax.text(*place, f"{angle:g}°", fontsize=8, va="bottom")
    ax.set_axis_off()


def _gap(size: int) -> int:
    return max(2, round(0.16 * size))


def _residual_limit(residual: np.ndarray, frames_per_pixel: int) -> float:
    """Colour limit, symmetric about zero: what averaged noise reaches, or more if the misfit is larger."""
    known = np.abs(residual[np.isfinite(residual)])
    return max(4.0 / frames_per_pixel, float(np.percentile(known, 99.5)) if known.size else 1.0)


assert len(EPOCH_COLOURS) == LAG_EPOCHS
