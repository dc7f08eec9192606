"""The point fit under the noise of speckles: from the fit with independent noise to the whitened one.

The fit as if pairs were independent gives the shape F, by which the noise is weighted, and its parts. A Gauss-Newton
step under these weights leads near the whitened fit, which follows in rounds: weigh, condense around the last estimate
as wide as its error, minimise. Rounds end when an estimate lies inside of its window; one is the rule. Weights from
another estimate change the answer in second order only, and so would letting them vary with the parameters: the full
Wishart likelihood has the same information ½ P tr(ΩJΩJ).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from hpcxpcs.answer.fit import CompressionReport, NoiseParts, PointSettings
from hpcxpcs.arrays import Flags, Floats, Integers
from hpcxpcs.inference.bounds import settle_bounds
from hpcxpcs.inference.compression import checked_angles
from hpcxpcs.inference.coordinates import Coordinates, physical_sets
from hpcxpcs.inference.covariance import Covariances, Scatter
from hpcxpcs.inference.measurement import Measurement
from hpcxpcs.inference.noise import Estimate, at_lag, brightness, squares_width
from hpcxpcs.inference.objective import Limits, Objective, linearised
from hpcxpcs.inference.recovery import minimise_scaled, released
from hpcxpcs.inference.stages import Fitted, PairNoise, Represented
from hpcxpcs.inference.trust_region import finite, whitening
from hpcxpcs.likelihood.dyadic import Residuals, lifted
from hpcxpcs.likelihood.gaussian import marginal_log_likelihood
from hpcxpcs.likelihood.products import Products, no_tangents
from hpcxpcs.likelihood.raw import each_angle
from hpcxpcs.likelihood.scaling import build_scaling
from hpcxpcs.likelihood.whitened import (
    STRENGTHS,
    Averages,
    Neighbourhood,
    Whitened,
    at_each,
    condensed,
    freedom_of,
    mean_shape,
    scatter_of_angle,
    spectrum_of,
    whitened,
)
from hpcxpcs.physics.model import Model

EXACT, DECAY = 2, 0.5
"""Frames per side of squares up to which the average over two times is that over all frames, and the largest decay of a
shape over wider ones: of an exponential the average is then right to 4e-5."""

WIDTHS, SETS = (1.0, 2.0, 4.0), 8
"""Widths of a window, in standard deviations, and parameter sets per width and coordinate."""

OUTSIDE = 3.0
"""An estimate so many standard deviations from the middle of its window is fitted in a window of its own."""

ROUNDS = 5
"""Windows tried, the first included."""

CHECKED, CHECKED_SQUARES = 9, 200_000
"""Parameter sets at which the condensed likelihood is compared with that of all squares, and how many of these; as many
are drawn in the spectrum of the noise."""

HALVINGS, LOWEST_RATE = 8, 1e-9
"""How often a set whose rates are negative is drawn towards the middle, and what counts as rounding of a rate."""

SMALLEST_STEP = 1e-4
"""Width of a window, in fit coordinates, along a direction in which the pilot had no error."""

SOURCE = "white part of the residuals"
"""Where σ of a whitened fit comes from."""

MOST_HOLES = 1024
"""Squares without pairs that are integrated out at an angle: a matrix of their number is inverted."""

FEWEST = 30.0
"""Independent elements of a block from which on its noise is compared with that expected."""

CLEARLY = 5.0
"""Standard deviations by which shared noise must show before pairs are weighed by it: noise of single pairs, which has
none, reaches 2 in one fit of forty."""

BARELY = 1.05
"""Robust over model-based error up to which speckles change nothing worth a likelihood of their own."""


def width_of_squares(measurement: Measurement, model: Model, theta: Floats) -> int | None:
    """Frames per square: as many as are affordable, fewer where shapes decay faster; None where they do so too fast."""
    axis = measurement.axis
    width, narrowest = squares_width(axis, len(measurement.phi)), squares_width(axis, 1)
    while width > EXACT and np.any(at_lag(measurement, model, theta, width) < 1.0 - DECAY):
        if width == narrowest:
            return None
        width //= 2
    return width


def averaged_squares(
    measurement: Measurement, model: Model, estimate: Estimate, residuals: Residuals, width: int
) -> Averages:
    """The measured matrices averaged over squares: the residuals of a fit, and what it had taken away.

    Shot noise goes as 1/photons: frames of other brightness count as the number of mean ones with their noise.
    """
    axis, n_phi = measurement.axis, len(measurement.phi)
    size = -(-axis.count // width)
    nodes = 1 if width == 1 else 2
    times, root = np.empty((n_phi, size, nodes)), np.zeros((n_phi, size))
    data = np.zeros((n_phi, size, size))

    def filled(k: int) -> Integers:
        inside = np.flatnonzero(residuals.frames[k])
        square, t = inside // width, axis.times(inside)
        count = np.bincount(square, minlength=size).astype(np.float64)
        some = np.maximum(count, 1.0)
        middle = np.where(count > 0.0, np.bincount(square, weights=t, minlength=size) / some, t[0])
        spread = np.sqrt(np.bincount(square, weights=(t - middle[square]) ** 2, minlength=size) / some)
        times[k] = middle[:, None] + spread[:, None] * np.array([[0.0]] if nodes == 1 else [[-1.0, 1.0]])
        root[k] = np.sqrt(count)
        drift = brightness(measurement, k, inside)
        if drift is not None:
            noise = np.bincount(square, weights=1.0 / drift, minlength=size)
            root[k] = count / np.sqrt(np.where(count > 0.0, noise, 1.0))
        sums, pairs = (part + part.T for part in residuals.in_squares(k, width))
        shape = mean_shape(model, *map(jnp.asarray, (estimate.theta, times[k], measurement.phi[k])))
        fitted = estimate.per_angle[k, 0] * np.asarray(shape) + estimate.per_angle[k, 1]
        data[k] = np.where(pairs > 0.0, sums / np.maximum(pairs, 1.0) + fitted, 0.0)
        np.fill_diagonal(data[k], 0.0)
        expected = np.triu(np.outer(count, count) > 0.0, 1)
        return np.argwhere(expected & (pairs <= 0.0))

    holes = each_angle(filled, n_phi, measurement.threads)
    return Averages(axis, measurement.phi, width, times, root, data, tuple(holes))


def whitened_at(averages: Averages, model: Model, theta: Floats, parts: NoiseParts, threads: int) -> Whitened:
    """The averages weighted by the noise that follows from the shape at theta (p,)."""

    def shape(k: int) -> Floats:
        return np.asarray(mean_shape(model, *map(jnp.asarray, (theta, averages.times[k], averages.phi[k]))))

    shapes = each_angle(shape, len(averages.phi), threads)
    return whitened(averages, shapes, parts.white, parts.shared, parts.smooth, threads)


def window(coordinates: Coordinates, limits: Limits, u: Floats, transform: Floats, seed: int) -> Floats:
    """Parameter sets (s, p) around u (f,), which is the first, in units of transform (f, f).

    Rates are not negative, and no parameter is farther outside of its bounds than these are apart: what data hardly
    determine would overflow.
    """
    rng = np.random.default_rng([seed, 2])
    steps = [width * rng.standard_normal((SETS * u.size, u.size)) for width in WIDTHS]
    us = u + np.concatenate([np.zeros((1, u.size)), *steps]) @ transform.T
    for halvings in range(HALVINGS + 1):
        found, lowest = physical_sets(coordinates, jnp.asarray(us), limits.first, limits.last)
        outside = ~(_in_reach(coordinates, limits, np.asarray(found)) & (np.asarray(lowest) > -LOWEST_RATE))
        us[outside] = u if halvings == HALVINGS - 1 else 0.5 * (us[outside] + u)
        if not np.any(outside[1:]):
            break
    return np.asarray(found)


def _in_reach(coordinates: Coordinates, limits: Limits, thetas: Floats) -> Flags:
    """Which parameter sets (s, p) have no free parameter farther outside of its bounds than these are apart, (s,)."""
    free = list(coordinates.free)
    lower, upper = limits.lower[free], limits.upper[free]
    return np.all((thetas[:, free] >= 2.0 * lower - upper) & (thetas[:, free] <= 2.0 * upper - lower), axis=1)


@dataclass(frozen=True)
class _Round:
    """What one round ended with: the fit, and the middle of its window u (f,) with the transform (f, f) it had."""

    fitted: Fitted
    middle: Floats
    transform: Floats

    @property
    def away(self) -> float:
        """Largest distance of the estimate from the middle of the window, in standard deviations of the window."""
        step = self.fitted.scaled.minimum.u - self.middle
        return float(np.abs(np.linalg.solve(self.transform, step)).max(initial=0.0))


def fit_whitened(
    measurement: Measurement,
    pilot: Fitted,
    estimate: Estimate,
    averages: Averages,
    coarse: Averages,
    parts: NoiseParts,
    robust: Floats,
    settings: PointSettings,
) -> Fitted | None:
    """The fit under the noise of speckles, from a pilot fit with its robust covariance; None where none is found.

    Coarser averages do for the step that leads there. Offsets that rest in the pilot rest here, and two components keep
    the names that it gave them.
    """
    objective = pilot.scaled.objective
    fixed = (*objective.coordinates.fixed, *((index, 0.0) for index in pilot.settled.rested))
    objective = replace(
        objective,
        coordinates=replace(objective.coordinates, fixed=fixed),
        sigma=jnp.asarray(np.sqrt(parts.white)),
        scaling=build_scaling("individual", measurement.phi),
    )
    limits, free = objective.limits, list(objective.coordinates.free)
    inside = np.clip(pilot.settled.theta, limits.lower, limits.upper)
    u = objective.coordinates.from_physical(inside)
    places = [estimate.free.index(k) if k in estimate.free else -1 for k in free]
    transform = _in_coordinates(objective, u, robust, places)
    model, threads = objective.coordinates.model, measurement.threads
    source = whitened_at(coarse, model, pilot.settled.theta, parts, threads)
    normal = replace(objective, source=source).expand(u)
    if finite(normal):
        transform = whitening(normal)
        step = transform @ (transform.T @ np.asarray(normal.gradient))
        ends = (u - length * step for length in 0.5 ** np.arange(HALVINGS))
        coordinates = objective.coordinates
        u = next((v for v in ends if _in_reach(coordinates, limits, np.asarray(objective.theta(v))[None])[0]), u)
    contrast = estimate.per_angle[:, 0]
    for number in range(ROUNDS):
        theta = np.asarray(objective.theta(u))
        if not _in_reach(objective.coordinates, limits, theta[None])[0]:
            return None
        source = whitened_at(averages, model, theta, parts, threads)
        found = _round(measurement, pilot, objective, source, parts, u, transform, contrast, settings)
        if found is None:
            return None
        minimum = found.fitted.scaled.minimum
        if not np.all(np.isfinite(minimum.u)) or not np.isfinite(minimum.cost):
            return None
        if found.away < OUTSIDE:
            fitted = replace(found.fitted, report=_compared(found.fitted, source, number + 1, settings))
            return fitted if fitted.settled.minimum.converged else None
        u = minimum.u
        contrast = np.asarray(minimum.normal.solution.per_angle)[:, 0]
        transform = whitening(minimum.normal)
    return None


def _in_coordinates(objective: Objective, u: Floats, covariance: Floats, places: Sequence[int]) -> Floats:
    """A root (f, f) in coordinates u (f,) of a covariance over physical parameters; places (f,), −1: not in it."""
    slopes = np.asarray(linearised(objective.coordinates, jnp.asarray(u))[1])[list(objective.coordinates.free)]
    known = [k for k, place in enumerate(places) if place >= 0]
    full = np.zeros((u.size, u.size))
    chosen = [places[k] for k in known]
    full[np.ix_(known, known)] = covariance[np.ix_(chosen, chosen)]
    back = np.linalg.pinv(slopes)
    values, vectors = np.linalg.eigh(back @ full @ back.T)
    return vectors * np.sqrt(np.clip(values, SMALLEST_STEP**2, None))


def _round(
    measurement: Measurement,
    pilot: Fitted,
    objective: Objective,
    source: Whitened,
    parts: NoiseParts,
    u: Floats,
    transform: Floats,
    contrast: Floats,
    settings: PointSettings,
) -> _Round | None:
    """Condense in a window around u (f,), minimise and settle the bounds; None where the likelihood has no value."""
    model = objective.coordinates.model
    thetas = window(objective.coordinates, objective.limits, u, transform, settings.seed)
    near = Neighbourhood(thetas, (contrast / np.asarray(objective.sigma)) ** 2)
    moments, _ = condensed(source, model, near)
    objective = replace(objective, source=moments)
    if not np.isfinite(objective.cost(u)):
        return None
    scaled = released(minimise_scaled(objective, u, measurement.phi, settings), settings)
    settled = settle_bounds(scaled.objective, scaled.minimum, settings)
    settled = replace(settled, rested=pilot.settled.rested)
    noise = PairNoise(np.asarray(objective.sigma), SOURCE, float(moments.pairs.sum()))
    represented = Represented(moments, moments, noise, None, False, source, parts, near)
    fitted = Fitted(scaled, settled, represented, pilot.report, pilot.parameters, pilot.exchange, pilot.mirror)
    return _Round(fitted, u, transform)


_marginals = jax.jit(jax.vmap(marginal_log_likelihood, in_axes=(None, 0, None, None)))


def _compared(fitted: Fitted, source: Whitened, rounds: int, settings: PointSettings) -> CompressionReport:
    """Condensed likelihood and that of all squares at parameter sets of the window, relative to its middle.

    When only some angles are compared, their error is scaled up as if all angles erred with the same sign.
    """
    objective, moments, near = fitted.settled.objective, fitted.represented.moments, fitted.represented.window
    assert near is not None
    model, thetas = objective.coordinates.model, near.thetas[: 1 + CHECKED]
    examined = checked_angles(moments.pairs, CHECKED_SQUARES)
    found = [moments.products(model, jnp.asarray(theta), no_tangents(jnp.asarray(theta))) for theta in thetas]
    packed = [np.stack(leaf) for leaf in zip(*found, strict=True)]
    full = [leaf.copy() for leaf in packed]
    parts = each_angle(lambda n: at_each(model, source.angles[examined[n]], thetas), len(examined), source.threads)
    for angle, part in zip(examined, parts, strict=True):
        for leaf, own in zip(full, part, strict=True):
            leaf[:, angle] = own[:, 0]
    pairs = jnp.asarray(moments.pairs)
    values = [
        np.asarray(_marginals(objective.scaling, Products(*map(jnp.asarray, leaves)), objective.sigma, pairs))
        for leaves in (packed, full)
    ]
    difference = (values[0] - values[1]) * len(moments.pairs) / len(examined)
    relative = difference - difference[0]
    return CompressionReport(
        provider="squares",
        cells=source.averages.data.shape[1],
        nodes=moments.node_count,
        pairs=int(moments.pairs.sum()),
        error=float(np.std(relative)),
        largest_error=float(np.abs(relative).max()),
        tolerance=settings.compression_tolerance,
        checked_pairs=int(moments.pairs[examined].sum()),
        checked_points=len(thetas),
        rounds=rounds,
    )


def scatter_of_squares(source: Whitened, model: Model, estimate: Estimate, parts: NoiseParts) -> Scatter:
    """The scatter of scores of a whitened fit: the noise that each of BLOCKS really has, and that of fourth order.

    The Wishart covariance is that of Gaussian intensities. Those of partially coherent light with equal modes have a
    fourth cumulant besides, contrast³ Σ g_12 g_23 g_34 g_41 over the six cycles of the field correlation g = √f
    (Goodman, Statistical Optics, 2015, ch. 6), all of which are taken for the one that joins the frames of both pairs.
    Pixels that share a speckle count |μ|² in it, which is 2 Σ|μ|⁴ − 1 between single pixels and large speckles.
    """

    def scatter(design: Floats, inverse: Floats) -> tuple[Floats, NoiseParts, None]:
        lifts = lifted(len(estimate.free), design)
        blocks, cycles = _by_block(source, model, estimate)
        white = source.white
        angles = source.angles
        freedoms = np.array(each_angle(lambda k: freedom_of(angles[k]), len(angles), source.threads))
        freedom = freedoms.sum(axis=0)
        misfit = np.sum([part[:, -1, -1] / own for part, own in zip(blocks, white, strict=True)], axis=0)
        levels = np.where(freedom > FEWEST, misfit / np.maximum(freedom, FEWEST), np.nan)
        fourth = 1.5 * np.abs(estimate.per_angle[:, 0]) * parts.shared**2 / white
        fourth *= max(1.0, 2.0 * parts.smooth_ratio - 1.0)
        size = len(estimate.free)
        order = [*range(2, 2 + size), 0, 1]
        total = np.zeros((lifts.shape[1], lifts.shape[1]))
        for k, lift in enumerate(lifts):
            factor = np.append(np.full(size, estimate.per_angle[k, 0]), [1.0, 1.0])
            gram = white[k] * np.tensordot(np.nan_to_num(levels, nan=1.0), blocks[k][:, :-1, :-1], axes=1)
            both = (gram + fourth[k] * cycles[k])[np.ix_(order, order)] * np.outer(factor, factor)
            total += lift @ both @ lift.T / estimate.sigma[k] ** 4
        weighed = replace(parts, model="speckle", width=source.averages.width, levels=levels)
        weighed = replace(weighed, spectrum=_spectrum(source, model, estimate, freedoms.sum(axis=1)))
        return total, replace(weighed, expected_chi_squared=1.0), None

    return scatter


def _spectrum(source: Whitened, model: Model, estimate: Estimate, freedom: Floats) -> Floats:
    """Expected variance over white, variance found over that expected, and number of elements, (3, bins).

    Of as many angles as have CHECKED_SQUARES together; `freedom` (n_phi,) are the independent elements of each.
    """
    theta = jnp.asarray(estimate.theta)
    examined = checked_angles(source.averages.elements, CHECKED_SQUARES)

    def one(n: int) -> Floats:
        k = int(examined[n])
        return spectrum_of(model, source.angles[k], theta, estimate.per_angle[k], freedom[k]) / weight[:, k, None]

    weight = np.stack([source.white, np.ones_like(source.white)])
    found, count = np.sum(each_angle(one, len(examined), source.threads), axis=0)
    some = count >= FEWEST
    middle = np.sqrt(STRENGTHS[1:] * STRENGTHS[:-1])
    return np.stack([middle[some], found[some] / count[some], count[some]])


def _by_block(source: Whitened, model: Model, estimate: Estimate) -> tuple[list[Floats], list[Floats]]:
    """Inner products by block of the columns and the residuals of every angle, and those over cycles."""
    theta, tangents = jnp.asarray(estimate.theta), estimate.tangents

    def found(k: int) -> tuple[Floats, Floats]:
        return scatter_of_angle(model, source.angles[k], theta, tangents, estimate.per_angle[k])

    blocks, cycles = zip(*each_angle(found, len(source.angles), source.threads), strict=True)
    return list(blocks), list(cycles)


def against_whitening(
    fitted: Fitted, covariances: Covariances, parts: NoiseParts, averages: Averages | None, wanted: str
) -> str:
    """Why the noise of speckles is not allowed for in the fit itself; empty when nothing speaks against it."""
    if not fitted.settled.minimum.converged or fitted.represented.is_raw:
        return "the fit for independent noise did not get that far"
    if parts.errors_from != "speckle":
        return "what pairs share is not the noise of speckles"
    if not parts.may_be_speckle:
        return "pairs share more smooth noise than speckles make" if np.any(parts.shared > 0.0) else "pairs share none"
    if wanted == "auto" and parts.seen < CLEARLY:
        return "it shows too little to rely on"
    robust, alone = covariances.robust, covariances.model_based
    size = len(fitted.settled.objective.coordinates.free)
    ratio = None if robust is None else np.sqrt(np.diag(robust)[:size] / np.diag(alone)[:size])
    if wanted == "auto" and ratio is not None and np.all(ratio < BARELY):
        return "counting noise dominates"
    if averages is None:
        return "the decay is too fast for the squares of frames that are affordable"
    holes = max(len(averages.holes_of(k)) for k in range(len(averages.phi)))
    return f"{holes} squares of an angle hold no pair, {MOST_HOLES} are affordable" if holes > MOST_HOLES else ""
