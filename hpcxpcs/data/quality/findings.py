"""What is wrong, where, what it costs and what to do: the deductions that make up a score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hpcxpcs.data.quality.levels import Level, Stage
from hpcxpcs.data.quality.survey import Survey


@dataclass(frozen=True)
class Rule:
    """One thing that is looked for: at which stage and from which level on, what it says and what to do.

    `reason` may name {value} and {worst}, the worst value and its angle.
    """

    stage: Stage
    level: Level
    reason: str
    remedy: str


@dataclass(frozen=True)
class Finding:
    """One deduction: the check that found it, points taken off, worst value, angles (degrees) that have it.

    `repaired` says that repair has masked it, so that it costs only what is missing.
    """

    check: str
    stage: Stage
    points: float
    value: float
    phi: tuple[float, ...]
    reason: str
    remedy: str
    repaired: bool = False


MASK = "set quality_control.auto_repair: conservative to leave them out"
MASK_MORE = "set quality_control.auto_repair: aggressive to leave them out"
LEAVE_OUT = "leave these angles out with data_filtering.phi_ranges"

RULES: Mapping[str, Rule] = {
    "non_finite": Rule(
        "raw", "basic", "{value:.2%} of the pairs of live frames hold NaN or infinity (worst: {worst})",
        f"{MASK}, or data_filtering.non_finite: mask",
    ),
    "empty_pairs": Rule(
        "raw", "basic", "{value:.2%} of the pairs of live frames are exactly zero, as never filled in (worst: {worst})",
        MASK,
    ),
    "dead_frames": Rule(
        "raw", "basic", "{value:.2%} of the frames are dead (worst: {worst})",
        "data_filtering.dead_frames: auto masks them; ask why the detector gave nothing",
    ),
    "negative_values": Rule(
        "raw", "basic", "{value:.2%} of the pairs are negative, which no correlation is (worst: {worst})",
        f"{MASK_MORE}; if all are, the baseline was subtracted",
    ),
    "saturated_values": Rule(
        "raw", "basic", "{value:.2%} of the pairs share the largest value, as when clipped (worst: {worst})", MASK_MORE,
    ),
    "constant": Rule("raw", "basic", "every pair holds the same value ({worst})", LEAVE_OUT),
    "asymmetry": Rule(
        "raw", "standard", "the triangles differ by {value:.2%} of the values' spread (worst: {worst})",
        "the mean of both is used; make the file again from the raw frames",
    ),
    "missing_bins": Rule(
        "filtered", "basic", "{value:.0%} of the angles of this q have no matrix in the file",
        "compute them, or check that the rest is what you want",
    ),
    "duplicate_angles": Rule(
        "filtered", "basic", "{value:.0f} angles occur more than once",
        "the same data may count twice: check the file, or leave one out",
    ),
    "angle_coverage": Rule(
        "filtered", "standard",
        "there is no angle for {value:.0f} of the 180 degrees of different directions, which shear needs",
        "use more angles (data_filtering.phi_ranges), or fix phi0 (initial_parameters.fixed_parameters)",
    ),
    "changed_data": Rule(
        "preprocessed", "basic", "{value:.0f} stages of preprocessing change what is fitted: {worst}",
        "fit the data as measured (preprocessing.normalization and noise_reduction: none) and compare",
    ),
    "lost_pairs": Rule(
        "preprocessed", "basic", "{value:.2%} of the pairs hold no finite number after preprocessing (worst: {worst})",
        "preprocessing.standard: float64 holds larger numbers; or switch normalization off",
    ),
    "lost_scale": Rule(
        "preprocessed", "standard", "the level of long lags became {value:.3g} by preprocessing ({worst})",
        "contrast and offset mean nothing then: preprocessing.normalization can be baseline, mean or none",
    ),
    "moved_signal": Rule(
        "preprocessed", "standard", "noise reduction moved the signal by {value:.0%} of its spread (worst: {worst})",
        "use a smaller preprocessing.window, or noise_reduction: none",
    ),
    "shared_by_filter": Rule(
        "preprocessed", "standard",
        "neighbouring pairs differ by {value:.0%} of what they did before: they share their noise ({worst})",
        "error bars are too small: quote those of a fit with preprocessing.noise_reduction: none",
    ),
    "refused": Rule(
        "final", "basic", "a fit would refuse {value:.0f} of the angles: {worst}",
        f"repair (quality_control.auto_repair), or {LEAVE_OUT}",
    ),
    "few_pairs": Rule(
        "final", "basic", "only {value:.0%} of the pairs are usable (worst: {worst})", LEAVE_OUT,
    ),
    "no_signal": Rule(
        "final", "standard", "nothing decays: the contrast is {value:.1f} of its errors (worst: {worst})", LEAVE_OUT,
    ),
    "low_signal_to_noise": Rule(
        "final", "standard", "contrast over noise of a pair is {value:.2g} (worst: {worst})",
        "average more pixels or frames; expect wide error bars",
    ),
    "not_decayed": Rule(
        "final", "standard", "the longest lags still lose {value:.0%} of the contrast (worst: {worst})",
        "the offset is not seen: use more frames, or scaling.mode averaged or hierarchical",
    ),
    "decay_too_fast": Rule(
        "final", "standard", "{value:.0%} of the contrast is lost within two frames (worst: {worst})",
        "use a smaller q or shorter frames",
    ),
    "baseline": Rule(
        "final", "standard", "the level of long lags is {value:.3g} where about 1 is expected (worst: {worst})",
        "check the normalisation: was 1 subtracted, or a factor left out?",
    ),
    "drift": Rule(
        "final", "standard", "the whole level drifts by {value:.0%} of the contrast during the measurement ({worst})",
        "use fewer frames (analyzer_parameters.start_frame, end_frame), or correct the beam's intensity",
    ),
    "hot_frames": Rule(
        "final", "standard", "{value:.2%} of the frames lie far from their neighbours (worst: {worst})",
        f"{MASK_MORE}, or list them in data_filtering.dead_frames",
    ),
    "spikes": Rule(
        "final", "standard", "{value:.3%} of the pairs lie far from their neighbours (worst: {worst})", MASK_MORE,
    ),
    "frame_noise": Rule(
        "final", "comprehensive",
        "frames share noise: errors that treat pairs as independent are {value:.1f} times too small (worst: {worst})",
        "quote the robust error bars (optimization.nlsq.uncertainty: robust)",
    ),
    "photon_noise": Rule(
        "final", "comprehensive", "the noise is {value:.2g} times that of the photons of the bin (worst: {worst})",
        "below 1 the data were smoothed, above 1 something else fluctuates",
    ),
    "time_gap": Rule(
        "final", "comprehensive", "time is missing at {value:.0f} places: the correlation drops across them ({worst})",
        "use the frames of one side (analyzer_parameters.start_frame, end_frame)",
    ),
    "swapped_angles": Rule(
        "final", "comprehensive", "two angles fit the others only when exchanged: {worst}",
        "check the labels of these bins, or leave both out with data_filtering.phi_ranges",
    ),
}  # fmt: skip
"""Every check by name: a page of what quality control promises."""


def finding(
    check: str, points: float, value: float, phi: Sequence[float], worst: str = "", *, repaired: bool = False
) -> Finding:
    """Make a finding of a check, with its words."""
    rule = RULES[check]
    return Finding(
        check, rule.stage, round(float(points), 2), float(value), tuple(map(float, phi)),
        rule.reason.format(value=value, worst=worst), rule.remedy, repaired,
    )  # fmt: skip


def worst_of(
    check: str,
    surveys: Sequence[Survey],
    value: Callable[[Survey], float],
    points: Callable[[float], float],
    words: Callable[[Survey], str] = lambda found: f"{found.phi:g}°",
    repaired: Callable[[Survey], bool] = lambda found: False,
) -> Iterator[Finding]:
    """Yield the finding of the angle that costs most, with all angles that have it; nothing if none has.

    What is repaired at every angle that has it costs half.
    """
    costs = [(points(value(found)), found) for found in surveys]
    having = [(cost, found) for cost, found in costs if cost > 0.0]
    if not having:
        return
    cost, worst = max(having, key=lambda item: item[0])
    mended = all(repaired(found) for _, found in having)
    yield finding(
        check,
        cost / 2.0 if mended else cost,
        value(worst),
        [found.phi for _, found in having],
        words(worst),
        repaired=mended,
    )
