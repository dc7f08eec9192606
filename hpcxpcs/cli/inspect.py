"""`hpcxpcs inspect`: show what is in a result file, and judge it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from hpcxpcs.errors import DataError

if TYPE_CHECKING:
    from hpcxpcs.config import Config
    from hpcxpcs.data.inspect import Description, Examined, Ring
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpcxpcs.config import Config
    from hpcxpcs.data.inspect import Description
    from hpcxpcs.data.select import PhiInterval

EXAMPLES = """\
\b
Examples:
  hpcxpcs inspect rheo_0042_results.hdf
  hpcxpcs inspect rheo_0042_results.hdf --q 0.0054 --phi-range -30 30 --picture c2.png
  hpcxpcs inspect rheo_0042_results.hdf --quality --level comprehensive
  hpcxpcs inspect rheo_0042_results.hdf --json
  hpcxpcs inspect --config rheo.yaml --quality
  hpcxpcs inspect multitau_results.hdf
"""


class Interval(NamedTuple):
    """A range of angles in degrees."""

    min: float
    max: float


@click.command(epilog=EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Show what this configuration would select, of FILE or of the data file it names.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["auto", "nexus", "legacy", "cube", "nxxpcs", "viewer"]),
    default="auto",
    show_default=True,
    help="Layout of the file; auto recognises it by its contents.",
)
@click.option("--q", type=float, help="Show what this q (Å⁻¹) would select, and examine those matrices.")
@click.option(
    "--phi-range",
    "phi_ranges",
    type=(float, float),
    multiple=True,
    metavar="MIN MAX",
    help="Angles in degrees; MIN > MAX runs through 180. May be repeated.",
)
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write heat maps of up to six matrices, as a fit would get them, to this PNG file.",
)
@click.option("--quality", is_flag=True, help="Also judge the selected data: a score, and every deduction.")
@click.option(
    "--level",
    type=click.Choice(["basic", "standard", "comprehensive"]),
    help="With --quality: how closely to look.  [default: as --config says, else standard]",
)
@click.option(
    "--repair",
    type=click.Choice(["disabled", "conservative", "aggressive"]),
    help="With --quality: judge what is left after repair, and list what it masks.  "
    "[default: as --config says, else disabled]",
)
@click.option(
    "--shear",
    is_flag=True,
    help="With --quality: the sample is sheared, so that angles must cover it (laminar_flow in --config says so).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def command(
    file: Path | None,
    config: Path | None,
    format_name: str,
    q: float | None,
    phi_ranges: tuple[tuple[float, float], ...],
    picture: Path | None,
    quality: bool,
    level: str | None,
    repair: str | None,
    shear: bool,
    as_json: bool,
) -> None:
    """Show layout, units, bins, frames and dead frames of a result FILE, and what would be selected of it.

    Of a mask, a q-map or a partition: its pixels, bins and geometry.
    """
    from hpcxpcs.cli.config import parameter_lines
    from hpcxpcs.config.load import load_config
    from hpcxpcs.data.inspect import describe, describe_selected
    from hpcxpcs.files.json_safe import dumps

    for option, given in (("--level", level), ("--repair", repair), ("--shear", shear)):
        if given and not quality:
            raise click.UsageError(f"{option} says how to judge the data, which only --quality does: give it, too")
    about_matrices = {"--q": q is not None, "--phi-range": phi_ranges, "--picture": picture, "--quality": quality}
    idle = [name for name, given in about_matrices.items() if given]
    if config is None and format_name == "auto" and _shown_as_detector_file(_file(file), as_json, idle):
        return
    ranges, asked = [Interval(*limits) for limits in phi_ranges], Asked(level, repair, shear)
    if (
        config is None
        and file is not None
        and format_name == "auto"
        and not quality
        and _tells_g2(_file(file), as_json)
    ):
        return
    if config is None:
        description = describe(_file(file), format_name, q, ranges)
        settings = _usual_settings(description, ranges, asked)
    else:
        if q is not None or ranges or format_name != "auto":
            raise click.UsageError("--config decides on format, q and angles: leave out the options for these")
        configured = load_config(config)
        configured.refuse_campaign()
        description = describe_selected(configured, file)
        settings = _configured_settings(configured, description, asked)
    found = _quality_of(settings, description, asked) if quality else None
    if as_json:
        extra = {} if found is None else {"quality": found}
        click.echo(dumps({"schema_version": 1, **vars(description), **extra}), nl=False)
    else:
        shown = [*_lines(description), *([] if found is None else _quality_lines(found))]
        if config is not None:
            timeless = "parameters    their bounds follow from the time step, which is unknown"
            shown += ["", *([timeless] if description.selected_dt is None else parameter_lines(settings))]
        click.echo("\n".join(shown))
    if picture is not None:
        in_frames = description.selected_dt is None or settings.analyzer_parameters.dt == "frames"
        _draw(settings, picture, "frames" if in_frames else "s")


def _shown_as_detector_file(file: Path, as_json: bool, idle: Sequence[str]) -> bool:
    """Print what is in a mask, a q-map or a partition; False for other files."""
    from hpcxpcs.files.json_safe import dumps
    from hpcxpcs.frames.schemas import description_of

    told = description_of(file)
    if told is not None and idle:
        raise click.UsageError(f"{idle[0]} is about matrices, and {file} has none")
    if told is not None:
        lines = [_line(name, text) for name, text in told]
        click.echo(dumps({"schema_version": 1, **dict(told)}) if as_json else "\n".join(lines), nl=not as_json)
    return told is not None


def _tells_g2(file: Path, as_json: bool) -> bool:
    """Print what is in a file that has g2 and no two-time matrices; False for any other."""
    from hpcxpcs.g2.reading import described, holds_g2

    if not holds_g2(file):
        return False
    from hpcxpcs.files.json_safe import dumps

    found = described(file)
    click.echo(dumps({"schema_version": 1, **found}) if as_json else "\n".join(_g2_lines(found)), nl=not as_json)
    return True


def _g2_lines(found: dict[str, Any]) -> list[str]:
    """A multi-tau file as text: what it is, then a line per bin."""
    lines = [
        _line("file", found["file"]),
        _line("format", found["layout"] + (", simulated (truth is in the file)" if found["simulated"] else "")),
        _line("g2", f"{found['bins']} bins of {found['delays']} delays, {found['tau'][0]:g} to {found['tau'][1]:g} s"),
        _line(
            "blocks", f"{found['blocks']} of time" if found["blocks"] else "none: errors of delays count as independent"
        ),
        *(_line("note", note) for note in found["notes"]),
        "",
        f"{'bin':>5}{'q (1/Å)':>12}{'phi':>9}{'values':>8}{'last level':>12}{'median error':>14}",
    ]
    columns = (found["q"], found["phi"], found["values"], found["last_level"], found["median_error"])
    for label, (q, phi, values, level, error) in enumerate(zip(*columns, strict=True), start=1):
        lines.append(f"{label:>5}{q:>12.5g}{phi:>9.4g}{values:>8}{level:>12.5g}{error:>14.3g}")
    return [*lines, "", "fit it with hpcxpcs g2 fit"]


def _draw(settings: Config, picture: Path, unit: str) -> None:
    """Write the picture of what settings select of a file and do to it."""
    from hpcxpcs.data.select import load
    from hpcxpcs.errors import OutputError
    from hpcxpcs.results.drawing import png, selected_data

    content = png(selected_data(load(settings), unit))
    try:
        picture.write_bytes(content)
    except OSError as error:
        raise OutputError(f"{picture}: cannot be written ({error.strerror or error})") from error


def _file(file: Path | None) -> Path:
    if file is None:
        raise click.UsageError("name a FILE, or a configuration with --config")
    # unlike the method of Path this answers False to names that no file can have
    if not os.path.exists(file):  # noqa: PTH110
        raise DataError(f"{file}: no such file; check its name and the folder you are in")
    return file


def _lines(found: Description) -> list[str]:
    halves = {item.half for item in found.examined if item.smallest is not None} or {"full"}
    step = f"{found.dt:g} s ({found.dt_source})" if found.dt is not None else f"unknown ({found.dt_source})"
    stored = " and ".join(sorted("full matrices" if half == "full" else f"{half} halves" for half in halves))
    lines = [
        _line("file", f"{found.file} ({found.bytes / 1e6:.3g} MB)"),
        _line("format", found.format + (", simulated (truth is in the file)" if found.simulated else "")),
        _line("matrices", f"{found.n_matrices} of {found.n_frames} x {found.n_frames} frames"),
        _line("stored as", f"{stored}, {found.dtype}, compression {found.compression}"),
        _line("time step", step),
        _line("units", "; ".join(_unit(name, unit) for name, unit in found.units.items())),
        _line("bins", _present(found)),
        "",
        f"{'q (1/Å)':<14}{'matrices':>9}  angles (degrees)",
    ]
    lines += [line for ring in found.rings for line in _ring_lines(ring)]
    lines += ["", _line("selected", _selection(found)), *_left_out(found), _line("frames", _frames(found))]
    lines += [_line("examined", f"{len(found.examined)} matrices")]
    lines += [_line("state", text) for item in found.examined for text in _state(item)]
    return [*lines, *(_line("note", note) for note in found.notes)]


def _line(name: str, text: str) -> str:
    return f"{name:<14}{text}"


def _unit(name: str, unit: str) -> str:
    return f"{name} not in the file" if unit == "unknown" else f"{name} in {unit}"


def _ring_lines(ring: Ring) -> list[str]:
    lines = [f"{ring.q:<14.6g}{len(ring.phi):>9}  {_listed(ring.phi)}"]
    for reason in ("not processed", "not populated"):
        angles = [item.phi for item in ring.missing if item.reason == reason]
        if angles:
            lines.append(f"{'':<14}{'':>9}  missing, {reason}: {_listed(angles)}")
    return lines


def _listed(values: tuple[float, ...] | list[float], limit: int = 12) -> str:
    if not values:
        return "none"
    if len(values) <= limit:
        return " ".join(f"{value:g}" for value in values)
    head, tail = values[: limit - 1], values[-1]
    return f"{' '.join(f'{value:g}' for value in head)} … {tail:g} ({len(values)})"


def _selection(found: Description) -> str:
    if found.selected_q is None:
        return f"nothing yet: choose one of {len(found.rings)} q with --q"
    deviation = ""
    if found.asked_q is not None:
        off = abs(found.selected_q / found.asked_q - 1)
        deviation = f" (asked for {found.asked_q:g}, {off:.2%} off)"
    count = len(found.selected_phi)
    return f"q = {found.selected_q:g} 1/Å{deviation}, {count} angles: {_listed(found.selected_phi)}"


def _present(found: Description) -> str:
    missing = [item.reason for ring in found.rings for item in ring.missing]
    reasons = ", ".join(f"{missing.count(reason)} {reason}" for reason in sorted(set(missing)))
    return f"{found.n_matrices} with a matrix, {len(missing)} missing" + (f" ({reasons})" if reasons else "")


def _left_out(found: Description) -> list[str]:
    """The angles at the selected q that a fit would not use: outside the ranges, or without a matrix."""
    lines = []
    if found.left_out_phi:
        lines.append(_line("", f"left out, outside the ranges: {_listed(found.left_out_phi)}"))
    if found.missing_phi:
        lines.append(_line("", f"missing: {_listed([item.phi for item in found.missing_phi])}"))
    return lines


def _frames(found: Description) -> str:
    first, last = found.selected_frames
    step = "unknown: set analyzer_parameters.dt" if found.selected_dt is None else f"{found.selected_dt:g} s"
    return f"{first} to {last} of {found.n_frames}, time step {step}"


def _state(item: Examined) -> list[str]:
    from hpcxpcs.data.clean import frame_list

    name, texts = f"phi = {item.phi:g}:", []
    if item.dead_frames:
        texts.append(f"{name} {len(item.dead_frames)} dead frames: {frame_list(item.dead_frames)}")
    if item.non_finite_pairs:
        texts.append(f"{name} {item.non_finite_pairs} pairs of other frames without a finite value")
    if item.smallest is not None:
        texts.append(f"{name} values {item.smallest:.4g} to {item.largest:.4g}")
    if item.smallest is not None and item.smallest < 0.0:
        texts.append(f"{name} negative values, which a fit takes for noise: if long lags are at 0, not at 1, add 1")
    if item.refused is not None:
        texts.append(f"a fit would refuse {item.refused}")
    elif len(texts) == 1 and item.smallest is not None:
        texts = [f"{name} good, values {item.smallest:.4g} to {item.largest:.4g}"]
    return texts


USUAL_LEVEL = "standard"
"""The level when none is asked for."""


@dataclass(frozen=True)
class Asked:
    """What to look for: level, what repair may mask (None: what the configuration says), whether the sample flows."""

    level: str | None
    repair: str | None
    shear: bool


def _usual_settings(found: Description, ranges: Sequence[PhiInterval], asked: Asked) -> Config:
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
            "quality_control": {"level": asked.level or USUAL_LEVEL, "auto_repair": asked.repair or "disabled"},
        }
    )


def _configured_settings(config: Config, found: Description, asked: Asked) -> Config:
    """The settings of a configuration for its own data file or another one.

    Level and repair are those asked for, else those of the configuration; one that judges nothing is judged as usual.
    A time step that neither says is taken as 1 s.
    """
    from hpcxpcs.config import config_from_mapping

    settings, said = config.to_mapping(), config.quality_control
    settings["experimental_data"] = {**_of_file(found), "format": config.experimental_data.format}
    settings["quality_control"] = {
        "level": asked.level or (USUAL_LEVEL if said.level == "none" else said.level),
        "auto_repair": asked.repair or said.auto_repair,
    }
    if found.selected_dt is None:
        settings["analyzer_parameters"]["dt"] = 1.0
    return config_from_mapping(settings)


def _of_file(found: Description) -> dict[str, Any]:
    return {"file_path": str(Path(found.file).absolute()), "format": found.format}


def _quality_of(config: Config, found: Description, asked: Asked) -> dict[str, Any]:
    """The quality report of what a configuration selects and does, as plain JSON."""
    from hpcxpcs.data.quality.report import examine
    from hpcxpcs.data.select import load
    from hpcxpcs.errors import SelectionError

    if found.selected_q is None:
        raise SelectionError(f"{found.file}: has {len(found.rings)} q; choose the one to judge with --q")
    shear = asked.shear or config.analysis_mode == "laminar_flow"
    report = examine(load(config), config.quality_control.level, shear=shear)
    return {} if report is None else report.to_mapping()


def _quality_lines(quality: dict[str, Any]) -> list[str]:
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
