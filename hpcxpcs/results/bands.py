"""How wide the posterior leaves the curve itself: credible bands of c2, a few rows at a time."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import ndtri

from hpcxpcs.files.atomic import Fault
from hpcxpcs.physics.model import Model
from hpcxpcs.results.comparison import BLOCK_POINTS, Block, compared, rows_per_block
from hpcxpcs.results.fitted import MATRICES, Contents, fitted_data, small_arrays
from hpcxpcs.results.marginals import at_mean, drawn_curves
from hpcxpcs.results.posterior_records import Posterior
from hpcxpcs.results.records import Answer

BAND_MATRICES = (*MATRICES, "c2_credible_lower", "c2_credible_upper")
"""The (n_phi,N,N) members of the posterior's archive."""

MOST_DRAWS, FEWEST_DRAWS = 64, 16
"""Draws whose curves make a band: of 16, the band's half-width is known to a fifth of itself."""

EVALUATIONS = 4 * 10**8
"""Points times draws that a band may take: about ten seconds of one core."""


Sums = tuple[jax.Array, jax.Array, jax.Array]
"""Number of curves so far, their mean, and the sum of squared distances from it."""


class Bands:
    """Mean ± so many standard deviations of the draws' curves, for blocks of equally many rows."""

    def __init__(self, answer: Answer, posterior: Posterior, probability: float, rows: int) -> None:
        data = answer.data
        curves = drawn_curves(answer.fit, posterior, draws_for(data.n_phi * data.n_frames**2))
        self._theta = np.array([curve.values for curve in curves])
        self._scaling = np.array([(curve.contrast, curve.offset) for curve in curves])
        self._widths = float(ndtri(0.5 + probability / 2))
        self._model, self._phi, self._rows = answer.model, data.phi, rows
        self._t = np.asarray(data.t, dtype=float)
        self._padded = np.concatenate([self._t, np.full(-len(self._t) % rows, self._t[-1])])

    def around(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper edge (m,N) for the rows of a block; on the diagonal the shape is 1."""
        t1 = self._padded[block.start : block.start + self._rows, None]
        mean, deviation = (
            np.array(part)[: len(block.c2)]
            for part in _spread(
                self._model, self._theta, self._scaling[..., block.angle], t1, self._t[None, :],
                float(self._phi[block.angle]),
            )
        )  # fmt: skip
        total = self._scaling[..., block.angle].sum(axis=1)
        inside = np.arange(len(block.c2))
        mean[inside, block.rows], deviation[inside, block.rows] = total.mean(), total.std(ddof=1)
        return mean - self._widths * deviation, mean + self._widths * deviation


def write_credible_data(
    path: Path, answer: Answer, posterior: Posterior, *, fault: Fault | None = None
) -> None:
    """Write the archive of data, the curve at the posterior mean, residuals, and credible bands of the curve."""
    probability = float(posterior.summary.hdi_probability)
    curve = at_mean(answer.fit, posterior)
    rows = rows_per_block(answer.data.n_frames, BLOCK_POINTS)
    bands = Bands(answer, posterior, probability, rows)
    small = {
        **small_arrays(answer.data, curve.contrast, curve.offset),
        "credible_probability": np.array([probability]),
    }
    with fitted_data(path, answer.data, Contents(BAND_MATRICES, small), fault=fault) as collected:
        for block in compared(answer, BLOCK_POINTS, curve):
            collected.add(block, *bands.around(block))


def draws_for(points: int) -> int:
    """How many draws a band of so many points is made of."""
    return int(np.clip(EVALUATIONS // max(1, points), FEWEST_DRAWS, MOST_DRAWS))


def _spread_of(
    model: Model, theta: jax.Array, scaling: jax.Array, t1: jax.Array, t2: jax.Array, phi: float
) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation (m,N) over draws of offset + contrast · shape; theta (k,p), scaling (k,2).

    Summed by Welford's recursion: the curves are nearly equal, and only one of them is in memory.
    """

    def add(sums: Sums, draw: tuple[jax.Array, jax.Array]) -> tuple[Sums, None]:
        count, mean, squares = sums
        values, (contrast, offset) = draw
        curve = offset + contrast * model.shape(values, t1, t2, phi)
        moved = mean + (curve - mean) / (count + 1)
        return (count + 1, moved, squares + (curve - mean) * (curve - moved)), None

    zero = jnp.zeros(jnp.broadcast_shapes(t1.shape, t2.shape))
    (count, mean, squares), _ = jax.lax.scan(add, (jnp.zeros(()), zero, zero), (theta, scaling))
    return mean, jnp.sqrt(squares / (count - 1))


_spread = jax.jit(_spread_of)
