"""A posterior as pictures: what it says, and by real chains how the sampler did its work."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from hpcxpcs.answer.posterior import Posterior, SampleStatistics, marginals
from hpcxpcs.answer.posterior_verdict import draw_correlations
from hpcxpcs.results.drawing import (
    DATA_COLOUR,
    DPI,
    FIT_COLOUR,
    GOOD_COLOUR,
    MUTED,
    coloured,
    density,
    label_quantity,
    legend,
    open_frame,
    panels,
    plain,
    png,
)
from hpcxpcs.results.records import Answer
from hpcxpcs.results.table import Truth, measurement

MOST_PAIRED = 8
"""Parameters in the picture of pairs; of more, those with the strongest correlations are shown."""
FARTHEST_TRUTH = 8.0
"""Error bars from the point fit up to which a true value is drawn at its place."""
PAIR_BINS = 48
PAIR_SMOOTHING = 2.3
"""Bins over which the histogram of a pair is smoothed."""
CONTOURS = (0.95, 0.5)
"""Shares of the draws inside the contours of a pair."""
RANK_BINS = 20
MOST_LAGS = 60
GROWTH_STEPS = 10
"""Lengths of the chains at which effective draws are counted."""
MOST_TRACE_POINTS = 1500
"""Points of one chain's trace; longer chains are drawn every so many draws."""
ROW_HEIGHT = 0.16
"""Inches of one shard's row, until a panel is as high as it may be."""
LOWEST_PANEL, HIGHEST_PANEL = 2.3, 4.6
CROWDED = 24
"""Shards from which their bars are drawn thin."""


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
    fit, k = answer.fit, answer.fit.place(name)
    if k is None:
        return
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
        legend(ax)


def _reference(answer: Answer, found: Posterior, k: int) -> tuple[float, float]:
    """Value and error bar of the point fit; where it has none, the posterior's own."""
    fit, place = answer.fit, answer.fit.place(found.names[k])
    point = float(found.summary.point_value[k])
    centre = point if np.isfinite(point) else float(found.summary.mean[k])
    error = float(fit.uncertainty[place]) if place is not None else np.nan
    spread = float(found.summary.std[k])
    return centre, error if error > 0 else spread if spread > 0 else 1.0


def _draw_angles(ax: Axes, answer: Answer, found: Posterior, name: str, truth: Truth | None) -> None:
    phi = np.asarray(answer.data.phi, dtype=float)
    said, half = found.scaling_marginals()[name], marginals(getattr(found, name), 0.5)
    ax.vlines(phi, said.hdi[:, 0], said.hdi[:, 1], color=DATA_COLOUR, lw=1.4)
    ax.vlines(phi, half.hdi[:, 0], half.hdi[:, 1], color=DATA_COLOUR, lw=4)
    ax.plot(phi, said.mean, "o", ms=4.5, mfc="white", mec=DATA_COLOUR, label="posterior")
    ax.plot(phi, getattr(answer.fit.scaling, name), "_", ms=10, color=MUTED, label="point fit")
    if isinstance(truth, list):
        ax.plot(phi, truth, "x", color=FIT_COLOUR, label="truth")
    elif truth is not None:
        ax.axhline(truth, color=FIT_COLOUR, lw=1, label="truth")
    ax.set_ylabel(name)
    open_frame(ax)
    if name == "contrast":
        legend(ax)
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
    open_frame(ax)
    if row == column:
        ax.spines["left"].set_visible(False)
    if row == count - 1:
        ax.set_xlabel(first, fontsize=9)
    if column == 0 and row > 0:
        ax.set_ylabel(second, fontsize=9)


def _run(found: Posterior) -> SampleStatistics:
    """The real chains behind a posterior that has some."""
    assert found.statistics is not None, "independent draws have no chains to draw"
    return found.statistics


def trace(found: Posterior) -> bytes:
    """Each parameter along the chains, and its density in each of them."""
    statistics, count = _run(found), len(found.names)
    chains = np.asarray(statistics.draws, dtype=float)
    figure = Figure(figsize=(13.4, 1.15 * count + 0.7), dpi=DPI, layout="constrained")
    figure.suptitle(
        f"chains of {statistics.label}: densities should lie on top of each other, traces should mix", fontsize=11
    )
    axes = figure.subplots(count, 2, squeeze=False, width_ratios=(1, 3.2), sharex="none")
    divergent = np.asarray(statistics.diverging, dtype=bool)
    for k, (left, right) in enumerate(axes):
        for draws, colour in coloured(chains[..., k]):
            left.plot(*density(draws), color=colour, lw=1.2)
            step = max(1, len(draws) // MOST_TRACE_POINTS)
            right.plot(np.arange(0, len(draws), step), draws[::step], color=colour, lw=0.5, alpha=0.75)
        _mark_divergent(right, divergent)
        left.set_ylim(bottom=0.0)
        plain(left)
        left.set_xticks([])
        right.set_title(_quantity(found, k), fontsize=9, loc="left", pad=3)
        right.yaxis.set_major_locator(MaxNLocator(3))
        right.yaxis.set_major_formatter("{x:.6g}")
        right.set_xlim(0, chains.shape[1] - 1)
        open_frame(right)
        right.tick_params(labelsize=8, labelbottom=k == count - 1)
    axes[-1, 1].set_xlabel("draw" + (", red ticks: divergent" if divergent.any() else ""))
    return png(figure)


def rank(found: Posterior) -> bytes:
    """How often each chain holds each rank among all draws: flat where chains agree."""
    chains = np.asarray(_run(found).draws, dtype=float)
    n_chains, samples, _ = chains.shape
    bins = min(RANK_BINS, samples)
    expected = samples / bins
    figure, axes = panels(
        len(found.names), f"ranks in the chains of {_run(found).label}: level lines near 1 mean that they agree"
    )
    edges = np.linspace(0.0, 1.0, bins + 1)
    for k, ax in enumerate(axes):
        ranks = rankdata(chains[..., k]).reshape(n_chains, samples) / (n_chains * samples + 1)
        ax.axhspan(1 - 2 / np.sqrt(expected), 1 + 2 / np.sqrt(expected), color=MUTED, alpha=0.18, lw=0)
        for ranked, colour in coloured(ranks):
            counts, _ = np.histogram(ranked, edges)
            ax.stairs(counts / expected, edges, color=colour, lw=1.3, baseline=None)
        ax.set_title(found.names[k], fontsize=9.5)
        ax.set_ylim(0.0, max(2.0, ax.get_ylim()[1]))
        ax.set_xlim(0.0, 1.0)
        open_frame(ax)
        ax.tick_params(labelsize=8)
    figure.supxlabel("rank among all draws (0 smallest, 1 largest); grey: 2 sd of independent draws", fontsize=9)
    return png(figure)


def autocorrelation(found: Posterior) -> bytes:
    """How long each chain remembers a draw."""
    from arviz_stats.base.array import array_stats

    chains = np.asarray(_run(found).draws, dtype=float)
    samples = chains.shape[1]
    lags = np.arange(min(MOST_LAGS, samples - 1) + 1)
    figure, axes = panels(
        len(found.names), f"memory of the chains of {_run(found).label}: the sooner in the grey band, the better"
    )
    for k, ax in enumerate(axes):
        ax.axhspan(-2 / np.sqrt(samples), 2 / np.sqrt(samples), color=MUTED, alpha=0.18, lw=0)
        ax.axhline(0.0, color=MUTED, lw=0.8)
        for draws, colour in coloured(chains[..., k]):
            if np.ptp(draws) > 0:
                values = np.asarray(array_stats.autocorr(draws))[: len(lags)]
                ax.plot(lags, values, color=colour, lw=1.2)
        ax.set_title(found.names[k], fontsize=9.5)
        ax.set_ylim(-0.35, 1.02)
        ax.set_xlim(0, lags[-1])
        open_frame(ax)
        ax.tick_params(labelsize=8)
    figure.supxlabel("lag (draws)", fontsize=9)
    return png(figure)


def energy(found: Posterior) -> bytes:
    """Energies beside their changes, acceptance, and gradients per draw."""
    statistics = _run(found)
    figure = Figure(figsize=(13.4, 3.7), dpi=DPI, layout="constrained")
    energies, acceptance, steps = figure.subplots(1, 3)
    values = np.asarray(statistics.energy, dtype=float)
    centred = values - values.mean()
    for data, colour, words in (
        (centred, DATA_COLOUR, "energy − its mean"),
        (np.diff(values, axis=1), GOOD_COLOUR, "change from draw to draw"),
    ):
        grid, height = density(data)
        energies.fill_between(grid, height, color=colour, alpha=0.25, lw=0)
        energies.plot(grid, height, color=colour, lw=1.5, label=words)
    lowest = float(np.min(statistics.bfmi))
    energies.set_title(f"energy of {statistics.label}: worst BFMI {lowest:.2f} (1 is best)", fontsize=10)
    energies.set_xlabel("nats")
    energies.set_ylim(bottom=0.0)
    legend(energies)
    plain(energies)
    _draw_acceptance(acceptance, np.asarray(statistics.acceptance, dtype=float))
    _draw_steps(steps, np.asarray(statistics.num_steps, dtype=int))
    return png(figure)


def ess(found: Posterior) -> bytes:
    """Effective draws of each parameter, and how they grow along the chains."""
    figure = Figure(figsize=(13.4, max(3.6, 0.36 * len(found.names) + 1.3)), dpi=DPI, layout="constrained")
    bars, growth = figure.subplots(1, 2)
    _draw_bars(bars, found)
    _draw_growth(growth, found)
    return png(figure)


def ess_growth(chains: np.ndarray, steps: int = GROWTH_STEPS) -> tuple[np.ndarray, np.ndarray]:
    """Lengths (g,) and effective draws (g,n) of the beginnings of chains (c,s,n) with these lengths."""
    from arviz_stats.base.array import array_stats

    samples = chains.shape[1]
    lengths = np.unique(np.linspace(0, samples, steps + 1).round().astype(int)[1:])
    lengths = lengths[lengths >= 4]
    counts = [
        [
            float(array_stats.ess(np.ascontiguousarray(chains[:, :length, k]), chain_axis=0, draw_axis=1))
            for k in range(chains.shape[2])
        ]
        for length in lengths
    ]
    return lengths, np.array(counts).reshape(len(lengths), chains.shape[2])


def _quantity(found: Posterior, k: int) -> str:
    unit = found.units[k]
    return f"{found.names[k]} ({unit})" if unit else found.names[k]


def _mark_divergent(ax: Axes, divergent: np.ndarray) -> None:
    places = np.flatnonzero(divergent.any(axis=0))
    if places.size:
        ax.plot(places, np.zeros(places.size), "|", ms=8, color=FIT_COLOUR, transform=ax.get_xaxis_transform())


def _draw_acceptance(ax: Axes, acceptance: np.ndarray) -> None:
    ax.hist(np.clip(acceptance.ravel(), 0, 1), bins=40, range=(0.0, 1.0), color=DATA_COLOUR, alpha=0.6)
    mean = float(acceptance.mean())
    ax.axvline(mean, color=FIT_COLOUR, lw=1.2)
    ax.set_title(f"acceptance: {mean:.2f} on average", fontsize=10)
    ax.set_xlabel("acceptance probability")
    plain(ax)


def _draw_steps(ax: Axes, steps: np.ndarray) -> None:
    depth = np.ceil(np.log2(np.maximum(steps.ravel(), 1) + 1)).astype(int)
    counts = np.bincount(depth)
    shown = np.arange(max(1, int(depth.min())), len(counts))
    ax.bar(shown, counts[shown] / depth.size, color=DATA_COLOUR, alpha=0.6)
    ax.set_xticks(shown, [f"≤ {2**place - 1}" for place in shown.tolist()])
    ax.set_title(f"gradients per draw: {float(steps.mean()):.3g} on average", fontsize=10)
    ax.set_ylabel("share of draws")
    open_frame(ax)


def _draw_bars(ax: Axes, found: Posterior) -> None:
    places = np.arange(len(found.names))[::-1]
    ax.barh(places + 0.2, found.summary.ess_bulk, 0.38, color=DATA_COLOUR, alpha=0.85, label="bulk")
    ax.barh(places - 0.2, found.summary.ess_tail, 0.38, color=DATA_COLOUR, alpha=0.4, label="tails")
    threshold = found.settings.get("thresholds", {}).get("min_ess")
    if threshold:
        ax.axvline(threshold, color=FIT_COLOUR, lw=1.2, ls="--", label=f"needed: {threshold:g}")
    ax.set_yticks(places, [str(name) for name in found.names])
    ax.set_xlabel("effective draws behind the posterior")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    legend(ax, ncols=3, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.1)


def _draw_growth(ax: Axes, found: Posterior) -> None:
    chains = np.asarray(_run(found).draws, dtype=float)
    lengths, counts = ess_growth(chains)
    total = lengths * len(chains)
    worst = int(np.argmin(np.nan_to_num(counts[-1], nan=-1.0)))
    ax.plot(total, np.delete(counts, worst, axis=1), color=MUTED, lw=0.9, alpha=0.8)
    ax.plot(total, counts[:, worst], "o-", ms=4, color=DATA_COLOUR, label=f"{found.names[worst]} (slowest)")
    ax.set_title(f"chains of {_run(found).label}: straight lines mean steady progress", fontsize=10)
    ax.set_xlabel("draws of all chains")
    ax.set_ylabel("effective draws")
    ax.set_ylim(bottom=0.0)
    ax.set_xlim(left=0.0)
    open_frame(ax)
    legend(ax)


def shard_forest(found: Posterior, truth: Mapping[str, Truth]) -> bytes:
    """Mean ± one and two standard deviations of each shard, and the combined posterior as a band."""
    rejected = sum(not shard.accepted for shard in found.shards)
    title = "shards (bars: 1 and 2 sd) and the combined posterior (band: 1 sd)" + (
        f"; red: left out ({rejected})" if rejected else ""
    )
    height = min(max(LOWEST_PANEL, ROW_HEIGHT * len(found.shards) + 1.1), HIGHEST_PANEL)
    figure, axes = panels(len(found.names), title, height)
    for k, ax in enumerate(axes):
        _draw_shards(ax, found, k)
        known = truth.get(found.names[k])
        if isinstance(known, float):
            ax.axvline(known, color=FIT_COLOUR, lw=1.1, ls="--")
        ax.set_title(_title(found, found.names[k]), fontsize=9.5)
    columns = axes[0].get_subplotspec().get_gridspec().ncols  # type: ignore[union-attr]
    for ax in axes[::columns]:
        ax.set_ylabel("shard", fontsize=9)
    return png(figure)


def _draw_shards(ax: Axes, found: Posterior, k: int) -> None:
    mean, std = float(found.summary.mean[k]), float(found.summary.std[k])
    ax.axvspan(mean - std, mean + std, color=GOOD_COLOUR, alpha=0.22, lw=0)
    ax.axvline(mean, color=GOOD_COLOUR, lw=1)
    wide, marker = (3.0, 3.8) if len(found.shards) <= CROWDED else (1.8, 2.2)
    for shard in found.shards:
        colour = DATA_COLOUR if shard.accepted else FIT_COLOUR
        centre, width = float(shard.mean[k]), float(shard.std[k])
        for times, line in ((2, wide / 3), (1, wide)):
            ends = [centre - times * width, centre + times * width]
            ax.plot(ends, [shard.index, shard.index], color=colour, lw=line, solid_capstyle="butt")
        ax.plot(centre, shard.index, "o" if shard.accepted else "s", ms=marker, color=colour, mfc="white", zorder=3)
    ax.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.set_ylim(len(found.shards) - 0.3, -0.7)
    open_frame(ax)
    label_quantity(ax, found.units[k])


def _title(found: Posterior, name: str) -> str:
    agreement = found.heterogeneity
    if agreement is None or name not in agreement.names:
        return name
    share = float(agreement.i_squared[list(agreement.names).index(name)])
    verdict = "shards disagree" if name in agreement.disagreeing else "agree"
    return f"{name}: {verdict} (I² {share:.0%})" if np.isfinite(share) else name
