"""The words of quality control: stages, levels, and what a score means."""

from __future__ import annotations

from typing import Literal

Level = Literal["none", "basic", "standard", "comprehensive"]
"""How much is looked at: nothing; integrity of the numbers; also the signal; also what angles and frames share."""

Stage = Literal["raw", "filtered", "preprocessed", "final"]
"""As stored; as selected; after preprocessing; as fitted."""

LEVELS: tuple[Level, ...] = ("none", "basic", "standard", "comprehensive")
STAGES: tuple[Stage, ...] = ("raw", "filtered", "preprocessed", "final")

PASS, WARN, EXCELLENT = 50.0, 70.0, 85.0
"""Scores from which data can be used, are good, and are excellent; below the first they are poor."""


def grade(score: float) -> str:
    """Return what a score (0 to 100) means in one word."""
    if score >= EXCELLENT:
        return "excellent"
    if score >= WARN:
        return "good"
    return "usable" if score >= PASS else "poor"


def covers(level: Level, needed: Level) -> bool:
    """Tell whether a level includes what begins at another one."""
    return LEVELS.index(level) >= LEVELS.index(needed)
