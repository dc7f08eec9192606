"""`hpcxpcs cache`: what is kept to spare work, and how to get rid of it."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcxpcs.errors import StoreError

if TYPE_CHECKING:
    from hpcxpcs.files.array_store import ArrayStore, Entry

EXAMPLES = """\
\b
Examples:
  hpcxpcs cache list
  hpcxpcs cache list runs/tuesday
  hpcxpcs cache clear runs/tuesday
  hpcxpcs cache clear --compiled
"""

MOST_SHOWN = 40


@click.group(epilog=EXAMPLES)
def command() -> None:
    """List or remove prepared matrices and compiled code. Whatever is removed is made again when it is needed."""


@command.command(name="list", epilog=EXAMPLES)
@click.argument("place", type=click.Path(path_type=Path), required=False)
def list_entries(place: Path | None) -> None:
    """Show what is kept at PLACE: a run folder, a configuration, or the folder itself; without PLACE, compiled code.

    Prepared matrices are listed by their last use: the last ones are the first to go when the folder is full.
    """
    if place is None:
        folder = _compiled()
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        click.echo(f"{folder}: {_bytes(size)} of compiled code")
        click.echo("prepared matrices of a run: hpcxpcs cache list RUN")
        return
    store = _store(place)
    entries = store.entries() if store.folder.is_dir() else ()
    click.echo(f"{store.folder}: {len(entries)} prepared matrices, {_bytes(sum(one.size for one in entries))}")
    for line in _table(entries[:MOST_SHOWN]):
        click.echo(line)
    if len(entries) > MOST_SHOWN:
        click.echo(f"… and {len(entries) - MOST_SHOWN} more")


@command.command(epilog=EXAMPLES)
@click.argument("place", type=click.Path(path_type=Path), required=False)
@click.option("--compiled", is_flag=True, help="Remove compiled code of all machines and versions instead.")
def clear(place: Path | None, compiled: bool) -> None:
    """Remove what is kept at PLACE: a run folder, a configuration, or the folder itself.

    A fit that is at work there goes on: it prepares its matrices again.
    """
    if compiled == (place is not None):
        raise click.UsageError("name either a PLACE (a run folder, a configuration, a cache folder) or --compiled")
    if place is None:
        folder = _compiled()
        shutil.rmtree(folder, ignore_errors=True)
        click.echo(f"{folder}: removed")
        return
    store = _store(place)
    count, size = store.clear() if store.folder.is_dir() else (0, 0)
    click.echo(f"{store.folder}: removed {count} prepared matrices, {_bytes(size)}")


def _compiled() -> Path:
    from hpcxpcs.workers.machine import cache_folder

    return cache_folder() / "compiled"


def _store(place: Path) -> ArrayStore:
    """The store of a run folder, of a configuration, or in the folder itself; StoreError when it is none of them."""
    from hpcxpcs.files.array_store import TAG_FILE, ArrayStore
    from hpcxpcs.pipeline.loading import RUN_CACHE
    from hpcxpcs.runs.run import PLAN_FILE

    folder, limit = place, 0
    if place.is_file():
        return _configured(place)
    if not place.is_dir():
        raise StoreError(f"{place}: is not there; name a run folder, a configuration, or a cache folder")
    if (place / RUN_CACHE).is_dir() or (place / PLAN_FILE).exists() or (place / "results").is_dir():
        folder = place / RUN_CACHE
    elif not (place / TAG_FILE).exists():
        raise StoreError(
            f"{place}: is neither a run folder nor a folder of prepared matrices (no {TAG_FILE}); nothing is touched"
        )
    return ArrayStore(folder, limit)


def _configured(file: Path) -> ArrayStore:
    from hpcxpcs.config import load_config
    from hpcxpcs.files.array_store import ArrayStore
    from hpcxpcs.pipeline.loading import named_cache
    from hpcxpcs.pipeline.settings import run_folder

    config = load_config(file)
    folder = named_cache(config, run_folder(config))
    if folder is None:
        raise StoreError(f"{file}: runtime.data_cache is null: nothing is kept")
    return ArrayStore(folder, config.runtime.data_cache_limit)


def _table(entries: Sequence[Entry]) -> Iterator[str]:
    if entries:
        yield f"{'last used':<17} {'size':>9}  matrix"
    for one in entries:
        used = datetime.datetime.fromtimestamp(one.used).astimezone()
        about = one.values
        what = "damaged: will be made again"
        if "phi" in about:
            what = f"phi = {about['phi']:g}°, q = {about['q']:g} 1/Å, {Path(about['file']).name}"
        yield f"{used:%Y-%m-%d %H:%M}  {_bytes(one.size):>9}  {what}"


def _bytes(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
