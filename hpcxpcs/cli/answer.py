"""What the commands that end in an answer print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from hpcxpcs.errors import AlreadyComplete

if TYPE_CHECKING:
    from hpcxpcs.cli.progress import PhaseLines
    from hpcxpcs.inference.records import PointFit
    from hpcxpcs.pipeline.fit import FitRun

MOST_ANGLES = 6
"""Angles whose contrast and offset are listed one by one on the terminal."""

MOST_NOTES = 5
"""Notes on the data shown on the terminal."""


def told(reporter: PhaseLines, compute: Callable[[Callable[[FitRun], None]], FitRun]) -> int:
    """Let `compute` find an answer, print it as soon as it is there and what became of the rest; the exit code."""

    def on_answer(found: FitRun) -> None:
        reporter.clear()
        click.echo(answer_text(found))

    try:
        found = compute(on_answer)
    except AlreadyComplete as complete:
        reporter.clear()
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
    from hpcxpcs.results.quality import noise_words, quality_warnings, verdict
    from hpcxpcs.results.table import plain_text, summary_lines

    point = found.point
    rows = summary_lines(point, found.data, found.truth)
    conventions = ", ".join(f"{key} {value}" for key, value in point.conventions.items())
    compression = point.compression
    how = (
        "raw pairs, no compression"
        if compression.provider == "raw"
        else f"{compression.nodes} nodes per angle, log-likelihood error {compression.error:.2g} nats"
    )
    q = f"q = {found.data.q:.6g} 1/Å" if found.data.q_known else "q unknown"
    lines = [
        "",
        f"{point.model} ({conventions}), {found.data.n_phi} angles × {found.data.n_frames} frames, "
        f"{q}, scaling {point.scaling.mode}",
        "",
        plain_text(rows if found.data.n_phi <= MOST_ANGLES else rows[: len(point.names)]),
        *(() if found.data.n_phi <= MOST_ANGLES else _scaling_ranges(point)),
        "",
        f"χ²       {point.chi_squared:.7g} on {point.degrees_of_freedom:.7g} degrees of freedom, "
        f"reduced {point.reduced_chi_squared:.4f}",
        f"data     {compression.pairs} pairs, {how}",
        *([f"noise    {shared}"] if (shared := noise_words(point)) else []),
        *(f"note     {note}" for note in _shortened(found.data.provenance.get("notes", ()))),
        *([] if point.exchange is None else [f"labels   {point.exchange.words}"]),
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
