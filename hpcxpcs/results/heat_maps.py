"""Maps of c2 over t1 and t2: the same axes, colours and averaging for data that are looked at and for those fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import DataError
from hpcxpcs.results.drawing import DPI, MUTED

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


def show(
    image: AxesImage, values: np.ndarray, frames_per_pixel: int, data: TwoTime, low: float, high: float
) -> None:
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
    places = np.unique(np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int))
    return [items[place] for place in places]


def selected_data(data: TwoTime, unit: str = "s") -> Figure:
    """Up to six angles as a fit would get them: its frames, its preprocessing, and nothing at dead frames.

    Values that are no numbers are left blank even where a fit would refuse them; `unit` is that of the times.
    """
    data = replace(data, screening=replace(data.screening, non_finite="mask"))
    angles = evenly_chosen(list(range(data.n_phi)), PANELS)
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
    done = [f"{stage}: {method}" for stage, method, _ in data.processing.stages() if stage != "validate"]
    return ", ".join([f"frames {first} to {last}", *(done or ["no preprocessing"])])
