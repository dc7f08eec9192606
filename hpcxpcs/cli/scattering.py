"""`hpcxpcs saxs` and `hpcxpcs stability`: mean intensities of result files, and whether they stayed as they were."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from hpcxpcs.errors import ConfigError

FILES = click.argument("files", type=click.Path(dir_okay=False, path_type=Path), nargs=-1, required=True)


@click.command(epilog="\b\nExamples:\n  hpcxpcs saxs results/*.hdf -o saxs")
@FILES
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for NAME.saxs.txt, .h5 and .png of every file.",
)
def saxs(files: tuple[Path, ...], output: Path) -> None:
    """Write I(q), also of segments of time, I(t) and the mean image of result FILES as text, HDF5 and PNG."""
    from hpcxpcs.files.atomic import atomic_write_bytes, atomic_write_text, writing
    from hpcxpcs.frames.scattering import read_scattering, table_of, write_scattering
    from hpcxpcs.frames.schemas import new_file
    from hpcxpcs.results.drawing import png
    from hpcxpcs.results.scattering_plots import saxs_picture

    _refuse_same_names(files)
    for path in files:
        found = read_scattering(path)
        with writing(output):
            output.mkdir(parents=True, exist_ok=True)
        atomic_write_text(output / f"{path.stem}.saxs.txt", table_of(found))
        with new_file(output / f"{path.stem}.saxs.h5") as file:
            write_scattering(file, found)
        atomic_write_bytes(output / f"{path.stem}.saxs.png", png(saxs_picture(found)))
        q, _ = found.profile(found.intensity)
        segments = 0 if found.segments is None else len(found.segments)
        click.echo(f"{path}: {len(q)} q from {q.min():.4g} to {q.max():.4g} 1/Å, {segments} segments")
        click.echo(f"wrote {output / path.stem}.saxs.txt, .h5, .png")


@click.command(epilog="\b\nExamples:\n  hpcxpcs stability results/*.hdf -o stability")
@FILES
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for NAME.stability.json and .png of every file.  [default: print only]",
)
def stability(files: tuple[Path, ...], output: Path | None) -> None:
    """Judge whether beam and sample stayed as they were in result FILES: intensity, shape of I(q), g2 of blocks.

    The verdict is stable, changes, or unknown where a file holds nothing to judge by.
    """
    from hpcxpcs.files.atomic import atomic_write_bytes, atomic_write_text, writing
    from hpcxpcs.files.json_safe import dumps
    from hpcxpcs.frames.scattering import read_scattering, stability_of
    from hpcxpcs.results.drawing import png
    from hpcxpcs.results.scattering_plots import stability_picture

    if output is not None:
        _refuse_same_names(files)
    for path in files:
        found = read_scattering(path)
        verdict = stability_of(found)
        click.echo(f"{path}: {verdict.verdict}")
        for one in verdict.findings:
            click.echo(f"  {one.word:<9}{one.name}: {one.text}")
        if output is not None:
            with writing(output):
                output.mkdir(parents=True, exist_ok=True)
            content = {"schema_version": 1, **verdict.to_mapping()}
            atomic_write_text(output / f"{path.stem}.stability.json", dumps(content))
            atomic_write_bytes(output / f"{path.stem}.stability.png", png(stability_picture(found, verdict)))
            click.echo(f"wrote {output / path.stem}.stability.json, .png")


def _refuse_same_names(files: tuple[Path, ...]) -> None:
    """Refuse files whose results would have one name."""
    counts = Counter(path.stem for path in files)
    twice = [str(path) for path in files if counts[path.stem] > 1]
    if twice:
        raise ConfigError(f"{', '.join(twice)}: would be written under one name; name their folders one after another")
