"""What all pictures share: resolution, colours, small panels side by side, PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from hpcxpcs.arrays import evenly_spaced
from hpcxpcs.data.preprocess import stages_of
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import DataError

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


def open_frame(ax: Axes) -> None:
    """Take away the upper and the right line of the frame."""
    ax.spines[["top", "right"]].set_visible(False)


def plain(ax: Axes) -> None:
    """Take away the frame but for the lower line, for panels that are read along x."""
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.set_yticks([])


def legend(ax: Axes, **options: Any) -> None:
    """A small legend without a frame."""
    ax.legend(fontsize=8, frameon=False, **options)


def coloured(chains: np.ndarray) -> Iterator[tuple[np.ndarray, str]]:
    """Each chain (the first axis) with its colour."""
    return zip(chains, cycle(CHAIN_COLOURS), strict=False)


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


MAP = "viridis"
PIXELS = 200
"""Largest width of a map in pixels; matrices with more frames are averaged to it."""
PANELS = 6
"""Angles in the picture of selected data; of more, evenly spaced ones are shown."""


def heat_map(ax: Axes, colours: str = MAP, unit: str = "s") -> AxesImage:
    """An empty map with t2 along x and t1 along y, beginning at the lower left."""
    ax.set_xlabel(f"t2 ({unit})")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    return ax.imshow(np.zeros((2, 2)), cmap=colours, origin="lower", interpolation="nearest")


def show(image: AxesImage, values: np.ndarray, frames_per_pixel: int, data: TwoTime, low: float, high: float) -> None:
    """Put values (pixels,pixels) into a map; each frame reaches half a time step to both sides of its time."""
    first = float(data.t[0]) - data.dt / 2
    last = first + len(values) * frames_per_pixel * data.dt
    image.set_data(values)
    image.set_extent((first, last, first, last))
    image.set_clim(low, high)


def colour_range(data: np.ndarray, fit: np.ndarray | None = None) -> tuple[float, float]:
    """Common limits of two maps: all of the fit, and all but the most extreme data."""
    known = data[np.isfinite(data)]
    low, high = map(float, np.percentile(known, (0.5, 99.5))) if known.size else (0.0, 1.0)
    if fit is not None:
        low, high = min(low, float(np.nanmin(fit))), max(high, float(np.nanmax(fit)))
    return low, high if high > low else low + 1.0


def evenly_chosen[Item](items: list[Item], most: int) -> list[Item]:
    """At most so many of the items, first and last among them."""
    return [items[place] for place in evenly_spaced(len(items), most)]


def selected_data(data: TwoTime, unit: str = "s") -> Figure:
    """Up to six angles as a fit would get them: its frames, its preprocessing, and nothing at dead frames.

    Values that are no numbers are left blank even where a fit would refuse them; `unit` is that of the times.
    """
    data = replace(data, screening=replace(data.screening, non_finite="mask"))
    angles = evenly_spaced(data.n_phi, PANELS).tolist()
    columns = min(3, len(angles))
    rows = -(-len(angles) // columns)
    figure = Figure(figsize=(4.3 * columns, 0.35 + 3.45 * rows), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, angle in zip(panels, angles, strict=False):
        _draw_angle(ax, data, angle, unit)
    for ax in panels[len(angles) :]:
        ax.remove()
    figure.suptitle(_title(data), fontsize=10)
    return figure


def _draw_angle(ax: Axes, data: TwoTime, angle: int, unit: str) -> None:
    image = heat_map(ax, unit=unit)
    size = -(-data.n_frames // PIXELS)
    ax.set_title(f"q = {data.q:g} Å⁻¹, φ = {data.phi[angle]:g}°", fontsize=10)
    ax.set_ylabel(f"t1 ({unit})")
    try:
        values = data.picture(angle, size)
    except DataError as error:
        values = np.full((-(-data.n_frames // size),) * 2, np.nan)
        ax.text(0.5, 0.5, str(error), transform=ax.transAxes, color=MUTED, fontsize=7, wrap=True, ha="center")
    show(image, values, size, data, *colour_range(values))
    ax.figure.colorbar(image, ax=ax, label="c2")


def _title(data: TwoTime) -> str:
    first, last = data.frames
    done = [f"{stage}: {method}" for stage, method, _ in stages_of(data.processing) if stage != "validate"]
    return ", ".join([f"frames {first} to {last}", *(done or ["no preprocessing"])])
