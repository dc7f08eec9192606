"""What all pictures share: resolution, colours, small panels side by side, PNG."""

from __future__ import annotations

import io
import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

DPI = 110
DATA_COLOUR, FIT_COLOUR, MUTED = "#31688e", "#c0392b", "#8a8f98"
GOOD_COLOUR = "#35a06b"
CHAIN_COLOURS = ("#31688e", "#35a06b", "#d18f00", "#8e5ea2", "#c0392b", "#17a2b8", "#7f6a4a", "#5c6675")
PANEL_WIDTH, PANEL_HEIGHT = 3.4, 2.3
"""Inches of one small panel."""
WRITTEN_OUT = range(-2, 6)
"""Powers of ten between which numbers along an axis are written in full."""


def png(figure: Figure) -> bytes:
    """A figure as the content of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    return content.getvalue()


def panels(count: int, title: str, height: float = PANEL_HEIGHT) -> tuple[Figure, list[Axes]]:
    """A figure of so many small panels in rows of up to four, under a title."""
    columns = min(count, 4 if count > 6 or count == 4 else 3)
    rows = -(-count // columns)
    width = max(2, columns) * PANEL_WIDTH
    figure = Figure(figsize=(width, rows * height + 0.45), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in grid[count:]:
        unused.set_axis_off()
    return figure, list(grid[:count])


def plain(ax: Axes, *, left: bool = False) -> None:
    """Take away the frame but for the lower line (and the left one), for panels that are read along x."""
    ax.spines[["top", "right"]].set_visible(False)
    if not left:
        ax.spines["left"].set_visible(False)
        ax.set_yticks([])


def label_quantity(ax: Axes, unit: str, count: int = 4) -> None:
    """At most so many numbers along x, with the unit below; a common power of ten stands with the unit."""
    largest = max(map(abs, ax.get_xlim()))
    power = math.floor(math.log10(largest)) if 0 < largest < math.inf else 0
    power = 0 if power in WRITTEN_OUT else power
    ax.xaxis.set_major_locator(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(lambda value, place: f"{value / 10.0**power:.6g}")
    ax.tick_params(labelsize=8)
    factor = f"$10^{{{power}}}$" if power else ""
    ax.set_xlabel(" ".join(filter(None, (factor, unit))) or " ", fontsize=8.5)


def density(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grid and smooth density of draws; of draws that are all the same, a spike."""
    from arviz_stats.base.array import array_stats

    values = np.asarray(values, dtype=float).ravel()
    values = values[np.isfinite(values)]
    if not np.ptp(values) > 0:
        return values[:1], np.ones(1)
    grid, height, _ = array_stats.kde(values)
    return np.asarray(grid), np.asarray(height)
