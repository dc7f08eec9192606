"""`hpcxpcs config migrate`: a configuration of an older program as one of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcxpcs.errors import ConfigError, OutputError

EXAMPLES = """\
\b
Examples:
  hpcxpcs config migrate old.yaml                      show what becomes of every key
  hpcxpcs config migrate old.yaml -o new.yaml          write it, too
  hpcxpcs config migrate --keys homodyne               what becomes of every key there ever was

\b
What becomes of a key:
  kept         name and meaning are ours
  renamed      the same under our name
  replaced by  the value is translated
  dropped      nothing of the kind is needed here, or nothing ever read it
  unknown      no key of that program

\b
In short:
  phi_filtering.target_ranges            data_filtering.phi_ranges
  optimization.nlsq...per_angle_mode     scaling.mode
  optimization.mcmc                      optimization.cmc.per_shard_mcmc
  parameters.GROUP.NAME                  initial_parameters and parameter_space.bounds
  parameter_space.bounds[].prior_mu      the same entry's prior
  the formula (shear law, sum, sign)     conventions
"""


@click.command(epilog=EXAMPLES)
@click.argument("old", type=click.Path(path_type=Path), required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; without it, only the table is shown.",
)
@click.option(
    "--accept", is_flag=True, help="Leave behind what has no counterpart, although it changes the answer."
)
@click.option("--force", is_flag=True, help="Replace the file when it exists.")
@click.option(
    "--from",
    "dialect",
    type=click.Choice(["homodyne", "heterodyne"]),
    help="Whose file it is, when it has no key that tells.",
)
@click.option(
    "--keys", type=click.Choice(["homodyne", "heterodyne"]), help="Show the rules for all keys, and stop."
)
def command(
    old: Path | None, output: Path | None, accept: bool, force: bool, dialect: str | None, keys: str | None
) -> None:
    """Translate OLD, a YAML or JSON configuration of homodyne or heterodyne, and account for every key.

    fit, submit and check read such files directly, in the same way.
    """
    from hpcxpcs.config.dialects import from_old, text
    from hpcxpcs.config.document import read_document
    from hpcxpcs.config.load import validated

    if force and output is None:
        raise click.UsageError("--force replaces a file, and without -o none is written: name it with -o")
    if keys is not None:
        if old is not None or output is not None or accept or dialect is not None:
            raise click.UsageError("--keys shows rules and translates nothing: leave the file and other options out")
        click.echo("\n".join(text.rules(keys)))
        return
    if old is None:
        raise click.UsageError("give the file to translate, or --keys")
    if output is not None and output.exists() and not force:
        raise ConfigError(f"{output}: exists already; give --force to replace it")
    document = read_document(old)
    translation = from_old(document, old.absolute().parent, accept=True, dialect=dialect)
    if translation is None:
        raise ConfigError(f"{old}: is no configuration of homodyne or heterodyne; --from says that it is one")
    click.echo("\n".join(text.table(translation)))
    click.echo(text.summary(translation))
    from_old(document, old.absolute().parent, accept=accept, dialect=dialect)
    validated(translation.document)
    if output is not None:
        _write(output, text.migrated(_seen_from(output, old, translation)))
        click.echo(f"wrote {output}")


def _seen_from(output: Path, old: Path, translation: Any) -> Any:
    """The translation with data paths that start at the folder of the new file."""
    import os

    source, target = old.absolute().parent, output.absolute().parent
    data = translation.document.data["experimental_data"]
    for key in ("file_path", "data_folder_path"):
        value = data.get(key)
        if source != target and value and not Path(value).expanduser().is_absolute():
            data[key] = os.path.relpath(source / value, target)
    return translation


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from None
