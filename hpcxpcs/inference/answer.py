"""From a minimum to the answer: covariances, scaling, χ², flags and status in one record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from hpcxpcs.answer.fit import Alternative, Asymmetry, PointFit, PointSettings, ScalingEstimate
from hpcxpcs.answer.fit_verdict import Evidence, chi_squared_tail, flags_of, named_directions, status_of
from hpcxpcs.answer.joint import JointSets
from hpcxpcs.arrays import Floats
from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.config.scale import DataScale
from hpcxpcs.inference.bounds import Settled
from hpcxpcs.inference.consensus import DATA_SETS, heterogeneity
from hpcxpcs.inference.coordinates import Coordinates, physical_sets
from hpcxpcs.inference.covariance import (
    Covariances,
    Scatter,
    covariances,
    estimates_of_sets,
    scatter_like,
    scatter_of_pairs,
)
from hpcxpcs.inference.measurement import Measurement
from hpcxpcs.inference.noise import Estimate
from hpcxpcs.inference.objective import Limits, Objective
from hpcxpcs.inference.scout import Scouting, searched
from hpcxpcs.inference.simpler import alternatives
from hpcxpcs.inference.speckle import scatter_of_squares
from hpcxpcs.inference.stages import Fitted, Progress
from hpcxpcs.inference.trust_region import Minimum, whitening
from hpcxpcs.likelihood.gaussian import Normal, chi_squared_per_angle, profiled
from hpcxpcs.likelihood.products import no_tangents
from hpcxpcs.likelihood.scaling import build_scaling

FLOW_RATES = ("gamma_dot_t0", "gamma_dot_t_offset", "v0", "v_offset")
"""Rates whose values belong to a direction of the flow."""

SAME_CHI_SQUARED = 0.5
"""Difference in χ² that no words depend on."""

REFUSED = 16.0
"""Change of χ² in a condensed likelihood from which a parameter is needed wherever the exact minimum without it is:
four standard deviations away the condensed one still holds (WIDTHS of `hpcxpcs.inference.speckle`)."""

SMALLEST_SCALE = 1.0e-3
"""Noise scale of data that agree with the model to rounding (simulations without noise): errors stay above zero."""


@dataclass(frozen=True)
class Evaluated:
    """A settled minimum evaluated: products-based quantities that several parts of the answer share."""

    estimate: Estimate
    per_angle: Floats
    chi_each: Floats
    freedom: float
    scale: float
    covariances: Covariances


def assemble(
    measurement: Measurement,
    parameters: Sequence[ResolvedParameter],
    settings: PointSettings,
    scouting: Scouting,
    fitted: Fitted,
    evaluated: Evaluated,
    progress: Progress,
) -> PointFit:
    """Everything that is reported of a settled minimum; `seconds` is left at 0 for the caller."""
    settled, represented, model = fitted.settled, fitted.represented, scouting.objective.coordinates.model
    others = _alternatives(parameters, settings, fitted, evaluated)
    free, minimum = settled.objective.coordinates.free, settled.minimum
    names = tuple(p.parameter.name for p in parameters)
    robust = evaluated.covariances.robust
    fit = PointFit(
        model=model.name,
        conventions=model.conventions(),
        names=names,
        values=settled.theta,
        free=np.isin(np.arange(len(names)), free),
        **_allowed(parameters),
        data_scale=DataScale(model.q, model.gap, measurement.axis.step, *measurement.time_range).record(),
        at_bound=np.isin(np.arange(len(names)), settled.held),
        uncertainty=_over_all(_sd(evaluated.covariances.model_based), free, len(names)),
        robust_uncertainty=None if robust is None else _over_all(_sd(robust), free, len(names)),
        scaling=_scaling_estimate(fitted, evaluated, len(free)),
        covariance=evaluated.covariances.model_based,
        covariance_names=_covariance_names(names, free, len(measurement.phi)),
        robust_covariance=robust,
        sigma=represented.noise.sigma,
        sigma_source=represented.noise.source,
        noise_scale=evaluated.scale,
        chi_squared=float(evaluated.chi_each.sum()),
        degrees_of_freedom=evaluated.freedom,
        chi_squared_per_angle=evaluated.chi_each,
        pairs=np.asarray(represented.moments.pairs),
        status="",
        message="",
        iterations=minimum.iterations,
        evaluations=minimum.evaluations + scouting.evaluations,
        seconds=0.0,
        recovery_actions=(*fitted.scaled.actions, *settled.actions),
        starts=scouting.starts,
        search=searched(scouting, settings),
        flags=(),
        alternatives=others,
        rested=tuple(names[k] for k in settled.rested),
        mirrored=_mirror_words(parameters, fitted),
        gradient_balance=_gradient_balance(settled.objective, minimum.normal, names),
        condition_number=evaluated.covariances.condition,
        compression=fitted.report,
        timings=dict(progress.timings),
        exchange=fitted.exchange,
        noise=evaluated.covariances.noise,
        noise_freedom=represented.noise.freedom,
        joint=_joint(measurement, settings, fitted, evaluated),
    )
    evidence = _evidence(measurement, parameters, fitted, evaluated, others)
    status, message = status_of(fit, evidence)
    return replace(fit, status=status, message=message, flags=flags_of(fit, evidence))


def _joint(measurement: Measurement, settings: PointSettings, fitted: Fitted, evaluated: Evaluated) -> JointSets | None:
    """The data sets of a joint fit, and whether they agree about what they share; None for one set."""
    found, model = evaluated.covariances, fitted.settled.objective.coordinates.model
    sets = model.sets
    if measurement.set_of_angle is None or sets is None:
        return None
    size = len(evaluated.estimate.free)
    widening = np.ones(size)
    if found.robust is not None:
        widening = np.maximum(_sd(found.robust)[:size] / _sd(found.model_based)[:size], 1.0)
    estimates = estimates_of_sets(
        fitted.represented.source, model, evaluated.estimate, measurement.set_of_angle, widening
    )
    return JointSets(
        measurement.set_labels,
        np.array([np.asarray(sets.q)[measurement.set_of_angle == k].mean() for k in range(sets.count)]),
        heterogeneity(*estimates, DATA_SETS),
        settings.own,
    )


def _allowed(parameters: Sequence[ResolvedParameter]) -> dict[str, Any]:
    """Units, bounds, priors and where these come from, as the record of a fit has them."""
    return {
        "units": tuple(p.parameter.unit for p in parameters),
        "lower": np.array([p.lower for p in parameters]),
        "upper": np.array([p.upper for p in parameters]),
        "priors": {p.parameter.name: p.prior.to_mapping() for p in parameters},
        "origins": {p.parameter.name: p.origins() for p in parameters},
    }


def evaluate(
    measurement: Measurement, settings: PointSettings, fitted: Fitted, fuller: Covariances | None = None
) -> Evaluated:
    """χ², noise scale and covariances at a settled minimum; those of a `fuller` fit tell the noise, where they can."""
    settled, represented = fitted.settled, fitted.represented
    objective, theta = settled.objective, jnp.asarray(settled.theta)
    model = objective.coordinates.model
    products = represented.source.products(model, theta, no_tangents(theta))
    solution = profiled(objective.scaling, products, objective.sigma).solution
    chi_each = np.maximum(chi_squared_per_angle(products, solution.per_angle, objective.sigma), 0.0)
    per_angle, pairs = np.asarray(solution.per_angle), float(np.sum(represented.moments.pairs))
    free = objective.coordinates.free
    rough = max(pairs - len(free) - objective.scaling.precision.size, 1.0)
    scale = 1.0
    if settings.sample_noise_scale:
        scale = max(float(np.sqrt(chi_each.sum() / rough)), SMALLEST_SCALE)
    estimate = Estimate(settled.theta, free, per_angle, represented.noise.sigma * scale)
    scatter: Scatter | None = None
    if represented.whitened is not None and represented.parts is not None:
        scatter = scatter_of_squares(represented.whitened, model, estimate, represented.parts)
    elif settings.robust or settings.noise_model == "speckle":
        scatter = None if fuller is None else scatter_like(measurement, model, estimate, fuller)
        scatter = scatter or scatter_of_pairs(measurement, model, estimate, settings)
    found = covariances(represented.source, model, estimate, objective.scaling, scatter)
    if found.noise is not None and found.noise.explains_residuals and found.noise.model == "independent":
        expected = float(np.sum(found.noise.variance / represented.noise.sigma**2 * represented.moments.pairs)) / pairs
        found = replace(found, noise=replace(found.noise, expected_chi_squared=expected))
    return Evaluated(estimate, per_angle, chi_each, pairs - len(free) - found.effective, scale, found)


def _scaling_estimate(fitted: Fitted, evaluated: Evaluated, n_free: int) -> ScalingEstimate:
    n_phi = evaluated.per_angle.shape[0]

    def split(covariance: Floats) -> tuple[Floats, Floats]:
        sd = _sd(covariance)[n_free:]
        return sd[:n_phi], sd[n_phi:]

    model_based = split(evaluated.covariances.model_based)
    robust = evaluated.covariances.robust
    clustered = (None, None) if robust is None else split(robust)
    return ScalingEstimate(
        fitted.settled.objective.scaling.mode,
        evaluated.per_angle[:, 0],
        evaluated.per_angle[:, 1],
        contrast_uncertainty=model_based[0],
        offset_uncertainty=model_based[1],
        robust_contrast_uncertainty=clustered[0],
        robust_offset_uncertainty=clustered[1],
        widths=fitted.scaled.widths,
        notes=fitted.scaled.notes,
    )


def _evidence(
    measurement: Measurement,
    parameters: Sequence[ResolvedParameter],
    fitted: Fitted,
    evaluated: Evaluated,
    others: tuple[Alternative, ...],
) -> Evidence:
    settled = fitted.settled
    free = settled.objective.coordinates.free
    labels = (
        *(parameters[k].parameter.name for k in free),
        *(f"scaling[{k}]" for k in range(settled.objective.scaling.precision.size)),
    )
    return Evidence(
        converged=settled.minimum.converged,
        exhausted=settled.minimum.exhausted,
        at_bound=tuple(parameters[k].parameter.name for k in settled.held),
        undetermined=named_directions(evaluated.covariances.undetermined, labels),
        widths=_widths(parameters, settled)[list(free)],
        rejects_shared_scaling=_shared_scaling_test(measurement, fitted, evaluated),
        asymmetry=_asymmetry(settled, evaluated),
        companions={other.held: _companions(parameters, other.held) for other in others},
    )


def _mirror_words(parameters: Sequence[ResolvedParameter], fitted: Fitted) -> str:
    """That a flow of another direction fits as well, which is quoted and why; empty when none does."""
    other = fitted.mirror
    if other is None:
        return ""
    names = [p.parameter.name for p in parameters]
    index = names.index("phi0")
    rates = [k for k, p in enumerate(parameters) if p.parameter.name in FLOW_RATES and p.fixed is None]
    shown = "".join(f", {names[k]} = {other.values[k]:.4g}" for k in rates)
    return (
        f"these angles do not tell the flow from its mirror image: phi0 = {other.values[index]:.4g}{shown} fits as "
        f"well (χ² changes by {other.change:+.2f}). phi0 = {fitted.settled.theta[index]:.4g} is quoted because it is "
        "nearer to its start or, without one, to the middle of its prior: configure these, or bounds, if you know"
    )


def _companions(parameters: Sequence[ResolvedParameter], held: str) -> tuple[str, ...]:
    """The parameters of the same group, whose meaning changes when one of them is held."""
    group = next(p.parameter.group for p in parameters if p.parameter.name == held)
    return tuple(p.parameter.name for p in parameters if p.parameter.group == group)


def _alternatives(
    parameters: Sequence[ResolvedParameter], settings: PointSettings, fitted: Fitted, evaluated: Evaluated
) -> tuple[Alternative, ...]:
    """The fits without one of a degenerate pair; none where every evaluation is a pass over the raw pairs."""
    if fitted.represented.is_raw or evaluated.covariances.undetermined:
        return ()
    covariance, chi_squared = evaluated.covariances.model_based, float(evaluated.chi_each.sum())
    scale, squares = evaluated.scale, fitted.represented.whitened
    found = alternatives(parameters, fitted.settled, covariance, chi_squared, scale, settings)
    if squares is None:
        return found
    exact = [replace(other, change=_chi_squared_of_squares(fitted, other.values) - chi_squared) for other in found]
    changes = [(one.change, other.change) for one, other in zip(found, exact, strict=True)]
    if all(abs(one - other) < SAME_CHI_SQUARED or min(one, other) > REFUSED for one, other in changes):
        return tuple(exact)
    on_all = replace(fitted.settled, objective=replace(fitted.settled.objective, source=squares))
    return alternatives(parameters, on_all, covariance, chi_squared, scale, settings)


def _chi_squared_of_squares(fitted: Fitted, values: Floats) -> float:
    """χ² of all squares at parameters (p,), which may be outside of the window of a condensed likelihood."""
    objective, theta = fitted.settled.objective, jnp.asarray(values)
    assert fitted.represented.whitened is not None
    products = fitted.represented.whitened.products(objective.coordinates.model, theta, no_tangents(theta))
    solution = profiled(objective.scaling, products, objective.sigma).solution
    return float(np.sum(np.asarray(chi_squared_per_angle(products, solution.per_angle, objective.sigma))))


def _widths(parameters: Sequence[ResolvedParameter], settled: Settled) -> Floats:
    """What each parameter (p,) may be without any data: an error of half of that determines nothing.

    Of an amplitude that is up to twice its value, of the offset of a rate twice that of the rate, where the bounds
    leave more.
    """
    widths = np.array([parameter.upper - parameter.lower for parameter in parameters])
    theta, coordinates = settled.theta, settled.objective.coordinates
    for rate in coordinates.model.rates:
        power = abs(theta[rate.amplitude]) * coordinates.t_ref ** theta[rate.exponent]
        widths[rate.amplitude] = min(widths[rate.amplitude], 2.0 * abs(theta[rate.amplitude]))
        widths[rate.offset] = min(widths[rate.offset], 2.0 * (power + abs(theta[rate.offset])))
    return widths


def _asymmetry(settled: Settled, evaluated: Evaluated) -> Asymmetry | None:
    """How symmetric the errors are; None where a parameter has no error at all."""
    errors = _sd(evaluated.covariances.model_based)[: len(settled.objective.coordinates.free)]
    if not np.all(np.isfinite(errors) & (errors > 0.0)):
        return None
    robust = evaluated.covariances.robust
    inflation = np.ones(errors.size) if robust is None else np.maximum(_sd(robust)[: errors.size] / errors, 1.0)
    return asymmetry(settled.objective, settled.minimum, settled.theta, errors, evaluated.scale).widened(
        settled.theta[list(settled.objective.coordinates.free)], inflation
    )


def _shared_scaling_test(measurement: Measurement, fitted: Fitted, evaluated: Evaluated) -> float | None:
    """Probability of the angles' own contrasts and offsets if they were shared; None unless the mode shares them."""
    objective, n_phi = fitted.settled.objective, len(measurement.phi)
    if objective.scaling.mode != "averaged" or n_phi < 2:
        return None
    theta = jnp.asarray(fitted.settled.theta)
    products = fitted.represented.source.products(objective.coordinates.model, theta, no_tangents(theta))
    noise = objective.sigma * evaluated.scale
    own = profiled(build_scaling("individual", measurement.phi), products, noise).cost
    shared = profiled(objective.scaling, products, noise).cost
    return chi_squared_tail(2.0 * float(shared - own), 2.0 * (n_phi - 1))


def _gradient_balance(objective: Objective, normal: Normal, names: Sequence[str]) -> dict[str, float]:
    """|∂(½χ²)/∂u| of each free coordinate in units of its own standard deviation: all near 0 at a minimum."""
    gradient = np.abs(np.asarray(normal.gradient))
    scale = np.sqrt(np.clip(np.diag(np.asarray(normal.information)), 1e-300, None))
    free = objective.coordinates.free
    return {names[k]: float(g / s) for k, g, s in zip(free, gradient, scale, strict=True)}


def _sd(covariance: Floats) -> Floats:
    return np.sqrt(np.clip(np.diag(covariance), 0.0, None))


def _over_all(spread: Floats, free: Sequence[int], count: int) -> Floats:
    """Standard errors of all parameters (p,): NaN where nothing varied."""
    found = np.full(count, np.nan)
    found[list(free)] = spread[: len(free)]
    return found


def _covariance_names(names: Sequence[str], free: Sequence[int], n_phi: int) -> tuple[str, ...]:
    contrast = tuple(f"contrast[{k}]" for k in range(n_phi))
    return (*(names[k] for k in free), *contrast, *(f"offset[{k}]" for k in range(n_phi)))


DRAWS = 4000
"""Laplace draws in fit coordinates behind an interval."""

SYMMETRIC = (0.7, 1.4)
"""Range of (half of the 95 % interval) / (1.96 standard errors) in which an error bar counts as symmetric."""

PARABOLIC = (0.4, 3.0)
"""Range of (change of ½χ² two standard errors away in fit coordinates) / 2 in which those are trusted."""


def asymmetry(objective: Objective, minimum: Minimum, theta: Floats, errors: Floats, scale: float) -> Asymmetry:
    """Compare symmetric errors (f,) at theta (p,) with intervals drawn in fit coordinates; `scale` is the noise scale.

    Draws outside the bounds, or with a rate that turns negative, do not count.
    """
    limits, free = objective.limits, list(objective.coordinates.free)
    transform = whitening(minimum.normal) * scale
    white = np.random.default_rng(0).standard_normal((DRAWS, minimum.u.size))
    thetas, allowed = _inside(objective.coordinates, limits, minimum.u + white @ transform.T)
    if np.count_nonzero(allowed) < DRAWS // 20:
        return Asymmetry(np.full((len(free), 2), np.nan), np.zeros(len(free), dtype=bool), True)
    intervals = np.quantile(thetas[allowed][:, free], [0.025, 0.975], axis=0).T
    reach = np.abs(intervals - theta[free, None]) / (1.96 * errors[:, None])
    lopsided = np.any((reach < SYMMETRIC[0]) | (reach > SYMMETRIC[1]), axis=1)
    return Asymmetry(intervals, lopsided, _is_curved(objective, minimum, transform, scale))


def _inside(coordinates: Coordinates, limits: Limits, us: Floats) -> tuple[Floats, np.ndarray]:
    found, lowest = physical_sets(coordinates, jnp.asarray(us), limits.first, limits.last)
    thetas = np.asarray(found)
    inside = np.all((thetas >= limits.lower) & (thetas <= limits.upper), axis=1)
    return thetas, inside & (np.asarray(lowest) >= 0.0)


def _is_curved(objective: Objective, minimum: Minimum, transform: Floats, scale: float) -> bool:
    """Whether any principal direction of the fit coordinates is far from a parabola, where it may be walked at all."""
    limits = objective.limits
    for direction in transform.T:
        for sign in (-2.0, 2.0):
            u = minimum.u + sign * direction
            if _inside(objective.coordinates, limits, u[None])[1][0]:
                ratio = (objective.cost(u) - minimum.cost) / (2.0 * scale**2)
                if not PARABOLIC[0] <= ratio <= PARABOLIC[1]:
                    return True
    return False
