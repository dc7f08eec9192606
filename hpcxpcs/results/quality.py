"""Judgements on a point fit, each with its threshold, its reason and its words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hpcxpcs.config.plausible import DEGENERATE, check_values
from hpcxpcs.config.scale import DataScale
from hpcxpcs.results.records import Compression, Fit, NoiseParts

GOOD_REDUCED_CHI_SQUARED = (0.9, 1.1)
"""Noise is estimated from the data, so a model that explains them has χ² per degree of freedom near 1."""
GOOD_WHITENED_CHI_SQUARED = (0.75, 1.25)
"""Speckles are known to relative order contrast, and so is χ² per degree of freedom of what they leave white."""
ACCEPTABLE_REDUCED_CHI_SQUARED = (0.7, 1.5)
"""Outside of this, the misfit (or a wrong σ) is as large as the noise, and no error bar can be trusted."""
NOTABLE_INFLATION = 1.2
"""Robust over model-based uncertainty from which correlated noise is worth a remark."""
SERIOUS_INFLATION = 2.0
"""Robust over model-based uncertainty from which the model-based one would mislead a reader."""
DETECTED = 5.0
"""Standard errors above 0 from which the contrast of an angle counts as a signal."""
COUNTED_APART = 1.25
"""Ratio to what the file counts from which photons or pixels found in the noise are called into question: of the real
frames in docs/noise.md photons agree within 8 %, and pixels that share speckles make P smaller, never larger."""
PHYSICAL = 3.0
"""Standard errors by which a contrast may lie below 0 or above 1."""
QUALITY_RULE = (
    "good: the fit converged, no parameter is at a bound, and chi-squared per degree of freedom is within "
    f"{GOOD_REDUCED_CHI_SQUARED[0]}-{GOOD_REDUCED_CHI_SQUARED[1]}; "
    "acceptable: the fit converged and chi-squared per degree of freedom is within "
    f"{ACCEPTABLE_REDUCED_CHI_SQUARED[0]}-{ACCEPTABLE_REDUCED_CHI_SQUARED[1]}; "
    "poor: anything else, and contrasts that are not physical or not there"
)

_STATUS_WORDS = {
    "converged": "The fit converged.",
    "converged_with_recovery": "The fit converged, after a first attempt had failed and was repeated.",
    "at_bounds": "The search ended at the edge of the allowed range: the best value may lie outside of it.",
    "max_iterations": "The search was stopped before it converged: more iterations are needed.",
    "failed": "The fit failed. The numbers below are where the search stopped; they are not a result.",
}

_EXIT_WORDS = {
    0: "converged",
    1: "error",
    2: "wrong usage or configuration",
    3: "finished, but a check failed: the numbers are written and flagged",
    75: "stopped early with a checkpoint: run the same command again",
}


@dataclass(frozen=True)
class Correlation:
    """The correlation coefficient between two parameters, -1 to 1."""

    first: str
    second: str
    value: float


def quality_flag(fit: Fit) -> str:
    """`good`, `acceptable` or `poor`, by QUALITY_RULE."""
    chi = fit.reduced_chi_squared / max(1.0, min(expected_chi_squared(fit), fit.reduced_chi_squared))
    if not fit.ok or not math.isfinite(chi) or not has_credible_contrast(fit):
        return "poor"
    if _within(chi, good_chi_squared(fit)) and not np.any(fit.at_bound):
        return "good"
    return "acceptable" if _within(chi, ACCEPTABLE_REDUCED_CHI_SQUARED) else "poor"


def has_credible_contrast(fit: Fit) -> bool:
    """Whether some angle shows a signal, and no contrast is below 0 or above 1 by more than its error allows."""
    contrast, error = (np.asarray(x) for x in (fit.scaling.contrast, fit.scaling.contrast_uncertainty))
    physical = np.all((contrast >= -PHYSICAL * error) & (contrast <= 1.0 + PHYSICAL * error))
    return bool(physical and np.any(contrast > DETECTED * error))


def quality_warnings(fit: Fit) -> list[str]:
    """Everything that should keep a reader from quoting the numbers as they are, in words."""
    return [
        *_status_warning(fit),
        *_chi_squared_warning(fit.reduced_chi_squared, good_chi_squared(fit)[0]),
        *fit.flags,
        *_counted_otherwise(fit),
        *_implausible(fit),
    ]


def status_words(status: str) -> str:
    """What a convergence status means, in a sentence."""
    return _STATUS_WORDS.get(status, f"The fit ended with status {status}.")


def exit_words(code: int) -> str:
    """What an exit code means, in a few words."""
    return _EXIT_WORDS.get(code, "unknown")


def verdict(fit: Fit, exit_code: int) -> str:
    """The first sentence that a reader should see: how the fit ended and what to make of it."""
    words = status_words(fit.status)
    if not fit.ok:
        return words
    if exit_code != 0:
        return f"{words} But a check failed: read how far to trust it before quoting numbers."
    return f"{words} {_chi_squared_words(fit.reduced_chi_squared, expected_chi_squared(fit), good_chi_squared(fit))}"


def weighs_speckles(fit: Fit) -> bool:
    """Whether points were weighed by the noise of the speckles that they share."""
    return fit.noise is not None and fit.noise.model == "speckle"


def good_chi_squared(fit: Fit) -> tuple[float, float]:
    """The range of χ² per degree of freedom of a right model."""
    return GOOD_WHITENED_CHI_SQUARED if weighs_speckles(fit) else GOOD_REDUCED_CHI_SQUARED


def expected_chi_squared(fit: Fit) -> float:
    """The reduced χ² of a right model: 1, or what the noise that points share gives by itself."""
    return 1.0 if fit.noise is None else max(1.0, fit.noise.expected_chi_squared)


def noise_meaning(fit: Fit) -> str:
    """What the fit's σ per angle are: of one data point, or factors on those that the data came with."""
    return (
        "factor on the σ of each point in the file" if fit.sigma_source == "file" else "σ of one data point"
    )


def correlation_matrix(covariance: np.ndarray) -> np.ndarray:
    """Correlation coefficients (m,m) of a covariance; NaN where a variance is not positive."""
    variance = np.diag(covariance)
    scale = np.sqrt(np.where(variance > 0, variance, np.nan))
    return covariance / np.outer(scale, scale)


def physical_correlations(fit: Fit) -> tuple[list[str], np.ndarray]:
    """Names of the free physical parameters, and their correlation coefficients (f,f)."""
    physical = [k for k, name in enumerate(fit.covariance_names) if name in set(fit.names)]
    matrix = correlation_matrix(np.asarray(fit.covariance, dtype=float))
    return [fit.covariance_names[k] for k in physical], matrix[np.ix_(physical, physical)]


def strongest_correlations(fit: Fit, count: int = 6) -> list[Correlation]:
    """The pairs of physical parameters that the data tell apart worst, strongest first."""
    names, matrix = physical_correlations(fit)
    pairs = [
        Correlation(names[j], names[k], float(matrix[j, k]))
        for j in range(len(names))
        for k in range(j + 1, len(names))
        if math.isfinite(matrix[j, k])
    ]
    return sorted(pairs, key=lambda pair: -abs(pair.value))[:count]


def correlation_words(value: float) -> str:
    """What a correlation coefficient means for the reader of two error bars."""
    if abs(value) >= 0.99:
        return "these data determine only a combination of the two"
    if abs(value) >= DEGENERATE:
        return "hard to tell apart: quote the two together, with their correlation"
    return "partly shared information" if abs(value) >= 0.5 else "nearly independent"


def inflation(fit: Fit) -> np.ndarray | None:
    """Robust over model-based uncertainty per parameter (p,); None when no robust one was computed."""
    if fit.robust_uncertainty is None:
        return None
    model_based = np.asarray(fit.uncertainty, dtype=float)
    return np.asarray(fit.robust_uncertainty, dtype=float) / np.where(model_based > 0, model_based, np.nan)


def noise_words(fit: Fit) -> str:
    """What kind of noise the error bars allow for, and what it says about photons and pixels; may be empty."""
    parts, ratios = fit.noise, inflation(fit)
    if parts is None:
        return ""
    if parts.errors_from == "frames":
        return (
            "points of the same frame share noise that is not that of speckles (beam, detector): robust error bars "
            "come from scores clustered by frame"
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
    largest = 1.0 if ratios is None else float(np.max(ratios[np.isfinite(ratios)], initial=1.0))
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


def _counted_otherwise(fit: Fit) -> list[str]:
    """Photons and pixels that are not those of the file, by more than speckles and statistics make of them."""
    parts = fit.noise
    if parts is None or not parts.counted_pixels.size or parts.photons_from == "configuration":
        return []
    found = []
    photons = _typical_ratio(parts.photons, parts.counted_photons)
    pixels = _typical_ratio(parts.pixels, parts.counted_pixels)
    if parts.photons_from == "diagonal" and not 1.0 / COUNTED_APART < photons < COUNTED_APART:
        found.append(
            f"the diagonal shows {photons:.2g} times the photons per pixel and frame that the file counts: it was "
            "changed, or the counts have another unit; noise.photons sets them"
        )
    if pixels > COUNTED_APART:
        found.append(
            f"the noise is that of {pixels:.2g} times as many pixels as the file counts: matrices were smoothed, or "
            "photons are wrong"
        )
    return found


def _typical_ratio(found: np.ndarray, told: np.ndarray) -> float:
    """Median over angles of what was found over what is told, 1 where nothing is."""
    ratios = found / told
    return float(np.median(ratios[np.isfinite(ratios)])) if np.any(np.isfinite(ratios)) else 1.0


def weighed_ratios(fit: Fit) -> dict[str, np.ndarray]:
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


def _weighed_words(fit: Fit) -> str:
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


def compression_words(compression: Compression) -> str:
    """How far summarising the data may have moved the log-likelihood, and against which limit."""
    if compression.provider == "raw":
        return "every data point was evaluated; nothing was summarised"
    within = "within" if compression.error <= compression.tolerance else "ABOVE"
    return (
        f"{compression.pairs:,} points were summarised by {compression.nodes:,} numbers; checked at "
        f"{compression.checked_points} places, this moves the log-likelihood by {compression.error:.2g} "
        f"nats, {within} the limit of {compression.tolerance:.2g}"
    )


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _chi_squared_words(chi: float, expected: float, good: tuple[float, float]) -> str:
    words = f"χ² per degree of freedom {chi:.4g}"
    low, high = good
    if expected > high and _within(chi, (low, high * expected)):
        return f"Noise that points share makes up to {expected:.3g} of it ({words}): χ² does not judge the model here."
    if _within(chi, good):
        return f"The model explains the data ({words})."
    if chi < low:
        return f"But the noise level is overestimated ({words}), and with it the error bars."
    return f"But the model does not describe the data to within their noise ({words})."


def _status_warning(fit: Fit) -> list[str]:
    return [] if fit.status == "converged" else [f"{fit.status}: {fit.message}"]


def _implausible(fit: Fit) -> tuple[str, ...]:
    """Fitted parameters that are, by more than their errors, outside of what is usual."""
    errors = np.asarray(fit.uncertainty, dtype=float)
    if not fit.ok:
        return ()
    fitted = [k for k in range(len(fit.names)) if math.isfinite(errors[k]) and errors[k] > 0]
    values = {fit.names[k]: float(fit.values[k]) for k in fitted}
    known = {fit.names[k]: float(errors[k]) for k in fitted}
    return check_values(values, known, DataScale(**fit.data_scale)).at_least("warning")


def _chi_squared_warning(chi: float, lowest: float) -> list[str]:
    if not math.isfinite(chi):
        return ["chi-squared is not a finite number"]
    if chi < lowest:
        return [f"chi-squared per degree of freedom is {chi:.4g}: the noise level is overestimated"]
    return []
