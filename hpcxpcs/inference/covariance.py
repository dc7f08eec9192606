"""Covariances of physics and scaling together: model-based, and robust to frame-correlated noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from hpcxpcs.answer.fit import NoiseParts, PointSettings
from hpcxpcs.arrays import Floats, Integers
from hpcxpcs.inference.measurement import Measurement
from hpcxpcs.inference.noise import (
    Estimate,
    choose_covariance,
    noise_parts,
    speckle_score_covariance,
    squares_width,
    width_of_blocks,
)
from hpcxpcs.likelihood.dyadic import (
    ClusteredScores,
    Residuals,
    clustered_scores,
    disturbed_together,
    lifted,
    score_covariance,
)
from hpcxpcs.likelihood.products import Products, Source
from hpcxpcs.likelihood.scaling import Scaling
from hpcxpcs.physics.model import Model

BLIND = 0.01
"""A parameter with more than this share in a direction that the data do not see has no error bar."""

FEWEST_ANGLES = 8
"""Angles, and more than parameters are fitted by half of it, from which on their scores are clustered by angle."""

ANGLES_WIN = 2.0
"""Ratio of score variances from which errors clustered by angle are taken. A fit makes the scores of all angles add up
to 0, so that of eight equal angles and two parameters chance reaches it once in 22 times (χ² of 14 above 24); of 23
angles and seven parameters it did 2 times in 10,000. n/(n − p) then is 1.17 and 1.37 times too careful on average."""

UNSEEN = 1.0e-6
"""Share of the information of all data sets that each is given, so that what it does not see has an error: a thousand
times that of all together, which no comparison notices."""

FITTED_AWAY = 4.0
"""A fitted level takes 4 of its N frames' worth of variance out of their clustered scores, under independent as under
frame noise (to order 1/N, and curved directions about twice that); the scores are scaled up by N/(N − 4) for it."""


@dataclass(frozen=True)
class Covariances:
    """Over (free physics (f), contrast (n_phi), offset (n_phi)); robust is None when not asked for or undetermined.

    `condition` is that of the information with unit diagonal; `undetermined` lists directions (f + k,), in units of
    each parameter's own sensitivity, that the data do not see; `effective` counts the coefficients the data determine;
    `noise` says what the robust ones rest on, `residuals` are what the fit left over, in squares of frames.
    """

    model_based: Floats
    robust: Floats | None
    condition: float
    undetermined: tuple[Floats, ...]
    effective: float
    noise: NoiseParts | None = None
    residuals: Residuals | None = None


Scatter = Callable[[Floats, Floats], tuple[Floats, NoiseParts | None, Residuals | None]]
"""From the design (n_phi, 2, k) and the inverse information: the covariance of the total score over (physics,
coefficients), the parts of the noise that it follows from, and the residuals that these were measured on."""


def information(estimate: Estimate, scaling: Scaling, products: Products) -> tuple[Floats, Floats]:
    """Gauss-Newton information of (free physics, coefficients), and the scaling prior's part of it."""
    gram = np.asarray(products.gram)
    weight = estimate.sigma**-2.0
    contrast = estimate.per_angle[:, 0]
    design = np.asarray(scaling.design)
    size, extra = len(estimate.free), design.shape[2]
    total = np.zeros((size + extra, size + extra))
    total[:size, :size] = np.einsum("a,aij->ij", weight * contrast**2, gram[:, 2:, 2:])
    total[:size, size:] = np.einsum("a,aij,ajk->ik", weight * contrast, gram[:, 2:, :2], design)
    total[size:, :size] = total[:size, size:].T
    total[size:, size:] = np.einsum("a,aik,aij,ajl->kl", weight, design, gram[:, :2, :2], design)
    prior = np.zeros_like(total)
    prior[size:, size:] = np.diag(np.asarray(scaling.precision))
    return total + prior, prior


def estimates_of_sets(
    source: Source, model: Model, estimate: Estimate, number: Integers, widening: Floats
) -> tuple[tuple[str, ...], Floats, Floats]:
    """What each data set of a joint fit says alone of the parameters that all share: names, (K,d) and (K,d,d).

    One Gauss-Newton step of each set from the common minimum, over all that is free in it, contrasts and offsets too.
    What a set hardly sees has a large error, from a share UNSEEN of the information of all. Errors are as much wider
    than those of independent noise as scores of angles of one set scatter about it; with fewer than FEWEST_ANGLES
    angles to tell, by `widening` (f,), robust over model-based errors of the free parameters. Those of the joint fit
    hold what sets disagree about, and would hide it.
    """
    angle_sets = model.sets
    assert angle_sets is not None, "only a joint fit has data sets"
    names, base = model.parameter_names, angle_sets.own[0][1] if angle_sets.own else len(model.parameter_names)
    free = [k for k in estimate.free if k < base]
    freed = {index for index, _ in angle_sets.own}
    shared = [place for place, k in enumerate(free) if k not in freed]
    tangents = jnp.eye(len(names))[:, np.array(free, dtype=int)]
    gram, data, _ = map(np.asarray, source.products(model, jnp.asarray(estimate.theta), tangents))
    contrast, weight = estimate.per_angle[:, 0], estimate.sigma**-2.0
    level = np.linalg.solve(gram[:, :2, :2], data[:, :2, None])[..., 0]
    across = np.linalg.solve(gram[:, :2, :2], gram[:, :2, 2:])
    each = gram[:, 2:, 2:] - np.einsum("aki,akj->aij", gram[:, :2, 2:], across)
    slope = data[:, 2:] - np.einsum("aik,ak->ai", gram[:, 2:, :2], level)
    information_of = np.zeros((angle_sets.count, len(free), len(free)))
    score_of = np.zeros((angle_sets.count, len(free)))
    np.add.at(information_of, number, (weight * contrast**2)[:, None, None] * each)
    np.add.at(score_of, number, (weight * contrast)[:, None] * slope)
    information_of += UNSEEN * np.diag(np.diag(information_of.sum(axis=0)))
    inverse = np.linalg.inv(information_of)
    steps = np.einsum("kij,kj->ki", inverse, score_of)
    step, wide = steps[:, shared], np.array([widening[place] for place in shared])
    spare = len(number) - angle_sets.count
    if spare >= FEWEST_ANGLES:
        own = (weight * contrast**2)[:, None, None] * each
        rest = (weight * contrast)[:, None] * slope - np.einsum("aij,aj->ai", own, steps[number])
        whole = np.linalg.inv(information_of.sum(axis=0))
        found = whole @ (rest.T @ rest) @ whole * len(number) / spare
        wide = np.sqrt(np.maximum(np.diag(found) / np.diag(whole), 1.0))[shared]
    covariance = inverse[:, shared][:, :, shared] * np.outer(wide, wide)
    values = estimate.theta[[free[place] for place in shared]]
    return tuple(names[free[place]] for place in shared), values + step, covariance


def covariances(
    source: Source, model: Model, estimate: Estimate, scaling: Scaling, scatter: Scatter | None
) -> Covariances:
    """Invert the information at the estimate, and put the scatter of the scores between if there is one.

    All is NaN where the derivatives of the model are no numbers.
    """
    products = source.products(model, jnp.asarray(estimate.theta), estimate.tangents)
    total, prior = information(estimate, scaling, products)
    if not np.all(np.isfinite(total)):
        unknown = np.full(2 * [len(estimate.free) + 2 * len(estimate.per_angle)], np.nan)
        return Covariances(unknown, None, np.inf, (), float(len(scaling.precision)))
    inverse, condition, undetermined = inverted(total)
    effective = float(total.shape[0] - len(estimate.free) - np.sum(inverse * prior))
    report = _reporting_map(len(estimate.free), np.asarray(scaling.design))
    model_based = report @ inverse @ report.T
    undetermined = tuple(v for v in undetermined if _shows(v, total, report))
    if undetermined:
        blind = np.any(np.abs(np.stack(undetermined)) > BLIND, axis=0)
        unseen = np.any(report[:, blind] != 0.0, axis=1)
        model_based[unseen], model_based[:, unseen] = np.nan, np.nan
    if undetermined or scatter is None:
        return Covariances(model_based, None, condition, undetermined, effective)
    meat, parts, residuals = scatter(np.asarray(scaling.design), inverse)
    bread = report @ inverse
    clustered = bread @ _positive(meat, inverse) @ bread.T
    return Covariances(model_based, clustered, condition, undetermined, effective, parts, residuals)


def scatter_of_pairs(measurement: Measurement, model: Model, estimate: Estimate, settings: PointSettings) -> Scatter:
    """The scatter of scores of a fit that takes pairs for independent.

    Data with errors of their own pair by pair are clustered by frame, or by angle: nothing says which part these are.
    """

    def scatter(design: Floats, inverse: Floats) -> tuple[Floats, NoiseParts | None, Residuals]:
        width = width_of_blocks(measurement, model, estimate.theta)
        widths = width, min(width, squares_width(measurement.axis, 1))
        at = jnp.asarray(estimate.theta), estimate.tangents, estimate.per_angle, estimate.sigma
        scores, residuals = clustered_scores(measurement.raw, model, *at, widths, measurement.drift)
        frames = np.count_nonzero(np.any(scores.by_frame != 0.0, axis=(0, 2)))
        together = disturbed_together(scores)
        by_frame = score_covariance(scores, len(estimate.free), design, together=together)
        by_frame = by_frame * frames / max(frames - FITTED_AWAY, 1.0)
        wider = None if together else wider_by_angle(scores, by_frame, len(estimate.free), design, inverse)
        if measurement.has_sigma:
            return by_frame if wider is None else wider, None, residuals
        parts = noise_parts(measurement, model, estimate, residuals, settings)
        lifts = lifted(len(estimate.free), design)
        speckle = speckle_score_covariance(measurement, model, estimate, residuals, parts, lifts)
        chosen, parts = choose_covariance(speckle, by_frame, parts, inverse, together=together)
        if wider is not None and (parts.errors_from == "frames" or not parts.may_be_speckle):
            chosen, parts = wider, replace(parts, errors_from="angles")
        return chosen, parts, residuals

    return scatter


def scatter_like(measurement: Measurement, model: Model, estimate: Estimate, before: Covariances) -> Scatter | None:
    """The scatter of scores of a fit with fewer parameters, from the noise that was found beside the fuller one.

    None where that noise is not known for that of speckles: which scores are clustered then has to be asked again.
    """
    parts, residuals = before.noise, before.residuals
    if parts is None or residuals is None or parts.errors_from != "speckle":
        return None

    def scatter(design: Floats, inverse: Floats) -> tuple[Floats, NoiseParts, Residuals]:
        lifts = lifted(len(estimate.free), design)
        return speckle_score_covariance(measurement, model, estimate, residuals, parts, lifts), parts, residuals

    return scatter


def wider_by_angle(
    scores: ClusteredScores, by_frame: Floats, n_physics: int, design: Floats, inverse: Floats
) -> Floats | None:
    """The score covariance if every angle is one cluster, where that is clearly the larger one; else None.

    Angles are different pixels, so that what their pairs share, along frames or smoothly, is theirs alone (Liang and
    Zeger, Biometrika 73, 13, 1986). The scores of contrasts and offsets are all but fitted away: only
    e_k = s_k − I_ps I_ss⁻¹ r_k, of physics with the scaling profiled out, is clustered, Var = n/(n − p) Σ e_k e_kᵀ; the
    rest stays as clustered by frame.
    """
    n_phi = len(scores.by_frame)
    if n_phi < max(FEWEST_ANGLES, n_physics + FEWEST_ANGLES // 2):
        return None
    variance = inverse[:n_physics, :n_physics]
    profile = np.concatenate([np.eye(n_physics), np.linalg.solve(variance, inverse[:n_physics, n_physics:])], axis=1)
    totals = 0.5 * scores.by_frame.sum(axis=1)
    own = np.einsum("kij,kj->ki", lifted(n_physics, design), totals) @ profile.T
    clustered = n_phi / (n_phi - n_physics) * own.T @ own
    before = profile @ by_frame @ profile.T
    if np.trace(variance @ clustered) <= ANGLES_WIN * np.trace(variance @ before):
        return None
    found = by_frame.copy()
    found[:n_physics, :n_physics] += clustered - before
    return found


def inverted(total: Floats) -> tuple[Floats, float, tuple[Floats, ...]]:
    """Inverse, condition number and null directions of an information matrix, scaled to unit diagonal first."""
    scale = 1.0 / np.sqrt(np.clip(np.diag(total), 1e-300, None))
    values, vectors = np.linalg.eigh(total * np.outer(scale, scale))
    lowest = max(values[-1], 1e-300) * 1e-13
    null = values <= lowest
    kept = np.where(null, np.inf, values)
    inverse = (vectors / kept) @ vectors.T * np.outer(scale, scale)
    condition = float(values[-1] / max(values[0], lowest))
    return inverse, condition, tuple(vectors[:, k] for k in np.flatnonzero(null))


def _shows(direction: Floats, total: Floats, report: Floats) -> bool:
    """Whether a null direction moves anything reported; a shared level against all its deviations does not."""
    own = 1.0 / np.sqrt(np.clip(np.diag(total), 1e-300, None))
    return bool(np.any(np.abs(report @ (own * direction)) > BLIND * (np.abs(report) @ own)))


def _reporting_map(n_free: int, design: Floats) -> Floats:
    """Linear map from (physics, coefficients) to (physics, contrast per angle, offset per angle)."""
    n_phi, _, extra = design.shape
    report = np.zeros((n_free + 2 * n_phi, n_free + extra))
    report[:n_free, :n_free] = np.eye(n_free)
    report[n_free : n_free + n_phi, n_free:] = design[:, 0]
    report[n_free + n_phi :, n_free:] = design[:, 1]
    return report


def _positive(meat: Floats, inverse: Floats) -> Floats:
    """The nearest score covariance without negative directions, judged in units of the model-based errors."""
    values, vectors = np.linalg.eigh(inverse)
    root = vectors * np.sqrt(np.clip(values, 0.0, None)) @ vectors.T
    whitened, directions = np.linalg.eigh(root @ meat @ root)
    if whitened[0] >= 0.0:
        return meat
    back = np.linalg.pinv(root) @ directions
    return back * np.clip(whitened, 0.0, None) @ back.T
