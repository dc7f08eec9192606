"""What a posterior says, as pictures: each parameter alone, all beside the point fit, and every pair."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from hpcxpcs.results.drawing import (
    DATA_COLOUR,
    DPI,
    FIT_COLOUR,
    MUTED,
    density,
    label_quantity,
    panels,
    plain,
    png,
)
from hpcxpcs.results.marginals import marginals
from hpcxpcs.results.measurement import measurement
from hpcxpcs.results.posterior_records import Posterior
from hpcxpcs.results.records import Answer
from hpcxpcs.results.table import Truth
from hpcxpcs.results.trust import draw_correlations

MOST_PAIRED = 8
"""Parameters in the picture of pairs; of more, those with the strongest correlations are shown."""
FARTHEST_TRUTH = 8.0
"""Error bars from the point fit up to which a true value is drawn at its place."""
PAIR_BINS = 48
PAIR_SMOOTHING = 2.3
"""Bins over which the histogram of a pair is smoothed."""
CONTOURS = (0.95, 0.5)
"""Shares of the draws inside the contours of a pair."""


def posterior(answer: Answer, found: Posterior, truth: Mapping[str, Truth]) -> bytes:
    """Density of each sampled parameter, with its interval, the point fit and the truth if it is known."""
    shown = f"{100 * found.summary.hdi_probability:.3g} % interval"
    title = f"posterior, {shown} filled; dashed: point fit with its error bar" + (
        "; red: truth" if any(name in truth for name in found.names) else ""
    )
    figure, axes = panels(len(found.names), title, 2.5)
    for k, ax in enumerate(axes):
        _draw_density(ax, found, k)
        _draw_point_fit(ax, answer, found.names[k])
        _draw_truth(ax, truth.get(found.names[k]))
        ax.set_ylim(bottom=0.0)
    return png(figure)


def forest(answer: Answer, found: Posterior, truth: Mapping[str, Truth]) -> bytes:
    """All parameters on one scale, relative to the point fit, and contrast and offset by angle."""
    height = max(4.2, 0.42 * len(found.names) + 1.4)
    figure = Figure(figsize=(13.4, height), dpi=DPI, layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1.25, 1))
    _draw_rows(figure.add_subplot(grid[:, 0]), answer, found, truth)
    for row, name in enumerate(("contrast", "offset")):
        _draw_angles(figure.add_subplot(grid[row, 1]), answer, found, name, truth.get(name))
    return png(figure)


def pair(found: Posterior, truth: Mapping[str, Truth]) -> bytes:
    """Draws of every pair of parameters with contours, and their correlation coefficients."""
    names, matrix = draw_correlations(found)
    chosen = most_correlated(matrix, MOST_PAIRED)
    count = len(chosen)
    side = max(3.2, 1.45 * count + 0.4)
    figure = Figure(figsize=(side + 0.6, side), dpi=DPI, layout="constrained")
    left_out = len(names) - count
    figure.suptitle(
        "pairs of parameters: 50 % and 95 % of the draws inside the lines"
        + (f"\n({left_out} parameters with weaker correlations are left out)" if left_out else ""),
        fontsize=11,
    )
    axes = figure.subplots(count, count, squeeze=False)
    flat = np.asarray(found.draws, dtype=float).reshape(-1, len(names))
    for row, second in enumerate(chosen):
        for column, first in enumerate(chosen):
            ax = axes[row, column]
            if column > row:
                _write_correlation(ax, float(matrix[first, second]))
            elif column == row:
                _draw_diagonal(ax, flat[:, first], truth.get(names[first]))
            else:
                _draw_cloud(ax, flat[:, first], flat[:, second])
                _draw_crossing(ax, truth.get(names[first]), truth.get(names[second]))
            _label_pair(ax, row, column, count, names[first], names[second])
    return png(figure)


def most_correlated(matrix: np.ndarray, most: int) -> list[int]:
    """Positions of at most so many parameters, those with the strongest correlations, in their own order."""
    strength = np.abs(np.nan_to_num(matrix - np.diag(np.diag(matrix)))).max(axis=0, initial=0.0)
    return sorted(np.argsort(-strength, kind="stable")[:most].tolist())


def _draw_density(ax: Axes, found: Posterior, k: int) -> None:
    grid, height = density(found.draws[..., k])
    low, high = found.summary.hdi[k]
    inside = (grid >= low) & (grid <= high)
    ax.fill_between(grid, height, where=inside.tolist(), color=DATA_COLOUR, alpha=0.3, lw=0)
    ax.plot(grid, height, color=DATA_COLOUR, lw=1.6)
    mean = float(found.summary.mean[k])
    ax.plot([mean, mean], [0.0, float(np.interp(mean, grid, height))], color=DATA_COLOUR, lw=1.2)
    shown = measurement(mean, float(found.summary.std[k]))
    ax.set_title(f"{found.names[k]}\n{shown}", fontsize=9.5)
    plain(ax)
    label_quantity(ax, found.units[k])


def _draw_point_fit(ax: Axes, answer: Answer, name: str) -> None:
    """The normal distribution that value and error bar of the point fit stand for."""
    fit = answer.fit
    if name not in fit.names:
        return
    k = list(fit.names).index(name)
    value, error = float(fit.values[k]), float(fit.uncertainty[k])
    if not error > 0:
        ax.axvline(value, color=MUTED, lw=1.1, ls="--")
        return
    low, high = ax.get_xlim()
    grid = np.linspace(max(low, value - 4 * error), min(high, value + 4 * error), 200)
    height = np.exp(-(((grid - value) / error) ** 2) / 2) / (error * np.sqrt(2 * np.pi))
    ax.plot(grid, height, color=MUTED, lw=1.1, ls="--")


def _draw_truth(ax: Axes, truth: Truth | None) -> None:
    if isinstance(truth, float):
        ax.axvline(truth, color=FIT_COLOUR, lw=1.2)


def _draw_rows(ax: Axes, answer: Answer, found: Posterior, truth: Mapping[str, Truth]) -> None:
    places = np.arange(len(found.names))[::-1]
    for k, place in enumerate(places):
        name = found.names[k]
        centre, scale = _reference(answer, found, k)
        draws = (np.asarray(found.draws[..., k], dtype=float).ravel() - centre) / scale
        low, high = (found.summary.hdi[k] - centre) / scale
        ax.plot([low, high], [place, place], color=DATA_COLOUR, lw=1.4, solid_capstyle="butt")
        ax.plot(np.quantile(draws, (0.25, 0.75)), [place, place], color=DATA_COLOUR, lw=5, solid_capstyle="butt")
        ax.plot(draws.mean(), place, "o", ms=5, mfc="white", mec=DATA_COLOUR, zorder=3)
        known = truth.get(name)
        if isinstance(known, float):
            away = (known - centre) / scale
            ax.plot(
                np.clip(away, -FARTHEST_TRUTH, FARTHEST_TRUTH), place,
                "x" if abs(away) <= FARTHEST_TRUTH else ">" if away > 0 else "<",
                color=FIT_COLOUR, ms=6, mew=1.6, zorder=4,
                label="truth" if not ax.get_legend_handles_labels()[1] else None,
            )  # fmt: skip
    ax.axvspan(-1, 1, color=MUTED, alpha=0.16, lw=0)
    ax.axvline(0.0, color=MUTED, lw=1)
    ax.set_yticks(places, [str(name) for name in found.names])
    ax.set_ylim(-0.7, len(places) - 0.3)
    ax.set_xlabel("distance from the point fit, in its error bars (grey: ±1)")
    share = f"{100 * found.summary.hdi_probability:.3g}"
    ax.set_title(f"thin: {share} %, thick: 50 % of the posterior, ○ mean", fontsize=10)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize=8, frameon=False)


def _reference(answer: Answer, found: Posterior, k: int) -> tuple[float, float]:
    """Value and error bar of the point fit; where it has none, the posterior's own."""
    fit, name = answer.fit, found.names[k]
    place = list(fit.names).index(name) if name in fit.names else None
    point = float(found.summary.point_value[k])
    centre = point if np.isfinite(point) else float(found.summary.mean[k])
    error = float(fit.uncertainty[place]) if place is not None else np.nan
    spread = float(found.summary.std[k])
    return centre, error if error > 0 else spread if spread > 0 else 1.0


def _draw_angles(ax: Axes, answer: Answer, found: Posterior, name: str, truth: Truth | None) -> None:
    draws = getattr(found, name)
    phi = np.asarray(answer.data.phi, dtype=float)
    said = marginals(draws, found.summary.hdi_probability)
    half = marginals(draws, 0.5)
    ax.vlines(phi, said.hdi[:, 0], said.hdi[:, 1], color=DATA_COLOUR, lw=1.4)
    ax.vlines(phi, half.hdi[:, 0], half.hdi[:, 1], color=DATA_COLOUR, lw=4)
    ax.plot(phi, said.mean, "o", ms=4.5, mfc="white", mec=DATA_COLOUR, label="posterior")
    ax.plot(phi, getattr(answer.fit.scaling, name), "_", ms=10, color=MUTED, label="point fit")
    if isinstance(truth, list):
        ax.plot(phi, truth, "x", color=FIT_COLOUR, label="truth")
    elif truth is not None:
        ax.axhline(truth, color=FIT_COLOUR, lw=1, label="truth")
    ax.set_ylabel(name)
    ax.spines[["top", "right"]].set_visible(False)
    if name == "contrast":
        ax.legend(fontsize=8, frameon=False)
    else:
        ax.set_xlabel("φ (degrees)")


def _draw_cloud(ax: Axes, first: np.ndarray, second: np.ndarray) -> None:
    step = max(1, len(first) // 1500)
    ax.plot(first[::step], second[::step], ".", ms=1.2, color=DATA_COLOUR, alpha=0.25, rasterized=True)
    if not (np.ptp(first) > 0 and np.ptp(second) > 0):
        return
    counts, x, y = np.histogram2d(first, second, bins=PAIR_BINS)
    smooth = gaussian_filter(np.pad(counts, 4), PAIR_SMOOTHING)
    centres = []
    for edges in (x, y):
        width = edges[1] - edges[0]
        centres.append(edges[0] + width * (np.arange(PAIR_BINS + 8) - 3.5))
    levels = np.unique(mass_levels(smooth, CONTOURS))
    ax.contour(*centres, smooth.T, levels=levels, colors=DATA_COLOUR, linewidths=(0.9, 1.5)[-len(levels) :])


def mass_levels(heights: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """Heights above which these shares of a histogram lie."""
    ordered = np.sort(heights.ravel())[::-1]
    inside = np.cumsum(ordered) / ordered.sum()
    return ordered[np.minimum(np.searchsorted(inside, shares), ordered.size - 1)]


def _draw_diagonal(ax: Axes, values: np.ndarray, truth: Truth | None) -> None:
    grid, height = density(values)
    ax.fill_between(grid, height, color=DATA_COLOUR, alpha=0.3, lw=0)
    ax.plot(grid, height, color=DATA_COLOUR, lw=1.2)
    ax.set_ylim(bottom=0.0)
    _draw_truth(ax, truth)


def _draw_crossing(ax: Axes, first: Truth | None, second: Truth | None) -> None:
    if isinstance(first, float) and isinstance(second, float):
        low, high = ax.get_xlim(), ax.get_ylim()
        ax.plot(first, second, "+", ms=9, mew=1.5, color=FIT_COLOUR)
        ax.set_xlim(low)
        ax.set_ylim(high)


def _write_correlation(ax: Axes, value: float) -> None:
    strength = abs(value) if np.isfinite(value) else 0.0
    colour = FIT_COLOUR if value < 0 else DATA_COLOUR
    ax.text(
        *(0.5, 0.5, f"{value:+.2f}"), ha="center", va="center", transform=ax.transAxes,
        fontsize=8 + 6 * strength, color=colour, alpha=0.35 + 0.65 * strength,
    )  # fmt: skip


def _label_pair(ax: Axes, row: int, column: int, count: int, first: str, second: str) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    if column > row:
        ax.set_axis_off()
        return
    ax.spines[["top", "right"]].set_visible(False)
    if row == column:
        ax.spines["left"].set_visible(False)
    if row == count - 1:
        ax.set_xlabel(first, fontsize=9)
    if column == 0 and row > 0:
        ax.set_ylabel(second, fontsize=9)
