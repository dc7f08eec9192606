"""The noise of C2 that pairs share: its three parts, measured on the residuals, and the errors that follow from it.

A matrix is an average over P pixels of the same fluctuating speckles. With the covariance of a pixel's intensities at
two frames, in units of the mean squared,

    K(1, 3) = contrast·f(1, 3) + δ(1, 3)/n̄          (speckle and shot noise; n̄ photons per pixel and frame)

the sample covariance that a correlator stores is to leading order Wishart with P degrees of freedom (Isserlis 1918):

    Cov(C2(1, 2), C2(3, 4)) = [K(1, 3) K(2, 4) + K(1, 4) K(2, 3)]/P

Multiplied out there are three parts: shot × shot, independent between pairs (`white`, 1/(P n̄²)); shot × speckle, common
to pairs with a frame in common (`shared`, contrast/(P n̄)); speckle × speckle, smooth (`smooth`, contrast²/P). The
score of least squares in direction J (N × N, zero where nothing is fitted) then has the covariance

    ½ [white·Σ J_k J_l + 2 shared·tr(J_k F J_l) + smooth·tr(J_k F J_l F)]/σ⁴,    F = f(t1, t2).

The shapes are the theory's, the three amplitudes are measured, so that neither n̄ nor P must be known, and noise
without speckles (amplitudes 0) gives back what independent noise would:

* white: the mean square of the residuals' differences along both directions at once is 4·white, because what pairs
  share, or what is smooth, cancels;
* shared: that of differences along one direction is 2·(white + shared); where the brightness of frames is known, all of
  residuals times its roots, whose white part is alike everywhere;
* smooth: residuals averaged over squares of frames, in the eigenvectors u of F with eigenvalues φ, have the variance
  (1 + δ_ab)(smooth·φ_a φ_b + shared·(φ_a + φ_b)/b + white/b²), b frames per square.

The ratio of the first two gives n̄ = shared/(contrast·white), and P = 1/(white·n̄²).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.linalg import eigh

from hpcxpcs.answer.fit import NoiseParts, PointSettings
from hpcxpcs.arrays import Floats, Integers
from hpcxpcs.data.matrices import AngleMatrix, each_in_order
from hpcxpcs.inference.measurement import Measurement
from hpcxpcs.likelihood.cells import TimeAxis
from hpcxpcs.likelihood.dyadic import Residuals
from hpcxpcs.likelihood.products import columns
from hpcxpcs.likelihood.raw import TILE, each_angle
from hpcxpcs.physics.model import Model

MOST_BLOCKS = 512
"""Squares along a side: the cost of the covariance is their number cubed per angle and direction."""

WITHIN_BLOCK = 0.1
"""Largest decay of the shape over one square, as long as there are not too many of them."""

MOST_SQUARES, MOST_PER_SIDE = 1_600_000, 512
"""Squares of frames of all angles together that are affordable, and along a side at all. Each doubling of their width
loses 2 to 5 % of the precision at 0.5 photons per pixel and frame and a decay over 20 frames, 5 to 30 % at 5
(bench/squares.py), and costs a quarter."""

MODES = 48
"""Eigenvectors of F in which the smooth part is measured: some hundred products, of which a fit takes away a few."""

SEEN = 2.0
"""Standard deviations, all angles together, from which on noise that pairs share counts as seen: without any, error
bars would grow by 6 % for what chance makes of 150 frames."""

EXPECTED_RATIO = 1.0
"""How far (standard deviation) the smooth part is expected to be from what the other two imply, before it is measured:
speckles of two pixels make it 2.3 times as large, and at 0.5 photons few products of eigenvectors measure it. Scatter
over error of D0 and alpha there, 200 sets (bench/coverage.py): 1.07, 1.09 with 1.0 and 1.13, 1.14 with 0.5; of white
pixels 0.94, 1.05 and 0.94, 1.02."""

REPAIRED = 0.3
"""Excess of the diagonal over offset and contrast, in units of the shot noise that the parts imply, below which it was
replaced by its neighbours: a kept one has 1."""

FRAMES_WIN = 2.0
"""Ratio of score variances from which errors clustered by frame are taken although the noise looks like speckle:
clustering knows nothing of the smooth part, and its own error is some ten per cent."""


@dataclass(frozen=True)
class Estimate:
    """Where covariances are taken: theta (p,), free indices, (contrast, offset) (n_phi, 2), noise (n_phi,)."""

    theta: Floats
    free: tuple[int, ...]
    per_angle: Floats
    sigma: Floats

    @property
    def tangents(self) -> Array:
        """Unit vectors along the free parameters, (p, f)."""
        return jnp.asarray(np.eye(self.theta.size)[:, np.asarray(self.free, dtype=int)])


def width_of_blocks(measurement: Measurement, model: Model, theta: Floats) -> int:
    """Frames per square: a power of two, so few that the shape hardly decays within, so many that it is affordable."""
    axis = measurement.axis
    side = min(TILE, -(-axis.count // 8) * 8)
    widest = side & -side
    width = 1
    while width < widest:
        decay = 1.0 - np.min(at_lag(measurement, model, theta, 2 * width))
        if -(-axis.count // width) <= MOST_BLOCKS and decay > WITHIN_BLOCK:
            break
        width *= 2
    return width


def squares_width(axis: TimeAxis, n_phi: int) -> int:
    """Frames per square of the whitened likelihood: a power of two, as few as are affordable."""
    side = min(MOST_PER_SIDE, int(np.sqrt(MOST_SQUARES / n_phi)))
    widest = min(TILE, -(-axis.count // 8) * 8)
    width = 1
    while -(-axis.count // width) > side and 2 * width <= (widest & -widest):
        width *= 2
    return width


def at_lag(measurement: Measurement, model: Model, theta: Floats, lag: int) -> Floats:
    """The shape of frames `lag` apart, (n_phi, 64), at times spread over the measurement."""
    axis = measurement.axis
    first = np.linspace(axis.first_usable, max(axis.count - 1 - lag, axis.first_usable), 64).round()
    t1 = jnp.asarray(axis.times(first))
    shape = model.shape(jnp.asarray(theta), t1, t1 + lag * axis.step, jnp.asarray(measurement.phi)[:, None])
    return np.asarray(shape)


@dataclass(frozen=True)
class _Squares:
    """One angle in squares of frames that hold any: directions (m, M, M) summed over pairs, F, residuals.

    `frames` (M,) is their number on a side, `dimness` (M,) the mean of 1/brightness over these.
    """

    summed: Floats
    directions: Floats
    shape: Floats
    residual: Floats
    frames: Floats
    dimness: Floats


@jax.jit
def _columns_of(model: Model, theta: Array, tangents: Array, t: Array, phi: Array) -> Array:
    return columns(model, theta, tangents, t[:, None], t[None, :], phi)


def _squares(
    measurement: Measurement,
    model: Model,
    theta: Floats,
    tangents: Array,
    contrast: float,
    residuals: Residuals,
    angle: int,
) -> _Squares:
    axis, width = measurement.axis, residuals.width
    sums, pairs = (part + part.T for part in residuals.in_squares(angle, residuals.width))
    inside = np.flatnonzero(residuals.frames[angle])
    frames = np.bincount(inside // width, minlength=len(pairs)).astype(np.float64)
    held = np.flatnonzero(frames > 0.0)
    pairs, sums = pairs[np.ix_(held, held)], sums[np.ix_(held, held)]
    middle = np.bincount(inside // width, weights=axis.times(inside), minlength=len(frames))[held] / frames[held]
    basis = np.asarray(
        _columns_of(model, jnp.asarray(theta), tangents, jnp.asarray(middle), jnp.asarray(measurement.phi[angle]))
    )
    directions = np.concatenate([contrast * basis[2:], basis[:2]])
    residual = np.where(pairs > 0.0, sums / np.where(pairs > 0.0, pairs, 1.0), 0.0)
    drift, dimness = brightness(measurement, angle, inside), np.ones(held.size)
    if drift is not None:
        dimness = np.bincount(inside // width, weights=1.0 / drift, minlength=len(frames))[held] / frames[held]
    return _Squares(pairs * directions, directions, basis[0], residual, frames[held], dimness)


def noise_parts(
    measurement: Measurement, model: Model, estimate: Estimate, residuals: Residuals, settings: PointSettings
) -> NoiseParts:
    """Measure the three parts on the residuals of a fit; photons and pixels that are given count instead."""
    theta, contrast = estimate.theta, estimate.per_angle[:, 0]
    width = residuals.width
    single, double = residuals.differences[:, 0], residuals.differences[:, 1]
    scale, bright = _brightness_of_angles(measurement, residuals)
    white = 0.25 * scale**2 * double[:, 0] / np.maximum(double[:, 1], 1.0)
    one_way = 0.5 * scale**2 * single[:, 0] / np.maximum(single[:, 1], 1.0)
    along = at_lag(measurement, model, theta, max(1, round(width / 3))).mean(axis=1) if width > 1 else 1.0
    excess = one_way - white / width
    by_chance = np.sqrt(3.0 / np.maximum(single[:, 1], 1.0)) * white / width
    seen = float(np.sum(excess / np.where(by_chance > 0.0, by_chance, np.inf)) / np.sqrt(len(white)))
    shared = np.maximum(excess, 0.0) / (along * bright) if seen > SEEN else np.zeros_like(excess)
    white, shared = _as_given(white, shared, contrast, settings)
    implied = np.divide(shared**2, white, out=np.zeros_like(white), where=white > 0.0)

    def smooth_part(angle: int) -> tuple[float, float, float, float]:
        """Σ w·ratio, Σ w, what the fit takes away of it (contrast, offset, a share of the rest), and the mean of f²."""
        if shared[angle] <= 0.0:
            return 0.0, 0.0, 0.0, 0.0
        squares = _squares(measurement, model, theta, jnp.zeros((theta.size, 0)), contrast[angle], residuals, angle)
        similar = np.sum(squares.summed[0] * squares.shape) / np.sum(squares.summed[1])
        total, weights = _smooth_over_implied(squares, white[angle], shared[angle])
        taken = weights[:2].sum() + weights[0] * theta.size / len(white)
        return total, float(weights.sum()), float(taken), float(similar)

    total, weights, taken, similar = np.array(each_angle(smooth_part, len(white), measurement.threads)).T
    left = max(float(weights.sum() - taken.sum()), 0.0)
    measured = max(float(total.sum()) / left, 0.0) if left > 0.0 else 1.0
    products = left**2 / float(weights.sum()) if left > 0.0 else 0.0
    weight = 0.5 * left * EXPECTED_RATIO**2
    ratio = (weight * measured + 1.0) / (weight + 1.0)
    smooth = ratio * implied
    found = _photons_and_pixels(measurement, model, estimate, white, shared, one_way, bright, ratio, width, settings)
    photons, pixels, source = found
    variance = white + 2.0 * shared + smooth * (1.0 + similar)
    parts = NoiseParts(
        white, shared, smooth, ratio, measured, products, photons, pixels, variance, seen=seen, photons_from=source
    )
    told = measurement.counted
    return parts if told is None else replace(parts, counted_photons=told.photons, counted_pixels=told.pixels)


def _photons_and_pixels(
    measurement: Measurement,
    model: Model,
    estimate: Estimate,
    white: Floats,
    shared: Floats,
    one_way: Floats,
    bright: Floats,
    ratio: float,
    width: int,
    settings: PointSettings,
) -> tuple[Floats, Floats, str]:
    """n̄ and P of every angle (n_phi,), NaN where nothing is shared, and where n̄ comes from.

    The diagonal is offset + contrast + 1/n̄, where it was not replaced by its neighbours; without it, the ratio of the
    parts has to do. With s = 1/n̄ and d the decay over one frame, differences along one direction, of means over w
    frames along the other, have half the mean square [s (s/w + contrast·f) + d (s/w + ratio·contrast·f)]
    (1 + contrast·f̄)/P, as counts vary with the light, and what is speckle along both directions is as much larger as
    the smooth part. Times the roots of brightness, what is speckle along a direction is `bright` times that.
    """
    contrast = estimate.per_angle[:, 0]
    along = at_lag(measurement, model, estimate.theta, max(1, round(width / 3))).mean(axis=1) if width > 1 else 1.0
    decay = contrast * (1.0 - at_lag(measurement, model, estimate.theta, 1).mean(axis=1))
    third = max(1, measurement.axis.count // 3)
    similar = at_lag(measurement, model, estimate.theta, third).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        shot = contrast * white / shared - decay
        shot, source = np.where(shot > 0.0, shot, np.nan), "noise"
        excess = diagonal_excess(measurement, estimate.per_angle.sum(axis=1))
        seen = np.isfinite(shot)
        if settings.photons is not None:
            shot, source = np.where(seen, 1.0 / settings.photons, np.nan), "configuration"
        elif np.any(seen) and np.all(excess[seen] > REPAIRED * shot[seen]):
            shot, source = np.where(seen, excess, np.nan), "diagonal"
        speckle = contrast * along
        square = shot * (shot / width + bright * speckle)
        square += bright * decay * (shot / width + bright * ratio * speckle)
        pixels = square * (1.0 + contrast * similar) / one_way
    if settings.pixels is not None:
        pixels = np.where(seen, settings.pixels, np.nan)
    return 1.0 / shot, pixels, source


def brightness(measurement: Measurement, angle: int, frames: Integers) -> Floats | None:
    """How bright each of some frames (n,) of an angle is, 1/mean(1/brightness) being 1; None if the file is silent."""
    if measurement.drift is None:
        return None
    chosen = measurement.drift[angle, frames]
    return np.asarray(chosen * np.mean(1.0 / chosen))


def _brightness_of_angles(measurement: Measurement, residuals: Residuals) -> tuple[Floats, Floats]:
    """Brightness over that by which differences were weighted, and its mean, at every angle (n_phi,); 1 if unknown."""
    found = np.ones((2, len(residuals.frames)))
    for angle, used in enumerate(residuals.frames):
        drift = brightness(measurement, angle, np.flatnonzero(used))
        if drift is not None and measurement.drift is not None:
            found[:, angle] = np.mean(drift) / np.mean(measurement.drift[angle, used]), np.mean(drift)
    return found[0], found[1]


def diagonal_excess(measurement: Measurement, smooth: Floats) -> Floats:
    """How far the stored diagonal of every angle (n_phi,) lies above what is smooth there (n_phi,), over used frames.

    The median, of frames as bright as 1/mean(1/photons) where their brightness is known.
    """

    def median(angle: int, matrix: AngleMatrix) -> float:
        inside = np.flatnonzero(matrix.frame_ok)
        values = (np.diagonal(matrix.c2)[inside] - smooth[angle]).astype(np.float64)
        drift = brightness(measurement, angle, inside)
        values = values if drift is None else values * drift
        values = values[np.isfinite(values)]
        return float(np.median(values)) if values.size else np.nan

    return np.array(list(each_in_order(median, measurement.angles, len(measurement.phi))))


def _as_given(white: Floats, shared: Floats, contrast: Floats, settings: PointSettings) -> tuple[Floats, Floats]:
    """The independent and the shared part that given photons and pixels make: 1/(P n̄²) and contrast/(P n̄)."""
    photons, pixels = settings.photons, settings.pixels
    if photons is not None and pixels is not None:
        white = np.full_like(white, 1.0 / (pixels * photons**2))
    if photons is not None:
        shared = contrast * photons * white
    elif pixels is not None:
        shared = contrast * np.sqrt(white / pixels)
    return white, shared


def _smooth_over_implied(squares: _Squares, white: float, shared: float) -> tuple[float, Floats]:
    """Σ w·(smooth part over shared²/white) of the residuals along every two eigenvectors, and weights w (pairs,).

    These are those of least squares: the part of such a residual's variance that is smooth, squared; the largest first.
    """
    size = len(squares.frames)
    first = max(0, size - min(MODES, size // 6 + 1))
    values, vectors = eigh(squares.shape, subset_by_index=[first, size - 1])
    projected = vectors.T @ squares.residual @ vectors
    a, b = np.triu_indices(len(values))
    square = projected[a, b] ** 2 / np.where(a == b, 2.0, 1.0)
    own = np.sum(vectors**2 * (squares.dimness / squares.frames)[:, None], axis=0)
    shot = shared * (values[a] * own[b] + values[b] * own[a]) + white * own[a] * own[b]
    smooth = np.maximum(values[a] * values[b], 0.0) * shared**2 / white
    weights = np.sort((smooth / (smooth + shot)) ** 2)[::-1]
    return float(np.sum((square - shot) * smooth / (smooth + shot) ** 2)), weights


def speckle_score_covariance(
    measurement: Measurement,
    model: Model,
    estimate: Estimate,
    residuals: Residuals,
    parts: NoiseParts,
    lifts: Floats,
) -> Floats:
    """Covariance of the total score over (physics, coefficients).

    `lifts` (n_phi, size, m) take the directions of an angle there.
    """

    def covariance_of(angle: int) -> Floats:
        contrast = estimate.per_angle[angle, 0]
        squares = _squares(measurement, model, estimate.theta, estimate.tangents, contrast, residuals, angle)
        size = len(squares.directions)
        through = squares.summed @ squares.shape
        flat, summed = through.reshape(size, -1), squares.summed.reshape(size, -1)
        dim = squares.dimness
        alone = (squares.summed * np.outer(dim, dim)).reshape(size, -1) @ squares.directions.reshape(size, -1).T
        common = (through * (dim / squares.frames)[:, None]).reshape(size, -1) @ summed.T
        smooth = flat @ through.swapaxes(1, 2).reshape(size, -1).T
        own = parts.white[angle] * alone + parts.smooth[angle] * smooth
        own = 0.5 * (own + parts.shared[angle] * (common + common.T)) / estimate.sigma[angle] ** 4
        return np.asarray(lifts[angle] @ own @ lifts[angle].T)

    return np.sum(each_angle(covariance_of, len(lifts), measurement.threads), axis=0)


def choose_covariance(
    speckle: Floats, frames: Floats, parts: NoiseParts, inverse: Floats, *, together: bool
) -> tuple[Floats, NoiseParts]:
    """The score covariance (size, size) that robust errors rest on, of the two estimates, and the parts that say so.

    That of speckle, unless what pairs share is not like speckle, or disturbs all angles at once, or makes scores
    clustered by frame vary clearly more.
    """
    larger = np.trace(inverse @ frames) > (1.0 if together else FRAMES_WIN) * np.trace(inverse @ speckle)
    if larger or not parts.like_speckle or not np.all(np.isfinite(speckle)):
        return frames, replace(parts, errors_from="frames")
    return speckle, parts
