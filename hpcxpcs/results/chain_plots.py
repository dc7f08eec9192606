"""How the sampler did its work, as pictures of real chains: traces, ranks, autocorrelation, energy, draws."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import rankdata

from hpcxpcs.results.drawing import (
    CHAIN_COLOURS,
    DATA_COLOUR,
    DPI,
    FIT_COLOUR,
    GOOD_COLOUR,
    MUTED,
    density,
    panels,
    plain,
    png,
)
from hpcxpcs.results.posterior_records import Posterior

RANK_BINS = 20
MOST_LAGS = 60
GROWTH_STEPS = 10
"""Lengths of the chains at which effective draws are counted."""
MOST_TRACE_POINTS = 1500
"""Points of one chain's trace; longer chains are drawn every so many draws."""


def trace(found: Posterior) -> bytes:
    """Each parameter along the chains, and its density in each of them."""
    statistics, count = found.statistics, len(found.names)
    chains = np.asarray(statistics.draws, dtype=float)
    figure = Figure(figsize=(13.4, 1.15 * count + 0.7), dpi=DPI, layout="constrained")
    figure.suptitle(
        f"chains of {statistics.label}: densities should lie on top of each other, traces should mix", fontsize=11
    )
    axes = figure.subplots(count, 2, squeeze=False, width_ratios=(1, 3.2), sharex="none")
    divergent = np.asarray(statistics.diverging, dtype=bool)
    for k, (left, right) in enumerate(axes):
        for chain, draws in enumerate(chains[..., k]):
            colour = CHAIN_COLOURS[chain % len(CHAIN_COLOURS)]
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
        right.spines[["top", "right"]].set_visible(False)
        right.tick_params(labelsize=8, labelbottom=k == count - 1)
    axes[-1, 1].set_xlabel("draw" + (", red ticks: divergent" if divergent.any() else ""))
    return png(figure)


def rank(found: Posterior) -> bytes:
    """How often each chain holds each rank among all draws: flat where chains agree."""
    chains = np.asarray(found.statistics.draws, dtype=float)
    n_chains, samples, _ = chains.shape
    bins = min(RANK_BINS, samples)
    expected = samples / bins
    figure, axes = panels(
        len(found.names), f"ranks in the chains of {found.statistics.label}: level lines near 1 mean that they agree"
    )
    edges = np.linspace(0.0, 1.0, bins + 1)
    for k, ax in enumerate(axes):
        ranks = rankdata(chains[..., k]).reshape(n_chains, samples) / (n_chains * samples + 1)
        ax.axhspan(1 - 2 / np.sqrt(expected), 1 + 2 / np.sqrt(expected), color=MUTED, alpha=0.18, lw=0)
        for chain in range(n_chains):
            counts, _ = np.histogram(ranks[chain], edges)
            colour = CHAIN_COLOURS[chain % len(CHAIN_COLOURS)]
            ax.stairs(counts / expected, edges, color=colour, lw=1.3, baseline=None)
        ax.set_title(found.names[k], fontsize=9.5)
        ax.set_ylim(0.0, max(2.0, ax.get_ylim()[1]))
        ax.set_xlim(0.0, 1.0)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    figure.supxlabel("rank among all draws (0 smallest, 1 largest); grey: 2 sd of independent draws", fontsize=9)
    return png(figure)


def autocorrelation(found: Posterior) -> bytes:
    """How long each chain remembers a draw."""
    from arviz_stats.base.array import array_stats

    chains = np.asarray(found.statistics.draws, dtype=float)
    samples = chains.shape[1]
    lags = np.arange(min(MOST_LAGS, samples - 1) + 1)
    figure, axes = panels(
        len(found.names), f"memory of the chains of {found.statistics.label}: the sooner in the grey band, the better"
    )
    for k, ax in enumerate(axes):
        ax.axhspan(-2 / np.sqrt(samples), 2 / np.sqrt(samples), color=MUTED, alpha=0.18, lw=0)
        ax.axhline(0.0, color=MUTED, lw=0.8)
        for chain, draws in enumerate(chains[..., k]):
            if np.ptp(draws) > 0:
                values = np.asarray(array_stats.autocorr(draws))[: len(lags)]
                ax.plot(lags, values, color=CHAIN_COLOURS[chain % len(CHAIN_COLOURS)], lw=1.2)
        ax.set_title(found.names[k], fontsize=9.5)
        ax.set_ylim(-0.35, 1.02)
        ax.set_xlim(0, lags[-1])
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
    figure.supxlabel("lag (draws)", fontsize=9)
    return png(figure)


def energy(found: Posterior) -> bytes:
    """Energies beside their changes, acceptance, and gradients per draw."""
    statistics = found.statistics
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
    energies.set_title(f"energy of {statistics.label}: worst BFMI {lowest:.2f} (0.2 is too low)", fontsize=10)
    energies.set_xlabel("nats")
    energies.set_ylim(bottom=0.0)
    energies.legend(fontsize=8, frameon=False)
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
    ax.spines[["top", "right"]].set_visible(False)


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
    ax.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.1)


def _draw_growth(ax: Axes, found: Posterior) -> None:
    chains = np.asarray(found.statistics.draws, dtype=float)
    lengths, counts = ess_growth(chains)
    total = lengths * len(chains)
    worst = int(np.argmin(np.nan_to_num(counts[-1], nan=-1.0)))
    ax.plot(total, np.delete(counts, worst, axis=1), color=MUTED, lw=0.9, alpha=0.8)
    ax.plot(total, counts[:, worst], "o-", ms=4, color=DATA_COLOUR, label=f"{found.names[worst]} (slowest)")
    ax.set_title(f"chains of {found.statistics.label}: straight lines mean steady progress", fontsize=10)
    ax.set_xlabel("draws of all chains")
    ax.set_ylabel("effective draws")
    ax.set_ylim(bottom=0.0)
    ax.set_xlim(left=0.0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False)
