"""The verdict on a data set: scores of four stages, every deduction, what was measured and what was repaired."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcxpcs.data.formats import open_file
from hpcxpcs.data.quality.deductions import Deduction, Surroundings, deductions, signal_to_noise
from hpcxpcs.data.quality.photons import pixel_counts
from hpcxpcs.data.quality.survey import EXCELLENT, PASS, STAGES, WARN, Level, Survey, covers, grade, survey
from hpcxpcs.data.select import rings
from hpcxpcs.data.twotime import TwoTime

SCHEMA_VERSION = 1
"""Version of the keys of the JSON report."""

FULL = 100.0


@dataclass(frozen=True)
class QualityReport:
    """The deductions of one level on one record, with the survey of each angle."""

    level: Level
    repair: str
    deductions: tuple[Deduction, ...]
    surveys: tuple[Survey, ...]
    q: float
    frames: tuple[int, int]
    file: str | None = None

    @property
    def score(self) -> float:
        """100 minus all deductions, at least 0."""
        return self.stage_scores["final"]

    @property
    def grade(self) -> str:
        """The score in one word: excellent, good, usable or poor."""
        return grade(self.score)

    @property
    def stage_scores(self) -> dict[str, float]:
        """The score at each stage: 100 minus the deductions so far."""
        left = FULL
        scores: dict[str, float] = {}
        for stage in STAGES:
            left -= sum(item.points for item in self.deductions if item.stage == stage)
            scores[stage] = round(max(0.0, left), 2)
        return scores

    def to_mapping(self) -> dict[str, Any]:
        """The report as plain data, in the order a reader wants it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "file": self.file,
            "q": self.q,
            "frames": list(self.frames),
            "level": self.level,
            "auto_repair": self.repair,
            "score": self.score,
            "grade": self.grade,
            "thresholds": {"pass": PASS, "warn": WARN, "excellent": EXCELLENT},
            "stages": self.stage_scores,
            "deductions": [asdict(item) for item in self.deductions],
            "angles": [_measured(item) for item in self.surveys],
            "repairs": [
                {"phi": item.phi, "action": "masked", **asdict(touched)}
                for item in self.surveys
                for touched in item.touched
            ],
        }


def examine(
    data: TwoTime,
    level: Level,
    *,
    shear: bool = False,
    on_angle: Callable[[int], None] = lambda done: None,
) -> QualityReport | None:
    """Measure and score a record, one angle in memory at a time; None at level none.

    `shear` says that the model needs angles that see the flow. Nothing of the record is changed.
    """
    if level == "none":
        return None
    surveys = []
    for k in range(data.n_phi):
        surveys.append(survey(data, k, level))
        on_angle(k + 1)
    around = _surroundings(data, level, shear)
    return QualityReport(
        level=level,
        repair=data.screening.repair,
        deductions=deductions(surveys, level, around),
        surveys=tuple(surveys),
        q=data.q,
        frames=data.frames,
        file=data.provenance.get("file"),
    )


def _surroundings(data: TwoTime, level: Level, shear: bool) -> Surroundings:
    if "file" not in data.provenance:
        return Surroundings(shear=shear, processing=data.processing)
    path = Path(data.provenance["file"])
    with open_file(path, data.provenance.get("format", "auto")) as layout:
        absent = sum(len(rings([item.q, data.q])) == 1 for item in layout.absent)
    deep = covers(level, "comprehensive")
    pixels = pixel_counts(path, data.provenance["bins"]) if deep else None
    return Surroundings(absent, pixels, shear, data.processing)


def _measured(found: Survey) -> dict[str, Any]:
    """The numbers of one angle for JSON."""
    numbers: dict[str, Any] = {
        "phi": found.phi,
        "pairs": found.integrity.pairs,
        "finite_fraction": 1.0 - found.integrity.non_finite / max(1, found.integrity.pairs),
        "usable_pairs": found.usable_pairs,
        "dead_frames": list(found.integrity.dead_frames),
        "asymmetry": found.integrity.asymmetry,
        "refused": found.refused,
    }
    if found.treated is not None:
        numbers["preprocessed"] = asdict(found.treated)
    shown = found.shown
    if shown is None:
        return numbers
    numbers |= {
        "sigma": shown.sigma,
        "shared_noise": shown.shared_noise,
        "hot_frames": list(shown.hot_frames),
        "spikes": shown.spikes,
        "gaps": list(shown.gaps),
        "shot_noise": shown.shot_noise,
    }
    signal = shown.signal
    if signal is not None:
        numbers |= {
            "contrast": signal.contrast,
            "baseline": signal.baseline,
            "signal_to_noise": signal_to_noise(found),
            "still_falling": signal.still_falling,
            "drift": signal.drift,
        }
    return numbers
