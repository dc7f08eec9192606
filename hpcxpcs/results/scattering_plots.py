"""Pictures of what a result file shows besides correlations: the detector, I(q), I(t), and g2 of blocks of time."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from hpcxpcs.arrays import evenly_spaced
from hpcxpcs.frames.scattering import Scattering, Stability
from hpcxpcs.results.drawing import CHAIN_COLOURS, DATA_COLOUR, MAP, MUTED, legend, open_frame, panels

MOST_POINTS = 2000
"""Of I(t) in a picture: means of consecutive frames beyond."""
WIDE = 10.0
"""Ratio of the largest to the smallest q from which on its axis is logarithmic."""
MOST_BINS = 4
"""Bins whose partial g2 is drawn, evenly spaced."""


def saxs_picture(found: Scattering) -> Figure:
    """The mean image with a logarithmic colour scale, and I(q) of all frames and of every segment."""
    figure, axes = panels(2, found.file, height=3.2)
    _image(axes[0], found)
    _profile(axes[1], found)
    return figure


def stability_picture(found: Scattering, verdict: Stability) -> Figure:
    """I(t), I(q) of segments over their mean, and g2 of blocks of time for some bins."""
    figure, axes = panels(2 + MOST_BINS * (found.partial is not None), f"{found.file}: {verdict.verdict}", height=2.6)
    _time(axes[0], found)
    _ratio(axes[1], found)
    if found.partial is not None and found.delays is not None:
        values, errors = found.partial
        bins = evenly_spaced(values.shape[2], MOST_BINS).tolist()
        for ax, bin_ in zip(axes[2:], bins, strict=False):
            for k in range(len(values)):
                known = errors[k, :, bin_] > 0.0
                ax.errorbar(
                    found.delays[known], values[k, known, bin_], errors[k, known, bin_],
                    fmt=".-", lw=0.8, ms=3, color=CHAIN_COLOURS[k % len(CHAIN_COLOURS)], label=f"block {k + 1}",
                )  # fmt: skip
            ax.set(xscale="log", xlabel="delay (frames)", ylabel="g2", title=f"bin {bin_ + 1}")
            open_frame(ax)
        legend(axes[2])
        for ax in axes[2 + len(bins) :]:
            ax.set_axis_off()
    return figure


def _image(ax: Axes, found: Scattering) -> None:
    ax.set(xlabel="column", ylabel="row")
    if found.image is None:
        ax.text(0.5, 0.5, "the file has no image", transform=ax.transAxes, ha="center", color=MUTED)
        return
    lit = np.where(found.image > 0.0, found.image, np.nan)
    known = lit[np.isfinite(lit)]
    norm = LogNorm(*np.percentile(known, (0.5, 99.5))) if known.size and np.ptp(known) > 0.0 else None
    drawn = ax.imshow(lit, cmap=MAP, norm=norm, interpolation="nearest")
    ax.figure.colorbar(drawn, ax=ax, label="counts per pixel and frame")


def _profile(ax: Axes, found: Scattering) -> None:
    q, mean = found.profile(found.intensity)
    if found.segments is not None:
        for profile in found.profile(found.segments)[1]:
            ax.plot(q, profile, color=MUTED, lw=0.6)
    ax.plot(q, mean, ".-", color=DATA_COLOUR, ms=4, label="all frames")
    ax.set(xlabel="q (1/Å)", ylabel="counts per pixel and frame")
    if q.min() > 0.0 and q.max() > WIDE * q.min():
        ax.set_xscale("log")
    if (mean[np.isfinite(mean)] > 0.0).any():
        ax.set_yscale("log")
    legend(ax)
    open_frame(ax)


def _time(ax: Axes, found: Scattering) -> None:
    ax.set(xlabel="frame", ylabel="counts per pixel and frame")
    open_frame(ax)
    if found.time is not None:
        parts = np.array_split(found.time, min(MOST_POINTS, found.time.shape[1]), axis=1)
        ax.plot(*np.array([part.mean(axis=1) for part in parts]).T, color=DATA_COLOUR, lw=0.8)


def _ratio(ax: Axes, found: Scattering) -> None:
    ax.set(xlabel="q (1/Å)", ylabel="segment / mean")
    open_frame(ax)
    if found.segments is not None:
        q, profiles = found.profile(found.segments)
        with np.errstate(invalid="ignore", divide="ignore"):
            for k, profile in enumerate(profiles / np.nanmean(profiles, axis=0)):
                ax.plot(q, profile, color=CHAIN_COLOURS[k % len(CHAIN_COLOURS)], lw=0.8)
