"""The answer as rows of text: what a terminal and the report show of a point fit and of a posterior."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, NamedTuple

import numpy as np

from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.joint import JointSets, OwnValues, disagree
from hpcxpcs.answer.posterior import Marginals, Posterior
from hpcxpcs.answer.posterior_verdict import posterior_warnings, sampler_words, shards_words, verdict_sentence
from hpcxpcs.data.twotime import TwoTime
from hpcxpcs.results.joint import own_values

_CONTEXT = Context(prec=400, rounding=ROUND_HALF_EVEN)
_FIXED_EXPONENTS = range(-4, 6)
"""Powers of ten between which a number is written out in full."""
_DIGITS_OF_DOUBLE = 15
"""Digits that a double carries; an uncertainty below them doesn't decide the rounding."""

ABSENT = "—"


@dataclass(frozen=True)
class Rounded:
    """A value and its uncertainty with the same last decimal and the same power of ten."""

    value: str
    uncertainty: str
    exponent: int = 0

    def __str__(self) -> str:
        """For example `1.234 ± 0.012`, `(1.234 ± 0.012)e+07`, or the value alone."""
        power = f"e{self.exponent:+03d}" if self.exponent else ""
        if self.uncertainty == ABSENT:
            return f"{self.value}{power}"
        pair = f"{self.value} ± {self.uncertainty}"
        return f"({pair}){power}" if power else pair


def measurement(value: float, uncertainty: float | None = None) -> Rounded:
    """Round a value to two significant digits of its uncertainty (six digits of its own if it has none)."""
    value = float(value)
    error = math.nan if uncertainty is None else abs(float(uncertainty))
    if not math.isfinite(value):
        return Rounded(_special(value), ABSENT)
    if math.isinf(error):
        return Rounded(number(value), _special(error))
    if math.isnan(error) or error == 0:
        return Rounded(number(value), ABSENT if math.isnan(error) else "0")
    return _rounded(value, error)


def number(value: float, digits: int = 6) -> str:
    """A number with at most so many significant digits, or a word for one that is not finite."""
    return f"{float(value):.{digits}g}" if math.isfinite(value) else _special(value)


def if_finite(value: float, form: str) -> str:
    """A number in this format, if it is one."""
    return f"{value:{form}}" if math.isfinite(value) else ABSENT


def matching(shown: Rounded, uncertainty: float | None) -> str:
    """A second uncertainty to two significant digits, on the power of ten of a shown measurement."""
    if uncertainty is None or not math.isfinite(uncertainty):
        return ABSENT if uncertainty is None else _special(uncertainty)
    error = abs(float(uncertainty))
    if error == 0:
        return "0"
    scaled = _scaled(error, shown.exponent)
    if _leading(error) - shown.exponent < -_DIGITS_OF_DOUBLE:
        return f"{error:.1e}"
    text = _fixed(scaled, _leading(error) - shown.exponent - 1)
    return f"{text}e{shown.exponent:+03d}" if shown.exponent else text


def _rounded(value: float, error: float) -> Rounded:
    size = max(_leading(value), _leading(error))
    exponent = 0 if size in _FIXED_EXPONENTS else size
    last = max(_leading(error) - 1, size - _DIGITS_OF_DOUBLE) - exponent
    shown = _fixed(_scaled(error, exponent), last)
    if not Decimal(shown):
        shown = f"{_scaled(error, exponent):.1e}"
    return Rounded(_fixed(_scaled(value, exponent), last), shown, exponent)


def _leading(value: float) -> int:
    """The power of ten of the first digit after rounding to two: 0.0996 counts as 0.10."""
    return int(f"{value:.1e}".partition("e")[2]) if value else -400


def _scaled(value: float, exponent: int) -> Decimal:
    return Decimal(repr(float(value))).scaleb(-exponent, _CONTEXT)


def _fixed(value: Decimal, last: int) -> str:
    """Written out, rounded at the power of ten `last`."""
    rounded = value.quantize(Decimal(1).scaleb(last), context=_CONTEXT)
    return f"{rounded + 0:f}" if rounded else f"{abs(rounded):f}"


def _special(value: float) -> str:
    if math.isnan(value):
        return ABSENT
    return "∞" if value > 0 else "-∞"


Truth = float | list[float]
"""A known number, or one per angle of the data."""

SAME_TRUE_ANGLE = 1e-3
"""Degrees within which an angle of the data is one of the truth's; files store angles in single precision."""

MOST_ANGLES = 6
"""Angles whose contrast and offset are printed one by one; of more, the range is."""

HEADINGS = ("parameter", "value ± uncertainty", "robust ±", "unit", "", "truth", "off by")
"""What the columns of a Row are."""


class Row(NamedTuple):
    """One parameter of a point fit as text; `remark` says why it has no error bar, `off_by` is in error bars."""

    name: str
    value: str
    robust: str
    unit: str
    remark: str
    truth: str
    off_by: str


class PosteriorRow(NamedTuple):
    """One quantity as text; `off_by` is the distance of the mean from the truth in standard deviations."""

    name: str
    value: str
    median: str
    interval: str
    unit: str
    r_hat: str
    ess: str
    truth: str
    off_by: str


def posterior_headings(posterior: Posterior) -> tuple[str, ...]:
    """What the columns of a PosteriorRow are."""
    interval = f"{100 * posterior.summary.hdi_probability:.3g}% interval"
    return ("parameter", "mean ± sd", "median", interval, "unit", "R-hat", "ESS", "truth", "off by")


class Table(NamedTuple):
    """Rows of text under their headings."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def filled(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The table of the columns in which any row has something to say."""
    columns = [c for c in range(len(headings)) if any(row[c] not in ("", ABSENT) for row in rows)]
    return Table([headings[c] for c in columns], [[row[c] for c in columns] for row in rows])


def plain_text(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows as an aligned table of plain text."""
    shown = filled(headings, rows)
    lines = [shown.headings, *shown.rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def scaling_range(name: str, values: np.ndarray, errors: np.ndarray, sign: str) -> str:
    """Range of contrasts or offsets over the angles, where one line per angle would be too long."""
    return (
        f"{name}: {min(values):.5g} to {max(values):.5g} over {len(values)} angles, {sign} {max(errors):.1g} or better "
        "(each angle: parameters.json, report)"
    )


def true_values(truth: Mapping[str, Any] | None, phi: Sequence[float] | np.ndarray) -> dict[str, Truth]:
    """The known numbers of simulated data, flat or under `parameters`: scalars, or one per angle of phi.

    Lists belong to the angles `phi` of the truth (degrees), or else to those of the data in their order.
    """
    if not truth:
        return {}
    parameters = truth.get("parameters")
    named = {**truth, **(parameters if isinstance(parameters, Mapping) else {})}
    places = _places(truth.get("phi"), phi)
    known: dict[str, Truth] = {}
    for name, value in named.items():
        if isinstance(value, int | float):
            known[name] = float(value)
        elif name in ("contrast", "offset") and places is not None and len(value) > max(places):
            known[name] = [float(value[place]) for place in places]
    return known


def _places(known: Sequence[float] | None, phi: Sequence[float] | np.ndarray) -> list[int] | None:
    """Where each angle of the data is in the truth's list; None if one of them is not."""
    if known is None:
        return list(range(len(phi)))
    nearest = [int(np.argmin(np.abs(np.asarray(known, dtype=float) - angle))) for angle in phi]
    found = all(abs(known[place] - angle) <= SAME_TRUE_ANGLE for place, angle in zip(nearest, phi, strict=True))
    return nearest if found else None


def summary_lines(fit: PointFit, data: TwoTime, truth: Mapping[str, Any] | None = None) -> list[Row]:
    """Rows for the physical parameters, then for contrast and offset (one row per angle, in degrees)."""
    known = true_values(truth, data.phi)
    return [*_physical(fit, known), *_scaling(fit, data, known)]


def _physical(fit: PointFit, known: Mapping[str, Truth]) -> Iterator[Row]:
    for k, name in enumerate(fit.names):
        remark = "at bound" if fit.at_bound[k] else "" if fit.free[k] else "fixed"
        robust = None if fit.robust_uncertainty is None else fit.robust_uncertainty[k]
        yield _row(name, fit.values[k], fit.uncertainty[k], robust, fit.units[k], remark, _single(known.get(name)))


def _scaling(fit: PointFit, data: TwoTime, known: Mapping[str, Truth]) -> Iterator[Row]:
    scaling = fit.scaling
    parts = (
        ("contrast", scaling.contrast, scaling.contrast_uncertainty, scaling.robust_contrast_uncertainty),
        ("offset", scaling.offset, scaling.offset_uncertainty, scaling.robust_offset_uncertainty),
    )
    for name, values, uncertainties, robust in parts:
        for k in range(data.n_phi):
            wider, truth = None if robust is None else robust[k], _at_angle(known.get(name), k)
            yield _row(f"{name} {data.angle_name(k)}", values[k], uncertainties[k], wider, "", "", truth)


def _single(truth: Truth | None) -> float | None:
    """The truth of a parameter, which is one number."""
    return truth if isinstance(truth, float) else None


def _at_angle(truth: Truth | None, k: int) -> float | None:
    return truth[k] if isinstance(truth, list) else truth


def _row(
    name: str,
    value: float,
    uncertainty: float,
    robust: float | None,
    unit: str,
    remark: str,
    truth: float | None,
) -> Row:
    shown = measurement(value, uncertainty)
    beside = beside_truth(float(value), truth, float(uncertainty), "σ")
    return Row(name, str(shown), matching(shown, robust), unit, remark, *beside)


def beside_truth(value: float, truth: float | None, error: float, unit: str) -> tuple[str, str]:
    """The truth, and how many error bars a value is away from it."""
    if truth is None:
        return ABSENT, ABSENT
    known = math.isfinite(value - truth) and math.isfinite(error) and error > 0
    return number(truth), f"{(value - truth) / error:+.1f} {unit}" if known else ABSENT


def parameter_rows(posterior: Posterior, truth: Mapping[str, Truth]) -> list[PosteriorRow]:
    """One row per sampled parameter; `truth` as true_values gives it."""
    summary = posterior.summary
    return [
        _posterior_row(
            *(name, unit, summary, k, _single(truth.get(name))),
            r_hat=if_finite(summary.r_hat[k], ".3f"),
            ess=if_finite(summary.ess_bulk[k], ",.0f"),
        )
        for k, (name, unit) in enumerate(zip(posterior.names, posterior.units, strict=True))
    ]


def scaling_rows(posterior: Posterior, data: TwoTime, truth: Mapping[str, Truth]) -> list[PosteriorRow]:
    """One row per angle (degrees) for the contrast, then for the offset."""
    return [
        _posterior_row(f"{name} {data.angle_name(k)}", "", found, k, _at_angle(truth.get(name), k))
        for name, found in posterior.scaling_marginals().items()
        for k in range(data.n_phi)
    ]


def _posterior_row(
    name: str, unit: str, found: Marginals, k: int, truth: float | None, r_hat: str = ABSENT, ess: str = ABSENT
) -> PosteriorRow:
    mean, std = float(found.mean[k]), float(found.std[k])
    shown = measurement(mean, std)
    low, high = (as_shown(float(edge), shown) for edge in found.hdi[k])
    median, interval = powered(as_shown(float(found.median[k]), shown), shown), powered(f"{low} to {high}", shown)
    return PosteriorRow(name, str(shown), median, interval, unit, r_hat, ess, *beside_truth(mean, truth, std, "sd"))


def as_shown(value: float, mean: Rounded) -> str:
    """A number with the last decimal of a shown mean, on the mean's power of ten."""
    decimals = len(mean.value.partition(".")[2])
    return f"{value / 10.0**mean.exponent:.{decimals}f}" if math.isfinite(value) else number(value)


def powered(text: str, mean: Rounded) -> str:
    """A text of numbers as as_shown gives them, with the mean's power of ten behind it."""
    if not mean.exponent:
        return text
    return f"({text})e{mean.exponent:+03d}" if " " in text else f"{text}e{mean.exponent:+03d}"


def posterior_text(posterior: Posterior, fit: PointFit, data: TwoTime, truth: Mapping[str, Any] | None = None) -> str:
    """The posterior as aligned plain text, with what the point fit knows of it; its last line is the verdict."""
    known = true_values(truth, data.phi)
    few = data.n_phi <= MOST_ANGLES
    rows = [*parameter_rows(posterior, known), *(scaling_rows(posterior, data, known) if few else ())]
    lines = [plain_text(posterior_headings(posterior), rows)]
    if not few:
        lines += [
            scaling_range(name, found.mean, found.std, "sd") for name, found in posterior.scaling_marginals().items()
        ]
    return "\n".join((*lines, "", *_verdict_lines(posterior, fit)))


def sets_words(fit: PointFit, posterior: Posterior | None = None) -> Iterator[str]:
    """Of a joint fit, whether its data sets agree and what each has of its own."""
    if fit.joint is None:
        return
    if not disagree(fit.joint.agreement):
        yield fit.joint.agreement.words
    yield from (own_words(found, fit.joint) for found in own_values(fit, posterior))


MOST_LISTED = 8
"""Data sets whose values are told in a line; all of them are in the files."""


def own_words(found: OwnValues, sets: JointSets) -> str:
    """The values of every set in a line."""
    scatter = f"{found.spread:.1%}" if found.relative else f"{found.spread:.2g} {found.unit}".rstrip()
    low, high = found.spread_interval
    ends = f"{low:.1%} to {high:.1%}" if found.relative else f"{low:.2g} to {high:.2g}"
    told = (
        f"they scatter by {scatter} ({ends}) about {measurement(found.mean, found.mean_error)}; "
        f"p = {found.probability:.2g} if all were equal"
    )
    if np.isfinite(found.exponent[0]):
        told += f"; {found.name} goes as q^({measurement(*found.exponent)})"
    each = [
        f"{label} {measurement(value, error)}"
        for label, value, error in zip(sets.labels, found.values, found.errors, strict=True)
    ]
    listed = ", ".join(each if len(each) <= MOST_LISTED else [*each[:MOST_LISTED], "…"])
    drawn = ", drawn together by their scatter" if found.drawn else ""
    return f"{found.name} of each set{drawn}: {listed}; {told}"


def _evidence_words(posterior: Posterior) -> str:
    return (
        f"ln Z = {measurement(posterior.log_evidence or 0.0, posterior.log_evidence_error)} (hpcxpcs compare RUN RUN)"
    )


def _verdict_lines(posterior: Posterior, fit: PointFit) -> Iterator[str]:
    of = {
        "consensus": " (R-hat: of the worst shard's chains; ESS: of the weighted draws)",
        "importance": " (independent: ESS is of the weights, and there is no R-hat)",
    }
    yield f"draws    {posterior.chains} × {posterior.samples}{of.get(posterior.route, '')}"
    if posterior.shards:
        yield f"shards   {shards_words(posterior)}"
    yield f"sampler  {sampler_words(posterior)}"
    if posterior.log_evidence is not None:
        yield f"evidence {_evidence_words(posterior)}"
    if fit.exchange is not None:
        yield f"labels   {fit.exchange.words}"
    yield from (f"sets     {words}" for words in sets_words(fit, posterior))
    yield from (f"careful  {warning}" for warning in posterior_warnings(posterior, fit))
    yield from (f"advice   {words}" for words in posterior.recommendations)
    if posterior.words:
        yield f"because  {posterior.words}"
    yield f"verdict  {verdict_sentence(posterior)}"
