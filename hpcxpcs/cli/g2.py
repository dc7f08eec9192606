"""`hpcxpcs g2`: fit g2(τ) of multi-tau results, and average repeats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcxpcs.errors import FINISHED_BUT_DOUBTFUL, ConfigError

if TYPE_CHECKING:
    from hpcxpcs.config.g2 import G2
    from hpcxpcs.g2.average import Average
    from hpcxpcs.g2.fit import FileFit

EXAMPLES = """\
\b
Examples:
  hpcxpcs g2 fit sample_results.hdf
  hpcxpcs g2 fit sample_results.hdf --model auto --method nlsq -o fits/sample
  hpcxpcs g2 fit config.yaml
  hpcxpcs g2 average run_*_results.hdf -o mean.hdf --q 0.01
"""

FIT_EXAMPLES = """\
\b
Examples:
  hpcxpcs g2 fit sample_results.hdf
  hpcxpcs g2 fit sample_results.hdf --set baseline=power_law --set contrast=shared
  hpcxpcs g2 fit twotime.hdf --age 100 200

\b
Exit codes:
  0 done   1 the file cannot be used   2 usage or configuration   3 done, but some bins have no answer
"""

PATH = click.Path(path_type=Path)
CONFIGURATIONS = (".yaml", ".yml", ".json")


@click.group(epilog=EXAMPLES)
def command() -> None:
    """Relaxation times from g2(τ) of multi-tau results: fit every bin of a file, average repeats."""


@command.command("fit", epilog=FIT_EXAMPLES)
@click.argument("file", metavar="FILE|CONFIG", type=PATH)
@click.option("--model", help="Decay: auto, single, stretched, double or double_intensity.  [default: stretched]")
@click.option("--method", help="nuts, or nlsq for least squares alone.  [default: nuts]")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, help="Any key of the section g2; repeatable.")
@click.option("--age", type=(float, float), metavar="FROM TO", help="Waiting times in s of cuts through two-time data.")
@click.option("--time-unit", help="Unit of delays of text and NPZ files that state none: s, ms, us.")
@click.option("--q-unit", help="Unit of q of text and NPZ files that state none: 1/angstrom, 1/nm.")
@click.option("-o", "--output", type=PATH, help="Folder of the results.  [default: FILE without ending, with _g2]")
@click.option("--into-file", is_flag=True, help="Also put the fits under /fits into the data file itself.")
@click.pass_context
def fit(context: click.Context, /, file: Path, **options: Any) -> None:
    """Fit every bin of FILE (multi-tau or two-time results, text, NPZ), or of the file that CONFIG names.

    Writes g2.json, g2.csv, g2.nc, g2.hdf, two pictures and g2.html into one folder.
    """
    from hpcxpcs.g2.fit import fit_file
    from hpcxpcs.g2.writing import write_fit, write_into
    from hpcxpcs.pipeline.compile_cache import compile_cache

    data_file, settings, compiled = _asked(file, options)
    compile_cache(compiled, lambda text: click.echo(f"hpcxpcs: warning: {text}", err=True))
    units = {kind: options[f"{name}_unit"] for kind, name in (("time", "time"), ("q", "q")) if options[f"{name}_unit"]}
    found = fit_file(data_file, settings, units, options["age"])
    folder = options["output"] or data_file.with_name(f"{data_file.stem}_g2")
    write_fit(found, folder, f"hpcxpcs g2 fit {file}")
    if options["into_file"]:
        write_into(found, data_file)
    click.echo("\n".join(_fit_lines(found, folder)))
    context.exit(0 if found.usable.all() else FINISHED_BUT_DOUBTFUL)


def _asked(file: Path, options: dict[str, Any]) -> tuple[Path, G2, str | None]:
    """The data file, the section g2 of a configuration or of nothing with what the options say, the compile cache."""
    from hpcxpcs.config.document import parse_value
    from hpcxpcs.config.g2 import G2
    from hpcxpcs.config.load import load_config
    from hpcxpcs.config.problems import config_error
    from hpcxpcs.config.section import read_section

    given: dict[str, Any] = {}
    data_file: Path = file
    compiled: str | None = "auto"
    if file.suffix.lower() in CONFIGURATIONS:
        config = load_config(file)
        config.refuse_campaign()
        given, data_file = config.g2.model_dump(), config.data_file
        compiled = config.runtime.compilation_cache_dir
    for text in options["settings"]:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: is not of the form KEY=VALUE")
        given[key.strip().removeprefix("g2.")] = parse_value(value)
    given |= {name: options[name] for name in ("model", "method") if options[name] is not None}
    settings, problems = read_section(G2, given)
    if problems or settings is None:
        raise config_error(problems, lambda path: "", "g2")
    return data_file, settings, compiled


def _fit_lines(found: FileFit, folder: Path) -> list[str]:
    data = found.data
    lines = [
        f"file      {data.file}: {data.layout}, {len(data.labels)} bins, {len(data.tau)} delays",
        f"model     {found.shape.form}, baseline {found.shape.baseline}, {found.settings.method}",
        *([] if found.choice is None else [f"chosen    {found.choice.words}"]),
        f"noise     {found.noise.words}",
        f"bins      {found.words}",
        *(f"note      {note}" for note in data.notes),
        f"law       {found.law.words}" if found.law is not None else "law       too few bins at different q",
        f"report    {folder / 'g2.html'}",
    ]
    return lines


AVERAGE_EXAMPLES = """\
\b
Examples:
  hpcxpcs g2 average run_*_results.hdf -o mean.hdf
  hpcxpcs g2 average run_*_results.hdf -o mean.hdf --q 0.01 --window 5 --baseline 0.97 1.03
"""


@command.command("average", epilog=AVERAGE_EXAMPLES)
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The file to write, in the schema /xpcs/g2.")
@click.option("--q", type=float, help="q (1/Å) of the bin whose level is looked at.  [default: the middle bin]")
@click.option("--window", type=click.IntRange(1), default=10, show_default=True, help="Longest delays in the level.")
@click.option(
    "--baseline", type=(float, float), default=(0.95, 1.05), show_default=True, help="Lowest and highest level."
)
@click.option(
    "--outlier",
    type=float,
    default=5.0,
    show_default=True,
    help="Robust deviations from the other files that are allowed; 0: any.",
)
@click.option(
    "--weights",
    type=click.Choice(["equal", "errors"]),
    default="equal",
    show_default=True,
    help="Of the files: equal, or one over the squared errors.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def average(files: tuple[Path, ...], output: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Average g2 of repeats that pass the gates, and list every file with its verdict.

    The files become the blocks of the average: their scatter tells a fit how errors of neighbouring delays go together.
    """
    from hpcxpcs.files.json_safe import dumps
    from hpcxpcs.g2.average import Gates, average_files
    from hpcxpcs.g2.layouts import Table
    from hpcxpcs.g2.simulate import write_whole

    if output.exists() and not force:
        raise ConfigError(f"{output}: exists already; choose another name, or add --force")
    low, high = options["baseline"]
    if not low < high:
        raise ConfigError(f"--baseline {low:g} {high:g}: the lower limit comes first")
    gates = Gates(options["q"], options["window"], low, high, options["outlier"] or None, options["weights"])
    found = average_files(list(files), gates)
    data = found.data
    taken = [one.file for one in found.files if one.accepted]
    about = {"xpcs/average/file_list": taken, "xpcs/average/method": found.words}
    table = Table(data.tau, data.g2, data.error, data.q, data.phi, float(data.tau[0]), data.partial, about)
    write_whole("viewer", output, table)
    click.echo(dumps({"schema_version": 1, **vars(found), "data": None}) if as_json else _average_text(found, output))


def _average_text(found: Average, output: Path) -> str:
    lines = [f"{'verdict':<10}{'level':>9}{'distance':>10}  file"]
    for one in found.files:
        word = "accepted" if one.accepted else "rejected"
        reason = "" if one.accepted else f": {one.reason}"
        lines.append(f"{word:<10}{one.level:>9.4g}{one.distance:>10.3g}  {one.file}{reason}")
    count = sum(one.accepted for one in found.files)
    return "\n".join([*lines, "", f"{count} of {len(found.files)} files: {found.words}", f"wrote     {output}"])
