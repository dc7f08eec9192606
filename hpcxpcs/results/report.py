"""report.html: one page that needs no network, written for the person who has to defend the numbers."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcxpcs.answer import fit_verdict, posterior_verdict
from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.posterior import Posterior, ShardRecord
from hpcxpcs.arrays import evenly_spaced
from hpcxpcs.data.preprocess import warnings_of
from hpcxpcs.files.atomic import atomic_write_text
from hpcxpcs.files.json_safe import dumps
from hpcxpcs.results.comparison import ESTIMATED_NOISE
from hpcxpcs.results.pages import page_template
from hpcxpcs.results.plots import angle_file_names
from hpcxpcs.results.records import Answer, WrittenResults
from hpcxpcs.results.table import (
    HEADINGS,
    Row,
    Table,
    filled,
    if_finite,
    number,
    parameter_rows,
    posterior_headings,
    scaling_rows,
    sets_words,
    summary_lines,
    true_values,
)

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


SHARD_HEADINGS = (
    *("shard", "pairs", "weight", "outcome", "R-hat", "ESS", "divergences", "BFMI"),
    *("attempts", "gradients", "seconds"),
)
CHECK_HEADINGS = ("parameter", "ESS in the tails", "error of the mean", "prior sd", "contraction", "point fit", "z", "")
POSTERIOR_PICTURES: Mapping[str, str] = {
    "posterior.png": "What the posterior says about each parameter",
    "forest.png": "Posterior and point fit side by side",
    "pair.png": "Which parameters go together",
    "shard_forest.png": "Do the parts of the data agree?",
    "trace.png": "The chains, draw by draw",
    "rank.png": "Do the chains agree?",
    "autocorrelation.png": "How long the chains remember",
    "energy.png": "Energy, acceptance and steps of the sampler",
    "ess.png": "Effective draws",
}


@dataclass(frozen=True)
class Picture:
    """A picture inside the page: what it shows, and the PNG in base64."""

    title: str
    content: str


def write_report(written: WrittenResults, answer: Answer) -> Path:
    """Write report.html beside the numbers and return its path."""
    path = written.folder / "report.html"
    atomic_write_text(path, report_html(written, answer))
    return path


def report_html(written: WrittenResults, answer: Answer) -> str:
    """The page as HTML, with the pictures of `written` inside."""
    return page_template("report.html.j2").render(
        **_verdict(answer),
        fitted=dict(_what_was_fitted(answer)),
        quality=answer.run.quality,
        formulas=FORMULAS.get(answer.fit.model, (_SCALED,)),
        conventions=dict(answer.fit.conventions),
        **_answer_tables(answer),
        **_trust(answer.fit),
        sets=list(sets_words(answer.fit, answer.posterior)),
        posterior=None if answer.posterior is None else _posterior(answer, answer.posterior),
        pictures=list(_pictures(written, answer)),
        more_pictures=max(0, answer.data.n_phi - MOST_PICTURES),
        troubles=[*written.plots_failed, *written.skipped],
        provenance=dumps(written.provenance),
        written_at=written.provenance.get("end", ""),
    )


def _verdict(answer: Answer) -> dict[str, Any]:
    """How the page opens: with the posterior's verdict if there is one, and what to be careful about."""
    fit, found, code = answer.fit, answer.posterior, answer.run.exit_code
    warnings = [*fit_verdict.quality_warnings(fit), *warnings_of(answer.data.processing)]
    rule, usable = fit_verdict.QUALITY_RULE, fit.ok
    if found is not None:
        rule, usable = posterior_verdict.POSTERIOR_QUALITY_RULE, posterior_verdict.trusted(found)
        warnings = [*posterior_verdict.posterior_warnings(found, fit), *found.recommendations, *warnings]
    quality = posterior_verdict.quality_of(fit, found)
    good = quality == "good" and usable and code == 0
    return {
        "status": fit.status,
        "exit_code": code,
        "exit_words": fit_verdict.exit_meaning(code),
        "verdict": posterior_verdict.first_sentence(fit, found, code),
        "message": fit.message,
        "tone": "good" if good else "caution" if usable else "bad",
        "quality_flag": quality,
        "quality_rule": rule,
        "fit_quality_rule": fit_verdict.QUALITY_RULE,
        "warnings": warnings,
    }


def _what_was_fitted(answer: Answer) -> Iterator[tuple[str, str]]:
    fit, data = answer.fit, answer.data
    first, last = data.frames
    if data.sets:
        yield "data sets", "; ".join(f"{one.label} ({one.file}, q = {one.q:.6g} Å⁻¹)" for one in data.sets)
    else:
        yield "file", str(data.provenance.get("file", "arrays in memory"))
    yield "model", fit.model
    yield "wavevector q", f"{data.q:.6g} Å⁻¹" if data.q_known else "unknown: rates are q²D and q·v"
    yield "angles φ", f"{data.n_phi}: {', '.join(data.angle_name(k) for k in range(data.n_phi))}"
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


def _range(fit: PointFit, k: int) -> str:
    """Bounds of a parameter and where they come from."""
    low, high = (fit.origins[fit.names[k]][side] for side in ("min", "max"))
    source = low if low == high else f"{low}, {high}"
    return f"{fit.names[k]} {fit.lower[k]:.3g} to {fit.upper[k]:.3g} ({source})"


def _answer_tables(answer: Answer) -> dict[str, Any]:
    rows = summary_lines(answer.fit, answer.data, answer.run.truth)
    physical, scaling = rows[: len(answer.fit.names)], rows[len(answer.fit.names) :]
    return {
        "parameters": filled(HEADINGS, physical),
        "angles": filled(ANGLE_HEADINGS, list(_angle_rows(answer, scaling))),
    }


def _angle_rows(answer: Answer, scaling: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """One row per angle from the rows of all contrasts, followed by those of all offsets."""
    fit, n_phi = answer.fit, answer.data.n_phi
    for k, (contrast, offset) in enumerate(zip(scaling[:n_phi], scaling[n_phi:], strict=True)):
        per_point = fit.chi_squared_per_angle[k] / max(1, fit.pairs[k])
        yield (
            answer.data.angle_name(k),
            *(contrast.value, contrast.robust, contrast.truth),
            *(offset.value, offset.robust, offset.truth),
            *(number(fit.sigma[k], 4), f"{int(fit.pairs[k]):,}", number(per_point, 4)),
        )


def _trust(fit: PointFit) -> dict[str, Any]:
    return {
        "fit": fit,
        "chi_squared": number(fit.chi_squared),
        "reduced": number(fit.reduced_chi_squared, 4),
        "noise": _noise(fit),
        "shared_noise": fit_verdict.noise_words(fit),
        "inflation": _inflation(fit),
        "compression": fit_verdict.compression_words(fit.compression),
        "correlations": _correlations(*fit_verdict.physical_correlations(fit)),
        "condition": number(fit.condition_number, 3),
        "balance": {name: number(value, 3) for name, value in fit.gradient_balance.items()},
        "starts": [(start.status, number(start.cost)) for start in fit.starts],
    }


def _correlations(names: Sequence[str], matrix: np.ndarray) -> list[tuple[str, str, str]]:
    return [
        (f"{pair.first} and {pair.second}", f"{pair.value:+.3f}", fit_verdict.correlation_words(pair.value))
        for pair in fit_verdict.strongest_correlations(names, matrix)
    ]


def _noise(fit: PointFit) -> str:
    if fit.sigma_source == "file":
        return "σ of each data point is given in the data file"
    low, high = float(np.min(fit.sigma)), float(np.max(fit.sigma))
    span = f"{low:.4g}" if math.isclose(low, high, rel_tol=1e-3) else f"{low:.4g} to {high:.4g}"
    measured = fit.sigma_source == ESTIMATED_NOISE
    source = "measured in the data, as what no smooth function can describe" if measured else fit.sigma_source
    return f"σ of one data point is {span}, {source}"


def _inflation(fit: PointFit) -> list[tuple[str, str]]:
    ratios = fit_verdict.inflation(fit)
    if ratios is None:
        return []
    free = [k for k in range(len(fit.names)) if fit.free[k] and math.isfinite(ratios[k])]
    return [(fit.names[k], fit_verdict.inflation_words(float(ratios[k]))) for k in free]


def _pictures(written: WrittenResults, answer: Answer) -> Iterator[Picture]:
    there = {path.name: path for path in written.files if path.suffix == ".png"}
    titles = {
        **(POSTERIOR_PICTURES if answer.posterior is not None else {}),
        "overview.png": "All angles: data and fit side by side, and what is left over",
        "residual_checks.png": "Is what is left over pure noise?",
        "angle_scaling.png": "Contrast, offset and noise by angle",
    }
    names = angle_file_names(answer.data.phi)
    titles.update({names[k]: f"φ = {answer.data.angle_name(k)}" for k in evenly_spaced(len(names), MOST_PICTURES)})
    for name, title in titles.items():
        if name in there:
            yield Picture(title, base64.b64encode(there[name].read_bytes()).decode())


def _posterior(answer: Answer, found: Posterior) -> dict[str, Any]:
    """Everything that the template shows of a posterior."""
    known = true_values(answer.run.truth, answer.data.phi)
    headings = posterior_headings(found)
    return {
        "verdict": found.verdict,
        "words": found.words,
        "route": _route_words(found),
        "answer": filled(headings, parameter_rows(found, known)),
        "scaling": filled(headings, scaling_rows(found, answer.data, known)),
        "interval": f"{100 * found.summary.hdi_probability:.3g} %",
        "route_name": found.route,
        "trust": list(posterior_verdict.trust_rows(found, answer.fit)),
        "quality_rule": posterior_verdict.POSTERIOR_QUALITY_RULE,
        "failed": [posterior_verdict.finding_words(finding) for finding in found.judgement.failed],
        "recommendations": list(found.recommendations),
        "checks": Table(CHECK_HEADINGS, list(_checks(found))),
        "correlations": _correlations(*posterior_verdict.draw_correlations(found)),
        "shards": Table(SHARD_HEADINGS, [_shard(shard) for shard in found.shards]),
        "cost": list(_cost(found)),
    }


def _route_words(found: Posterior) -> str:
    if found.route == "exact":
        return "all data were sampled at once"
    if found.route == "importance":
        return "independent draws around the peaks of the posterior were weighed with all data"
    accepted = sum(shard.accepted for shard in found.shards)
    strategy = str(found.settings.get("strategy", "parts")).replace("_", " ")
    anchor = " anchored at the point fit" if found.settings.get("anchor") == "point_fit" else ""
    return f"the data were cut into {len(found.shards)} shards ({strategy}), {accepted} were combined{anchor}"


def _checks(found: Posterior) -> Iterator[tuple[str, ...]]:
    summary, weighted = found.summary, posterior_verdict.weighs_shards(found)
    for k, name in enumerate(found.names):
        yield (
            name,
            if_finite(summary.ess_tail[k], ",.0f"),
            number(summary.mcse_mean[k], 2),
            number(summary.prior_std[k], 3),
            if_finite(summary.contraction[k], ".1%"),
            number(summary.point_value[k]),
            if_finite(summary.z[k], "+.2f"),
            posterior_verdict.z_words(float(summary.z[k]), weighted=weighted),
        )


def _shard(shard: ShardRecord) -> tuple[str, ...]:
    return (
        str(shard.index),
        f"{shard.pairs:,}",
        number(shard.weight, 2),
        "accepted" if shard.accepted else f"left out: {', '.join(shard.reasons)}",
        number(shard.r_hat, 4),
        if_finite(shard.ess, ",.0f"),
        f"{shard.divergences:,}",
        number(shard.bfmi, 2),
        str(shard.attempts),
        f"{shard.gradients:,}",
        number(shard.seconds, 3),
    )


def _cost(found: Posterior) -> Iterator[tuple[str, str]]:
    draws = found.chains * found.samples
    chains = "" if found.route == "importance" else f" ({found.chains} chains of {found.samples})"
    yield "draws", f"{draws:,}{chains}, seed {found.seed}"
    if warmup := found.settings.get("warmup"):
        yield "warm-up", f"{warmup} draws of each chain"
    if gradients := sum(shard.gradients for shard in found.shards):
        yield "gradients", f"{gradients:,} evaluations in all shards"
    elif found.statistics is not None and found.statistics.num_steps.size:
        yield "gradients", f"{int(np.sum(found.statistics.num_steps)):,} evaluations after warm-up"
    if found.timings:
        yield "time", ", ".join(f"{name} {seconds:.3g} s" for name, seconds in found.timings.items())
