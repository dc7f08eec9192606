"""The data of a run: loaded, with a place for prepared matrices where that spares work, and judged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcxpcs.config import Config
from hpcxpcs.data.formats import read_truth
from hpcxpcs.data.matrices import KeptMatrices
from hpcxpcs.data.quality.report import QualityReport, examine
from hpcxpcs.data.quality.survey import PASS
from hpcxpcs.data.select import load
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.errors import ConfigError, DataError
from hpcxpcs.files.array_store import ArrayStore
from hpcxpcs.pipeline.reporter import Reporter
from hpcxpcs.pipeline.settings import memory_budget

HELD_SHARE = 0.25
"""Share of the memory budget that matrices may occupy between passes; larger data are read again instead."""

RUN_CACHE = Path("data") / "cache"
"""Where in RUN prepared matrices are kept when they are too large for the memory."""


def held_bytes(config: Config) -> int:
    """Bytes of matrices that a process keeps in memory between passes over the data."""
    return int(HELD_SHARE * memory_budget(config))


def load_for_run(config: Config, folder: Path, tell: Callable[[str], None], *, alone: bool = True) -> TwoTime:
    """The data that a configuration selects, for the run in a folder; matrices are read when asked for.

    Prepared matrices are kept in the folder that runtime.data_cache names, or, when it is auto and they do not fit
    into memory, in the run's own. `tell` hears when they do not fit there either. A process that is not `alone` follows
    the one that has prepared the run: it does not ask the scheduler for the memory of the job.
    """
    data = load(config)
    place, limit = cache_place(config, folder, data, alone=alone), config.runtime.data_cache_limit
    if place is None:
        return data
    if data.nbytes > limit:
        tell(
            f"{data.nbytes / 1e9:.1f} GB of prepared matrices are more than runtime.data_cache_limit, "
            f"{limit / 1e9:.1f} GB: they are made anew in every pass over the data"
        )
        return data
    return replace(data, kept=KeptMatrices(ArrayStore(place, limit), tell))


def cache_place(config: Config, folder: Path, data: TwoTime, *, alone: bool = True) -> Path | None:
    """The folder of prepared matrices; None when they are not kept on disk."""
    place = named_cache(config, folder)
    if place is None or config.runtime.data_cache != "auto":
        return place
    needed = place.is_dir() or (alone and data.nbytes > held_bytes(config))
    return place if needed else None


def named_cache(config: Config, folder: Path) -> Path | None:
    """The folder that runtime.data_cache names, needed or not, for the run in a folder; None when it is null."""
    chosen = config.runtime.data_cache
    if chosen is None or chosen == "auto":
        return folder / RUN_CACHE if chosen else None
    place = Path(chosen).expanduser()
    there = next((one for one in (place, *place.parents) if one.exists()), place)
    if there.exists() and not there.is_dir():
        raise ConfigError(f"runtime.data_cache: {there} is a file; name a folder, in which prepared matrices are kept")
    return place


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


def quality_report(config: Config, data: TwoTime, reporter: Reporter) -> dict[str, Any] | None:
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
    costly = [item for item in report.deductions if item.points >= WORTH_TELLING] or report.deductions
    reasons = "; ".join(f"{item.reason} ({item.remedy})" for item in costly)
    return f"{config.data_file}: the data score {report.score:g} of 100, {PASS:g} are needed: {reasons}"


def known_truth(config: Config, data: TwoTime) -> dict[str, Any] | None:
    """The truth of a simulated file, without what cannot be compared with this fit.

    Parameters mean something else under another model, convention or origin of time; contrast and offset belong to
    the q of the truth, and to c2 before any normalisation.
    """
    truth = read_truth(config.data_file)
    if truth is None:
        return None
    hidden = set()
    others = [read_truth(Path(one.file)) for one in data.sets]
    if others:
        hidden |= {"contrast", "offset"}
    if any(other is None or other.get("parameters") != truth.get("parameters") for other in others):
        hidden.add("parameters")
    conventions = config.conventions.model_dump()
    if (
        (data.frames[0] != 1 and config.analyzer_parameters.time_origin != "file")
        or truth.get("model") != config.analysis_mode
        or not data.q_known
        or data.time_unit != "s"
        or any(conventions.get(key) != value for key, value in truth.get("conventions", {}).items())
    ):
        hidden.add("parameters")
    if not math.isclose(truth.get("q", data.q), data.q, rel_tol=1e-3):
        hidden |= {"contrast", "offset"}
    if data.processing.normalization != "none":
        hidden |= {"contrast", "offset"}
    return {name: value for name, value in truth.items() if name not in hidden}
