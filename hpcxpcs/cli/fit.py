"""`hpcxpcs fit`: from a configuration to an answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcxpcs.errors import AlreadyComplete

if TYPE_CHECKING:
    from hpcxpcs.cli.progress import PhaseLines
    from hpcxpcs.config import Config
    from hpcxpcs.inference.records import PointFit
    from hpcxpcs.pipeline.crew import Executor
    from hpcxpcs.pipeline.fit import FitRun

EXAMPLES = """\
\b
Examples:
  hpcxpcs fit config.yaml
  mpirun -n 64 hpcxpcs fit config.yaml
  hpcxpcs fit config.yaml --method nlsq
  hpcxpcs fit config.yaml --run runs/tuesday --set analyzer_parameters.end_frame=600
  hpcxpcs fit config.yaml --set scaling.mode=individual --set output.plots=false

\b
Exit codes:
  0 done   1 error   2 configuration or usage   3 finished, but not to be quoted as it is
  75 stopped with everything saved: the same command continues
"""

MOST_ANGLES = 6
"""Angles whose contrast and offset are listed one by one on the terminal."""

MOST_NOTES = 5
"""Notes on the data shown on the terminal."""


@click.command(epilog=EXAMPLES)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--method",
    type=click.Choice(["nlsq", "cmc", "exact"]),
    help="Overrides optimization.method. nlsq: least squares on all pairs; cmc: the posterior from shards, certified "
    "against all data; exact: the posterior from all data at once.",
)
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    help="Run folder; results go to RUN/results.  [default: output.directory/NAME of CONFIG]",
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Worker processes here; overrides runtime.workers."
)
@click.option(
    "--shards",
    type=click.IntRange(min=1),
    help="Number of shards; overrides optimization.cmc.sharding.num_shards.",
)
@click.option(
    "--fresh", is_flag=True, help="Discard what an earlier run left in the run folder, and start anew."
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Stop with everything saved before this time is over.  [default: what the scheduler grants]",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override one key of the configuration, dotted (scaling.mode=individual). May be repeated.",
)
@click.pass_context
def command(
    context: click.Context,
    config: Path,
    method: str | None,
    run: Path | None,
    workers: int | None,
    shards: int | None,
    fresh: bool,
    time_limit: float | None,
    overrides: tuple[str, ...],
) -> None:
    """Fit the model of CONFIG to its data and write RUN/results.

    The same command starts a run, continues one that was stopped or killed, and says so when it is complete. Under
    mpirun or srun all ranks work; otherwise worker processes on this machine do.
    """
    from hpcxpcs.cli.progress import PhaseLines
    from hpcxpcs.pipeline.choices import configured
    from hpcxpcs.pipeline.crew import crew

    reporter = PhaseLines()
    given: dict[str, object] = {
        "optimization.method": method,
        "optimization.cmc.sharding.num_shards": shards,
        "runtime.workers": workers,
    }
    chosen = (*overrides, *(f"{key}={value}" for key, value in given.items() if value is not None))
    settings = configured(config, chosen)
    if settings.optimization.method == "nlsq":
        context.exit(_fitted(settings, run, reporter, fresh, None))
    with crew(settings, time_limit, reporter) as executor:
        code = 0 if executor is None else _fitted(settings, run, reporter, fresh, executor)
    context.exit(code)


def _fitted(
    settings: Config, run: Path | None, reporter: PhaseLines, fresh: bool, executor: Executor | None
) -> int:
    """Fit, tell, and return the exit code."""
    import logging

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where its font cache goes is nobody's concern
    from hpcxpcs.pipeline.fit import fit

    def on_answer(found: FitRun) -> None:
        reporter.clear()
        click.echo(answer_text(found))

    try:
        found = fit(settings, run=run, reporter=reporter, on_answer=on_answer, fresh=fresh, executor=executor)
    except AlreadyComplete as complete:
        click.echo(f"hpcxpcs: {complete}")
        return complete.exit_code
    reporter.clear()
    for trouble in (*found.written.plots_failed, *found.written.skipped):
        click.echo(f"not written: {trouble.what}: {trouble.reason}", err=True)
    if found.written.report is not None:
        click.echo(f"report   {found.written.report}")
    return found.exit_code


def answer_text(found: FitRun) -> str:
    """The table, the fit's quality in a line or two, everything to be careful about, and where the numbers are."""
    if found.posterior is not None:
        from hpcxpcs.results.posterior_table import posterior_text

        where = found.results / "cmc" / "parameters.json"
        return f"\n{posterior_text(found.posterior, found.point, found.data, found.truth)}\nnumbers  {where}"
    from hpcxpcs.results.quality import quality_warnings, verdict
    from hpcxpcs.results.table import plain_text, summary_lines

    point = found.point
    rows = summary_lines(point, found.data, found.truth)
    conventions = ", ".join(f"{key} {value}" for key, value in point.conventions.items())
    compression = point.compression
    how = (
        f"{compression.nodes} nodes per angle, log-likelihood error {compression.error:.2g} nats"
        if compression.provider == "moments"
        else "raw pairs, no compression"
    )
    lines = [
        "",
        f"{point.model} ({conventions}), {found.data.n_phi} angles × {found.data.n_frames} frames, "
        f"q = {found.data.q:.6g} 1/Å, scaling {point.scaling.mode}",
        "",
        plain_text(rows if found.data.n_phi <= MOST_ANGLES else rows[: len(point.names)]),
        *(() if found.data.n_phi <= MOST_ANGLES else _scaling_ranges(point)),
        "",
        f"χ²       {point.chi_squared:.7g} on {point.degrees_of_freedom:.7g} degrees of freedom, "
        f"reduced {point.reduced_chi_squared:.4f}",
        f"data     {compression.pairs} pairs, {how}",
        *(f"note     {note}" for note in _shortened(found.data.provenance.get("notes", ()))),
        *(f"careful  {warning}" for warning in quality_warnings(point)),
        f"verdict  {verdict(point, found.exit_code)}",
        f"numbers  {found.results / 'nlsq' / 'parameters.json'}",
    ]
    return "\n".join(lines)


def _scaling_ranges(point: PointFit) -> list[str]:
    """Range of contrast and offset over the angles, where one line per angle would be too long."""
    scaling = point.scaling
    parts = (
        ("contrast", scaling.contrast, scaling.contrast_uncertainty),
        ("offset", scaling.offset, scaling.offset_uncertainty),
    )
    return [
        f"{name}: {min(values):.5g} to {max(values):.5g} over {len(values)} angles, "
        f"± {max(errors):.1g} or better (each angle: parameters.json, report)"
        for name, values, errors in parts
    ]


def _shortened(notes: Sequence[str]) -> list[str]:
    """The first few notes on the data; all of them are in provenance.json."""
    shown = list(notes[:MOST_NOTES])
    return (
        shown
        if len(shown) == len(notes)
        else [*shown, f"… and {len(notes) - len(shown)} more in provenance.json"]
    )
