"""How much each thing that is wrong costs: the price list of quality control, and its application."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from hpcxpcs.data.preprocess import Processing
from hpcxpcs.data.quality.angles import duplicates, swapped, widest_gap
from hpcxpcs.data.quality.findings import RULES, Finding, finding, worst_of
from hpcxpcs.data.quality.levels import Level, covers
from hpcxpcs.data.quality.photons import photon_sigma
from hpcxpcs.data.quality.survey import Integrity, Shown, Survey

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
    processing: Processing = field(default_factory=Processing)


def rising(start: float, slope: float, most: float) -> Callable[[float], float]:
    """Points that begin at `start` for anything above 0 and rise with the value up to `most`."""
    return lambda value: min(most, start + slope * value) if value > 0.0 else 0.0


def deductions(surveys: Sequence[Survey], level: Level, around: Surroundings) -> tuple[Finding, ...]:
    """Return everything that is wrong with the angles surveyed, as far as a level looks."""
    found = [*_integrity(surveys), *_selection(surveys, around), *_treatment(surveys), *_fitness(surveys)]
    shown = [survey for survey in surveys if survey.shown is not None]
    if shown:
        found += [*_signal(shown), *_level(shown), *_odd_ones(shown), *_shared(shown, around)]
    return tuple(item for item in found if item.points > 0.0 and covers(level, RULES[item.check].level))


def _integrity(surveys: Sequence[Survey]) -> Iterator[Finding]:
    def share(count: Callable[[Integrity], int]) -> Callable[[Survey], float]:
        return lambda found: count(found.integrity) / max(1, found.integrity.pairs)

    def mended(words: str) -> Callable[[Survey], bool]:
        return lambda found: any(touched.reason.startswith(words) for touched in found.touched)

    def masked(found: Survey) -> bool:
        return found.refused is None

    some = rising(5.0, 150.0, UNUSABLE)
    yield from worst_of("non_finite", surveys, share(lambda on: on.non_finite), some, repaired=masked)
    yield from worst_of(
        "empty_pairs", surveys, share(lambda on: on.empty), some, repaired=mended("exactly zero")
    )
    yield from worst_of(
        "dead_frames",
        surveys,
        lambda found: len(found.integrity.dead_frames) / _frames(found),
        rising(1.0, 80.0, UNUSABLE),
        lambda found: f"{found.phi:g}°, frames {listed(found.integrity.dead_frames)}",
    )
    yield from worst_of(
        "negative_values", surveys, share(lambda on: on.negative), some, repaired=mended("negative")
    )
    yield from worst_of(
        "saturated_values", surveys, share(lambda on: on.saturated), some, repaired=mended("saturated")
    )
    yield from worst_of(
        "constant", surveys, lambda found: float(found.integrity.constant), lambda value: UNUSABLE * value
    )
    yield from worst_of(
        "asymmetry",
        surveys,
        lambda found: found.integrity.asymmetry,
        lambda value: min(40.0, 5.0 + 100.0 * value) if value > ASYMMETRY else 0.0,
    )


def _frames(found: Survey) -> int:
    """Frames of a matrix with so many pairs."""
    return max(1, round((1.0 + math.sqrt(1.0 + 8.0 * found.integrity.pairs)) / 2.0))


def listed(frames: Sequence[int], limit: int = 8) -> str:
    """Frames as text, at most `limit` of them."""
    return ", ".join(map(str, frames[:limit])) + (", …" if len(frames) > limit else "")


def _selection(surveys: Sequence[Survey], around: Surroundings) -> Iterator[Finding]:
    phi = np.array([found.phi for found in surveys])
    changes = [f"{stage} {method}" for stage, method, _ in around.processing.stages() if stage in CHANGED]
    if changes:
        yield finding("changed_data", CHANGED_POINTS * len(changes), len(changes), (), ", ".join(changes))
    if around.absent:
        share = around.absent / (around.absent + len(phi))
        yield finding("missing_bins", min(15.0, 2.0 + 20.0 * share), share, ())
    if twice := duplicates(phi):
        yield finding("duplicate_angles", 20.0, len(twice), twice)
    gap = widest_gap(phi)
    if around.shear and gap > GAP:
        yield finding("angle_coverage", min(35.0, 10.0 + 25.0 * (gap - GAP) / GAP), gap, ())


def _treatment(surveys: Sequence[Survey]) -> Iterator[Finding]:
    """What preprocessing did that it should not."""
    yield from worst_of(
        "lost_pairs",
        surveys,
        lambda found: found.treated.lost / max(1, found.usable_pairs) if found.treated else 0.0,
        rising(5.0, 150.0, UNUSABLE),
    )
    measured = [(found, found.treated) for found in surveys if found.treated is not None]

    def normal(level: float | None) -> bool:
        return level is None or BASELINE[0] <= level <= BASELINE[1]

    odd = [
        (found, made)
        for found, made in measured
        if normal(made.level_before) and not normal(made.level_after)
    ]
    if odd:
        worst, made = max(odd, key=lambda item: abs((item[1].level_after or 0.0) - 1.0))
        phi = [found.phi for found, _ in odd]
        words = f"{worst.phi:g}°, it was {made.level_before:.3g}"
        yield finding("lost_scale", LOST_SCALE_POINTS, made.level_after or 0.0, phi, words)
    moved = {found.phi: made.moved or 0.0 for found, made in measured}
    yield from worst_of(
        "moved_signal",
        [found for found, _ in measured],
        lambda found: moved[found.phi],
        lambda value: min(40.0, 5.0 + 100.0 * value) if value > MOVED else 0.0,
    )
    left = {found.phi: made.noise_left for found, made in measured if made.noise_left is not None}
    yield from worst_of(
        "shared_by_filter",
        [found for found, _ in measured if found.phi in left],
        lambda found: left[found.phi],
        lambda value: 10.0 * (1.0 - value) if value < ROUGHNESS else 0.0,
    )


def _fitness(surveys: Sequence[Survey]) -> Iterator[Finding]:
    refused = [found for found in surveys if found.refused is not None and not found.integrity.constant]
    if refused:
        yield finding(
            "refused", UNUSABLE, len(refused), [found.phi for found in refused], refused[0].refused or ""
        )

    def few(value: float) -> float:
        return 40.0 * (1.0 - value / FEW_PAIRS) if 0.0 < value < FEW_PAIRS else 0.0

    kept = [found for found in surveys if found.refused is None]
    yield from worst_of(
        "few_pairs", kept, lambda found: found.usable_pairs / max(1, found.integrity.pairs), few
    )


def _of(found: Survey) -> Shown:
    assert found.shown is not None
    return found.shown


def significance(found: Survey) -> float:
    """The contrast of an angle over its standard deviation, 0 without a signal."""
    signal = _of(found).signal
    if signal is None or signal.contrast <= 0.0:
        return 0.0
    return signal.contrast / signal.contrast_error if signal.contrast_error > 0.0 else math.inf


def signal_to_noise(found: Survey) -> float:
    """The contrast of an angle over the noise of one of its pairs."""
    signal, sigma = _of(found).signal, _of(found).sigma
    if signal is None or signal.contrast <= 0.0:
        return 0.0
    return signal.contrast / sigma if sigma > 0.0 else math.inf


def _signal(shown: Sequence[Survey]) -> Iterator[Finding]:
    def silent(value: float) -> float:
        return 25.0 + 20.0 * (1.0 - max(0.0, value) / SIGNIFICANT) if value < SIGNIFICANT else 0.0

    def noisy(value: float) -> float:
        return min(30.0, 5.0 + 10.0 * math.log10(CLEAR / max(value, 1e-3))) if value < CLEAR else 0.0

    yield from worst_of("no_signal", shown, significance, silent)
    yield from worst_of("low_signal_to_noise", shown, signal_to_noise, noisy)
    clear = [found for found in shown if significance(found) >= 2.0 * SIGNIFICANT]

    def share(name: str) -> Callable[[Survey], float]:
        return lambda found: float(getattr(_of(found).signal, name))

    yield from worst_of(
        "not_decayed",
        clear,
        share("still_falling"),
        lambda value: min(8.0, 2.0 + 10.0 * value) if value > STILL_FALLING else 0.0,
    )
    yield from worst_of(
        "decay_too_fast",
        clear,
        share("first_drop"),
        lambda value: min(15.0, 5.0 + 20.0 * (value - TOO_FAST)) if value > TOO_FAST else 0.0,
    )


def _level(shown: Sequence[Survey]) -> Iterator[Finding]:
    with_signal = [found for found in shown if _of(found).signal is not None]

    def baseline(found: Survey) -> float:
        signal = _of(found).signal
        return signal.baseline if signal is not None else 1.0

    def far(value: float) -> float:
        below, above = BASELINE[0] - value, value - BASELINE[1]
        if below > 0.0:
            return min(45.0, 15.0 + 60.0 * below)
        return min(45.0, 8.0 + 40.0 * above) if above > 0.0 else 0.0

    def drift(found: Survey) -> float:
        signal = _of(found).signal
        if signal is None or signal.contrast <= 0.0 or abs(signal.drift) <= SIGNIFICANT * signal.drift_error:
            return 0.0
        return abs(signal.drift) / signal.contrast

    yield from worst_of("baseline", with_signal, baseline, far)
    yield from worst_of(
        "drift",
        with_signal,
        drift,
        lambda value: min(35.0, 10.0 + 25.0 * (value - DRIFT)) if value > DRIFT else 0.0,
    )


def _odd_ones(shown: Sequence[Survey]) -> Iterator[Finding]:
    yield from worst_of(
        "hot_frames",
        shown,
        lambda found: len(_of(found).hot_frames) / _frames(found),
        rising(8.0, 100.0, 40.0),
        lambda found: f"{found.phi:g}°, frames {listed(_of(found).hot_frames)}",
    )
    yield from worst_of(
        "spikes",
        shown,
        lambda found: _of(found).spikes / max(1, found.integrity.pairs),
        rising(3.0, 500.0, 35.0),
    )


def _shared(shown: Sequence[Survey], around: Surroundings) -> Iterator[Finding]:
    def inflation(found: Survey) -> float:
        noise = _of(found)
        if noise.sigma <= 0.0:
            return 1.0
        return math.sqrt(1.0 + found.usable_frames * (noise.shared_noise / noise.sigma) ** 2)

    yield from worst_of(
        "frame_noise",
        shown,
        inflation,
        lambda value: min(8.0, 2.0 + 2.0 * math.log2(value / INFLATION)) if value > INFLATION else 0.0,
    )
    yield from worst_of(
        "time_gap",
        shown,
        lambda found: float(len(_of(found).gaps)),
        lambda value: min(40.0, 20.0 + 5.0 * value) if value > 0.0 else 0.0,
        lambda found: f"{found.phi:g}°, after frames {listed(_of(found).gaps)}",
    )
    yield from _photons(shown, around)
    signals = [signal for found in shown if (signal := _of(found).signal) is not None]
    strong = all(significance(found) >= 2.0 * SIGNIFICANT for found in shown)
    if strong and len(signals) == len(shown):
        pair = swapped(np.array([found.phi for found in shown]), signals)
        if pair is not None:
            yield finding("swapped_angles", 25.0, 2.0, pair, f"{pair[0]:g}° and {pair[1]:g}°")


def _photons(shown: Sequence[Survey], around: Surroundings) -> Iterator[Finding]:
    if around.pixels is None or len(around.pixels) != len(shown):
        return
    pixels = {found.phi: count for found, count in zip(shown, around.pixels, strict=True)}

    def ratio(found: Survey) -> float:
        noise = _of(found)
        contrast = noise.signal.contrast if noise.signal is not None else 0.0
        expected = photon_sigma(noise.shot_noise, contrast, pixels[found.phi])
        return noise.sigma / expected if expected else 1.0

    def off(value: float) -> float:
        if PHOTONS[0] <= value <= PHOTONS[1]:
            return 0.0
        return min(15.0, 5.0 + 5.0 * abs(math.log2(max(value, 1e-6))))

    yield from worst_of("photon_noise", shown, ratio, off)
