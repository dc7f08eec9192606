"""Pictures of a fit of g2(τ): every bin with what is left over, and τ against q."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hpcxpcs.arrays import evenly_spaced
from hpcxpcs.g2.fit import FileFit
from hpcxpcs.g2.simulate import true_rows
from hpcxpcs.g2.verdict import GOOD, MISFIT
from hpcxpcs.results.drawing import DATA_COLOUR, DPI, FIT_COLOUR, GOOD_COLOUR, MUTED, legend, open_frame

MOST_BINS = 36
"""Bins in the picture: six by six are readable on a page; of more, evenly spaced ones are shown."""
COLUMNS = 6
RESIDUAL_LIMIT = 4.0
"""Errors shown above and below 0 in the residuals; what lies beyond sits at the edge."""
HEADROOM = 0.6
"""Part of the contrast that is left free above and below the fit: noisy first delays must not set the range."""


def bins_picture(fit: FileFit) -> Figure:
    """g2 and fit of up to MOST_BINS bins, with residuals in errors below each; the word of a bin is in its title."""
    chosen = evenly_spaced(len(fit.status), MOST_BINS).tolist()
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    wide, high = 2.75 * columns, 2.45 * rows + 0.5
    figure = Figure(figsize=(wide, high), dpi=DPI)  # a layout engine would take ten seconds for 72 axes
    heights = [part for _ in range(rows) for part in (3.0, 1.0, 1.1)]
    edges = {"left": 0.45 / wide, "right": 1 - 0.08 / wide, "bottom": 0.02 / high, "top": 1 - 0.6 / high}
    grid = figure.add_gridspec(3 * rows, columns, height_ratios=heights, hspace=0.06, wspace=0.25, **edges)
    for place, k in enumerate(chosen):
        row, column = 3 * (place // columns), place % columns
        upper = figure.add_subplot(grid[row, column])
        _draw_bin(upper, figure.add_subplot(grid[row + 1, column], sharex=upper), fit, k)
    shown = "" if len(chosen) == len(fit.status) else f", {len(chosen)} of {len(fit.status)} bins"
    title = f"{fit.shape.form}: g2 and fit above delay in s{shown}; below: residuals in errors"
    figure.suptitle(title, fontsize=11, y=1 - 0.12 / high)
    return figure


def _draw_bin(upper: Axes, lower: Axes, fit: FileFit, k: int) -> None:
    data, error = fit.data, fit.noise.error[:, k]
    there = np.isfinite(data.g2[:, k])
    upper.set_xscale("log")
    upper.minorticks_off()
    for ax in (upper, lower):
        open_frame(ax)
        ax.tick_params(labelsize=7)
    upper.tick_params(labelbottom=False)
    upper.errorbar(
        data.tau[there], data.g2[there, k], error[there], fmt=".", ms=3, lw=0.6, color=DATA_COLOUR, ecolor=MUTED
    )
    line = fit.fitted[:, k]
    if np.isfinite(line).any():
        upper.plot(data.tau, line, color=FIT_COLOUR, lw=1.3)
        room = HEADROOM * max(float(np.ptp(line)), 3.0 * float(np.median(error[there])))
        upper.set_ylim(float(line.min()) - room, float(line.max()) + room)
        left = (data.g2[there, k] - line[there]) / error[there]
        lower.plot(data.tau[there], np.clip(left, -RESIDUAL_LIMIT, RESIDUAL_LIMIT), ".", ms=2.5, color=DATA_COLOUR)
    lower.axhline(0.0, color=FIT_COLOUR, lw=0.8)
    lower.set_ylim(-1.1 * RESIDUAL_LIMIT, 1.1 * RESIDUAL_LIMIT)
    angle = f", {data.phi[k]:.4g}°" if np.isfinite(data.phi[k]) and len(set(data.phi.tolist())) > 1 else ""
    word = fit.status[k]
    title = f"{data.labels[k]}: q {data.q[k]:.4g}{angle}" + ("" if word == GOOD else f"\n{word}")
    upper.set_title(title, fontsize=7.5, pad=2, color=FIT_COLOUR if word != GOOD else "black")


def tau_picture(fit: FileFit) -> Figure:
    """τ against q of all bins that have an answer with the law, and the other parameters below it."""
    names = [name for name in fit.shape.parameters if name != "tau_slow"]
    figure = Figure(figsize=(10.5, 4.2 + 1.9), dpi=DPI, layout="constrained")
    count = max(1, len(names) - 1)
    grid = figure.add_gridspec(2, count, height_ratios=[2.2, 1.0])
    ax, others = figure.add_subplot(grid[0, :]), [figure.add_subplot(grid[1, k]) for k in range(count)]
    truth = true_rows(fit.data.simulated, fit.shape.parameters)
    for name, panel in zip(names, [ax, *others], strict=False):
        _against_q(panel, fit, fit.shape.parameters.index(name), truth)
    if "tau_slow" in fit.shape.parameters:
        _against_q(ax, fit, fit.shape.parameters.index("tau_slow"), truth)
    if fit.law is not None:
        q = np.geomspace(np.nanmin(fit.data.q[fit.usable]), np.nanmax(fit.data.q[fit.usable]), 100)
        ax.plot(q, fit.law.at(q), color=FIT_COLOUR, lw=1.3, label=fit.law.words.split(";")[0])
        if fit.law.plateau is not None and fit.law.plateau.seen:
            plateau = fit.law.plateau
            level = plateau.amplitude * q**-plateau.exponent + plateau.offset
            ax.plot(q, level, color=GOOD_COLOUR, lw=1.3, ls="--", label=f"levels off at {plateau.offset:.3g} s")
        legend(ax)
    ax.set(xscale="log", yscale="log", ylabel="τ (s)")
    return figure


def _against_q(ax: Axes, fit: FileFit, j: int, truth: np.ndarray | None) -> None:
    answer, name = fit.answer, fit.shape.parameters[j]
    for word, colour in ((GOOD, DATA_COLOUR), (MISFIT, MUTED)):
        rows = np.array([status == word for status in fit.status])
        if rows.any():
            value, ends = answer.value[rows, j], answer.ends[rows, j][:, [1, 2]]
            bars = np.abs(ends - value[:, None]).T
            ax.errorbar(fit.data.q[rows], value, bars, fmt=".", ms=4, lw=0.8, color=colour)
    if truth is not None:
        ax.plot(fit.data.q, truth[:, j], ".", ms=2, color=GOOD_COLOUR)
    open_frame(ax)
    ax.tick_params(labelsize=8)
    ax.set_xlabel("q (1/Å)", fontsize=8.5)
    ax.set_ylabel(name, fontsize=8.5)
