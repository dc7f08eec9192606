"""The verdict on a point fit: one status word, and plain-word flags for everything that limits trust."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import gammaincc

from hpcxpcs.config.plausible import DEGENERATE
from hpcxpcs.inference.asymmetry import Asymmetry
from hpcxpcs.inference.records import Alternative, CompressionReport, NoiseParts, ScalingEstimate
from hpcxpcs.likelihood.interpolation import Floats

MISFIT_SIGNIFICANCE = 1.0e-4
"""Probability below which χ² says that the model does not describe the data."""

MISFIT_SIZE = 0.01
"""Smallest excess of reduced χ² worth a flag: with 10⁷ pairs even 10⁻³ is significant."""

JUDGED = 1.1
"""χ² that is less than this many times what noise that pairs share gives by itself does not speak against a model."""

FEWEST_FREEDOM = 30.0
"""Degrees of freedom below which σ is too uncertain (13 %) for χ² to judge a model."""

SETTLED_BY = 4.0
"""Change of χ² up to which two fits are as good as each other: two standard deviations of one parameter."""

INFLATION = 1.5
"""Ratio of robust to model-based error above which iid error bars are called too small."""


@dataclass(frozen=True)
class Evidence:
    """What the verdict is based on; arrays over free parameters follow `names`, of alternatives `all_names`.

    `companions` are, by name of a parameter, those that change their meaning when it is held.
    """

    converged: bool
    exhausted: bool
    recovered: bool
    names: tuple[str, ...]
    values: Floats
    widths: Floats
    covariance: Floats
    robust: Floats | None
    at_bound: tuple[str, ...]
    undetermined: tuple[tuple[str, ...], ...]
    chi_squared: float
    degrees_of_freedom: float
    scaling: ScalingEstimate
    compression: CompressionReport
    rejects_shared_scaling: float | None
    asymmetry: Asymmetry | None
    noise_freedom: float
    all_names: tuple[str, ...] = ()
    rested: tuple[str, ...] = ()
    mirrored: str = ""
    alternatives: tuple[Alternative, ...] = ()
    companions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    noise_scale: float = 1.0
    noise: NoiseParts | None = None


def chi_squared_tail(value: float, freedom: float) -> float:
    """Probability that χ² on `freedom` degrees of freedom exceeds value (scipy.stats takes half a second to import)."""
    return float(gammaincc(0.5 * freedom, 0.5 * value))


def status_of(evidence: Evidence) -> tuple[str, str]:
    """Status word and the sentence that explains it."""
    if not np.isfinite(evidence.chi_squared):
        return "failed", "the cost is not finite at the best point found"
    if evidence.undetermined:
        groups = "; ".join(" with ".join(group) for group in evidence.undetermined)
        return "failed", f"the data do not determine {groups}: fix one of each group, or use a simpler model"
    if not np.all(np.isfinite(evidence.covariance)):
        return "failed", "the derivatives of the model are no numbers where the fit ended: there are no error bars"
    if not evidence.converged:
        if evidence.exhausted:
            return (
                "max_iterations",
                "stopped at optimization.nlsq.max_iterations before a minimum was reached",
            )
        return "failed", "no minimum was found: a further step would still lower χ²"
    if evidence.at_bound:
        return "at_bounds", f"the data push {', '.join(evidence.at_bound)} against a bound; it was held there"
    if evidence.recovered:
        return "converged_with_recovery", "converged after a restart"
    return "converged", "converged: a further Newton step would change nothing"


def flags_of(evidence: Evidence) -> tuple[str, ...]:
    """Everything a careful reader should know, in plain words."""
    return (
        *_misfit(evidence),
        *_rested(evidence),
        *([evidence.mirrored] if evidence.mirrored else []),
        *(() if evidence.undetermined else _about_errors(evidence)),
        *_scaling(evidence),
        *_compression(evidence),
    )


def _about_errors(evidence: Evidence) -> Iterator[str]:
    for judge in (_weak, _lopsided, _correlated, _inflated):
        yield from judge(evidence)


def _misfit(evidence: Evidence) -> Iterator[str]:
    freedom = evidence.degrees_of_freedom
    if freedom <= 0:
        yield "there are no degrees of freedom left: χ² says nothing"
        return
    if evidence.noise_freedom < FEWEST_FREEDOM:
        yield (
            f"the noise rests on {evidence.noise_freedom:.0f} degrees of freedom: χ² says nothing about the model; "
            "give noise.sigma if it is known"
        )
        return
    reduced = evidence.chi_squared / freedom
    shared = 1.0 if evidence.noise is None else evidence.noise.expected_chi_squared
    if shared > 1.0 and reduced < JUDGED * shared:
        return
    chance = chi_squared_tail(evidence.chi_squared, freedom)
    if reduced > 1.0 + MISFIT_SIZE and chance < MISFIT_SIGNIFICANCE:
        yield (
            f"reduced χ² is {reduced:.4g} on {freedom:.4g} degrees of freedom: the model leaves structure in the "
            "residuals; parameters can be off by more than their errors"
        )


def _weak(evidence: Evidence) -> Iterator[str]:
    errors = np.sqrt(np.diag(evidence.covariance))[: len(evidence.names)]
    for name, error, width in zip(evidence.names, errors, evidence.widths, strict=True):
        if error > 0.5 * width:
            yield f"{name} is hardly determined: its standard error is {error:.3g}"


def _correlated(evidence: Evidence) -> Iterator[str]:
    errors = np.sqrt(np.clip(np.diag(evidence.covariance), 1e-300, None))
    correlation = evidence.covariance / np.outer(errors, errors)
    size = len(evidence.names)
    told = {other.pair for other in evidence.alternatives}
    yield from (_without(evidence, other) for other in evidence.alternatives)
    for i in range(size):
        for j in range(i):
            if abs(correlation[i, j]) > DEGENERATE and (evidence.names[j], evidence.names[i]) not in told:
                yield (
                    f"{evidence.names[j]} and {evidence.names[i]} are hard to tell apart "
                    f"(correlation {correlation[i, j]:+.3f}): quote them together"
                )


def _without(evidence: Evidence, other: Alternative) -> str:
    """Which of two degenerate parameters to hold, and what the fit without it gives."""
    first, second = other.pair
    shown = ", ".join(
        f"{name} = {other.values[k]:.5g} ± {other.uncertainty[k]:.2g}"
        for k, name in enumerate(evidence.all_names)
        if np.isfinite(other.uncertainty[k]) and name in evidence.companions[other.held]
    )
    start = f"{first} and {second} are hard to tell apart (correlation {other.correlation:+.3f}). "
    without = f"Without {other.held} (initial_parameters.fixed_parameters: {{{other.held}: 0}}) "
    if other.change / evidence.noise_scale**2 < SETTLED_BY:
        return f"{start}{without}the fit gives {shown}, and χ² changes by {other.change:+.2f}: hold it"
    return (
        f"{start}{without}χ² changes by {other.change:+.1f} ({shown}): the data need it, quote both together"
    )


def _rested(evidence: Evidence) -> Iterator[str]:
    for name in evidence.rested:
        yield (
            f"{held_at_zero(name)}, and with it free χ² would fall by less than {SETTLED_BY:g}; error bars are those "
            "of a fit without it"
        )


def held_at_zero(name: str) -> str:
    """That a constant part has been given up, for a fit as for its posterior."""
    return f"{name} is held at 0: these data do not tell it from the rest of its rate"


def _lopsided(evidence: Evidence) -> Iterator[str]:
    found = evidence.asymmetry
    if found is None:
        return
    listed = [
        f"{name} {low:.4g} to {high:.4g}"
        for name, (low, high), odd in zip(evidence.names, found.intervals, found.lopsided, strict=True)
        if odd
    ]
    if listed:
        yield f"errors are not symmetric; 95 % intervals are about {', '.join(listed)}"
    if found.curved:
        yield (
            "the likelihood is far from a parabola: error bars and intervals are rough; "
            "fix a parameter that is known, or quote a posterior instead"
        )


def _inflated(evidence: Evidence) -> Iterator[str]:
    if evidence.robust is None:
        return
    size = len(evidence.names)
    ratio = np.sqrt(np.diag(evidence.robust)[:size] / np.diag(evidence.covariance)[:size])
    large = [(n, r) for n, r in zip(evidence.names, ratio, strict=True) if r > INFLATION]
    if large:
        listed = ", ".join(f"{name} ×{value:.2g}" for name, value in large)
        by_frame = evidence.noise is None or evidence.noise.errors_from == "frames"
        what = "noise is correlated along frames" if by_frame else "pairs share the noise of their speckles"
        yield f"{what}: model-based errors are too small, quote the robust ones ({listed})"


def _scaling(evidence: Evidence) -> Iterator[str]:
    scaling = evidence.scaling
    yield from scaling.notes
    if np.any(scaling.contrast > 1.0 + 3.0 * scaling.contrast_uncertainty):
        yield "a contrast above 1 is not physical: check offset, normalisation and the model"
    if np.any(scaling.contrast < -3.0 * scaling.contrast_uncertainty):
        yield "a contrast below 0 is not physical: the data may be inverted or the model wrong"
    if np.all(np.abs(scaling.contrast) < 5.0 * scaling.contrast_uncertainty):
        yield "no angle shows a contrast above 5 standard errors: there may be no signal to fit"
    chance = evidence.rejects_shared_scaling
    if chance is not None and chance < MISFIT_SIGNIFICANCE:
        yield (
            "the angles do not share one contrast and offset "
            f"(p = {chance:.1g}): parameters are biased; use scaling.mode auto or individual"
        )


def _compression(evidence: Evidence) -> Iterator[str]:
    report = evidence.compression
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
