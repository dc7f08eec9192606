"""The compressed likelihood against the raw pairs, at draws of the posterior itself, one angle per task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from hpcxpcs.config import Config
from hpcxpcs.errors import StoreError
from hpcxpcs.inference.prepared import Prepared
from hpcxpcs.inference.records import CompressionReport
from hpcxpcs.inference.target import Space, Target, products_at
from hpcxpcs.likelihood.cells import TimeAxis
from hpcxpcs.likelihood.gaussian import marginal_log_likelihood
from hpcxpcs.likelihood.interpolation import Floats
from hpcxpcs.likelihood.products import Products
from hpcxpcs.likelihood.raw import RawPairs
from hpcxpcs.likelihood.whitened import at_each
from hpcxpcs.physics.model import Model
from hpcxpcs.pipeline.loading import loaded
from hpcxpcs.pipeline.stage import coordinates_of, squares_of
from hpcxpcs.runtime.machine import usable_cores
from hpcxpcs.runtime.run import DONE, Run
from hpcxpcs.runtime.sealed import Sealed, newest_good, read_sealed, write_sealed
from hpcxpcs.runtime.tasks import Task, new_task
from hpcxpcs.runtime.work import Outcome

POINTS = 16
"""Draws of the posterior at which the raw pairs are evaluated, besides its centre."""

CHECK_COST = 0.1
"""Cost of checking an angle, relative to sampling a shard; the same for all, as masked pairs are evaluated too."""

DRAWS, RAW = "check points", "raw products"
"""Kinds of the sealed files of the check."""


def check_tasks(run: Run) -> tuple[Task, ...]:
    """One task per angle."""
    return tuple(new_task("check", angle, cost=CHECK_COST) for angle in range(int(run.plan.data["n_phi"])))


def write_check_points(run: Run, thetas: Floats) -> None:
    """Keep the parameter sets (m, p) of the check, the first of which the others are compared with."""
    path = run.data_file("check")
    write_sealed(path, Sealed(DRAWS, run.plan.run_id, DRAWS, DONE, {}, {"thetas": thetas}, {}))


def has_check_points(run: Run) -> bool:
    """Whether the parameter sets of the check have been chosen."""
    return (
        newest_good(run.data_file("check"), kind=DRAWS, run_id=run.plan.run_id, warn=lambda text: None)
        is not None
    )


def check_angle(run: Run, task: Task, config: Config) -> Outcome:
    """Evaluate the raw pairs of one angle, or its whitened squares, at the points of the check."""
    points = read_sealed(run.data_file("check"), kind=DRAWS, run_id=run.plan.run_id).arrays["thetas"]
    k, model = task.index, coordinates_of(run).model
    squares = squares_of(run, k)
    products = _of_pairs(run, config, model, k, points) if squares is None else at_each(model, squares, points)
    arrays = {name: np.asarray(leaf) for name, leaf in products._asdict().items()}
    write_sealed(run.task_file(task), Sealed(RAW, run.plan.run_id, task.name, DONE, {}, arrays, {}))
    return "done"


def _of_pairs(run: Run, config: Config, model: Model, k: int, thetas: Floats) -> Products:
    """Products of the raw pairs of angle k at parameter sets thetas (m, p), leaves (m, 1, …)."""
    data = loaded(config, run.folder, lambda text: None, alone=False)
    axis = TimeAxis(float(data.t[0]), float(data.dt), data.n_frames)
    phi = np.asarray(data.phi, dtype=np.float64)[k : k + 1]
    raw = RawPairs(lambda _: data.angle(k), phi, axis, usable_cores())
    return raw.products_many(model, jnp.asarray(thetas))


def compression_found(
    run: Run,
    prepared: Prepared,
    before: CompressionReport,
    tasks: Sequence[Task],
    warn: Callable[[str], None],
) -> CompressionReport:
    """The report of the point fit with the error found on the raw pairs of all checked angles."""
    thetas = read_sealed(run.data_file("check"), kind=DRAWS, run_id=run.plan.run_id).arrays["thetas"]
    found = {
        t.index: newest_good(run.task_file(t), kind=RAW, run_id=run.plan.run_id, warn=warn) for t in tasks
    }
    there = {k: sealed.arrays for k, sealed in found.items() if sealed is not None}
    if not there:
        raise StoreError(f"{run.folder}: no angle's raw pairs were checked: run the same command again")
    relative = _difference(prepared.space, prepared.data, thetas, there)
    pairs = np.asarray(prepared.data.pairs)
    return replace(
        before,
        error=float(np.std(relative)),
        largest_error=float(np.abs(relative).max()),
        checked_pairs=int(pairs[list(there)].sum()),
        checked_points=len(thetas),
    )


def _difference(
    space: Space, data: Target, thetas: Floats, raw: Mapping[int, Mapping[str, np.ndarray]]
) -> Floats:
    """Compressed − raw log-likelihood (m,) relative to the first set; unchecked angles count like checked ones."""
    packed = [products_at(space, data, jnp.asarray(theta)) for theta in thetas]
    stacked = [np.stack(leaf) for leaf in zip(*packed, strict=True)]
    mixed = [leaf.copy() for leaf in stacked]
    for angle, arrays in raw.items():
        for name, leaf in zip(Products._fields, mixed, strict=True):
            leaf[:, angle] = arrays[name][:, 0]
    values = [_marginals(data, Products(*map(jnp.asarray, leaves))) for leaves in (stacked, mixed)]
    difference = (np.asarray(values[0]) - np.asarray(values[1])) * len(data.pairs) / len(raw)
    return difference - difference[0]


@jax.jit
def _marginals(data: Target, products: Products) -> jax.Array:
    def one(its: Products) -> jax.Array:
        return marginal_log_likelihood(data.scaling, its, data.sigma, data.pairs)

    return jax.vmap(one)(products)
