"""Do the parts of the data agree: each shard's own answer beside the combined one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hpcxpcs.results.drawing import DATA_COLOUR, FIT_COLOUR, GOOD_COLOUR, label_quantity, panels, png
from hpcxpcs.results.posterior_records import Posterior
from hpcxpcs.results.table import Truth

ROW_HEIGHT = 0.16
"""Inches of one shard's row, until a panel is as high as it may be."""
LOWEST_PANEL, HIGHEST_PANEL = 2.3, 4.6
CROWDED = 24
"""Shards from which their bars are drawn thin."""


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
    ax.spines[["top", "right"]].set_visible(False)
    label_quantity(ax, found.units[k])


def _title(found: Posterior, name: str) -> str:
    agreement = found.heterogeneity
    if agreement is None or name not in agreement.names:
        return name
    share = float(agreement.i_squared[list(agreement.names).index(name)])
    verdict = "shards disagree" if name in agreement.disagreeing else "agree"
    return f"{name}: {verdict} (I² {share:.0%})" if np.isfinite(share) else name

