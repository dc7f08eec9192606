"""report.html: one page that needs no network, written for the person who has to defend the numbers."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from hpcxpcs.files.atomic import Fault, atomic_write_text
from hpcxpcs.files.json_safe import dumps
from hpcxpcs.results import quality
from hpcxpcs.results.comparison import ESTIMATED_NOISE
from hpcxpcs.results.measurement import ABSENT, number
from hpcxpcs.results.plots import angle_file_names
from hpcxpcs.results.posterior_report import POSTERIOR_PICTURES, posterior_head, posterior_part
from hpcxpcs.results.records import Answer, Fit, WrittenResults
from hpcxpcs.results.table import HEADINGS, Row, shown_columns, summary_lines

MOST_PICTURES = 40
"""Angle pages inside the report; of more, evenly spaced ones are shown and the others named."""

ANGLE_HEADINGS = (
    *("φ", "contrast", "robust ±", "truth", "offset", "robust ±", "truth"),
    *("noise σ", "points", "χ² per point"),
)
_SCALED = "c2 = offset + contrast × f, with contrast and offset of each angle"
_TRANSPORT = "J(t) = D0·t^alpha + D_offset"
FORMULAS: Mapping[str, tuple[str, ...]] = {
    "static": (_SCALED, "f = exp(−q² ∫ J dt) between the two times", _TRANSPORT),
    "laminar_flow": (
        _SCALED,
        "f = (decay by diffusion) × (decay by shear)",
        f"decay by diffusion: exp(−q² ∫ J dt) between the two times, {_TRANSPORT}",
        "decay by shear, shear law couette: sinc²(X), X = ½ q L cos(φ0 − φ) ∫ γ̇ dt, L the gap; shear law "
        "homodyne-2: sinc⁴(X/π), as in a published package; its shear rates are about 2.2 times larger",
        "γ̇(t) = gamma_dot_t0·t^beta + gamma_dot_t_offset",
    ),
    "two_component": (
        _SCALED,
        "f = interference of a reference (share 1 − x of the field) and a moving sample (share x)",
        "each loses memory by diffusion, exp(−½ q² ∫ J dt), with its own J(t) = D0·t^alpha + D_offset",
        "their phase differs by q cos(φ − φ0) ∫ v dt, v(t) = v0·t^beta + v_offset",
        "convention heterodyne-2, as in a published package: cos(φ + φ0) instead",
        "x(t) = f0·exp(f1·(t − f2)) + f3, between 0 and 1",
    ),
    "static_ref": (_SCALED, "f = exp(−q² ∫ J dt) between the two times", _TRANSPORT),
    "static_both": (
        _SCALED,
        "f = interference of two components at rest",
        "each loses memory by diffusion, exp(−½ q² ∫ J dt), with its own J(t) = D0·t^alpha + D_offset",
    ),
}


@dataclass(frozen=True)
class Picture:
    """A picture inside the page: what it shows, and the PNG in base64."""

    title: str
    content: str


def write_report(written: WrittenResults, answer: Answer, *, fault: Fault | None = None) -> Path:
    """Write report.html beside the numbers and return its path."""
    path = written.folder / "report.html"
    atomic_write_text(path, report_html(written, answer), fault=fault)
    return path


def report_html(written: WrittenResults, answer: Answer) -> str:
    """The page as HTML, with the pictures of `written` inside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        **_verdict(answer),
        fitted=dict(_what_was_fitted(answer)),
        quality=answer.run.quality,
        formulas=FORMULAS.get(answer.fit.model, (_SCALED,)),
        conventions=dict(answer.fit.conventions),
        **_answer_tables(answer),
        **_trust(answer.fit),
        posterior=None if answer.posterior is None else posterior_part(answer, answer.posterior),
        pictures=list(_pictures(written, answer)),
        more_pictures=max(0, answer.data.n_phi - MOST_PICTURES),
        troubles=[*written.plots_failed, *written.skipped],
        provenance=dumps(written.provenance),
        written_at=written.provenance.get("end", ""),
    )


def _verdict(answer: Answer) -> dict[str, Any]:
    """How the page opens: with the posterior's verdict if there is one, and what to be careful about."""
    fit, code = answer.fit, answer.run.exit_code
    warnings = [*quality.quality_warnings(fit), *answer.data.processing.words()]
    good = fit.ok and code == 0
    flag = quality.quality_flag(fit)
    from_fit = {
        "status": fit.status,
        "exit_code": code,
        "exit_words": quality.exit_words(code),
        "verdict": quality.verdict(fit, code),
        "message": fit.message,
        "tone": "good" if good and flag == "good" else "caution" if fit.ok else "bad",
        "quality_flag": flag,
        "quality_rule": quality.QUALITY_RULE,
        "fit_quality_rule": quality.QUALITY_RULE,
        "warnings": warnings,
    }
    if answer.posterior is None:
        return from_fit
    head = posterior_head(answer, answer.posterior)
    return {**from_fit, **head, "warnings": [*head["warnings"], *warnings]}


def _what_was_fitted(answer: Answer) -> Iterator[tuple[str, str]]:
    fit, data = answer.fit, answer.data
    first, last = data.frames
    yield "file", str(data.provenance.get("file", "arrays in memory"))
    yield "model", fit.model
    yield "wavevector q", f"{data.q:.6g} Å⁻¹" if data.q_known else "unknown: rates are q²D and q·v"
    yield "angles φ", f"{data.n_phi}: {', '.join(f'{angle:g}°' for angle in data.phi)}"
    yield "frames", f"{first} to {last} of the file ({data.n_frames} frames, {data.dt:g} {data.time_unit} apart)"
    yield "times", f"{data.t[0]:g} to {data.t[-1]:g} {data.time_unit}; t = 0 and the diagonal are never used"
    points = int(np.sum(fit.pairs))
    square = "" if fit.noise is None or fit.noise.width == 1 else f" (means over {fit.noise.width} × {fit.noise.width})"
    yield "data points", f"{points:,} pairs of frames{square}, each counted once"
    free = f"{int(np.count_nonzero(fit.free))} of {len(fit.names)}"
    if notes := data.provenance.get("notes"):
        yield "notes", "; ".join(notes)
    for stage in data.provenance.get("preprocessing", ()):
        yield (
            f"preprocessing: {stage['stage'].replace('_', ' ')}",
            f"{stage['method']} {stage['parameters'] or ''}",
        )
    yield "bounds", "; ".join(_range(fit, k) for k in range(len(fit.names)) if fit.free[k] or fit.at_bound[k])
    yield "free parameters", f"{free}, and the scaling of the angles ({fit.scaling.mode})"


def _range(fit: Fit, k: int) -> str:
    """Bounds of a parameter and where they come from."""
    low, high = (fit.origins[fit.names[k]][side] for side in ("min", "max"))
    source = low if low == high else f"{low}, {high}"
    return f"{fit.names[k]} {fit.lower[k]:.3g} to {fit.upper[k]:.3g} ({source})"


def _answer_tables(answer: Answer) -> dict[str, Any]:
    rows = summary_lines(answer.fit, answer.data, answer.run.truth)
    physical, scaling = rows[: len(answer.fit.names)], rows[len(answer.fit.names) :]
    columns = shown_columns(physical)
    return {
        "headings": [HEADINGS[c] for c in columns],
        "rows": [[row.cells()[c] for c in columns] for row in physical],
        **_angle_table(answer, scaling),
    }


def _angle_table(answer: Answer, scaling: Sequence[Row]) -> dict[str, Any]:
    """One row per angle from the rows of all contrasts, followed by those of all offsets."""
    rows = list(_angle_rows(answer, scaling))
    columns = [c for c in range(len(ANGLE_HEADINGS)) if any(row[c] != ABSENT for row in rows)]
    return {
        "angle_headings": [ANGLE_HEADINGS[c] for c in columns],
        "angles": [[row[c] for c in columns] for row in rows],
    }


def _angle_rows(answer: Answer, scaling: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    fit, n_phi = answer.fit, answer.data.n_phi
    for k, (contrast, offset) in enumerate(zip(scaling[:n_phi], scaling[n_phi:], strict=True)):
        per_point = fit.chi_squared_per_angle[k] / max(1, fit.pairs[k])
        yield (
            f"{answer.data.phi[k]:g}°",
            *(contrast.value, contrast.robust, contrast.truth),
            *(offset.value, offset.robust, offset.truth),
            *(number(fit.sigma[k], 4), f"{int(fit.pairs[k]):,}", number(per_point, 4)),
        )


def _trust(fit: Fit) -> dict[str, Any]:
    return {
        "fit": fit,
        "chi_squared": number(fit.chi_squared),
        "reduced": number(fit.reduced_chi_squared, 4),
        "noise": _noise(fit),
        "shared_noise": quality.noise_words(fit),
        "inflation": _inflation(fit),
        "compression": quality.compression_words(fit.compression),
        "correlations": [
            (f"{pair.first} and {pair.second}", f"{pair.value:+.3f}", quality.correlation_words(pair.value))
            for pair in quality.strongest_correlations(fit)
        ],
        "condition": number(fit.condition_number, 3),
        "balance": {name: number(value, 3) for name, value in fit.gradient_balance.items()},
        "starts": [(start.status, number(start.cost)) for start in fit.starts],
    }


def _noise(fit: Fit) -> str:
    if fit.sigma_source == "file":
        return "σ of each data point is given in the data file"
    low, high = float(np.min(fit.sigma)), float(np.max(fit.sigma))
    span = f"{low:.4g}" if math.isclose(low, high, rel_tol=1e-3) else f"{low:.4g} to {high:.4g}"
    measured = fit.sigma_source == ESTIMATED_NOISE
    source = "measured in the data, as what no smooth function can describe" if measured else fit.sigma_source
    return f"σ of one data point is {span}, {source}"


def _inflation(fit: Fit) -> list[tuple[str, str]]:
    ratios = quality.inflation(fit)
    if ratios is None:
        return []
    free = [k for k in range(len(fit.names)) if fit.free[k] and math.isfinite(ratios[k])]
    return [(fit.names[k], quality.inflation_words(float(ratios[k]))) for k in free]


def _pictures(written: WrittenResults, answer: Answer) -> Iterator[Picture]:
    there = {path.name: path for path in written.files if path.suffix == ".png"}
    titles = {
        **(POSTERIOR_PICTURES if answer.posterior is not None else {}),
        "overview.png": "All angles: data and fit side by side, and what is left over",
        "residual_checks.png": "Is what is left over pure noise?",
        "angle_scaling.png": "Contrast, offset and noise by angle",
    }
    names = angle_file_names(answer.data.phi)
    shown = np.unique(np.linspace(0, len(names) - 1, min(MOST_PICTURES, len(names))).round().astype(int))
    titles.update({names[k]: f"φ = {answer.data.phi[k]:g}°" for k in shown})
    for name, title in titles.items():
        if name in there:
            yield Picture(title, base64.b64encode(there[name].read_bytes()).decode())
