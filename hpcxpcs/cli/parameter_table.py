"""The parameters of a configuration as lines: bounds and priors in numbers where the data are there to give them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hpcxpcs.config.scale import OFFSET_REACH, OFFSET_SPREAD
from hpcxpcs.errors import HpcxpcsError

if TYPE_CHECKING:
    from hpcxpcs.config import Config, DataScale, ParameterChoice, ResolvedParameter

OPEN = "from the data"
"""Stands for a number that the data decide."""


def parameter_lines(config: Config) -> Iterator[str]:
    """The parameters as a fit of the configured data treats them, with what their scale makes doubtful.

    Without the data file, bounds and priors that it decides are left open; so they are when it cannot be read.
    """
    from hpcxpcs.config import parameter_choices, resolved_parameters
    from hpcxpcs.config.plausible import check_parameters

    if not os.path.isfile(config.data_file):  # noqa: PTH113
        yield from table(parameter_choices(config))
        yield from ("", f"{OPEN}: from what their frames can show at their q; the file is not there yet")
        return
    try:
        scale = _scale(config)
    except HpcxpcsError as error:
        yield from table(parameter_choices(config))
        yield from ("", f"{OPEN}, which cannot be read: {error}")
        return
    parameters = resolved_parameters(config, scale)
    yield from table(parameters)
    yield ""
    slowest, fastest = (value * scale.factor("diffusion") for value in scale.visible("diffusion"))
    unit = "frame" if config.analyzer_parameters.dt == "frames" else "s"
    yield (
        f"data scale   times {scale.first:g} ... {scale.last:g} {unit}, step {scale.dt:g} {unit}: decay rates q²J of "
        f"{slowest:.3g} ... {fastest:.3g} 1/{unit} can be seen; what is not configured follows from that"
    )
    if any(item.parameter.kind == "offset" and item.fixed is None and not item.given for item in parameters):
        yield (
            f"offsets      these are outer limits: a fit allows {OFFSET_REACH:g} times the rate that it finds, and a "
            f"posterior expects {OFFSET_SPREAD:g} times"
        )
    yield from (f"warning      {text}" for text in check_parameters(parameters, scale).of("warning"))


def _scale(config: Config) -> DataScale:
    from hpcxpcs.data.select import load
    from hpcxpcs.pipeline.scale import scale_of

    return scale_of(config, load(config))


def table(parameters: Sequence[ParameterChoice | ResolvedParameter]) -> Iterator[str]:
    """The parameters as an aligned table."""
    rows = [("parameter", "start", "bounds", "prior", "unit"), *map(_row, parameters)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(item: ParameterChoice | ResolvedParameter) -> tuple[str, str, str, str, str]:
    start = OPEN if item.start is None else f"{item.start:g}"
    bounds = f"{_number(item.lower)} ... {_number(item.upper)}"
    if item.lower is None and item.upper is None:
        bounds = OPEN
    prior = OPEN
    if item.prior is not None:
        values = ", ".join(f"{name} {value:.4g}" for name, value in item.prior.values)
        prior = f"{item.prior.kind}({values})" if values else item.prior.kind
    if item.fixed is not None:
        start, bounds, prior = f"{item.fixed:g}", "fixed", "-"
    return item.parameter.name, start, bounds, prior, item.parameter.unit or "-"


def _number(value: float | None) -> str:
    return OPEN if value is None else f"{value:.4g}"
