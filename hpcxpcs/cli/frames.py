"""From frames to matrices at the command line: masks, q-maps, partitions, the correlator."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import click

FILE = click.Path(dir_okay=False, path_type=Path)


def output_option(help_text: str) -> Callable[..., Any]:
    """The option -o, a file that must be named."""
    return click.option("-o", "--output", type=FILE, required=True, help=help_text)


@click.group(epilog="\b\nExamples:\n  hpcxpcs mask build mask.yaml -o mask.h5")
def mask() -> None:
    """Make masks of detectors."""


@mask.command(epilog="\b\nExamples:\n  hpcxpcs mask build mask.yaml -o mask.h5")
@click.argument("recipe", type=FILE)
@output_option("The mask to write (HDF5).")
def build(recipe: Path, output: Path) -> None:
    """Make a mask by the operations of RECIPE, in order, and say how many pixels each removes.

    Operations are file, blemish, threshold, rectangle, circle, ellipse, polygon, line, outliers and constraint.
    """
    from hpcxpcs.frames.recipes import build_mask

    build_mask(recipe, output, click.echo)


@click.command(
    epilog="\b\nExamples:\n  hpcxpcs qmap geometry.yaml -o qmap.h5\n  hpcxpcs qmap frames.h5 -o qmap.h5 --mask mask.h5"
)
@click.argument("geometry", type=FILE)
@output_option("The maps to write (HDF5).")
@click.option("--mask", "mask_file", type=FILE, help="A mask to keep beside them.")
def qmap(geometry: Path, output: Path, mask_file: Path | None) -> None:
    """Write the maps of q and φ that follow from GEOMETRY, a recipe with units or an HDF5 file that has a geometry."""
    from hpcxpcs.frames.recipes import build_qmap

    build_qmap(geometry, output, click.echo, mask_file)


@click.command(epilog="\b\nExamples:\n  hpcxpcs partition partition.yaml -o partition.h5")
@click.argument("recipe", type=FILE)
@output_option("The partition to write (HDF5).")
def partition(recipe: Path, output: Path) -> None:
    """Make the bins of q and φ that RECIPE describes, static ones inside dynamic ones."""
    from hpcxpcs.frames.recipes import build_partition

    build_partition(recipe, output, click.echo)


CORRELATE_EXAMPLES = """\
\b
Examples:
  hpcxpcs correlate frames.h5 --qmap partition.h5 -o result.hdf
  hpcxpcs correlate frames.npy --qmap partition.h5 -o result.hdf --frame-time 1.3e-3 --frames 101 600
"""


@click.command(epilog=CORRELATE_EXAMPLES)
@click.argument("frames", type=FILE)
@click.option("--qmap", "qmap_file", type=FILE, required=True, help="The partition of the detector.")
@output_option("The result file to write (nexus layout).")
@click.option("--frame-time", type=float, help="Seconds between frames.  [default: as the file says]")
@click.option("--frames", "window", type=(int, int), default=(1, -1), help="First and last frame, from 1; -1: the end.")
@click.option("--stride", type=int, default=1, show_default=True, help="Use every n-th frame.")
@click.option("--average", type=int, default=1, show_default=True, help="Add up n frames to one.")
@click.option(
    "--smooth",
    type=click.Choice(["sqmap", "dqmap", "none"]),
    default="sqmap",
    show_default=True,
    help="Divide counts by the mean of their static bin in the same frame, of their dynamic bin, or not.",
)
@click.option("--dataset", help="Place of the frames in the file.  [default: entry/data/data and other usual ones]")
@click.option("--memory", type=float, help="GB of counts to keep at once; the file is then read several times.")
@click.option("--threads", type=int, help="Bins that are worked on at a time.  [default: cores of this process]")
def correlate(
    frames: Path,
    qmap_file: Path,
    output: Path,
    frame_time: float | None,
    window: tuple[int, int],
    stride: int,
    average: int,
    smooth: str,
    dataset: str | None,
    memory: float | None,
    threads: int | None,
) -> None:
    """Correlate FRAMES (HDF5 dense or sparse, NPY, NPZ): two-time matrices and multi-tau g2 of every dynamic bin.

    Frames without any count are dead: rows and columns of zeros.
    """
    from hpcxpcs.frames.correlate import CorrelatorSettings
    from hpcxpcs.frames.correlate import correlate as run
    from hpcxpcs.workers.machine import usable_cores

    settings = CorrelatorSettings(
        first=window[0],
        last=window[1],
        stride=stride,
        average=average,
        smoothing=cast("Any", smooth),
        frame_time=frame_time,
        dataset=dataset,
        memory=None if memory is None else int(memory * 1e9),
        threads=usable_cores() if threads is None else threads,
    )
    done = run(frames, qmap_file, output, settings)
    click.echo(f"bins      {done.bins}, {done.pixels} pixels, smoothing {smooth}")
    click.echo(f"frames    {done.frames}, dead {len(done.dead)}{_some(done.dead)}")
    click.echo(f"photons   {done.photons[0]:.4g} to {done.photons[1]:.4g} per pixel and frame (static bins)")
    for doubt in done.doubts:
        click.echo(f"note      {doubt}")
    click.echo(f"wrote     {output}")


def _some(frames: tuple[int, ...], most: int = 12) -> str:
    if not frames:
        return ""
    return f": {', '.join(map(str, frames[:most]))}{' …' if len(frames) > most else ''}"
