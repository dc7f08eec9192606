"""The posterior as rows: what a terminal, a log and the report show of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.results.marginals import Marginals, marginals
from hpcxpcs.results.measurement import ABSENT, Measurement, measurement, number
from hpcxpcs.results.posterior_records import Posterior
from hpcxpcs.results.records import Fit
from hpcxpcs.results.table import Truth, true_values
from hpcxpcs.results.trust import posterior_warnings, sampler_words, shards_words, verdict_sentence

MOST_ANGLES = 6
"""Angles whose contrast and offset are printed one by one; of more, the range is."""


@dataclass(frozen=True)
class PosteriorRow:
    """One quantity as text; `off_by` is the distance of the mean from the truth in standard deviations."""

    name: str
    value: str
    median: str
    interval: str
    unit: str
    r_hat: str
    ess: str
    truth: str = ABSENT
    off_by: str = ABSENT

    def cells(self) -> tuple[str, ...]:
        """The texts in the order of `headings`."""
        return (
            *(self.name, self.value, self.median, self.interval, self.unit),
            *(self.r_hat, self.ess, self.truth, self.off_by),
        )


def headings(posterior: Posterior) -> tuple[str, ...]:
    """What the columns of the rows are."""
    interval = f"{100 * posterior.summary.hdi_probability:.3g}% interval"
    return ("parameter", "mean ± sd", "median", interval, "unit", "R-hat", "ESS", "truth", "off by")


def parameter_rows(posterior: Posterior, truth: Mapping[str, Truth]) -> Iterator[PosteriorRow]:
    """One row per sampled parameter; `truth` as true_values gives it."""
    summary = posterior.summary
    found = Marginals(summary.mean, summary.std, summary.median, summary.hdi)
    for k, name in enumerate(posterior.names):
        known = truth.get(name)
        yield _row(
            name,
            posterior.units[k],
            found,
            k,
            known if isinstance(known, float) else None,
            r_hat=_r_hat(float(summary.r_hat[k])),
            ess=_count(float(summary.ess_bulk[k])),
        )


def scaling_rows(posterior: Posterior, data: TwoTime, truth: Mapping[str, Truth]) -> Iterator[PosteriorRow]:
    """One row per angle (degrees) for the contrast, then for the offset."""
    for name, draws in (("contrast", posterior.contrast), ("offset", posterior.offset)):
        found = marginals(draws, posterior.summary.hdi_probability)
        known = truth.get(name)
        for k, phi in enumerate(data.phi):
            yield _row(
                f"{name} {phi:g}°", "", found, k, known[k] if isinstance(known, list) else known
            )


def posterior_text(
    posterior: Posterior, fit: Fit, data: TwoTime, truth: Mapping[str, Any] | None = None
) -> str:
    """The posterior as aligned plain text, with what the point fit knows of it; its last line is the verdict."""
    known = true_values(truth, data.phi)
    rows = [*parameter_rows(posterior, known)]
    scaling = [*scaling_rows(posterior, data, known)]
    few = data.n_phi <= MOST_ANGLES
    lines = _aligned([headings(posterior), *(row.cells() for row in (*rows, *(scaling if few else ())))])
    if not few:
        lines += [_range(name, getattr(posterior, name)) for name in ("contrast", "offset")]
    return "\n".join((*lines, "", *_verdict_lines(posterior, fit)))


def filled_columns(rows: Sequence[PosteriorRow]) -> tuple[int, ...]:
    """Indices of the columns in which any row has something to say."""
    table = [row.cells() for row in rows]
    return tuple(c for c in range(len(table[0])) if any(cells[c] not in ("", ABSENT) for cells in table))


def _verdict_lines(posterior: Posterior, fit: Fit) -> Iterator[str]:
    of = " (R-hat: of the worst shard's chains; ESS: of the weighted draws)" if posterior.route == "consensus" else ""
    yield f"draws    {posterior.chains} × {posterior.samples}{of}"
    if posterior.shards:
        yield f"shards   {shards_words(posterior)}"
    yield f"sampler  {sampler_words(posterior)}"
    if fit.exchange is not None:
        yield f"labels   {fit.exchange.words}"
    yield from (f"careful  {warning}" for warning in posterior_warnings(posterior, fit))
    yield from (f"advice   {words}" for words in posterior.recommendations)
    if posterior.words:
        yield f"because  {posterior.words}"
    yield f"verdict  {verdict_sentence(posterior)}"


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    columns = [c for c in range(len(lines[0])) if any(line[c] not in ("", ABSENT) for line in lines[1:])]
    widths = [max(len(line[c]) for line in lines) for c in columns]
    return [
        "  ".join(line[c].ljust(width) for c, width in zip(columns, widths, strict=True)).rstrip() for line in lines
    ]


def _range(name: str, draws: np.ndarray) -> str:
    flat = np.asarray(draws, dtype=float).reshape(-1, np.shape(draws)[-1])
    means, deviations = flat.mean(axis=0), flat.std(axis=0, ddof=1)
    return (
        f"{name}: {means.min():.5g} to {means.max():.5g} over {len(means)} angles, sd {deviations.max():.1g} or better "
        "(each angle: parameters.json, report)"
    )


def _row(
    name: str, unit: str, found: Marginals, k: int, truth: float | None, r_hat: str = ABSENT, ess: str = ABSENT
) -> PosteriorRow:
    mean, std = float(found.mean[k]), float(found.std[k])
    shown = measurement(mean, std)
    low, high = (_as_shown(float(edge), shown) for edge in found.hdi[k])
    return PosteriorRow(
        name=name,
        value=str(shown),
        median=_powered(_as_shown(float(found.median[k]), shown), shown),
        interval=_powered(f"{low} to {high}", shown),
        unit=unit,
        r_hat=r_hat,
        ess=ess,
        truth=ABSENT if truth is None else number(truth),
        off_by=ABSENT if truth is None or not std > 0 else f"{(mean - truth) / std:+.1f} sd",
    )


def _as_shown(value: float, mean: Measurement) -> str:
    """A number with the last decimal of a shown mean, on the mean's power of ten."""
    decimals = len(mean.value.partition(".")[2])
    return f"{value / 10.0**mean.exponent:.{decimals}f}" if math.isfinite(value) else number(value)


def _powered(text: str, mean: Measurement) -> str:
    if not mean.exponent:
        return text
    return f"({text})e{mean.exponent:+03d}" if " " in text else f"{text}e{mean.exponent:+03d}"


def _r_hat(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else ABSENT


def _count(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else ABSENT
