"""The point fit: scout, compress, minimise, check against the raw pairs, quote errors that can be defended."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from hpcxpcs.answer.fit import CompressionReport, PointFit, PointSettings
from hpcxpcs.answer.thresholds import FEWEST_FREEDOM, SETTLED_BY
from hpcxpcs.arrays import Floats
from hpcxpcs.config.resolve import ResolvedParameter
from hpcxpcs.errors import DataError
from hpcxpcs.inference.answer import SMALLEST_SCALE, Evaluated, assemble, evaluate
from hpcxpcs.inference.bounds import (
    Mirror,
    Settled,
    differ,
    in_first_turn,
    nearest,
    settle_bounds,
    with_offsets_in_reach,
)
from hpcxpcs.inference.compression import (
    ALLOWANCE,
    CHECK_DRAWS,
    CompressionCheck,
    adapted,
    check_compression,
    compressed,
    posterior_cloud,
)
from hpcxpcs.inference.coordinates import Coordinates, reference_time
from hpcxpcs.inference.exchange import TWO_COMPONENTS, labelled
from hpcxpcs.inference.measurement import Measurement, difference_noise, stated_noise
from hpcxpcs.inference.objective import Limits, Objective
from hpcxpcs.inference.recovery import Scaled, minimise_or_recover, minimise_scaled, released
from hpcxpcs.inference.scout import Scouting, scout
from hpcxpcs.inference.simpler import rest_idle_offsets
from hpcxpcs.inference.speckle import against_whitening, averaged_squares, fit_whitened, width_of_squares
from hpcxpcs.inference.stages import Fitted, PairNoise, Progress, Report, Represented
from hpcxpcs.inference.trust_region import Minimum
from hpcxpcs.likelihood.cells import Partition, geometric_cells
from hpcxpcs.likelihood.moments import Moments
from hpcxpcs.likelihood.scaling import build_scaling
from hpcxpcs.physics.model import Model

RIVAL = 30.0
"""Scouted minima within this ½χ² of the best are followed on the full data too."""

SCOUTED_DRAWS = 4
"""Laplace draws around the scouted minima that the cells must represent besides the minima."""

ROUNDS = 3
"""Attempts to bring the compression error below its tolerance before the raw pairs are used."""

SMALLEST_NOISE = 1.0e-6
"""Noise assumed for data that show none (noise-free simulations): below float32 rounding of c2."""

REFINE = 4.0
"""Factor by which the allowed interpolation error falls when a check fails."""

_log = logging.getLogger(__name__)


def fit_point(
    measurement: Measurement,
    model: Model,
    parameters: Sequence[ResolvedParameter],
    settings: PointSettings,
    announce: Report = lambda text: None,
) -> PointFit:
    """Least squares of a model on a measurement; see PointFit for what comes back and what its status means."""
    return fit_in_stages(measurement, model, parameters, settings, announce)[0]


def fit_in_stages(
    measurement: Measurement,
    model: Model,
    parameters: Sequence[ResolvedParameter],
    settings: PointSettings,
    announce: Report = lambda text: None,
) -> tuple[PointFit, Fitted]:
    """A point fit together with the minimum and the compressed data that it rests on."""
    begun = time.perf_counter()
    progress = Progress(announce)
    _require_enough(measurement, model, parameters)
    limits = Limits.of(parameters, *measurement.time_range)
    fixed = tuple((k, p.fixed) for k, p in enumerate(parameters) if p.fixed is not None)
    coordinates = Coordinates(model, reference_time(*measurement.time_range), fixed)
    with progress.phase("scout", "scouting for the basin on a sample of pairs"):
        scouting = scout(
            measurement,
            coordinates,
            parameters,
            settings,
            limits,
            _first_noise(measurement, settings),
            _user_start(parameters),
        )
    parameters = with_offsets_in_reach(parameters, model, _best(scouting), limits)
    limits = Limits.of(parameters, *measurement.time_range)
    scouting = replace(scouting, objective=replace(scouting.objective, limits=limits))
    fitted = _fit_with_error_control(measurement, scouting, parameters, settings, progress)
    with progress.phase("errors", "computing error bars"):
        evaluated = evaluate(measurement, settings, fitted)
    fitted, evaluated = _under_speckles(measurement, fitted, evaluated, settings, progress)
    if not settings.robust:
        evaluated = replace(evaluated, covariances=replace(evaluated.covariances, robust=None))
    answer = assemble(measurement, parameters, settings, scouting, fitted, evaluated, progress)
    return replace(answer, seconds=time.perf_counter() - begun), fitted


def _under_speckles(
    measurement: Measurement, pilot: Fitted, before: Evaluated, settings: PointSettings, progress: Progress
) -> tuple[Fitted, Evaluated]:
    """The fit that allows for the noise of speckles, if that is what the noise is like, else the pilot; and why.

    The configuration may insist, but not on what is impossible.
    """
    noise, residuals = before.covariances.noise, before.covariances.residuals
    if settings.noise_model == "independent" or noise is None or residuals is None or before.covariances.robust is None:
        return pilot, before
    pilot, now = _without_unknown_offsets(measurement, pilot, before, settings)
    found, parts = now.covariances, now.covariances.noise
    if parts is None or found.robust is None:
        return pilot, now
    model = pilot.settled.objective.coordinates.model
    width = width_of_squares(measurement, model, before.estimate.theta)
    averages = None
    if width is not None:
        averages = averaged_squares(measurement, model, before.estimate, residuals, width)
    why = against_whitening(pilot, found, parts, averages, settings.noise_model)
    if not why and averages is not None and width is not None:
        free, count = list(now.estimate.free), pilot.settled.theta.size
        errors = np.full((2, count), np.nan)
        errors[:, free] = [np.sqrt(np.diag(c)[: len(free)]) for c in (found.model_based, found.robust)]
        parts = replace(parts, alone=errors[0], alone_robust=errors[1])
        with progress.phase("whiten", "weighing pairs by the noise that they share"):
            coarse = averaged_squares(measurement, model, before.estimate, residuals, 2 * width)
            whitened = fit_whitened(measurement, pilot, now.estimate, averages, coarse, parts, found.robust, settings)
            if whitened is not None:
                after = evaluate(measurement, settings, whitened)
                noise = after.covariances.noise
                if noise is not None and noise.is_white:
                    return whitened, after
        why = "no minimum was found when pairs were weighed by it"
        if whitened is not None:
            why = "what is left over when pairs are weighed by it is not what speckles make"
    told = replace(found, noise=replace(parts, why=why))
    return pilot, replace(now, covariances=told)


def _without_unknown_offsets(
    measurement: Measurement, pilot: Fitted, before: Evaluated, settings: PointSettings
) -> tuple[Fitted, Evaluated]:
    """The fit with offsets at 0 that robust errors do not tell from their rates, evaluated; the same for none."""
    while (rested := _rested_by_robust_errors(pilot, before, settings)) is not None:
        pilot, before = rested, evaluate(measurement, settings, rested, before.covariances)
    return pilot, before


def _rested_by_robust_errors(pilot: Fitted, before: Evaluated, settings: PointSettings) -> Fitted | None:
    """The fit with offsets at 0 that the data tell from their rates by errors as if independent only; None for none."""
    size, covariances = len(before.estimate.free), before.covariances
    if covariances.robust is None:
        return None
    ratios = np.diag(covariances.robust)[:size] / np.diag(covariances.model_based)[:size]
    wider = float(np.sqrt(np.max(ratios, initial=1.0)))
    if not np.isfinite(wider) or wider <= 1.0:
        return None
    scaled, pairs = pilot.scaled, float(np.sum(pilot.represented.moments.pairs))
    scale = wider * _scale(scaled, pairs)
    settled = rest_idle_offsets(scaled.objective, pilot.settled, scaled.minimum.u, settings, scale)
    return replace(pilot, settled=settled) if set(settled.rested) > set(pilot.settled.rested) else None


def _best(scouting: Scouting) -> Floats:
    """The parameters (p,) of the best scouted minimum."""
    return np.asarray(scouting.objective.theta(scouting.minima[0].u))


def _require_enough(measurement: Measurement, model: Model, parameters: Sequence[ResolvedParameter]) -> None:
    """Refuse what no fit can answer: an angle-dependent model with its reference angle free and a single angle."""
    free = {p.parameter.name for p in parameters if p.fixed is None}
    if len(measurement.phi) == 1 and "phi0" in free:
        raise DataError(
            f"{model.name} with one angle (phi = {measurement.phi[0]:g}°) cannot tell phi0 from the flow: "
            "select more angles (data_filtering.phi_range) or fix it (initial_parameters.fixed_parameters: {phi0: 0})"
        )


def _first_noise(measurement: Measurement, settings: PointSettings) -> Floats:
    """σ (n_phi,) to scout with: given, or 1 when the data carry weights, or from neighbouring pixels."""
    if measurement.has_sigma:
        return np.ones(len(measurement.phi))
    if settings.noise is not None:
        return np.full(len(measurement.phi), settings.noise)
    return np.maximum(difference_noise(measurement), SMALLEST_NOISE)


def _user_start(parameters: Sequence[ResolvedParameter]) -> Floats | None:
    """The configured start values (p,), NaN where the data shall choose; None when no free parameter has one."""
    if all(p.start is None for p in parameters if p.fixed is None):
        return None
    values = [p.start if p.fixed is None else p.fixed for p in parameters]
    return np.array([np.nan if v is None else v for v in values])


def _fit_with_error_control(
    measurement: Measurement,
    scouting: Scouting,
    parameters: Sequence[ResolvedParameter],
    settings: PointSettings,
    progress: Progress,
) -> Fitted:
    """Compress, fit and check; refine the cells until the check passes, else fit the raw pairs."""
    model = scouting.objective.coordinates.model
    if model.integrator != "exact":
        represented = _raw_representation(measurement, settings, progress)
        return _fit_on(measurement, scouting, represented, parameters, settings, progress, 1)
    allowed = ALLOWANCE * settings.compression_tolerance
    thetas = _scouted_sets(scouting, settings)
    starts = [m.u for m in _rivals(scouting)]
    for attempt in range(1, ROUNDS + 1):
        represented = _compressed_representation(measurement, scouting, thetas, allowed, settings, progress)
        if represented.is_raw:
            break
        fitted = _fit_on(measurement, scouting, represented, parameters, settings, progress, attempt, starts)
        if fitted.report.error <= settings.compression_tolerance:
            return fitted
        allowed /= REFINE
        thetas = _cloud(fitted.settled.objective, fitted.settled.minimum, settings)[: 1 + SCOUTED_DRAWS]
        ends = [fitted.settled.theta, *([] if fitted.mirror is None else [fitted.mirror.values])]
        starts = [scouting.objective.coordinates.from_physical(theta) for theta in ends]
    represented = _raw_representation(measurement, settings, progress)
    return _fit_on(measurement, scouting, represented, parameters, settings, progress, ROUNDS + 1, starts)


def _rivals(scouting: Scouting) -> list[Minimum]:
    """The best scouted minimum and those near it (never none, whatever the cost)."""
    best, *others = scouting.minima
    return [best, *(m for m in others if m.cost < best.cost + RIVAL)]


def _scouted_sets(scouting: Scouting, settings: PointSettings) -> Floats:
    """Parameter sets (k, p) that the cells must represent: every rival minimum with a few draws around it."""
    rivals = _rivals(scouting)
    draws = SCOUTED_DRAWS // len(rivals)
    sets = [posterior_cloud(scouting.objective, m.u, m.normal, draws, settings.seed, axes=False) for m in rivals]
    return np.concatenate(sets)


def _cloud(objective: Objective, minimum: Minimum, settings: PointSettings) -> Floats:
    draws = max(CHECK_DRAWS, 16 - minimum.u.size)
    return posterior_cloud(objective, minimum.u, minimum.normal, draws, settings.seed)


def _compressed_representation(
    measurement: Measurement,
    scouting: Scouting,
    thetas: Floats,
    allowed: float,
    settings: PointSettings,
    progress: Progress,
) -> Represented:
    rough = np.asarray(scouting.objective.sigma) * stated_noise(measurement)
    contrast = np.abs(np.asarray(scouting.minima[0].normal.solution.per_angle)[:, 0])
    strength = (np.clip(contrast, 0.3 * np.median(contrast), None) / rough) ** 2
    model = scouting.objective.coordinates.model
    with progress.phase("cells", "fitting the cells to the model"):
        partition = adapted(measurement, model, thetas, strength, allowed)
    with progress.phase("compress", f"compressing {len(measurement.phi)} angles into {partition.nodes} nodes each"):
        moments = compressed(measurement, partition)
        noise = _noise(measurement, moments, settings)
    return Represented(moments, moments, noise, partition, not partition.resolved)


def _raw_representation(measurement: Measurement, settings: PointSettings, progress: Progress) -> Represented:
    """All raw pairs, with the noise still taken from model-free moments."""
    cells = geometric_cells(measurement.axis)
    with progress.phase("compress", "measuring the noise; the fit will use the raw pairs"):
        moments = compressed(measurement, Partition(cells, 0.0, 0, True))
        noise = _noise(measurement, moments, settings)
    return Represented(measurement.raw, moments, noise, Partition(cells, 0.0, 0, True), True)


def _noise(measurement: Measurement, moments: Moments, settings: PointSettings) -> PairNoise:
    """σ per angle: the file's own, the configured, or what the cells leave over; pooled where that is too little."""
    n_phi = len(measurement.phi)
    if measurement.has_sigma:
        return PairNoise(np.ones(n_phi), "file", np.inf)
    if settings.noise is not None:
        return PairNoise(np.full(n_phi, settings.noise), "given", np.inf)
    sigma, freedom = moments.noise()
    usable = np.clip(freedom, 0.0, None)
    if usable.sum() < FEWEST_FREEDOM:
        return PairNoise(_first_noise(measurement, settings), "neighbouring pairs", float(usable.sum()))
    pooled = np.sqrt(np.sum(sigma**2 * usable) / usable.sum())
    sigma = np.where(freedom < FEWEST_FREEDOM, pooled, sigma)
    return PairNoise(np.maximum(sigma, SMALLEST_NOISE), "compression residual", float(usable.sum()))


def _fit_on(
    measurement: Measurement,
    scouting: Scouting,
    represented: Represented,
    parameters: Sequence[ResolvedParameter],
    settings: PointSettings,
    progress: Progress,
    attempt: int,
    starts: Sequence[Floats] | None = None,
) -> Fitted:
    """Minimise from every start, keep the best, hold what is at a bound, name the components, check the compression."""
    objective = replace(
        scouting.objective,
        source=represented.source,
        sigma=jnp.asarray(represented.noise.sigma),
        scaling=build_scaling("individual", measurement.phi),
    )
    pairs = float(np.sum(represented.moments.pairs))
    with progress.phase("fit", "minimising on all pairs"):
        ends = [
            minimise_scaled(objective, u, measurement.phi, settings)
            for u in (starts or [m.u for m in scouting.minima[:2]])
        ]
        for number, end in enumerate(ends, 1):
            _tell(end.minimum, number, attempt)
        kept, mirror = _chosen(ends, parameters, pairs, settings)
        scaled, exchange = released(kept, settings), None
        settled = settle_bounds(scaled.objective, scaled.minimum, settings)
        if objective.coordinates.model.name in TWO_COMPONENTS:
            scaled, settled, exchange = labelled(scaled, settled, measurement.phi, parameters, settings, pairs)
        settled = rest_idle_offsets(scaled.objective, settled, kept.minimum.u, settings, _scale(kept, pairs))
        if kept.minimum.converged and not settled.minimum.converged:
            settled = _restarted(scaled.objective, kept, settings)
    report = _compression_report(measurement, represented, settled, settings, progress, attempt)
    return Fitted(scaled, settled, represented, report, tuple(parameters), exchange, mirror)


def _restarted(objective: Objective, kept: Scaled, settings: PointSettings) -> Settled:
    """What restarts make of a fit that converged before it was free to slide, and not after."""
    minimum, actions = minimise_or_recover(objective, kept.minimum.u, settings)
    settled = settle_bounds(objective, minimum, settings)
    return replace(settled, actions=(*actions, *settled.actions))


def _scale(scaled: Scaled, pairs: float) -> float:
    """Noise that is left at a minimum, in units of σ."""
    return max(float(np.sqrt(2.0 * scaled.minimum.cost / pairs)), SMALLEST_SCALE)


def _chosen(
    ends: Sequence[Scaled], parameters: Sequence[ResolvedParameter], pairs: float, settings: PointSettings
) -> tuple[Scaled, Mirror | None]:
    """The best minimum, of two directions of flow that fit as well the likelier one, and the other."""
    best = min(ends, key=_rank)
    coordinates = best.objective.coordinates
    scale = _scale(best, pairs) if settings.sample_noise_scale else 1.0

    def change(end: Scaled) -> float:
        return 2.0 * (_rank(end) - best.minimum.cost) / scale**2

    others = [end for end in ends if differ(coordinates, end.minimum.u, best.minimum.u)]
    if not others or change(min(others, key=_rank)) > SETTLED_BY:
        return best, None
    pair = best, min(others, key=_rank)
    phi0 = next(p for p in parameters if p.parameter.name == "phi0")
    start = phi0.prior.quantile(np.array(0.5), phi0.lower, phi0.upper) if phi0.start is None else phi0.start
    first = nearest(coordinates, [end.minimum.u for end in pair], float(start))
    chosen, other = pair[first], pair[1 - first]
    turned = in_first_turn(other.objective, other.minimum)
    return chosen, Mirror(np.asarray(other.objective.theta(turned.u)), change(other) - change(chosen))


def _tell(minimum: Minimum, number: int, attempt: int) -> None:
    """Log where a start has ended on all pairs."""
    outcome = "converged" if minimum.converged else "not converged"
    known = {"iterations": minimum.iterations, "evaluations": minimum.evaluations, "outcome": outcome}
    words = ("start %d on all pairs, attempt %d: ½χ² %.10g, %s", number, attempt, minimum.cost, outcome)
    _log.info(*words, extra={"event": "fit", "start": number, "attempt": attempt, "cost": minimum.cost, **known})


def _rank(scaled: Scaled) -> float:
    cost = scaled.minimum.cost
    return cost if np.isfinite(cost) else float("inf")


def _compression_report(
    measurement: Measurement,
    represented: Represented,
    settled: Settled,
    settings: PointSettings,
    progress: Progress,
    attempt: int,
) -> CompressionReport:
    pairs = int(represented.moments.pairs.sum())
    if represented.is_raw or represented.partition is None:
        return CompressionReport("raw", 0, 0, pairs, 0.0, 0.0, settings.compression_tolerance, pairs, 0, attempt)
    with progress.phase("check", "checking the compression against raw pairs"):
        cloud = _cloud(settled.objective, settled.minimum, settings)
        found: CompressionCheck = check_compression(measurement, settled.objective, represented.moments, cloud)
    return CompressionReport(
        provider="moments",
        cells=len(represented.partition.cells),
        nodes=represented.moments.node_count,
        pairs=pairs,
        error=found.spread,
        largest_error=found.largest,
        tolerance=settings.compression_tolerance,
        checked_pairs=found.pairs,
        checked_points=found.points,
        rounds=attempt,
    )
