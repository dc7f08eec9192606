"""Print what averaging over squares of frames costs: smallest possible errors over those of single frames.

usage: squares.py   (static, one angle, 512 frames of 0.1 s, 2000 pixels, contrast 0.15)
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from hpcxpcs.likelihood.cells import TimeAxis
from hpcxpcs.likelihood.products import Products
from hpcxpcs.likelihood.whitened import Averages, mean_shape, whitened
from hpcxpcs.physics.model import build_model

Q, STEP, FRAMES, PIXELS, CONTRAST = 0.0054, 0.1, 512, 2000.0, 0.15
WIDTHS = (1, 2, 4, 8)


def smallest_errors(decay: float, photons: float, width: int) -> np.ndarray:
    """Cramér–Rao errors of D0 (relative) and alpha for a decay time in frames, contrast and offset being free."""
    model = build_model("static", q=Q, gap=2.0e6)
    theta = np.array([1.0 / (2.0 * Q**2 * decay * STEP), 0.0, 0.0])
    axis = TimeAxis(STEP, STEP, FRAMES)
    frames = axis.times(np.arange(FRAMES)).reshape(-1, width)
    spread = np.array([[0.0]] if width == 1 else [[-1.0, 1.0]])
    times = frames.mean(axis=1)[:, None] + frames.std(axis=1)[:, None] * spread
    size = len(times)
    averages = Averages(
        axis, np.zeros(1), width, times[None], np.full((1, size), np.sqrt(width)), np.zeros((1, size, size))
    )
    shape = np.asarray(mean_shape(model, *map(jnp.asarray, (theta, times, 0.0))))
    white = 1.0 / (PIXELS * photons**2)
    parts = (np.array([white * (CONTRAST * photons) ** power]) for power in (0, 1, 2))
    source = whitened(averages, [shape], *parts, threads=1)
    tangents = jnp.asarray(np.eye(3)[:, :2] * [theta[0], 1.0])
    found: Products = source.products(model, jnp.asarray(theta), tangents)
    scale = np.array([1.0, 1.0, CONTRAST, CONTRAST])
    information = np.asarray(found.gram[0]) * np.outer(scale, scale) / white
    return np.asarray(np.sqrt(np.diag(np.linalg.inv(information)))[2:])


def main() -> None:
    """One line per decay time and light: errors of D0 and alpha over those with squares of one frame."""
    print(f"{'decay, frames':>14s} {'photons':>8s}   " + "".join(f"{width:>4d} frames   " for width in WIDTHS[1:]))
    for decay in (5.0, 20.0, 80.0):
        for photons in (0.05, 0.5, 5.0, 50.0):
            first, *others = (smallest_errors(decay, photons, width) for width in WIDTHS)
            cells = "".join("  {:5.2f} {:5.2f}  ".format(*(errors / first)) for errors in others)
            print(f"{decay:14g} {photons:8g} {cells}", flush=True)


if __name__ == "__main__":
    main()
