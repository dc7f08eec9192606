"""Print what compression costs and how exact it is, from 500 to 4000 frames: laminar_flow, 8 angles, noise 0.01.

Columns: cells and nodes (per angle) of the partition; time to compress all angles, and per pair; median time of
the marginal log-likelihood with its gradient on the nodes; standard deviation over the posterior of the
log-likelihood's error against the raw pairs of two angles, scaled to all angles as if their errors had one sign.
Then the same for the condensed form that samplers use: points per angle, time to build, value and gradient with
its growth per doubling of the frames, error.

Last, shards at 1000 frames, per way to cut: pairs of the smallest and largest shard relative to the mean; time to
compress all shards in one pass; to condense all of them to the points of the whole; median value and gradient of a
shard on its nodes and condensed; the slowest first call of all shards but one (a second compilation would show).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hpcxpcs.data.matrices import AngleMatrix
from hpcxpcs.data.simulate import even_angles
from hpcxpcs.likelihood.cells import Partition, TimeAxis, adapt_cells
from hpcxpcs.likelihood.compress import compress
from hpcxpcs.likelihood.condense import Condensation, condensation, condense
from hpcxpcs.likelihood.gaussian import marginal_log_likelihood, profile
from hpcxpcs.likelihood.moments import Moments
from hpcxpcs.likelihood.products import Products, Source, compiled_products, no_tangents
from hpcxpcs.likelihood.raw import RawPairs
from hpcxpcs.likelihood.scaling import build_scaling
from hpcxpcs.likelihood.shards import STRATEGIES, partition, shard_moments
from hpcxpcs.physics.model import Model, build_model
from hpcxpcs.pipeline.simulate import TRUTH

FRAMES = (500, 1000, 2000, 4000)
PHI = np.array(even_angles(8))
COMPARED = np.array([1, 6])
CONTRAST, NOISE = 0.15, 0.01
WINDOW, STEP = 100.0, 0.1
ERROR = 0.5
DRAWS = 16
SAMPLES, SPREAD = 150, 1.5
"""Sample shapes for the condensation, and how much wider than the posterior they are drawn."""
RUNS = 20
ROUNDS = 5
ROWS = 250
"""Frames of a matrix simulated at once; divides every number of frames."""

SHARD_FRAMES, SHARD_COUNTS = 1000, (4, 16)

MODEL = build_model("laminar_flow", q=0.0054, gap=2.0e6)
THETA = np.array([TRUTH["laminar_flow"][name] for name in MODEL.parameter_names])
SCALING = build_scaling("hierarchical", PHI, widths=(0.1 * CONTRAST, 0.003))
SIGMA = np.full(PHI.size, NOISE)


@jax.jit
def _rows(model: Model, t1: Array, t2: Array, phi: Array) -> Array:
    return (1.0 + CONTRAST * model.shape(jnp.asarray(THETA), t1[:, None], t2[None, :], phi)).astype(jnp.float32)


def matrix(axis: TimeAxis, index: int) -> AngleMatrix:
    """A simulated matrix (N, N) at angle `index`, noise on every element."""
    times = np.maximum(axis.all_times(), 0.5 * axis.step)
    rng = np.random.default_rng(index)
    c2 = np.empty((axis.count, axis.count), dtype=np.float32)
    for start in range(0, axis.count, ROWS):
        part = slice(start, start + ROWS)
        c2[part] = _rows(MODEL, times[part], times, PHI[index])
        c2[part] += np.float32(NOISE) * rng.standard_normal(c2[part].shape, dtype=np.float32)
    return AngleMatrix(c2, np.arange(axis.count) >= axis.first_usable)


class Simulated:
    """Matrices of an axis on demand, and the seconds spent on simulating them."""

    def __init__(self, axis: TimeAxis) -> None:
        self.axis, self.seconds = axis, 0.0

    def __call__(self, index: int) -> AngleMatrix:
        """The matrix of an angle."""
        begin = time.perf_counter()
        made = matrix(self.axis, index)
        self.seconds += time.perf_counter() - begin
        return made


def compressed(axis: TimeAxis, partition: Partition) -> tuple[Moments, float]:
    """Moments of all angles, and the seconds spent on them without simulating."""
    angles, begin = Simulated(axis), time.perf_counter()
    moments = compress(angles, PHI, partition.cells, axis)
    return moments, time.perf_counter() - begin - angles.seconds


@jax.jit
def _value_and_gradient(source: Source, theta: Array, pairs: Array) -> tuple[Array, Array]:
    def value(values: Array) -> Array:
        products = source.products(MODEL, values, no_tangents(values))
        return marginal_log_likelihood(SCALING, products, jnp.asarray(SIGMA), pairs)

    return jax.value_and_grad(value)(theta)


def evaluation_seconds(source: Source, counts: np.ndarray) -> float:
    """Wall time (s) of one value and gradient after warm-up, for pair counts (n_phi,): the least of a few medians."""
    call_seconds(source, counts)
    return min(statistics.median(call_seconds(source, counts) for _ in range(RUNS)) for _ in range(ROUNDS))


def call_seconds(source: Source, counts: np.ndarray) -> float:
    """Wall time (s) of one value and gradient."""
    theta, pairs = jnp.asarray(THETA), jnp.asarray(counts)
    begin = time.perf_counter()
    jax.block_until_ready(_value_and_gradient(source, theta, pairs))
    return time.perf_counter() - begin


_profile = jax.jit(profile)
_marginals = jax.jit(jax.vmap(marginal_log_likelihood, in_axes=(None, 0, None, None)))


def posterior_draws(moments: Moments, count: int = DRAWS, spread: float = 1.0, seed: int = 1) -> Array:
    """Laplace draws (count, p) around the truth; a prior of ±10 % bounds what the data leave open."""
    products = moments.products(MODEL, jnp.asarray(THETA), jnp.eye(THETA.size))
    information = np.asarray(_profile(SCALING, products, SIGMA).information) + np.diag((0.1 * THETA) ** -2.0)
    white = spread * np.random.default_rng(seed).standard_normal((THETA.size, count))
    return jnp.asarray(THETA + np.linalg.solve(np.linalg.cholesky(information).T, white).T)


def stacked(source: Source, thetas: Array) -> Products:
    """Value-only products of a source at parameter sets (k, p)."""
    each = [compiled_products(MODEL, source, theta, no_tangents(theta)) for theta in thetas]
    return Products(*(jnp.stack(leaf) for leaf in zip(*each, strict=True)))


def likelihood_errors(axis: TimeAxis, moments: Moments, sources: Sequence[Source]) -> list[float]:
    """Standard deviation (nats) over the posterior of log-likelihood differences between sources and raw pairs."""
    thetas, pairs = posterior_draws(moments), jnp.asarray(moments.pairs)
    raw = RawPairs(lambda k: matrix(axis, int(COMPARED[k])), PHI[COMPARED], axis).products_many(MODEL, thetas)
    found = []
    for source in sources:
        packed = stacked(source, thetas)
        mixed = Products(*(mine.at[:, COMPARED].set(its) for mine, its in zip(packed, raw, strict=True)))
        values = [_marginals(SCALING, products, SIGMA, pairs) for products in (packed, mixed)]
        found.append(float(jnp.std(values[0] - values[1])) * PHI.size / COMPARED.size)
    return found


@dataclass(frozen=True)
class Row:
    """What was measured at one number of frames; times in s, error in nats."""

    axis: TimeAxis
    cells: int
    nodes: int
    pairs: float
    compression: float
    evaluation: float
    error: float
    points: int
    building: float
    condensed_evaluation: float
    condensed_error: float


def measured(frames: int, step: float) -> Row:
    """Adapt, compress, evaluate and compare at one number of frames and step (s)."""
    axis = TimeAxis(0.0, step, frames)
    strength = (CONTRAST / SIGMA) ** 2
    partition = adapt_cells(MODEL, THETA[None], PHI, strength, axis, error=ERROR)
    moments, seconds = compressed(axis, partition)
    samples = np.asarray(posterior_draws(moments, SAMPLES, SPREAD, seed=2))
    begin = time.perf_counter()
    condensed = condense(moments, MODEL, samples, strength)
    building = time.perf_counter() - begin
    errors = likelihood_errors(axis, moments, (moments.arrays, condensed.arrays))
    return Row(
        axis=axis,
        cells=len(partition.cells),
        nodes=partition.nodes,
        pairs=float(moments.pairs.sum()),
        compression=seconds,
        evaluation=evaluation_seconds(moments.arrays, moments.pairs),
        error=errors[0],
        points=condensed.points,
        building=building,
        condensed_evaluation=evaluation_seconds(condensed.arrays, moments.pairs),
        condensed_error=errors[1],
    )


COLUMNS = (
    ("frames", "", 7),
    ("step", "s", 7),
    ("pairs", "1e6", 7),
    ("cells", "", 6),
    ("nodes", "", 6),
    ("compress", "s", 9),
    ("per pair", "ns", 9),
    ("value+grad", "ms", 11),
    ("error", "nats", 7),
    ("points", "", 9),
    ("build", "s", 7),
    ("value+grad", "ms", 11),
    ("growth", "", 7),
    ("error", "nats", 7),
)


def printed(cells: Sequence[object], columns: Sequence[tuple[str, str, int]] = COLUMNS) -> str:
    """Cells right-aligned in their columns."""
    return "".join(f"{cell!s:>{width + 1}}" for cell, (_, _, width) in zip(cells, columns, strict=True))


def line(row: Row, before: Row | None) -> str:
    """One line of the table."""
    growth = "" if before is None else f"x {row.condensed_evaluation / before.condensed_evaluation:.2f}"
    return printed(
        (
            row.axis.count,
            f"{row.axis.step:.3f}",
            f"{row.pairs / 1e6:.2f}",
            row.cells,
            row.nodes,
            f"{row.compression:.2f}",
            f"{1e9 * row.compression / row.pairs:.1f}",
            f"{1e3 * row.evaluation:.2f}",
            f"{row.error:.3f}",
            row.points,
            f"{row.building:.2f}",
            f"{1e3 * row.condensed_evaluation:.2f}",
            growth,
            f"{row.condensed_error:.3f}",
        )
    )


def table(title: str, step_of: Callable[[int], float]) -> None:
    """Measure and print one table, line by line."""
    print(f"\n{title}", *(printed([column[k] for column in COLUMNS]) for k in (0, 1)), sep="\n")
    before: Row | None = None
    for frames in FRAMES:
        row = measured(frames, step_of(frames))
        print(line(row, before), flush=True)
        before = row


SHARD_COLUMNS = (
    ("cut", "", 15),
    ("shards", "", 7),
    ("fewest", "%", 7),
    ("most", "%", 7),
    ("compress", "s", 9),
    ("condense", "s", 9),
    ("on nodes", "ms", 9),
    ("condensed", "ms", 10),
    ("slowest", "ms", 8),
)


def shard_line(strategy: str, count: int, whole: Moments, chosen: Condensation) -> str:
    """Cut, compress, condense and evaluate one set of shards over the cells of the whole."""
    sets = partition(strategy, count, whole.axis.count, 0, first=whole.axis.first_usable)
    angles, begin = Simulated(whole.axis), time.perf_counter()
    moments = list(shard_moments(angles, PHI, whole.cells, whole.axis, sets))
    compressing = time.perf_counter() - begin - angles.seconds
    begin = time.perf_counter()
    condensed = [chosen.apply(shard) for shard in moments]
    condensing = time.perf_counter() - begin
    sizes = np.array([shard.pairs.sum() for shard in moments])
    call_seconds(condensed[0], moments[0].pairs)
    others = zip(condensed[1:], moments[1:], strict=True)
    cells = (
        strategy,
        count,
        f"{100.0 * (sizes.min() / sizes.mean() - 1.0):.1f}",
        f"{100.0 * (sizes.max() / sizes.mean() - 1.0):+.1f}",
        f"{compressing:.2f}",
        f"{condensing:.2f}",
        f"{1e3 * evaluation_seconds(moments[0].arrays, moments[0].pairs):.2f}",
        f"{1e3 * evaluation_seconds(condensed[0], moments[0].pairs):.2f}",
        f"{1e3 * max(call_seconds(short, shard.pairs) for short, shard in others):.2f}",
    )
    return printed(cells, SHARD_COLUMNS)


def shard_table() -> None:
    """Measure and print the table of shards, line by line."""
    axis = TimeAxis(0.0, STEP, SHARD_FRAMES)
    strength = (CONTRAST / SIGMA) ** 2
    cells = adapt_cells(MODEL, THETA[None], PHI, strength, axis, error=ERROR)
    whole, _ = compressed(axis, cells)
    samples = np.asarray(posterior_draws(whole, SAMPLES, SPREAD, seed=2))
    chosen = condensation(whole, MODEL, samples, strength)
    print(f"\nshards at {SHARD_FRAMES} frames of {STEP:g} s, condensed to {chosen.points} points")
    print(*(printed([column[k] for column in SHARD_COLUMNS], SHARD_COLUMNS) for k in (0, 1)), sep="\n")
    for count in SHARD_COUNTS:
        for strategy in STRATEGIES:
            print(shard_line(strategy, count, whole, chosen), flush=True)


def main() -> None:
    """Print the tables."""
    print(f"laminar_flow, {PHI.size} angles, noise {NOISE}, cells for an interpolation error of {ERROR} sd")
    table(f"the same {WINDOW:g} s, ever finer steps", lambda frames: WINDOW / frames)
    table(f"the same step of {STEP:g} s, ever longer", lambda frames: STEP)
    shard_table()


if __name__ == "__main__":
    main()
