"""`hpcxpcs simulate`: a synthetic result file whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

EXAMPLES = """\
\b
Examples:
  hpcxpcs simulate laminar_flow -o demo.hdf --config demo.yaml
  hpcxpcs simulate static -o small.hdf --angles 3 --frames 200 --set D0=2e4 --dead-frames 3,17
  hpcxpcs simulate static -o frames.h5 --format frames --noise-model photon --frames 200 --angles 4 --pixels 500
  hpcxpcs simulate two_component -o photons.hdf --noise-model photon --photons 0.5 --pixels 20000
  hpcxpcs simulate stretched --kind g2 -o multitau.hdf --bins 270 --set exponent=1.4 --blocks 10
"""


class ListOf(click.ParamType):
    """A comma-separated list of numbers, such as 3,17."""

    def __init__(self, item: Callable[[str], Any], name: str) -> None:
        self.item, self.name = item, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Turn "3,17" into (3, 17); every entry must be a number of the right kind."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.item(entry) for entry in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of {self.name} with commas between them", param, ctx)


class Assignment(click.ParamType):
    """A parameter and its value, such as D0=2e4."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Turn "D0=2e4" into ("D0", 20000.0)."""
        if isinstance(value, tuple):
            return value
        name, equals, number = value.partition("=")
        try:
            parsed = float(number)
        except ValueError:
            parsed = math.nan
        if not (name.strip() and equals and math.isfinite(parsed)):
            self.fail(f"{value!r} is not of the form NAME=NUMBER", param, ctx)
        return name.strip(), parsed


ONLY_FOR = {
    "shear_law": ("static", "laminar_flow"),
    "heterodyne": ("two_component", "static_ref", "static_both"),
}
"""Options that not all models have a use for."""

FOR_BOTH = ("model", "output", "kind", "format", "dt", "parameters", "noise", "seed", "force")
FOR_G2 = ("bins", "delays", "blocks", "empty", "zero_errors")
"""Options that two-time matrices and g2 share, and those of g2 alone."""

FILE = click.Path(dir_okay=False, path_type=Path)
INTEGERS, NUMBERS = ListOf(int, "integers"), ListOf(float, "numbers")


def number(name: str, default: float, help_text: str) -> Callable[..., Any]:
    """An option with a number of the type of its default, which is shown."""
    return click.option(name, type=type(default), default=default, show_default=True, help=help_text)


def choice(name: str, words: Sequence[str], help_text: str) -> Callable[..., Any]:
    """An option with one of some words, the first by default, which is shown."""
    return click.option(name, type=click.Choice(words), default=words[0], show_default=True, help=help_text)


@click.command(epilog=EXAMPLES)
@click.argument("model")
@click.option("-o", "--output", type=FILE, required=True, help="The file to write.")
@choice("--kind", ["twotime", "g2"], "Two-time matrices, or g2 of a multi-tau correlator (MODEL is then a decay).")
@choice(
    "--format",
    ["nexus", "legacy", "cube", "nxxpcs", "viewer", "frames"],
    "Its layout; frames: those of a small detector (photon), to be correlated.",
)
@number("--angles", 23, "Number of angles, evenly spaced.")
@click.option("--phi", type=NUMBERS, help="The angles themselves, in degrees, instead: -30,0,45.")
@number("--frames", 1001, "Frames N of every N x N matrix.")
@number("--dt", 0.1, "Seconds between frames.")
@number("--q", 0.0054, "Wavevector in 1/Å.")
@number("--gap", 2.0e6, "Gap between stator and rotor in Å.")
@click.option("--set", "parameters", type=Assignment(), multiple=True, help="True value of a parameter; repeatable.")
@number("--contrast", 0.15, "Mean contrast of the angles.")
@number("--contrast-spread", 0.1, "Its relative deviation between angles.")
@number("--offset", 1.0, "Mean offset of the angles.")
@click.option("--offset-spread", type=float, help="Its deviation between angles.  [default: 0.003; 0 with photons]")
@choice(
    "--noise-model",
    ["iid", "frame", "photon"],
    "Independent pairs; pairs that share their frames' noise as well; or photons counted on speckle.",
)
@click.option(
    "--noise", type=float, help="Deviation of one element (iid, frame; 0.01), or of g2 at the first delay (0.02)."
)
@click.option("--frame-noise", type=float, help="Relative deviation of a frame (frame).  [default: 0.003]")
@click.option("--photons", type=float, help="Photons per pixel and frame (photon).  [default: 1]")
@click.option("--pixels", type=int, help="Pixels of a bin (photon).  [default: 10000]")
@click.option(
    "--speckle-size",
    type=float,
    help="Full width at half maximum of a speckle in pixels (photon).  [default: 0: independent pixels]",
)
@click.option(
    "--photon-drift",
    type=float,
    help="Change of the photon number from first to last frame, relative to its mean (photon).  [default: 0]",
)
@click.option("--dead-frames", type=INTEGERS, default=(), help="Frames without signal, from 1: 3,17.")
@click.option("--missing-bins", type=INTEGERS, default=(), help="Bins to leave out, from 1, phi fastest: 2,5.")
@number("--extra-q", 0, "Further q rings in the same file.")
@click.option("--half/--full", default=None, help="One triangle or full matrices.  [default: half; full in a cube]")
@choice("--dtype", ["float32", "float64"], "Of the matrices.")
@choice(
    "--compression",
    ["auto", "lzf", "gzip", "none"],
    "Of the matrices; auto is what real files of the layout use.",
)
@number("--seed", 0, "Same seed, same matrices.")
@choice("--shear-law", ["couette", "homodyne-2"], "Convention of the shear factor (laminar_flow).")
@choice("--integrator", ["exact", "trapezoid"], "How rates are integrated.")
@choice("--heterodyne", ["physical", "heterodyne-2"], "Convention of the two components.")
@number("--bins", 36, "Bins (g2).")
@number("--delays", 60, "Delays of a multi-tau correlator (g2).")
@number("--blocks", 0, "Blocks of time whose g2 is in the file, too; noise is then correlated over delays (g2).")
@number("--empty", 0.0, "Share of entries without a pair of photons, 0 with error 0 (g2).")
@number("--zero-errors", 0, "Values with error 0 (g2).")
@click.option("--config", type=FILE, help="Write a configuration that fits this file, too.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Write a synthetic result file of MODEL (static, laminar_flow, two_component, static_ref, static_both).

    With --kind g2 MODEL is a decay: single, stretched, double or double_intensity. The truth is stored in the file and
    beside it, in FILE.truth.json.
    """
    from hpcxpcs.data.simulate import noise_spec
    from hpcxpcs.pipeline.simulate import SimulationSpec, simulate

    if options["kind"] == "g2":
        _simulate_g2(context, options)
        return
    _refuse_idle(context, options["model"])
    for name in ("kind", *FOR_G2):
        options.pop(name)
    noise = noise_spec(
        options.pop("noise_model"),
        sd=options.pop("noise"),
        frame_sd=options.pop("frame_noise"),
        photons=options.pop("photons"),
        pixels=options.pop("pixels"),
        speckle_size=options.pop("speckle_size"),
        photon_drift=options.pop("photon_drift"),
    )
    parameters = dict(options.pop("parameters"))
    simulate(SimulationSpec(noise=noise, parameters=parameters, **options), report=click.echo)


def _simulate_g2(context: click.Context, options: dict[str, Any]) -> None:
    """Write a multi-tau file with known truth."""
    from hpcxpcs.g2.simulate import G2Simulation, simulate_g2

    idle = _typed(context) - {*FOR_BOTH, *FOR_G2}
    if idle:
        raise click.UsageError(f"--{min(idle).replace('_', '-')} has no meaning with --kind g2")
    asked = {name: options[name] for name in (*FOR_BOTH, *FOR_G2) if name in _typed(context) and name != "kind"}
    asked["parameters"] = dict(options["parameters"])
    for line in simulate_g2(G2Simulation(**asked)):
        click.echo(line)


def _typed(context: click.Context) -> set[str]:
    """Options that were typed."""
    source = click.core.ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) is source}


def _refuse_idle(context: click.Context, model: str) -> None:
    """Refuse options that were typed and that this simulation does not use."""
    typed = _typed(context)
    idle = typed & {*FOR_G2}
    if idle:
        raise click.UsageError(f"--{min(idle).replace('_', '-')} has no meaning without --kind g2")
    if {"angles", "phi"} <= typed:
        raise click.UsageError("--angles spreads angles evenly, --phi names them: give one of the two")
    matrices = sorted(typed & {"half", "dtype", "compression"}) if context.params["format"] == "frames" else []
    if matrices:
        raise click.UsageError(f"--{matrices[0]} is about matrices, and --format frames writes none")
    for name, models in ONLY_FOR.items():
        if name in typed and model not in models:
            raise click.UsageError(
                f"--{name.replace('_', '-')} has no meaning for {model}: it belongs to {', '.join(models)}"
            )
