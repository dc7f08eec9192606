"""`hpcxpcs config`: make, check and describe configuration files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcxpcs.cli import migrate, sites
from hpcxpcs.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from hpcxpcs.config import Config

EXAMPLES = """\
\b
Examples:
  hpcxpcs config new laminar_flow -o config.yaml
  hpcxpcs config check config.yaml
  hpcxpcs config migrate old.yaml -o new.yaml
  hpcxpcs config sites
"""


@click.group(name="config", epilog=EXAMPLES)
def command() -> None:
    """Make, check and describe configuration files."""


command.add_command(sites.command, "sites")
command.add_command(migrate.command, "migrate")


@command.command(epilog="\b\nExample:\n  hpcxpcs config new two_component -o config.yaml")
@click.argument("model")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; without it, print.",
)
@click.option("--force", is_flag=True, help="Replace the file when it exists.")
def new(model: str, output: Path | None, force: bool) -> None:
    """Print or write a commented configuration for MODEL.

    MODEL is static, laminar_flow, two_component, static_ref or static_both. With -o, the JSON Schema that
    editors use is written beside the file.
    """
    from hpcxpcs.config.template import SCHEMA_FILE_NAME, template

    if force and output is None:
        raise click.UsageError("--force replaces a file, and without -o none is written: name it with -o")
    text = template(model)
    if output is None:
        click.echo(text, nl=False)
        return
    if output.exists() and not force:
        raise ConfigError(f"{output}: exists already; give --force to replace it")
    _write(output, text)
    _write(output.with_name(SCHEMA_FILE_NAME), _schema_text())
    click.echo(f"wrote {output} and {output.with_name(SCHEMA_FILE_NAME)}")


@command.command(epilog="\b\nExample:\n  hpcxpcs config check config.yaml --set scaling.mode=individual")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a key; repeatable.")
def check(file: Path, overrides: tuple[str, ...]) -> None:
    """Show what FILE resolves to, or everything that is wrong with it."""
    from hpcxpcs.cli.parameter_table import parameter_lines
    from hpcxpcs.config import load_config

    config = load_config(file, overrides)
    for line in _summary(config):
        click.echo(line)
    click.echo()
    for line in parameter_lines(config):
        click.echo(line)
    for line in _doubts(config):
        click.echo(line)


@command.command(epilog="\b\nExample:\n  hpcxpcs config schema > hpcxpcs.schema.json")
def schema() -> None:
    """Print the JSON Schema of configuration files."""
    click.echo(_schema_text(), nl=False)


def _schema_text() -> str:
    import json

    from hpcxpcs.config import json_schema

    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from None


def _summary(config: Config) -> Iterator[str]:
    """One aligned line per subject: model, file, q, frames, angles, scaling, noise, fingerprint."""
    analyzer, filtering = config.analyzer_parameters, config.data_filtering
    missing = "" if os.path.isfile(config.data_file) else "   (not there)"  # noqa: PTH113
    last = "last" if analyzer.end_frame == -1 else str(analyzer.end_frame)
    words = {"auto": "from the file", "frames": "1 frame"}
    dt = words[analyzer.dt] if isinstance(analyzer.dt, str) else f"{analyzer.dt:g} s"
    angles = ", ".join(f"{allowed.min:g} ... {allowed.max:g}" for allowed in filtering.phi_ranges)
    q = analyzer.scattering.wavevector_q
    yield f"model        {config.analysis_mode}   (schema {config.schema_version})"
    yield f"file         {config.data_file}{missing}"
    yield (
        "q            unknown   (rates are q²D and q·v)"
        if q == "unknown"
        else (f"q            {q:g} 1/Å   (nearest bin within {100 * filtering.q_tolerance:g} %)")
    )
    yield f"frames       {analyzer.start_frame} ... {last}   (dt {dt})"
    yield f"angles       {angles} degrees"
    yield f"scaling      {config.scaling.mode}"
    yield f"noise        sigma {config.noise.sigma}, scale {config.noise.scale}"
    yield f"fingerprint  {config.fingerprint()}"


def _doubts(config: Config) -> Iterator[str]:
    """What is possible but hardly meant, a line each."""
    from hpcxpcs.config.plausible import check_config

    found = check_config(config)
    lines = [
        *(f"warning      {text}" for text in found.of("warning")),
        *(f"note         {text}" for text in found.of("info")),
    ]
    yield from ["", *lines] if lines else []
