"""Where a run looks at the quality of its data: before the fit if poor data are to be refused, and for the results."""

from __future__ import annotations

from typing import Any

from hpcxpcs.config import Config
from hpcxpcs.data.quality.levels import PASS
from hpcxpcs.data.quality.report import QualityReport, examine
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import DataError
from hpcxpcs.pipeline.reporter import Reporter

WORTH_TELLING = 10.0
"""Points from which a deduction is named in the one line that refuses data."""


def refuse_poor(config: Config, data: TwoTime, reporter: Reporter) -> None:
    """Raise DataError when the data are poor and the configuration asks for a refusal; reads nothing otherwise."""
    if not config.quality_control.refuse_poor:
        return
    report = _examined(config, data, reporter)
    if report is not None and report.score < PASS:
        raise DataError(
            f"{_words(config, report)}; to fit them all the same set quality_control.refuse_poor: false (and --fresh)"
        )


def judged(config: Config, data: TwoTime, reporter: Reporter) -> dict[str, Any] | None:
    """The quality report of the data as plain JSON, with a warning if they are poor; None at level none."""
    report = _examined(config, data, reporter)
    if report is None:
        return None
    if report.score < PASS:
        reporter.warn(_words(config, report))
    return report.to_mapping()


def _examined(config: Config, data: TwoTime, reporter: Reporter) -> QualityReport | None:
    level = config.quality_control.level
    if level == "none":
        return None
    reporter.phase(f"judging the data ({level})")
    return examine(
        data,
        level,
        shear=config.analysis_mode == "laminar_flow",
        on_angle=lambda done: reporter.step(done, data.n_phi),
    )


def _words(config: Config, report: QualityReport) -> str:
    """The score, and what costs most."""
    costly = [item for item in report.findings if item.points >= WORTH_TELLING] or report.findings
    reasons = "; ".join(f"{item.reason} ({item.remedy})" for item in costly)
    return f"{config.data_file}: the data score {report.score:g} of 100, {PASS:g} are needed: {reasons}"
