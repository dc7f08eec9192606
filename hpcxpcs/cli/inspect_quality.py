"""The part of `hpcxpcs inspect` that judges data: options, and the page that is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcxpcs.config import Config
    from hpcxpcs.data.inspect import Description
    from hpcxpcs.data.select import PhiInterval

USUAL = "standard"
"""The level when none is asked for."""


@dataclass(frozen=True)
class Asked:
    """What to look for: level, what repair may mask (None: what the configuration says), whether the sample flows."""

    level: str | None
    repair: str | None
    shear: bool


def settings_of(found: Description, ranges: Sequence[PhiInterval], asked: Asked) -> Config:
    """Settings that select what is described and leave all else as it is usually.

    A time step that the file does not tell is taken as 1 s; of several q among which none is chosen, the smallest.
    """
    from hpcxpcs.config import config_from_mapping

    filtering = {"phi_ranges": [{"min": item.min, "max": item.max} for item in ranges]} if ranges else {}
    return config_from_mapping(
        {
            "analysis_mode": "laminar_flow" if asked.shear else "static",
            "experimental_data": _of_file(found),
            "analyzer_parameters": {
                "dt": "auto" if found.dt is not None else 1.0,
                "scattering": {"wavevector_q": found.selected_q or found.rings[0].q},
            },
            "data_filtering": filtering,
            "quality_control": {"level": asked.level or USUAL, "auto_repair": asked.repair or "disabled"},
        }
    )


def settings_as_configured(config: Config, found: Description, asked: Asked) -> Config:
    """The settings of a configuration for its own data file or another one.

    Level and repair are those asked for, else those of the configuration; one that judges nothing is judged as usual.
    A time step that neither says is taken as 1 s.
    """
    from hpcxpcs.config import config_from_mapping

    settings, said = config.to_mapping(), config.quality_control
    settings["experimental_data"] = {**_of_file(found), "format": config.experimental_data.format}
    settings["quality_control"] = {
        "level": asked.level or (USUAL if said.level == "none" else said.level),
        "auto_repair": asked.repair or said.auto_repair,
    }
    if found.selected_dt is None:
        settings["analyzer_parameters"]["dt"] = 1.0
    return config_from_mapping(settings)


def _of_file(found: Description) -> dict[str, Any]:
    return {"file_path": str(Path(found.file).absolute()), "format": found.format}


def judged(config: Config, found: Description, asked: Asked) -> dict[str, Any]:
    """The quality report of what a configuration selects and does, as plain JSON."""
    from hpcxpcs.data.quality.report import examine
    from hpcxpcs.data.select import load
    from hpcxpcs.errors import SelectionError

    if found.selected_q is None:
        raise SelectionError(f"{found.file}: has {len(found.rings)} q; choose the one to judge with --q")
    shear = asked.shear or config.analysis_mode == "laminar_flow"
    report = examine(load(config), config.quality_control.level, shear=shear)
    return {} if report is None else report.to_mapping()


def lines(quality: dict[str, Any]) -> list[str]:
    """The report as text: score, stages, every deduction with its remedy, what was measured, what was masked."""
    stages = ", ".join(f"{stage} {score:g}" for stage, score in quality["stages"].items())
    page = [
        "",
        f"{'quality':<14}{quality['score']:g} of 100: {quality['grade']} (level {quality['level']})",
        f"{'stages':<14}{stages}",
    ]
    for item in quality["deductions"]:
        left_out = "; left out of a fit" if item["repaired"] else ""
        page.append(f"{'-' + format(item['points'], 'g'):<14}{item['check']}: {item['reason']}{left_out}")
        page.append(f"{'':<14}{item['remedy']}")
    page += _angles(quality["angles"])
    page += [
        f"{'masked':<14}phi = {item['phi']:g}: {len(item['frames'])} frames, {item['pairs']} pairs: {item['reason']}"
        for item in quality["repairs"]
    ]
    return page


def _angles(angles: Sequence[dict[str, Any]]) -> list[str]:
    measured = [item for item in angles if "contrast" in item]
    if not measured:
        return []
    head = f"{'phi':>8}{'contrast':>11}{'baseline':>11}{'sigma':>11}{'contrast/sigma':>16}{'drift':>11}"
    rows = [
        f"{item['phi']:>8.4g}{item['contrast']:>11.4g}{item['baseline']:>11.4g}{item['sigma']:>11.3g}"
        f"{item['signal_to_noise']:>16.3g}{item['drift']:>11.2g}"
        for item in measured
    ]
    return ["", head, *rows]
