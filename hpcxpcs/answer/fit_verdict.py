"""The verdict on a point fit: status word, flags, quality and every judgement, each with its reason and its words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.special import gammaincc

from hpcxpcs.answer.fit import (
    Alternative,
    Asymmetry,
    CompressionReport,
    NoiseParts,
    PointFit,
)
from hpcxpcs.answer.joint import disagree
from hpcxpcs.answer.thresholds import (
    ACCEPTABLE_CHI_SQUARED,
    COUNTED_APART,
    DEGENERATE,
    DETECTED,
    FEWEST_FREEDOM,
    GOOD_CHI_SQUARED,
    GOOD_WHITENED_CHI_SQUARED,
    INSEPARABLE,
    MISFIT_SIGNIFICANCE,
    MISFIT_SIZE,
    NOTABLE_INFLATION,
    SERIOUS_INFLATION,
    SETTLED_BY,
    STILL_PHYSICAL,
)
from hpcxpcs.arrays import Floats
from hpcxpcs.config.plausible import check_values
from hpcxpcs.config.scale import DataScale

Misfit = Literal["no number", "not judged", "shared", "none", "structure", "misfit", "noise too large"]
"""What χ² says: about a model (none, structure, misfit) or about σ; of shared noise alone, it cannot tell."""

QUALITY_RULE = (
    "good: the fit converged, no parameter is at a bound, and chi-squared per degree of freedom is within "
    f"{GOOD_CHI_SQUARED[0]}-{GOOD_CHI_SQUARED[1]} and, of independent noise, not above {1 + MISFIT_SIZE:g} by "
    "more than chance, and data sets of a joint fit agree; "
    "acceptable: the fit converged and chi-squared per degree of freedom is within "
    f"{ACCEPTABLE_CHI_SQUARED[0]}-{ACCEPTABLE_CHI_SQUARED[1]}; "
    "poor: anything else, and contrasts that are not physical or not there"
)

_STATUS_WORDS = {
    "converged": "The fit converged.",
    "converged_with_recovery": "The fit converged, after a first attempt had failed and was repeated.",
    "at_bounds": "The search ended at the edge of the allowed range: the best value may lie outside of it.",
    "max_iterations": "The search was stopped before it converged: more iterations are needed.",
    "failed": "The fit failed. The numbers below are where the search stopped; they are not a result.",
}

_CHI_SQUARED_WORDS: dict[Misfit, str] = {
    "no number": "But its χ² is no finite number.",
    "not judged": "χ² does not judge the model here: there are too few degrees of freedom, of the fit or of the noise.",
    "shared": "Noise that points share makes up to {expected} of it ({chi}): χ² does not judge the model here.",
    "none": "The model explains the data ({chi}).",
    "structure": "But the model leaves structure in the residuals, small against the noise ({chi}): read the warnings.",
    "misfit": "But the model does not describe the data to within their noise ({chi}).",
    "noise too large": "But the noise level is overestimated ({chi}), and with it the error bars.",
}

_EXIT_MEANINGS = {
    0: "converged",
    1: "error",
    2: "wrong usage or configuration",
    3: "finished, but a check failed: the numbers are written and flagged",
    75: "stopped early with a checkpoint: run the same command again",
}

SHARED_NOISE = {
    "": "noise is correlated between pairs",
    "frames": "noise is correlated along frames",
    "angles": "noise is correlated over whole angles",
    "speckle": "pairs share the noise of their speckles",
}
"""What makes robust errors larger, by what they come from."""


@dataclass(frozen=True)
class Evidence:
    """What a fit is judged by besides its own record: how the search ended, and what error bars do not say.

    `at_bound` are the parameters held at a bound in the order in which they got there, `undetermined` groups of
    parameters that the data do not tell apart; `widths` (f,) of the free parameters are what each may be without any
    data. `rejects_shared_scaling` is the chance of angles as different if they shared contrast and offset, None where
    they do not. `companions` are, by name of a parameter, those that change their meaning when it is held.
    """

    converged: bool
    exhausted: bool
    at_bound: tuple[str, ...]
    undetermined: tuple[tuple[str, ...], ...]
    widths: Floats
    rejects_shared_scaling: float | None
    asymmetry: Asymmetry | None
    companions: Mapping[str, Sequence[str]] = field(default_factory=dict)


def chi_squared_tail(value: float, freedom: float) -> float:
    """Probability that χ² on `freedom` degrees of freedom exceeds value (scipy.stats takes half a second to import)."""
    return float(gammaincc(0.5 * freedom, 0.5 * value))


def status_of(fit: PointFit, evidence: Evidence) -> tuple[str, str]:
    """Status word and the sentence that explains it."""
    if not np.isfinite(fit.chi_squared):
        return "failed", "the cost is not finite at the best point found"
    if evidence.undetermined:
        groups = "; ".join(" with ".join(group) for group in evidence.undetermined)
        return "failed", f"the data do not determine {groups}: fix one of each group, or use a simpler model"
    if not np.all(np.isfinite(fit.covariance)):
        return "failed", "the derivatives of the model are no numbers where the fit ended: there are no error bars"
    if not evidence.converged:
        if evidence.exhausted:
            return "max_iterations", "stopped at optimization.nlsq.max_iterations before a minimum was reached"
        return "failed", "no minimum was found: a further step would still lower χ²"
    if evidence.at_bound:
        return "at_bounds", f"the data push {', '.join(evidence.at_bound)} against a bound; it was held there"
    if fit.recovery_actions:
        return "converged_with_recovery", "converged after a restart"
    return "converged", "converged: a further Newton step would change nothing"


def flags_of(fit: PointFit, evidence: Evidence) -> tuple[str, ...]:
    """Everything a careful reader should know, in plain words."""
    return (
        *_misfit(fit),
        *_rested(fit),
        *([fit.mirrored] if fit.mirrored else []),
        *(() if evidence.undetermined else _about_errors(fit, evidence)),
        *_scaling(fit, evidence.rejects_shared_scaling),
        *_compression(fit.compression),
        *_disagreeing_sets(fit),
    )


def _about_errors(fit: PointFit, evidence: Evidence) -> Iterator[str]:
    yield from _weak(fit, evidence.widths)
    if evidence.asymmetry is not None:
        yield from _lopsided(fit, evidence.asymmetry)
    yield from _correlated(fit, evidence.companions)
    yield from _inflated(fit)


def misfit(fit: PointFit) -> Misfit:
    """What χ² says of a fit: the one judge of it."""
    freedom = fit.degrees_of_freedom
    if freedom <= 0 or fit.noise_freedom < FEWEST_FREEDOM:
        return "not judged"
    reduced = fit.chi_squared / freedom
    if not np.isfinite(reduced):
        return "no number"
    low, high = good_chi_squared(fit.noise)
    expected = expected_chi_squared(fit.noise)
    if reduced < low:
        return "noise too large"
    if reduced > high * expected:
        return "misfit"
    if expected > 1.0 or high > GOOD_CHI_SQUARED[1]:
        return "shared" if expected > high else "none"
    chance = chi_squared_tail(fit.chi_squared, freedom)
    return "structure" if reduced > 1.0 + MISFIT_SIZE and chance < MISFIT_SIGNIFICANCE else "none"


def good_chi_squared(noise: NoiseParts | None) -> tuple[float, float]:
    """The range of χ² per degree of freedom of a right model."""
    return GOOD_WHITENED_CHI_SQUARED if noise is not None and noise.model == "speckle" else GOOD_CHI_SQUARED


def expected_chi_squared(noise: NoiseParts | None) -> float:
    """The reduced χ² of a right model: 1, or what the noise that points share gives by itself."""
    return 1.0 if noise is None else max(1.0, noise.expected_chi_squared)


def _misfit(fit: PointFit) -> Iterator[str]:
    freedom, found = fit.degrees_of_freedom, misfit(fit)
    if freedom <= 0:
        yield "there are no degrees of freedom left: χ² says nothing"
    elif found == "not judged":
        yield (
            f"the noise rests on {fit.noise_freedom:.0f} degrees of freedom: χ² says nothing about the model; "
            "give noise.sigma if it is known"
        )
    elif found in ("structure", "misfit"):
        yield (
            f"reduced χ² is {fit.chi_squared / freedom:.4g} on {freedom:.4g} degrees of freedom: the model leaves "
            "structure in the residuals; parameters can be off by more than their errors"
        )


def _weak(fit: PointFit, widths: Floats) -> Iterator[str]:
    names = fit.free_names
    errors = np.sqrt(np.diag(fit.covariance))[: len(names)]
    for name, error, width in zip(names, errors, widths, strict=True):
        if error > 0.5 * width:
            yield f"{name} is hardly determined: its standard error is {error:.3g}"


def _correlated(fit: PointFit, companions: Mapping[str, Sequence[str]]) -> Iterator[str]:
    correlation, names = correlation_matrix(fit.covariance), fit.free_names
    told = {other.pair for other in fit.alternatives}
    yield from (_without(fit, other, companions[other.held]) for other in fit.alternatives)
    for i, second in enumerate(names):
        for j, first in enumerate(names[:i]):
            if abs(correlation[i, j]) >= DEGENERATE and (first, second) not in told:
                yield (
                    f"{first} and {second} are hard to tell apart "
                    f"(correlation {correlation[i, j]:+.3f}): quote them together"
                )


def _without(fit: PointFit, other: Alternative, companions: Sequence[str]) -> str:
    """Which of two degenerate parameters to hold, and what the fit without it gives."""
    first, second = other.pair
    shown = ", ".join(
        f"{name} = {other.values[k]:.5g} ± {other.uncertainty[k]:.2g}"
        for k, name in enumerate(fit.names)
        if np.isfinite(other.uncertainty[k]) and name in companions
    )
    start = f"{first} and {second} are hard to tell apart (correlation {other.correlation:+.3f}). "
    without = f"Without {other.held} (initial_parameters.fixed_parameters: {{{other.held}: 0}}) "
    if other.change / fit.noise_scale**2 < SETTLED_BY:
        return f"{start}{without}the fit gives {shown}, and χ² changes by {other.change:+.2f}: hold it"
    return f"{start}{without}χ² changes by {other.change:+.1f} ({shown}): the data need it, quote both together"


def _rested(fit: PointFit) -> Iterator[str]:
    for name in fit.rested:
        yield (
            f"{held_at_zero(name)}, and with it free χ² would fall by less than {SETTLED_BY:g}; error bars are those "
            "of a fit without it"
        )


def held_at_zero(name: str) -> str:
    """That a constant part has been given up, for a fit as for its posterior."""
    return f"{name} is held at 0: these data do not tell it from the rest of its rate"


def _lopsided(fit: PointFit, found: Asymmetry) -> Iterator[str]:
    listed = [
        f"{name} {low:.4g} to {high:.4g}"
        for name, (low, high), odd in zip(fit.free_names, found.intervals, found.lopsided, strict=True)
        if odd
    ]
    if listed:
        yield f"errors are not symmetric; 95 % intervals are about {', '.join(listed)}"
    if found.curved:
        yield (
            "the likelihood is far from a parabola: error bars and intervals are rough; "
            "fix a parameter that is known, or quote a posterior instead"
        )


def _inflated(fit: PointFit) -> Iterator[str]:
    if fit.robust_covariance is None:
        return
    names = fit.free_names
    ratio = np.sqrt(np.diag(fit.robust_covariance)[: len(names)] / np.diag(fit.covariance)[: len(names)])
    large = [(name, value) for name, value in zip(names, ratio, strict=True) if value >= SERIOUS_INFLATION]
    if large:
        listed = ", ".join(f"{name} ×{value:.2g}" for name, value in large)
        what = SHARED_NOISE["" if fit.noise is None else fit.noise.errors_from]
        yield f"{what}: model-based errors are too small, quote the robust ones ({listed})"


def _scaling(fit: PointFit, chance: float | None) -> Iterator[str]:
    scaling = fit.scaling
    yield from scaling.notes
    if np.any(scaling.contrast > 1.0 + STILL_PHYSICAL * scaling.contrast_uncertainty):
        yield "a contrast above 1 is not physical: check offset, normalisation and the model"
    if np.any(scaling.contrast < -STILL_PHYSICAL * scaling.contrast_uncertainty):
        yield "a contrast below 0 is not physical: the data may be inverted or the model wrong"
    if np.all(np.abs(scaling.contrast) < DETECTED * scaling.contrast_uncertainty):
        yield f"no angle shows a contrast above {DETECTED:g} standard errors: there may be no signal to fit"
    if chance is not None and chance < MISFIT_SIGNIFICANCE:
        yield (
            "the angles do not share one contrast and offset "
            f"(p = {chance:.1g}): parameters are biased; use scaling.mode auto or individual"
        )


def _disagreeing_sets(fit: PointFit) -> Iterator[str]:
    if fit.joint is not None and disagree(fit.joint.agreement):
        yield fit.joint.agreement.words


def _compression(report: CompressionReport) -> Iterator[str]:
    if report.provider != "raw" and report.error > report.tolerance:
        yield (
            f"the compression changes log-likelihood differences by {report.error:.2g} nats, more than "
            f"likelihood.tolerance = {report.tolerance:g}"
        )


def named_directions(directions: Sequence[Floats], names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The parameters that dominate each undetermined direction (given in units of their own sensitivity)."""
    found = []
    for direction in directions:
        share = np.abs(direction) / np.abs(direction).max()
        found.append(tuple(name for name, part in zip(names, share, strict=True) if part > 0.1))
    return tuple(found)


@dataclass(frozen=True)
class Correlation:
    """The correlation coefficient between two parameters, -1 to 1."""

    first: str
    second: str
    value: float


def quality_flag(fit: PointFit) -> str:
    """`good`, `acceptable` or `poor`, by QUALITY_RULE."""
    found = misfit(fit)
    if not fit.ok or found == "no number" or not has_credible_contrast(fit):
        return "poor"
    agreed = fit.joint is None or not disagree(fit.joint.agreement)
    if found in ("none", "shared") and not np.any(fit.at_bound) and agreed:
        return "good"
    low, high = ACCEPTABLE_CHI_SQUARED
    return "acceptable" if low <= fit.reduced_chi_squared <= high * expected_chi_squared(fit.noise) else "poor"


def has_credible_contrast(fit: PointFit) -> bool:
    """Whether some angle shows a signal, and no contrast is below 0 or above 1 by more than its error allows."""
    contrast, error = (np.asarray(x) for x in (fit.scaling.contrast, fit.scaling.contrast_uncertainty))
    physical = np.all((contrast >= -STILL_PHYSICAL * error) & (contrast <= 1.0 + STILL_PHYSICAL * error))
    return bool(physical and np.any(contrast > DETECTED * error))


def quality_warnings(fit: PointFit) -> list[str]:
    """Everything that should keep a reader from quoting the numbers as they are, in words."""
    return [*_about_search(fit), *fit.flags, *_counted_otherwise(fit), *_implausible(fit)]


def _about_search(fit: PointFit) -> Iterator[str]:
    if fit.status != "converged":
        yield f"{fit.status}: {fit.message}"
    found = misfit(fit)
    if found == "no number":
        yield "chi-squared is not a finite number"
    if found == "noise too large":
        chi = fit.reduced_chi_squared
        yield f"chi-squared per degree of freedom is {chi:.4g}: the noise level is overestimated"


def status_words(status: str) -> str:
    """What a convergence status means, in a sentence."""
    return _STATUS_WORDS.get(status, f"The fit ended with status {status}.")


def exit_meaning(code: int) -> str:
    """What an exit code means, in a few words."""
    return _EXIT_MEANINGS.get(code, "unknown")


def verdict(fit: PointFit, exit_code: int) -> str:
    """The first sentence that a reader should see: how the fit ended and what to make of it."""
    words = status_words(fit.status)
    if not fit.ok:
        return words
    if exit_code != 0:
        return f"{words} But a check failed: read how far to trust it before quoting numbers."
    chi, expected = f"χ² per degree of freedom {fit.reduced_chi_squared:.4g}", expected_chi_squared(fit.noise)
    return f"{words} {_CHI_SQUARED_WORDS[misfit(fit)].format(chi=chi, expected=f'{expected:.3g}')}"


def weighs_speckles(fit: PointFit) -> bool:
    """Whether points were weighed by the noise of the speckles that they share."""
    return fit.noise is not None and fit.noise.model == "speckle"


def noise_meaning(fit: PointFit) -> str:
    """What the fit's σ per angle are: of one data point, or factors on those that the data came with."""
    return "factor on the σ of each point in the file" if fit.sigma_source == "file" else "σ of one data point"


def correlation_matrix(covariance: np.ndarray) -> np.ndarray:
    """Correlation coefficients (m,m) of a covariance; NaN where a variance is not positive."""
    variance = np.diag(covariance)
    scale = np.sqrt(np.where(variance > 0, variance, np.nan))
    return covariance / np.outer(scale, scale)


def physical_correlations(fit: PointFit) -> tuple[list[str], np.ndarray]:
    """Names of the free physical parameters, and their correlation coefficients (f,f)."""
    physical = [k for k, name in enumerate(fit.covariance_names) if name in set(fit.names)]
    matrix = correlation_matrix(np.asarray(fit.covariance, dtype=float))
    return [fit.covariance_names[k] for k in physical], matrix[np.ix_(physical, physical)]


def strongest_correlations(names: Sequence[str], matrix: np.ndarray, count: int = 6) -> list[Correlation]:
    """The pairs of parameters that the data tell apart worst by their correlation coefficients, strongest first."""
    pairs = [
        Correlation(names[j], names[k], float(matrix[j, k]))
        for j in range(len(names))
        for k in range(j + 1, len(names))
        if math.isfinite(matrix[j, k])
    ]
    return sorted(pairs, key=lambda pair: -abs(pair.value))[:count]


def correlation_words(value: float) -> str:
    """What a correlation coefficient means for the reader of two error bars."""
    if abs(value) >= INSEPARABLE:
        return "these data determine only a combination of the two"
    if abs(value) >= DEGENERATE:
        return "hard to tell apart: quote the two together, with their correlation"
    return "partly shared information" if abs(value) >= 0.5 else "nearly independent"


def inflation(fit: PointFit) -> np.ndarray | None:
    """Robust over model-based uncertainty per parameter (p,); None when no robust one was computed."""
    if fit.robust_uncertainty is None:
        return None
    model_based = np.asarray(fit.uncertainty, dtype=float)
    return np.asarray(fit.robust_uncertainty, dtype=float) / np.where(model_based > 0, model_based, np.nan)


def largest_inflation(fit: PointFit) -> float:
    """Largest ratio of robust to model-based error bar, 1 if none is known."""
    ratios = inflation(fit)
    return 1.0 if ratios is None else float(np.max(ratios[np.isfinite(ratios)], initial=1.0))


def noise_words(fit: PointFit) -> str:
    """What kind of noise the error bars allow for, and what it says about photons and pixels; may be empty."""
    parts, largest = fit.noise, largest_inflation(fit)
    if parts is None:
        return ""
    if parts.errors_from == "frames":
        return (
            "points of the same frame share noise that is not that of speckles (beam, detector): robust error bars "
            "come from scores clustered by frame"
        )
    if parts.errors_from == "angles":
        return (
            "angles differ by more than the noise of their frames or speckles lets expect: robust error bars come from "
            "the scatter between angles"
        )
    seen = np.isfinite(parts.photons) & np.isfinite(parts.pixels)
    if not np.any(seen):
        return "the noise of different points is independent: no sign of speckles that they share"
    counted = (
        f"{np.median(parts.photons[seen]):.2g} photons per pixel and frame by the {parts.photons_from}, "
        f"{np.median(parts.pixels[seen]):,.0f} independent pixels at an angle{_in_the_file(parts)}"
    )
    if weighs_speckles(fit):
        return f"points are weighed by the speckles that they share ({counted}): {_weighed_words(fit)}"
    if largest < NOTABLE_INFLATION:
        return f"the noise is mostly that of counting photons ({counted})"
    why = f"; not weighed by them: {parts.why}" if parts.why else ""
    return (
        f"points share the noise of their speckles ({counted}): robust error bars are up to {largest:.1f} times those "
        f"of independent noise{why}"
    )


def _in_the_file(parts: NoiseParts) -> str:
    """What the file says of photons and pixels, to stand behind what was measured; may be empty."""
    photons = parts.counted_photons[np.isfinite(parts.counted_photons)]
    words = [f"{np.median(photons):.2g} photons"] if photons.size else []
    if parts.counted_pixels.size:
        words.append(f"{np.median(parts.counted_pixels):,.0f} pixels")
    return f"; the file counts {' and '.join(words)}" if words else ""


def _counted_otherwise(fit: PointFit) -> Iterator[str]:
    """Photons and pixels that are not those of the file, by more than speckles and statistics make of them."""
    parts = fit.noise
    if parts is None or not parts.counted_pixels.size or parts.photons_from == "configuration":
        return
    photons = _typical_ratio(parts.photons, parts.counted_photons)
    pixels = _typical_ratio(parts.pixels, parts.counted_pixels)
    if parts.photons_from == "diagonal" and not 1.0 / COUNTED_APART < photons < COUNTED_APART:
        yield (
            f"the diagonal shows {photons:.2g} times the photons per pixel and frame that the file counts: it was "
            "changed, or the counts have another unit; noise.photons sets them"
        )
    if pixels > COUNTED_APART:
        yield (
            f"the noise is that of {pixels:.2g} times as many pixels as the file counts: matrices were smoothed, or "
            "photons are wrong"
        )


def _typical_ratio(found: np.ndarray, told: np.ndarray) -> float:
    """Median over angles of what was found over what is told, 1 where nothing is."""
    ratios = found / told
    return float(np.median(ratios[np.isfinite(ratios)])) if np.any(np.isfinite(ratios)) else 1.0


def weighed_ratios(fit: PointFit) -> dict[str, np.ndarray]:
    """Error bars (p,) of a fit that weighs speckles over others: of independent noise, the smallest possible (those of
    the likelihood itself, which reaches the Cramér–Rao limit), and without the weights."""
    parts = fit.noise
    assert parts is not None
    printed = np.asarray(fit.uncertainty if fit.robust_uncertainty is None else fit.robust_uncertainty, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "independent_noise": printed / parts.alone,
            "smallest_possible": printed / np.asarray(fit.uncertainty, dtype=float),
            "without_weights": printed / parts.alone_robust,
        }


def _weighed_words(fit: PointFit) -> str:
    """How error bars compare with those of independent noise, with the smallest possible and without the weights."""
    found = {name: ratios[np.isfinite(ratios)] for name, ratios in weighed_ratios(fit).items()}
    if not all(ratios.size for ratios in found.values()):
        return "no error bars to compare"
    gain = 1.0 / np.max(found["without_weights"])
    gained = f"and {gain:.2g} or more times smaller than without the weights" if gain >= 1.0 else "weighed or not"
    return (
        f"error bars are up to {np.max(found['independent_noise']):.2g} times those of independent noise, "
        f"{np.max(found['smallest_possible']):.3g} times the smallest possible, {gained}"
    )


def inflation_words(ratio: float) -> str:
    """What the ratio of robust to model-based uncertainty means."""
    if not math.isfinite(ratio):
        return "no error bar"
    if ratio >= SERIOUS_INFLATION:
        return f"{ratio:.1f} times larger: points share noise; quote the robust error bar"
    if ratio >= NOTABLE_INFLATION:
        return f"{ratio:.1f} times larger: some noise is shared between points; prefer the robust error bar"
    if ratio >= 1 / NOTABLE_INFLATION:
        return "about the same: treating points as independent is fair here"
    return f"{ratio:.2f} times the model-based one: smaller than independent noise allows; take the larger"


def compression_words(compression: CompressionReport) -> str:
    """How far summarising the data may have moved the log-likelihood, and against which limit."""
    if compression.provider == "raw":
        return "every data point was evaluated; nothing was summarised"
    within = "within" if compression.within_tolerance else "ABOVE"
    return (
        f"{compression.pairs:,} points were summarised by {compression.nodes:,} numbers; checked at "
        f"{compression.checked_points} places, this moves the log-likelihood by {compression.error:.2g} "
        f"nats, {within} the limit of {compression.tolerance:.2g}"
    )


def _implausible(fit: PointFit) -> tuple[str, ...]:
    """Fitted parameters that are, by more than their errors, outside of what is usual."""
    errors = np.asarray(fit.uncertainty, dtype=float)
    if not fit.ok:
        return ()
    known = {name: float(error) for name, error in zip(fit.names, errors, strict=True) if 0 < error < math.inf}
    values = {name: float(value) for name, value in zip(fit.names, fit.values, strict=True) if name in known}
    return check_values(values, known, DataScale(**fit.data_scale)).at_least("warning")
