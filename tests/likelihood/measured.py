"""Small simulated measurements, and sums over their pairs in plain NumPy that share no code with the likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from hpcxpcs.data.matrices import AngleMatrix
from hpcxpcs.data.simulate import NoiseSpec
from hpcxpcs.likelihood.cells import Cell, TimeAxis
from hpcxpcs.likelihood.raw import RawPairs
from hpcxpcs.physics.model import Model, build_model
from hpcxpcs.pipeline.simulate import TRUTH, SimulationSpec, simulate_twotime

PHI = (-120.0, -30.0, 20.0, 100.0)
CONTRAST = 0.15


@dataclass(frozen=True)
class Case:
    """A simulated measurement with its model, true parameters theta (p,), and indices of the identified ones."""

    model: Model
    theta: np.ndarray
    free: tuple[int, ...]
    matrices: tuple[AngleMatrix, ...]
    phi: np.ndarray
    axis: TimeAxis
    sigma: np.ndarray

    def angles(self, k: int) -> AngleMatrix:
        """The matrix of angle k."""
        return self.matrices[k]

    @property
    def raw(self) -> RawPairs:
        """Every pair, uncompressed."""
        return RawPairs(self.angles, self.phi, self.axis)

    @property
    def strength(self) -> np.ndarray:
        """(contrast/σ)² of each angle, (n_phi,)."""
        return (CONTRAST / self.sigma) ** 2

    @property
    def tangents(self) -> jnp.ndarray:
        """Unit vectors along the identified parameters, (p, f)."""
        return jnp.eye(self.theta.size)[:, jnp.asarray(self.free)]

    def masked(self, *dead: Sequence[int]) -> Case:
        """The same measurement without the frames dead[k] of angle k; one list serves all angles."""
        lists = dead * len(self.phi) if len(dead) == 1 else dead
        return self.changed(frame_ok=[_without(m.frame_ok, d) for m, d in zip(self.matrices, lists, strict=True)])

    def changed(self, **fields: Sequence[object]) -> Case:
        """The same measurement with fields of its matrices replaced, one value per angle."""
        matrices = [
            replace(m, **{key: values[k] for key, values in fields.items()}) for k, m in enumerate(self.matrices)
        ]
        return replace(self, matrices=tuple(matrices))


def _without(frame_ok: np.ndarray, dead: Sequence[int]) -> np.ndarray:
    kept = frame_ok.copy()
    kept[list(dead)] = False
    return kept


def measured(
    name: str,
    *,
    frames: int = 96,
    phi: tuple[float, ...] = PHI,
    noise: float = 0.003,
    dt: float = 1.0,
    seed: int = 0,
) -> Case:
    """A simulated measurement of a model at its TRUTH, angles in degrees, dt in s."""
    spec = SimulationSpec(
        model=name, phi=phi, frames=frames, dt=dt, noise=NoiseSpec(sd=noise), seed=seed, dtype="float64"
    )
    data = simulate_twotime(spec)
    model = build_model(name, q=spec.q, gap=spec.gap)
    return Case(
        model=model,
        theta=np.array([TRUTH[name][key] for key in model.parameter_names]),
        free=tuple(k for k, key in enumerate(model.parameter_names) if key != "f2"),
        matrices=tuple(data.angle(k) for k in range(data.n_phi)),
        phi=data.phi,
        axis=TimeAxis(0.0, dt, frames),
        sigma=np.full(data.n_phi, noise),
    )


def usable_pairs(matrix: AngleMatrix) -> list[tuple[int, int]]:
    """The pairs i < j of frames that are usable, by the definition."""
    count = len(matrix.frame_ok)
    return [
        (i, j)
        for i in range(count)
        for j in range(i + 1, count)
        if matrix.frame_ok[i] and matrix.frame_ok[j] and (matrix.pair_ok is None or matrix.pair_ok[i, j])
    ]


def pairs_of_cell(cell: Cell, count: int) -> list[tuple[int, int]]:
    """The pairs (i, j) of a cell in a window of `count` frames, by the definition."""
    return [
        (i, i + lag)
        for i in range(cell.first, cell.stop)
        for lag in range(cell.lag_first, cell.lag_stop)
        if i + lag < count
    ]


def random_cells(axis: TimeAxis, draw_cut: st.DataObject, cuts: int) -> list[Cell]:
    """A partition by `cuts` cuts in places that hypothesis chooses."""
    cells = [axis.root()]
    for _ in range(cuts):
        splittable = [c for c in cells if c.stop - c.first > 1 or c.lag_stop - c.lag_first > 1]
        if not splittable:
            break
        cell = draw_cut.draw(st.sampled_from(splittable))
        ways = [cell.split_frames] * (cell.stop - cell.first > 1) + [cell.split_lags] * (
            cell.lag_stop - cell.lag_first > 1
        )
        halves = draw_cut.draw(st.sampled_from(ways))()
        cells.remove(cell)
        cells.extend(part for half in halves if (part := half.clipped(axis.count)) is not None)
    return cells


def shape_of(
    model: Model, theta: np.ndarray, phi: float, first: np.ndarray | float, second: np.ndarray | float
) -> np.ndarray:
    """f of static or laminar_flow (Couette) at times first < second (s), written out from the formula."""

    def integral(amplitude: float, exponent: float, offset: float) -> np.ndarray:
        power = exponent + 1.0
        return amplitude * (second**power - first**power) / power + offset * (second - first)

    decay = np.exp(-(model.q**2) * integral(*theta[:3]))
    if model.name == "static":
        return decay
    strain = integral(*theta[3:6])
    x = 0.5 * model.q * model.gap * np.cos(np.deg2rad(theta[6] - phi)) * strain
    return decay * np.sinc(x / np.pi) ** 2


def slopes_of(model: Model, theta: np.ndarray, phi: float, first: float, second: float) -> list[float]:
    """Central finite differences of the shape along every parameter."""
    found = []
    for k, value in enumerate(theta):
        step = 1e-5 * abs(value) * np.eye(theta.size)[k]
        ends = [shape_of(model, theta + sign * step, phi, first, second) for sign in (1.0, -1.0)]
        found.append(float(ends[0] - ends[1]) / (2e-5 * abs(value)))
    return found
