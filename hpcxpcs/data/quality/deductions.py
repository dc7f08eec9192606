"""What is wrong, where, what to do and what it costs: the price list of quality control, and its application."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hpcxpcs.arrays import Floats
from hpcxpcs.config.sections import Preprocessing
from hpcxpcs.data.preprocess import stages_of
from hpcxpcs.data.quality.photons import photon_sigma
from hpcxpcs.data.quality.signal import Signal, duplicates, swapped, widest_gap
from hpcxpcs.data.quality.survey import Level, Shown, Stage, Survey, covers

UNUSABLE = 60.0
"""What data that cannot be fitted lose: they are poor whatever else is good."""

ASYMMETRY = 0.01
"""Share of the spread by which triangles may differ before it is more than the rounding of another program."""

SIGNIFICANT = 5.0
"""Standard deviations of the contrast below which there is no signal, and of a drift above which there is one."""

CLEAR = 1.0
"""Contrast over the noise of one pair above which the noise costs nothing."""

STILL_FALLING = 0.1
TOO_FAST = 0.5
BASELINE = (0.9, 1.3)
"""Levels of long lags that a normalised measurement can have; above, a part of the contrast may be missing."""

DRIFT = 0.3
GAP = 90.0
"""Degrees between directions that a sinusoid in the angle can bridge."""

INFLATION = 1.5
PHOTONS = (0.5, 2.0)
FEW_PAIRS = 0.5
LOST_SCALE_POINTS = 10.0
CHANGED = ("normalization", "noise_reduction")
CHANGED_POINTS = 5.0
"""What each stage that alters measured values costs: the noise or the scale of c2 is no longer what it was."""

MOVED = 0.02
"""Share of the spread by which noise reduction may move a part of the matrix."""

ROUGHNESS = 0.9
"""Share of the differences of neighbouring pairs that has to be left for them to count as independent."""


@dataclass(frozen=True)
class Surroundings:
    """What the angles' surveys do not tell: angles without a matrix, pixels per bin, shear or not, preprocessing."""

    absent: int = 0
    pixels: tuple[int, ...] | None = None
    shear: bool = False
    processing: Preprocessing = field(default_factory=Preprocessing)


@dataclass(frozen=True)
class Deduction:
    """Points taken off: the check that found why, worst value, angles (degrees) that have it.

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


@dataclass(frozen=True)
class Check:
    """One thing that is looked for: at which stage and from which level on, what it says and what to do.

    `reason` may name {value} and {worst}, the worst value and its angle. What is looked for in each angle by itself has
    a `value`, of those angles that are `among` them, and the `points` that it costs; `words` name the worst angle.
    """

    stage: Stage
    level: Level
    reason: str
    remedy: str
    value: Callable[[Survey], float] | None = None
    points: Callable[[float], float] = lambda value: 0.0
    among: Callable[[Survey], bool] = lambda of: True
    words: Callable[[Survey], str] = lambda of: f"{of.phi:g}°"
    repaired: Callable[[Survey], bool] = lambda of: False


def rising(start: float, slope: float, most: float, above: float = 0.0, since: float = 0.0) -> Callable[[float], float]:
    """Points for values above some limit: they begin at `start` and rise from the value `since` on, up to `most`."""
    return lambda value: min(most, start + slope * (value - since)) if value > above else 0.0


SOME = rising(5.0, 150.0, UNUSABLE)
"""The price of pairs that should not be there, by their share."""


def _listed(frames: Sequence[int], limit: int = 8) -> str:
    """Frames as text, at most `limit` of them."""
    return ", ".join(map(str, frames[:limit])) + (", …" if len(frames) > limit else "")


def _frames(of: Survey) -> int:
    """Frames of a matrix with so many pairs."""
    return max(1, round((1.0 + math.sqrt(1.0 + 8.0 * of.integrity.pairs)) / 2.0))


def _share_of_pairs(name: str) -> Callable[[Survey], float]:
    return lambda of: getattr(of.integrity, name) / max(1, of.integrity.pairs)


def _masked_as(reason: str) -> Callable[[Survey], bool]:
    """Whether repair has masked something for a reason that begins so."""
    return lambda of: any(touched.reason.startswith(reason) for touched in of.touched)


def _accepted(of: Survey) -> bool:
    """Whether a fit would take the angle."""
    return of.refused is None


def _usable_share(of: Survey) -> float:
    return of.usable_pairs / max(1, of.integrity.pairs)


def _lost(of: Survey) -> float:
    return of.treated.lost / max(1, of.usable_pairs) if of.treated is not None else 0.0


def _moved(of: Survey) -> float:
    return of.treated.moved or 0.0 if of.treated is not None else 0.0


def _noise_left(of: Survey) -> float:
    return 1.0 if of.treated is None or of.treated.noise_left is None else of.treated.noise_left


def _is_shown(of: Survey) -> bool:
    return of.shown is not None


def _has_signal(of: Survey) -> bool:
    return of.shown is not None and of.shown.signal is not None


def _is_clear(of: Survey) -> bool:
    return _is_shown(of) and significance(of) >= 2.0 * SIGNIFICANT


def _shown(of: Survey) -> Shown:
    assert of.shown is not None
    return of.shown


def _signal(of: Survey) -> Signal:
    signal = _shown(of).signal
    assert signal is not None
    return signal


def _over(contrast: float, error: float) -> float:
    """How many times larger a contrast is, 0 when there is none."""
    if contrast <= 0.0:
        return 0.0
    return contrast / error if error > 0.0 else math.inf


def significance(of: Survey) -> float:
    """The contrast of an angle over its standard deviation, 0 without a signal."""
    return _over(_signal(of).contrast, _signal(of).contrast_error) if _has_signal(of) else 0.0


def signal_to_noise(of: Survey) -> float:
    """The contrast of an angle over the noise of one of its pairs."""
    return _over(_signal(of).contrast, _shown(of).sigma) if _has_signal(of) else 0.0


def _points_of_silence(value: float) -> float:
    return 25.0 + 20.0 * (1.0 - max(0.0, value) / SIGNIFICANT) if value < SIGNIFICANT else 0.0


def _points_of_noise(value: float) -> float:
    return min(30.0, 5.0 + 10.0 * math.log10(CLEAR / max(value, 1e-3))) if value < CLEAR else 0.0


def _points_of_level(value: float) -> float:
    below, above = BASELINE[0] - value, value - BASELINE[1]
    if below > 0.0:
        return min(45.0, 15.0 + 60.0 * below)
    return min(45.0, 8.0 + 40.0 * above) if above > 0.0 else 0.0


def _drift(of: Survey) -> float:
    signal = _signal(of)
    if signal.contrast <= 0.0 or abs(signal.drift) <= SIGNIFICANT * signal.drift_error:
        return 0.0
    return abs(signal.drift) / signal.contrast


def _inflation(of: Survey) -> float:
    """By how much errors are too small that take pairs with a common frame for independent."""
    noise = _shown(of)
    if noise.sigma <= 0.0:
        return 1.0
    return math.sqrt(1.0 + of.usable_frames * (noise.shared_noise / noise.sigma) ** 2)


MASK = "set quality_control.auto_repair: conservative to leave them out"
MASK_MORE = "set quality_control.auto_repair: aggressive to leave them out"
LEAVE_OUT = "leave these angles out with data_filtering.phi_ranges"

CHECKS: Mapping[str, Check] = {
    "non_finite": Check(
        "raw", "basic", "{value:.2%} of the pairs of live frames hold NaN or infinity (worst: {worst})",
        f"{MASK}, or data_filtering.non_finite: mask",
        _share_of_pairs("non_finite"), SOME, repaired=_accepted,
    ),
    "empty_pairs": Check(
        "raw", "basic", "{value:.2%} of the pairs of live frames are exactly zero, as never filled in (worst: {worst})",
        MASK,
        _share_of_pairs("empty"), SOME, repaired=_masked_as("exactly zero"),
    ),
    "dead_frames": Check(
        "raw", "basic", "{value:.2%} of the frames are dead (worst: {worst})",
        "data_filtering.dead_frames: auto masks them; ask why the detector gave nothing",
        lambda of: len(of.integrity.dead_frames) / _frames(of), rising(1.0, 80.0, UNUSABLE),
        words=lambda of: f"{of.phi:g}°, frames {_listed(of.integrity.dead_frames)}",
    ),
    "negative_values": Check(
        "raw", "basic", "{value:.2%} of the pairs are negative, which no correlation is (worst: {worst})",
        f"{MASK_MORE}; if all are, the baseline was subtracted",
        _share_of_pairs("negative"), SOME, repaired=_masked_as("negative"),
    ),
    "saturated_values": Check(
        "raw", "basic", "{value:.2%} of the pairs share the largest value, as when clipped (worst: {worst})", MASK_MORE,
        _share_of_pairs("saturated"), SOME, repaired=_masked_as("saturated"),
    ),
    "constant": Check(
        "raw", "basic", "every pair holds the same value ({worst})", LEAVE_OUT,
        lambda of: float(of.integrity.constant), rising(0.0, UNUSABLE, UNUSABLE),
    ),
    "asymmetry": Check(
        "raw", "standard", "the triangles differ by {value:.2%} of the values' spread (worst: {worst})",
        "the mean of both is used; make the file again from the raw frames",
        lambda of: of.integrity.asymmetry, rising(5.0, 100.0, 40.0, above=ASYMMETRY),
    ),
    "changed_data": Check(
        "preprocessed", "basic", "{value:.0f} stages of preprocessing change what is fitted: {worst}",
        "fit the data as measured (preprocessing.normalization and noise_reduction: none) and compare",
    ),
    "missing_bins": Check(
        "filtered", "basic", "{value:.0%} of the angles of this q have no matrix in the file",
        "compute them, or check that the rest is what you want",
    ),
    "duplicate_angles": Check(
        "filtered", "basic", "{value:.0f} angles occur more than once",
        "the same data may count twice: check the file, or leave one out",
    ),
    "angle_coverage": Check(
        "filtered", "standard",
        "there is no angle for {value:.0f} of the 180 degrees of different directions, which shear needs",
        "use more angles (data_filtering.phi_ranges), or fix phi0 (initial_parameters.fixed_parameters)",
    ),
    "lost_pairs": Check(
        "preprocessed", "basic", "{value:.2%} of the pairs hold no finite number after preprocessing (worst: {worst})",
        "preprocessing.standard: float64 holds larger numbers; or switch normalization off",
        _lost, SOME,
    ),
    "lost_scale": Check(
        "preprocessed", "standard", "the level of long lags became {value:.3g} by preprocessing ({worst})",
        "contrast and offset mean nothing then: preprocessing.normalization can be baseline, mean or none",
    ),
    "moved_signal": Check(
        "preprocessed", "standard", "noise reduction moved the signal by {value:.0%} of its spread (worst: {worst})",
        "use a smaller preprocessing.window, or noise_reduction: none",
        _moved, rising(5.0, 100.0, 40.0, above=MOVED),
    ),
    "shared_by_filter": Check(
        "preprocessed", "standard",
        "neighbouring pairs differ by {value:.0%} of what they did before: they share their noise ({worst})",
        "error bars are too small: quote those of a fit with preprocessing.noise_reduction: none",
        _noise_left, lambda value: 10.0 * (1.0 - value) if value < ROUGHNESS else 0.0,
    ),
    "refused": Check(
        "final", "basic", "a fit would refuse {value:.0f} of the angles: {worst}",
        f"repair (quality_control.auto_repair), or {LEAVE_OUT}",
    ),
    "few_pairs": Check(
        "final", "basic", "only {value:.0%} of the pairs are usable (worst: {worst})", LEAVE_OUT,
        _usable_share, lambda value: 40.0 * (1.0 - value / FEW_PAIRS) if 0.0 < value < FEW_PAIRS else 0.0,
        among=_accepted,
    ),
    "no_signal": Check(
        "final", "standard", "nothing decays: the contrast is {value:.1f} of its errors (worst: {worst})", LEAVE_OUT,
        significance, _points_of_silence, among=_is_shown,
    ),
    "low_signal_to_noise": Check(
        "final", "standard", "contrast over noise of a pair is {value:.2g} (worst: {worst})",
        "average more pixels or frames; expect wide error bars",
        signal_to_noise, _points_of_noise, among=_is_shown,
    ),
    "not_decayed": Check(
        "final", "standard", "the longest lags still lose {value:.0%} of the contrast (worst: {worst})",
        "the offset is not seen: use more frames, or scaling.mode averaged or hierarchical",
        lambda of: _signal(of).still_falling, rising(2.0, 10.0, 8.0, above=STILL_FALLING), among=_is_clear,
    ),
    "decay_too_fast": Check(
        "final", "standard", "{value:.0%} of the contrast is lost within two frames (worst: {worst})",
        "use a smaller q or shorter frames",
        lambda of: _signal(of).first_drop, rising(5.0, 20.0, 15.0, above=TOO_FAST, since=TOO_FAST), among=_is_clear,
    ),
    "baseline": Check(
        "final", "standard", "the level of long lags is {value:.3g} where about 1 is expected (worst: {worst})",
        "check the normalisation: was 1 subtracted, or a factor left out?",
        lambda of: _signal(of).baseline, _points_of_level, among=_has_signal,
    ),
    "drift": Check(
        "final", "standard", "the whole level drifts by {value:.0%} of the contrast during the measurement ({worst})",
        "use fewer frames (analyzer_parameters.start_frame, end_frame), or correct the beam's intensity",
        _drift, rising(10.0, 25.0, 35.0, above=DRIFT, since=DRIFT), among=_has_signal,
    ),
    "hot_frames": Check(
        "final", "standard", "{value:.2%} of the frames lie far from their neighbours (worst: {worst})",
        f"{MASK_MORE}, or list them in data_filtering.dead_frames",
        lambda of: len(_shown(of).hot_frames) / _frames(of), rising(8.0, 100.0, 40.0), among=_is_shown,
        words=lambda of: f"{of.phi:g}°, frames {_listed(_shown(of).hot_frames)}",
    ),
    "spikes": Check(
        "final", "standard", "{value:.3%} of the pairs lie far from their neighbours (worst: {worst})", MASK_MORE,
        lambda of: _shown(of).spikes / max(1, of.integrity.pairs), rising(3.0, 500.0, 35.0), among=_is_shown,
    ),
    "frame_noise": Check(
        "final", "comprehensive",
        "frames share noise: errors that treat pairs as independent are {value:.1f} times too small (worst: {worst})",
        "quote the robust error bars (optimization.nlsq.uncertainty: robust)",
        _inflation, lambda value: min(8.0, 2.0 + 2.0 * math.log2(value / INFLATION)) if value > INFLATION else 0.0,
        among=_is_shown,
    ),
    "time_gap": Check(
        "final", "comprehensive", "time is missing at {value:.0f} places: the correlation drops across them ({worst})",
        "use the frames of one side (analyzer_parameters.start_frame, end_frame)",
        lambda of: float(len(_shown(of).gaps)), rising(20.0, 5.0, 40.0), among=_is_shown,
        words=lambda of: f"{of.phi:g}°, after frames {_listed(_shown(of).gaps)}",
    ),
    "photon_noise": Check(
        "final", "comprehensive", "the noise is {value:.2g} times that of the photons of the bin (worst: {worst})",
        "below 1 the data were smoothed, above 1 something else fluctuates",
    ),
    "swapped_angles": Check(
        "final", "comprehensive", "two angles fit the others only when exchanged: {worst}",
        "check the labels of these bins, or leave both out with data_filtering.phi_ranges",
    ),
}  # fmt: skip
"""Every check by name, in the order in which they are told: a page of what quality control promises."""


def deductions(surveys: Sequence[Survey], level: Level, around: Surroundings) -> tuple[Deduction, ...]:
    """Return everything that is wrong with the angles surveyed, as far as a level looks."""
    found: list[Deduction] = []
    for name, check in CHECKS.items():
        if not covers(level, check.level):
            continue
        if check.value is None:
            found += _TOGETHER[name](surveys, around)
        else:
            among = [survey for survey in surveys if check.among(survey)]
            found += _worst_of(name, [(check.value(survey), survey) for survey in among])
    return tuple(item for item in found if item.points > 0.0)


def _deduction(
    name: str, points: float, value: float, phi: Sequence[float], worst: str = "", *, repaired: bool = False
) -> Deduction:
    """Take off points for a check, with its words."""
    check = CHECKS[name]
    reason = check.reason.format(value=value, worst=worst)
    angles = tuple(map(float, phi))
    return Deduction(name, check.stage, round(float(points), 2), float(value), angles, reason, check.remedy, repaired)


def _worst_of(
    name: str, values: Sequence[tuple[float, Survey]], points: Callable[[float], float] | None = None
) -> Iterator[Deduction]:
    """Yield the deduction for the angle that costs most, with all angles that have it; nothing if none has.

    What is repaired at every angle that has it costs half.
    """
    check = CHECKS[name]
    having = [(cost, value, of) for value, of in values if (cost := (points or check.points)(value)) > 0.0]
    if having:
        cost, value, worst = max(having, key=lambda item: item[0])
        mended = all(check.repaired(of) for _, _, of in having)
        phi = [of.phi for _, _, of in having]
        yield _deduction(name, cost / 2.0 if mended else cost, value, phi, check.words(worst), repaired=mended)


def _changed_data(surveys: Sequence[Survey], around: Surroundings) -> Iterator[Deduction]:
    changes = [f"{stage} {method}" for stage, method, _ in stages_of(around.processing) if stage in CHANGED]
    if changes:
        yield _deduction("changed_data", CHANGED_POINTS * len(changes), len(changes), (), ", ".join(changes))


def _missing_bins(surveys: Sequence[Survey], around: Surroundings) -> Iterator[Deduction]:
    if around.absent:
        share = around.absent / (around.absent + len(surveys))
        yield _deduction("missing_bins", min(15.0, 2.0 + 20.0 * share), share, ())


def _duplicate_angles(surveys: Sequence[Survey], around: Surroundings) -> Iterator[Deduction]:
    if twice := duplicates(_phi(surveys)):
        yield _deduction("duplicate_angles", 20.0, len(twice), twice)


def _angle_coverage(surveys: Sequence[Survey], around: Surroundings) -> Iterator[Deduction]:
    gap = widest_gap(_phi(surveys))
    if around.shear and gap > GAP:
        yield _deduction("angle_coverage", min(35.0, 10.0 + 25.0 * (gap - GAP) / GAP), gap, ())


def _phi(surveys: Sequence[Survey]) -> Floats:
    return np.array([of.phi for of in surveys])


def _lost_scale(surveys: Sequence[Survey], around: Surroundings) -> Iterator[Deduction]:
    def normal(level: float | None) -> bool:
        return level is None or BASELINE[0] <= level <= BASELINE[1]

    odd = [
        (of, made)
        for of in surveys
        if (made := of.treated) is not None and normal(made.level_before) and not normal(made.level_after)
    ]
    if odd:
        worst, made = max(odd, key=lambda item: abs((item[1].level_after or 0.0) - 1.0))
        words = f"{worst.phi:g}°, it was {made.level_before:.3g}"
        yield _deduction("lost_scale", LOST_SCALE_POINTS, made.level_after or 0.0, [of.phi for of, _ in odd], words)


def _refused(surveys: Sequence[Survey], around: Surroundings) -> Iterator[Deduction]:
    refused = [of for of in surveys if of.refused is not None and not of.integrity.constant]
    if refused:
        yield _deduction("refused", UNUSABLE, len(refused), [of.phi for of in refused], refused[0].refused or "")


def _photon_noise(surveys: Sequence[Survey], around: Surroundings) -> Iterator[Deduction]:
    shown = [of for of in surveys if _is_shown(of)]
    if around.pixels is None or len(around.pixels) != len(shown):
        return

    def ratio(of: Survey, pixels: int) -> float:
        noise = _shown(of)
        contrast = noise.signal.contrast if noise.signal is not None else 0.0
        expected = photon_sigma(noise.shot_noise, contrast, pixels)
        return noise.sigma / expected if expected else 1.0

    def off(value: float) -> float:
        if PHOTONS[0] <= value <= PHOTONS[1]:
            return 0.0
        return min(15.0, 5.0 + 5.0 * abs(math.log2(max(value, 1e-6))))

    values = [(ratio(of, pixels), of) for of, pixels in zip(shown, around.pixels, strict=True)]
    yield from _worst_of("photon_noise", values, off)


def _swapped_angles(surveys: Sequence[Survey], around: Surroundings) -> Iterator[Deduction]:
    shown = [of for of in surveys if _is_shown(of)]
    if shown and all(_is_clear(of) for of in shown):
        pair = swapped(_phi(shown), [_signal(of) for of in shown])
        if pair is not None:
            yield _deduction("swapped_angles", 25.0, 2.0, pair, f"{pair[0]:g}° and {pair[1]:g}°")


_TOGETHER: Mapping[str, Callable[[Sequence[Survey], Surroundings], Iterator[Deduction]]] = {
    "changed_data": _changed_data,
    "missing_bins": _missing_bins,
    "duplicate_angles": _duplicate_angles,
    "angle_coverage": _angle_coverage,
    "lost_scale": _lost_scale,
    "refused": _refused,
    "photon_noise": _photon_noise,
    "swapped_angles": _swapped_angles,
}
"""What is looked for in all angles together."""
