"""The likelihood of noise that pairs share through their speckles: another inner product of model and data.

With D the matrix of an angle averaged over squares of frames and R = D − model, the covariance of its elements under
speckles is diagonal in the eigenvectors u of the fitted shape F = f(t1, t2), eigenvalues φ:

    Var(u_aᵀ R u_b) = (1 + δ_ab) v_ab,    v_ab = white + shared·(φ_a + φ_b) + smooth·φ_a φ_b

(`hpcxpcs.inference.noise` has the three parts; rows and columns are multiplied by the root of their frames). For
smooth·white = shared² this is the Wishart covariance K ⊗ K. Hence χ² = ½ Σ_ab (u_aᵀ R u_b)²/v_ab, generalised least
squares (Aitken 1935), and its inner product ½ Σ_ab Ã_ab B̃_ab/v_ab. Eigenvectors that add little to white need not be
known: with the others as columns of U, Y = B U, T = Uᵀ Y, g = white/v and h_a = g with φ_b = 0, the product times white
is the sum of what comes from two of them, from one, and from none,

    ½ Σ_ab g_ab T_ab T'_ab,    Σ_a h_a (Y_a·Y'_a − Σ_b T_ab T'_ab),    ½ [tr(A B) − 2 Σ_a Y_a·Y'_a + Σ_ab T_ab T'_ab].

The squares on the diagonal, where t1 = t2 is no pair, and others that hold none (holes) are unknown and integrated out:
they take the values that the others let expect, −Q⁻¹ w_A, with w_A the weighted A there and Q_ij the weight between two
of them. 1/v is a sum of few products z_a z_b, and so Q one of few products of elements of M × M matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.linalg import qr

from hpcxpcs.arrays import Floats, Integers
from hpcxpcs.likelihood.cells import TimeAxis
from hpcxpcs.likelihood.condense import POINT_GRID
from hpcxpcs.likelihood.moments import CellGroup, MomentArrays, Moments
from hpcxpcs.likelihood.products import Products, columns
from hpcxpcs.likelihood.raw import each_angle
from hpcxpcs.likelihood.shards import PairSet
from hpcxpcs.physics.model import Model

FAINT = 0.05
"""Eigenvectors of which neither speckle part adds more than this share of the independent part are left out."""

TINY = 1.0e-12
"""A speckle part over white below this counts as none."""

NEGLIGIBLE = 1.0e-12
"""Relative size of a term of 1/v that counts as rounding."""

ROWS_AT_ONCE = 16
"""Rows of matrices of which inner products are taken at once."""

SAMPLED_SIDE = 48
"""Squares per side on which the shapes are compared from which the basis of the condensed likelihood is chosen."""


@dataclass(frozen=True)
class Averages:
    """Matrices averaged over squares of `width` frames, M per side: data (n_phi, M, M), zero where there is no pair.

    `times` (n_phi, M, k) in s stand for the frames of a row, with their mean and variance; `root` (n_phi, M) is the
    root of their number, 0 for rows without any. `holes` are row and column (H, 2), of every angle, of squares above
    the diagonal that hold no pair although their rows have frames.
    """

    axis: TimeAxis
    phi: Floats
    width: int
    times: Floats
    root: Floats
    data: Floats
    holes: tuple[Integers, ...] = ()

    @property
    def elements(self) -> Floats:
        """Number of squares above the diagonal of every angle that hold pairs, (n_phi,)."""
        rows = np.count_nonzero(self.root, axis=1).astype(np.float64)
        return np.asarray(0.5 * rows * (rows - 1.0) - [len(self.holes_of(k)) for k in range(len(rows))])

    def holes_of(self, k: int) -> Integers:
        """The holes of one angle."""
        return self.holes[k] if self.holes else np.zeros((0, 2), dtype=np.int64)


@dataclass(frozen=True)
class WhitenedAngle:
    """One angle's averages and their weights: U `modes` (M, r), h − 1 `once` (r,), g − h − h + 1 `twice` (r, r).

    Q⁻¹ `unseen` (M + H, M + H) is of the diagonal and the `holes` (H, 2).
    """

    times: Floats
    root: Floats
    data: Floats
    modes: Floats
    once: Floats
    twice: Floats
    unseen: Floats
    holes: Integers
    phi: Floats

    @property
    def frames(self) -> Floats:
        """The roots of the frames of row and column (M, M), 0 for squares that hold no pair."""
        found = np.outer(self.root, self.root)
        i, j = self.holes.T
        found[i, j] = found[j, i] = 0.0
        np.fill_diagonal(found, 0.0)
        return found

    def weighted(self, matrices: Floats) -> Floats:
        """Matrices (k, M, M) times the roots, without the squares that hold no pair."""
        return matrices * self.frames

    def inner(self, matrices: Floats) -> Floats:
        """Inner products, times white, of weighted matrices (k, M, M) with each other, (k, k)."""
        rotated = self._rotated(matrices)
        found = _summed(matrices) + 2.0 * _summed(rotated.rows, self.once) + _summed(rotated.both, self.twice)
        return 0.5 * (found - rotated.pull @ self.unseen @ rotated.pull.T)

    def by_block(self, filled: Filled) -> Floats:
        """Inner products (3, k, k) as they come from BLOCKS of the eigenvectors: both kept, one, none."""
        once = 1.0 + self.once
        sides = once + once[:, None]
        kept = _summed(filled.both, sides - 1.0 + self.twice)
        one = 2.0 * _summed(filled.rows, once) - _summed(filled.both, sides)
        none = _summed(filled.whole) - 2.0 * _summed(filled.rows) + _summed(filled.both)
        return 0.5 * np.stack([kept, one, none])

    def filled(self, matrices: Floats) -> Filled:
        """Weighted matrices (k, M, M) with what the squares without pairs are expected to be, given the others."""
        rotated = self._rotated(matrices)
        unknown = -rotated.pull @ self.unseen
        whole, rows = matrices.copy(), rotated.rows
        each, (i, j) = np.arange(len(self.root)), self.holes.T
        own, others = unknown[:, : each.size], unknown[:, each.size :]
        whole[:, each, each] += own
        whole[:, i, j] += others
        whole[:, j, i] += others
        rows += own[:, :, None] * self.modes
        if len(i):
            rows += (whole - matrices - own[:, :, None] * np.eye(each.size)) @ self.modes
        return Filled(whole, rows, self.modes.T @ rows)

    def pulled(self, filled: Filled) -> Floats:
        """G (k, M, M) with ½ tr(G R)/white the product of filled matrices with residuals R of the same weight."""
        half = (self.once * filled.rows + 0.5 * self.modes @ (filled.both * self.twice)) @ self.modes.T
        return np.asarray(filled.whole + half + half.swapaxes(1, 2))

    def _rotated(self, matrices: Floats) -> _Rotated:
        count, (size, kept) = len(matrices), self.modes.shape
        i, j = self.holes.T
        rows, both = np.empty((count, size, kept)), np.empty((count, kept, kept))
        pull = np.empty((count, size + len(i)))
        for n, matrix in enumerate(matrices):
            np.matmul(matrix, self.modes, out=rows[n])
            np.matmul(self.modes.T, rows[n], out=both[n])
            through = self.modes @ (both[n] * self.twice)
            through += 2.0 * self.once * rows[n]
            pull[n, :size] = np.einsum("ia,ia->i", self.modes, through)
            pull[n, size:] = np.sum(through[j] * self.modes[i] + through[i] * self.modes[j], axis=1)
        return _Rotated(rows, both, pull)


class _Rotated(NamedTuple):
    """Weighted matrices A: A U `rows` (k, M, r), Uᵀ A U `both` (k, r, r), and what pulls at the unknown squares.

    That is twice the derivative of ½⟨A, A⟩ by their values, `pull` (k, M + H).
    """

    rows: Floats
    both: Floats
    pull: Floats


class Filled(NamedTuple):
    """Filled matrices A (k, M, M), A U `rows` (k, M, r) and Uᵀ A U `both` (k, r, r)."""

    whole: Floats
    rows: Floats
    both: Floats


BLOCKS = ("smooth", "shared", "independent")
"""What the noise of an element is mostly: along two kept eigenvectors, along one, along none."""


def _summed(matrices: Floats, weights: Floats | None = None) -> Floats:
    """Σ A_ij A'_ij weight_ij of matrices (k, M, r) with each other, (k, k), a few rows at a time (cache)."""
    count, height, width = matrices.shape
    found = np.zeros((count, count))
    factor = None if weights is None else np.broadcast_to(weights, (height, width))
    for begin in range(0, height, ROWS_AT_ONCE):
        rows = slice(begin, begin + ROWS_AT_ONCE)
        flat = matrices[:, rows].reshape(count, -1)
        found += (flat if factor is None else flat * factor[rows].reshape(-1)) @ flat.T
    return found


@jax.jit
def square_means(model: Model, theta: Array, tangents: Array, times: Array, phi: Array) -> Array:
    """The columns V of `products.columns` averaged over squares, (m, M, M), zero on the diagonal.

    The average over two times in each direction is that over all frames for cubic polynomials; of the two mixed pairs
    of times one is the other one's mirror image. The model is given single times, of which it takes powers, not pairs.
    """
    first, last = times[:, 0], times[:, -1]
    if times.shape[1] == 1:
        means = columns(model, theta, tangents, first[:, None], first[None, :], phi)
    else:
        rows, cols = jnp.stack([first, last, first]), jnp.stack([first, last, last])
        found = columns(model, theta, tangents, rows[:, :, None], cols[:, None, :], phi)
        means = 0.25 * (found[:, 0] + found[:, 1] + found[:, 2] + found[:, 2].swapaxes(1, 2))
    return means * (1.0 - jnp.eye(len(times)))


@jax.jit
def mean_shape(model: Model, theta: Array, times: Array, phi: Array) -> Array:
    """f averaged over squares (M, M), 1 on the diagonal."""
    return square_means(model, theta, jnp.zeros((theta.shape[0], 0)), times, phi)[0] + jnp.eye(times.shape[0])


def arrays_of_angle(angle: WhitenedAngle) -> dict[str, np.ndarray]:
    """Plain arrays by name, from which `WhitenedAngle(**…)` is made again."""
    return {entry.name: np.asarray(getattr(angle, entry.name)) for entry in fields(WhitenedAngle)}


def at_each(model: Model, angle: WhitenedAngle, thetas: Floats) -> Products:
    """Products of one angle, of all squares, at parameter sets thetas (m, p); leaves (m, 1, …)."""
    times, phi = jnp.asarray(angle.times), jnp.asarray(angle.phi)
    shapes = [np.asarray(mean_shape(model, jnp.asarray(theta), times, phi)) for theta in thetas]
    count = len(shapes)
    inner = angle.inner(angle.weighted(np.stack([*shapes, np.ones_like(angle.data), angle.data])))
    own = np.diagonal(inner)[:count]
    gram = np.stack([[own, inner[:count, count]], [inner[:count, count], np.full(count, inner[count, count])]])
    data = np.stack([inner[:count, -1], np.full(count, inner[count, -1])])
    leaves = np.moveaxis(gram, 2, 0), data.T, np.full(count, inner[-1, -1])
    return Products(*(jnp.asarray(leaf)[:, None] for leaf in leaves))


@dataclass(frozen=True)
class Whitened:
    """The averages of all angles under the noise of their speckles, as a source of inner products (weight 1/white)."""

    averages: Averages
    angles: tuple[WhitenedAngle, ...]
    white: Floats
    threads: int

    def products(self, model: Model, theta: Array, tangents: Array) -> Products:
        """Inner products of every angle, from all squares."""

        def inner(k: int) -> Floats:
            angle = self.angles[k]
            basis = _means_of(model, angle, theta, tangents)
            return angle.inner(angle.weighted(np.concatenate([basis, angle.data[None]])))

        found = np.stack(each_angle(inner, len(self.angles), self.threads))
        return Products(*map(jnp.asarray, (found[:, :-1, :-1], found[:, :-1, -1], found[:, -1, -1])))


def _means_of(model: Model, angle: WhitenedAngle, theta: Array, tangents: Array) -> Floats:
    """The columns V of `products.columns` averaged over the squares of an angle, (m, M, M)."""
    return np.asarray(square_means(model, theta, tangents, jnp.asarray(angle.times), jnp.asarray(angle.phi)))


def whitened(
    averages: Averages, shapes: Sequence[Floats], white: Floats, shared: Floats, smooth: Floats, threads: int
) -> Whitened:
    """Weights from the shapes F of every angle, (M, M) each, and the three parts of the noise, (n_phi,) each."""

    def found(k: int) -> tuple[Floats, ...]:
        parts = float(shared[k] / white[k]), float(smooth[k] / white[k])
        return _weights(shapes[k], averages.root[k], averages.holes_of(k), *parts)

    weights = each_angle(found, len(averages.phi), threads)
    angles = [
        WhitenedAngle(
            averages.times[k],
            averages.root[k],
            averages.data[k],
            modes,
            once,
            twice,
            unseen,
            averages.holes_of(k),
            np.asarray(averages.phi[k]),
        )
        for k, (modes, once, twice, unseen) in enumerate(weights)
    ]
    return Whitened(averages, tuple(angles), white, threads)


def _weights(
    shape: Floats, root: Floats, holes: Integers, shared: float, smooth: float
) -> tuple[Floats, Floats, Floats, Floats]:
    """U, h − 1, g − h − h + 1 and Q⁻¹ of one angle; rows without frames have no weight."""
    faintest = min(FAINT / max(shared, TINY), np.sqrt(FAINT / max(smooth, TINY)))
    phi, modes = np.linalg.eigh(shape * np.outer(root, root))
    phi, modes = phi[phi > faintest], np.ascontiguousarray(modes[:, phi > faintest])
    with_none = np.append(phi, 0.0)
    inverse = 1.0 / (1.0 + shared * (with_none[:, None] + with_none) + smooth * np.outer(with_none, with_none))
    once = inverse[:-1, -1] - 1.0
    twice = inverse[:-1, :-1] - inverse[:-1, -1:] - inverse[-1:, :-1] + 1.0
    sizes, factors = np.linalg.eigh(inverse)
    seen = np.abs(sizes) > NEGLIGIBLE * np.abs(sizes).max()
    between = _between(modes, sizes[seen], factors.T[seen], holes)
    unseen = np.zeros_like(between)
    alive = np.append(root > 0.0, np.ones(len(holes), dtype=bool))
    there = np.ix_(alive, alive)
    unseen[there] = np.linalg.inv(between[there])
    return modes, once, twice, unseen


def _between(modes: Floats, sizes: Floats, factors: Floats, holes: Integers) -> Floats:
    """Q of modes (M, r) and weights between them Σ size·factor factorᵀ, the last standing for all that are not kept.

    The factors are (n, r + 1).
    """
    side, (i, j) = len(modes), holes.T
    found = np.zeros((side + len(holes), side + len(holes)))
    for size, factor in zip(sizes, factors, strict=True):
        part = (modes * (factor[:-1] - factor[-1])) @ modes.T
        np.fill_diagonal(part, part.diagonal() + factor[-1])
        found[:side, :side] += size * part**2
        found[:side, side:] += 2.0 * size * part[:, i] * part[:, j]
        straight, crossed = part[np.ix_(i, i)] * part[np.ix_(j, j)], part[np.ix_(i, j)] * part[np.ix_(j, i)]
        found[side:, side:] += 2.0 * size * (straight + crossed)
    found[side:, :side] = found[:side, side:].T
    return found


def freedom_of(angle: WhitenedAngle) -> Floats:
    """Independent elements in each of BLOCKS (3,): those there are, less what the unknown diagonal takes."""
    rows, kept = np.count_nonzero(angle.root), angle.modes.shape[1]
    last, others = np.eye(kept + 1)[-1], np.append(1.0 + angle.once, 0.0)
    sides, none = (np.array([0.5, -0.5]), np.stack([others + last, others - last])), (np.ones(1), last[None])
    one, neither = (
        float(np.sum(angle.unseen * _between(angle.modes, sizes, factors, angle.holes)))
        for sizes, factors in (sides, none)
    )
    counts = 0.5 * kept * (kept + 1), kept * (rows - kept), 0.5 * (rows - kept) * (rows - kept + 1)
    return np.array(counts) - np.array([rows + len(angle.holes) - one - neither, one, neither])


def scatter_of_angle(
    model: Model, angle: WhitenedAngle, theta: Array, tangents: Array, level: Floats
) -> tuple[Floats, Floats]:
    """Inner products by block, (3, m + 1, m + 1), of the columns V and, last, of the residuals; and those over cycles.

    These are Σ G_12 g_23 G'_34 g_41 g_12 g_34 (m, m) of the columns, with the field correlation g = √f and G as
    `pulled`; level is (contrast, offset).
    """
    basis = _means_of(model, angle, theta, tangents)
    residual = angle.data - level[0] * basis[0] - level[1] * basis[1]
    filled = angle.filled(angle.weighted(np.concatenate([basis, residual[None]])))
    field = np.sqrt(np.clip(basis[0], 0.0, None)) + np.eye(len(residual))
    pulled = angle.pulled(Filled(*(part[:-1] for part in filled)))
    through = (angle.weighted(pulled) * field) @ field
    count = len(through)
    return angle.by_block(filled), through.reshape(count, -1) @ through.swapaxes(1, 2).reshape(count, -1).T


@dataclass(frozen=True)
class Neighbourhood:
    """Where a condensed likelihood holds: near parameter sets thetas (s, p), the first in the middle.

    `strength` (n_phi,) is contrast²/white there.
    """

    thetas: Floats
    strength: Floats


@dataclass(frozen=True)
class _Shapes:
    """Shapes that span those of one angle: averages (J, M, M), and the points whose values tell how much of each.

    t1, t2 (J,) in s are the points, `mixing` (J, J) maps the values of a shape there to its coefficients.
    """

    averages: Floats
    t1: Floats
    t2: Floats
    mixing: Floats


@jax.jit
def _values(model: Model, thetas: Array, t1: Array, t2: Array, phi: Array) -> Array:
    return jax.vmap(lambda theta: model.shape(theta, t1, t2, phi))(thetas)


def _spanning(averages: Averages, k: int, model: Model, near: Neighbourhood, tolerance: float) -> _Shapes:
    """Shapes of some of a window's parameter sets, by pivoted QR, that leave out less than the tolerance.

    The constant and the first set's are always among them. Norms, in standard deviations, are those of independent
    noise, which are larger than the whitened ones.
    """
    centre = averages.times[k].mean(axis=1)
    rows = np.flatnonzero(averages.root[k])
    chosen = rows[np.unique(np.linspace(0, rows.size - 1, min(rows.size, SAMPLED_SIDE)).round().astype(int))]
    i, j = np.triu_indices(chosen.size, 1)
    t1, t2, phi, thetas = centre[chosen[i]], centre[chosen[j]], averages.phi[k], near.thetas
    values = np.asarray(_values(model, *map(jnp.asarray, (thetas, t1, t2, phi))))
    weight = np.sqrt(near.strength[k] * averages.elements[k] / i.size) * averages.width
    kept = np.stack([np.ones(i.size), values[0]])
    basis = np.linalg.qr(kept.T)[0]
    change = values[1:] - values[0]
    change = weight * (change - (change @ basis) @ basis.T)
    _, left, order = qr(change.T, mode="economic", pivoting=True, check_finite=False)
    count = int(np.count_nonzero(np.abs(np.diag(left)) * np.sqrt(len(change)) > tolerance))
    used = np.concatenate([[0], 1 + order[:count]])
    span = np.concatenate([np.ones((1, i.size)), values[used]])
    orthonormal, back = np.linalg.qr(span.T)
    points = qr(orthonormal.T, mode="r", pivoting=True, check_finite=False)[1][: len(span)]
    times = jnp.asarray(averages.times[k])
    everything = np.ones((len(span), len(times), len(times)))
    for own, theta in zip(everything[1:], thetas[used], strict=True):
        own[:] = mean_shape(model, jnp.asarray(theta), times, jnp.asarray(phi))
    rotated = (np.linalg.inv(back).T @ everything.reshape(len(span), -1)).reshape(everything.shape)
    return _Shapes(rotated, t1[points], t2[points], np.linalg.inv(orthonormal[points]))


def condensed(
    source: Whitened, model: Model, near: Neighbourhood, sets: Sequence[PairSet] = (), tolerance: float = 0.01
) -> tuple[Moments, list[Moments]]:
    """The likelihood of shapes within a window from their values at a few points per angle.

    Of the elements of the whitened, filled matrices every set has its own part, whose moments come second; they add up
    to those of all.
    """
    averages = source.averages

    def found(k: int) -> tuple[_Shapes, Floats, list[Floats]]:
        shapes = _spanning(averages, k, model, near, tolerance)
        angle = source.angles[k]
        both = np.concatenate([shapes.averages, averages.data[k : k + 1]])
        both *= angle.frames
        return shapes, angle.inner(both), _dealt(angle, both, sets)

    parts = each_angle(found, len(averages.phi), source.threads)
    size = -(-max(len(shapes.t1) for shapes, _, _ in parts) // POINT_GRID) * POINT_GRID
    whole = _gathered(averages, size, [(shapes, inner) for shapes, inner, _ in parts], averages.elements)
    dealt = [
        _gathered(averages, size, [(shapes, inner[n]) for shapes, _, inner in parts], averages.elements / len(sets))
        for n in range(len(sets))
    ]
    return whole, dealt


def _elements(angle: WhitenedAngle, matrices: Floats) -> tuple[Integers, Integers, Floats, Floats]:
    """Weighted matrices (k, M, M), filled, in the noise's eigenvectors: rows, columns, whitened (k, E), v/white."""
    size, count = angle.modes.shape
    every = np.linalg.qr(np.concatenate([angle.modes, np.eye(size)], axis=1))[0]
    once = np.append(angle.once, np.zeros(size - count))
    weight = 1.0 + once + once[:, None]
    weight[:count, :count] += angle.twice
    rows, cols = (part.astype(np.int64) for part in np.triu_indices(size))
    rotated = every.T @ angle.filled(matrices).whole @ every
    own = weight[rows, cols]
    return rows, cols, rotated[:, rows, cols] * np.sqrt(np.where(rows == cols, 0.5, 1.0) * own), 1.0 / own


def _dealt(angle: WhitenedAngle, both: Floats, sets: Sequence[PairSet]) -> list[Floats]:
    """Inner products of matrices (k, M, M) over each set's elements, in the eigenvectors of the noise."""
    if not sets:
        return []
    rows, cols, values, _ = _elements(angle, both)
    owner = np.where(rows < cols, sets[0].cut.shard_of(rows, np.maximum(cols, rows + 1)), rows % len(sets))
    return [values[:, owner == part.index] @ values[:, owner == part.index].T for part in sets]


STRENGTHS = 10.0 ** np.arange(0.0, 10.5, 0.5)
"""Edges of the classes of elements by their expected variance over the independent part."""


def spectrum_of(model: Model, angle: WhitenedAngle, theta: Array, level: Floats, freedom: float) -> Floats:
    """Σ of squared whitened residuals (in units of white) and the number of elements, (2, bins), by STRENGTHS.

    The number is less what the unknown squares take, from all alike: `freedom` are left.
    """
    shape = np.asarray(mean_shape(model, theta, jnp.asarray(angle.times), jnp.asarray(angle.phi)))
    residual = angle.data - level[0] * shape - level[1]
    *_, values, strength = _elements(angle, angle.weighted(residual[None]))
    place = np.clip(np.digitize(strength, STRENGTHS) - 1, 0, len(STRENGTHS) - 2)
    count = np.bincount(place, minlength=len(STRENGTHS) - 1).astype(np.float64)
    count *= freedom / count.sum()
    return np.stack([np.bincount(place, weights=values[0] ** 2, minlength=len(count)), count])


def _gathered(averages: Averages, size: int, parts: Sequence[tuple[_Shapes, Floats]], elements: Floats) -> Moments:
    """Moments at the points of every angle from inner products of its shapes and data (J + 1, J + 1)."""
    n_phi = len(parts)
    t1, t2 = np.zeros((2, n_phi, size))
    gram, data, power = np.zeros((n_phi, 1, size, size)), np.zeros((n_phi, 1, 1, size)), np.zeros(n_phi)
    for k, (shapes, inner) in enumerate(parts):
        count = len(shapes.t1)
        t1[k], t2[k] = shapes.t1[0], shapes.t2[0]
        t1[k, :count], t2[k, :count] = shapes.t1, shapes.t2
        gram[k, 0, :count, :count] = shapes.mixing.T @ inner[:-1, :-1] @ shapes.mixing
        data[k, 0, 0, :count] = inner[-1, :-1] @ shapes.mixing
        power[k] = inner[-1, -1]
    group = CellGroup(*map(jnp.asarray, (t1[:, None, None], t2[:, None, None], gram, data)))
    phi = jnp.asarray(averages.phi[:, None])
    return Moments((), averages.axis, MomentArrays((group,), phi, jnp.arange(n_phi), jnp.asarray(power)), elements)
