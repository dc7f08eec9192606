"""Data beside curves, angle by angle and a few rows at a time: what pictures and fitted data are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.posterior import Posterior
from hpcxpcs.arrays import evenly_spaced
from hpcxpcs.data.clean import pictured
from hpcxpcs.data.matrices import AngleMatrix
from hpcxpcs.data.preprocess import drawn_diagonal
from hpcxpcs.physics.model import Model
from hpcxpcs.results.records import Answer


@dataclass(frozen=True)
class Curve:
    """Where a model is evaluated: all parameters (p,) in canonical order, contrast and offset (n_phi,)."""

    values: np.ndarray
    contrast: np.ndarray
    offset: np.ndarray


def at_fit(fit: PointFit) -> Curve:
    """The curve of the point fit."""
    return Curve(fit.values, fit.scaling.contrast, fit.scaling.offset)


def at_mean(fit: PointFit, posterior: Posterior) -> Curve:
    """The curve at the posterior mean; parameters that were not sampled keep their value in the fit."""
    scaling = (np.mean(part, axis=(0, 1)) for part in (posterior.contrast, posterior.offset))
    return Curve(with_sampled(fit, posterior, posterior.summary.mean), *scaling)


def drawn_curves(fit: PointFit, posterior: Posterior, count: int) -> list[Curve]:
    """At most `count` draws, evenly spaced among all chains."""
    total = posterior.draws.shape[0] * posterior.draws.shape[1]
    chosen = evenly_spaced(total, count)
    draws, contrast, offset = (
        np.asarray(part).reshape(total, -1)[chosen] for part in (posterior.draws, posterior.contrast, posterior.offset)
    )
    return [
        Curve(with_sampled(fit, posterior, one), *scaling)
        for one, *scaling in zip(draws, contrast, offset, strict=True)
    ]


def with_sampled(fit: PointFit, posterior: Posterior, sampled: np.ndarray) -> np.ndarray:
    """The fit's values (p,) with those of the sampled parameters (n,) in their places."""
    known = dict(zip(posterior.names, np.asarray(sampled, dtype=float), strict=True))
    return np.array([known.get(name, value) for name, value in zip(fit.names, fit.values, strict=True)])


ESTIMATED_NOISE = "compression residual"
"""The source of σ when the fit has estimated it, even if the data came with another one."""

BLOCK_POINTS = 2**18
"""Points evaluated at a time: 2 MiB per array, which stays near the processor's cache."""

_compiled_shape = jax.jit(Model.shape)


@dataclass(frozen=True)
class Block:
    """Rows `start` to `start + m` of one angle's (N,N) matrices, m rows of N columns each.

    `scaled` is the fit offset + contrast · shape, `normalized` the residual in units of the noise σ;
    `good` is False on the diagonal and where the data were not used for the fit.
    """

    angle: int
    start: int
    n_frames: int
    c2: np.ndarray
    shape: np.ndarray
    scaled: np.ndarray
    residual: np.ndarray
    normalized: np.ndarray
    good: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Frame numbers (0-based) of the rows, (m,)."""
        return np.arange(self.start, self.start + len(self.c2))

    @property
    def is_last(self) -> bool:
        """True for the block that ends its angle."""
        return self.start + len(self.c2) == self.n_frames


def compared(answer: Answer, block_points: int = BLOCK_POINTS, curve: Curve | None = None) -> Iterator[Block]:
    """Every angle's blocks in order, at the point fit or another curve; one angle's matrices are in memory at a time.

    All curves are compared with the data in units of the point fit's noise.
    """
    n_frames = answer.data.n_frames
    rows = rows_per_block(n_frames, block_points)
    at = curve or at_fit(answer.fit)
    shape = ShapeRows(answer.model, at.values, answer.data.t, rows)
    for angle in range(answer.data.n_phi):
        yield from _angle_blocks(answer, angle, rows, shape, at)


class ShapeRows:
    """The model's shape f at given parameters (p,), compiled once for blocks of equally many rows."""

    def __init__(self, model: Model, values: np.ndarray, t: np.ndarray, rows: int) -> None:
        self._t = np.asarray(t, dtype=float)
        self._padded = padded(self._t, rows)
        self._rows = rows
        self._theta = np.asarray(values, dtype=float)
        self._model = model

    def at(self, start: int, phi: float) -> np.ndarray:
        """f for the rows from `start` on, (m,N), at the angle phi (degrees); 1 on the diagonal."""
        t1 = self._padded[start : start + self._rows, None]
        values = np.array(_compiled_shape(self._model, self._theta, t1, self._t[None, :], float(phi)), dtype=float)
        values = values[: len(self._t) - start]
        inside = np.arange(len(values))
        values[inside, start + inside] = 1.0
        return values


def padded(t: np.ndarray, rows: int) -> np.ndarray:
    """Times (N,) with the last one repeated, so that they are whole blocks of rows."""
    return np.concatenate([t, np.full(-len(t) % rows, t[-1])])


def rows_per_block(n_frames: int, block_points: int) -> int:
    """Rows such that blocks are nearly equal and no larger than asked for (but at least one row)."""
    blocks = max(1, min(n_frames, -(-n_frames * n_frames // block_points)))
    return -(-n_frames // blocks)


def _angle_blocks(answer: Answer, angle: int, rows: int, shape: ShapeRows, at: Curve) -> Iterator[Block]:
    fit, data = answer.fit, answer.data
    matrix = data.angle(angle)
    dead = ~matrix.frame_ok & (data.t != 0)
    diagonal = drawn_diagonal(matrix.c2, dead, data.processing)
    contrast, offset = float(at.contrast[angle]), float(at.offset[angle])
    for start in range(0, data.n_frames, rows):
        part = slice(start, start + rows)
        c2, values = pictured(matrix.c2, dead, diagonal, part), shape.at(start, float(data.asked_angles[angle]))
        scaled = offset + contrast * values
        residual = c2 - scaled
        normalized = residual / _noise(fit, matrix, angle, part)
        good = _used(matrix, part) & np.isfinite(normalized)
        yield Block(angle, start, data.n_frames, c2, values, scaled, residual, normalized, good)


def _noise(fit: PointFit, matrix: AngleMatrix, angle: int, part: slice) -> Any:
    """σ of each pair if the data came with one, else the one σ of the angle."""
    if matrix.sigma is None or fit.sigma_source == ESTIMATED_NOISE:
        return float(fit.sigma[angle])
    return np.asarray(matrix.sigma[part], dtype=float)


def _used(matrix: AngleMatrix, part: slice) -> np.ndarray:
    """The pairs of these rows that a fit may use, and their mirror images, (m,N)."""
    frames = np.asarray(matrix.frame_ok, dtype=bool)
    used = frames[part, None] & frames[None, :]
    if matrix.pair_ok is not None:
        used &= matrix.pair_ok[part]
    inside = np.arange(len(used))
    used[inside, part.start + inside] = False
    return used
