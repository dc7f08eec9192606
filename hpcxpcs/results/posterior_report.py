"""The posterior's part of the report: its numbers, how far to trust them, and what was left out and why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hpcxpcs.results import trust
from hpcxpcs.results.measurement import ABSENT, number
from hpcxpcs.results.posterior_records import Posterior, Shard
from hpcxpcs.results.posterior_table import filled_columns, headings, parameter_rows, scaling_rows
from hpcxpcs.results.quality import correlation_words
from hpcxpcs.results.records import Answer
from hpcxpcs.results.table import true_values

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
SHARD_HEADINGS = (
    *("shard", "pairs", "weight", "outcome", "R-hat", "ESS", "divergences", "BFMI"),
    *("attempts", "gradients", "seconds"),
)


def posterior_head(answer: Answer, found: Posterior) -> dict[str, Any]:
    """What the top of the page says: the verdict, and everything to be careful about."""
    quality = trust.posterior_quality(found)
    good = quality == "good" and answer.run.exit_code == 0
    return {
        "verdict": trust.verdict_sentence(found),
        "tone": "good" if good else "caution" if trust.trusted(found) else "bad",
        "quality_flag": quality,
        "quality_rule": trust.POSTERIOR_QUALITY_RULE,
        "warnings": [*trust.posterior_warnings(found, answer.fit), *found.recommendations],
    }


def posterior_part(answer: Answer, found: Posterior) -> dict[str, Any]:
    """Everything that the template shows of a posterior."""
    known = true_values(answer.run.truth, answer.data.phi)
    names, matrix = trust.draw_correlations(found)
    return {
        "verdict": found.verdict,
        "words": found.words,
        "route": _route_words(found),
        "answer": _table(headings(found), [*parameter_rows(found, known)]),
        "scaling": _table(headings(found), [*scaling_rows(found, answer.data, known)]),
        "interval": f"{100 * found.summary.hdi_probability:.3g} %",
        "combined": found.route == "consensus",
        "trust": list(trust.trust_rows(found, answer.fit)),
        "quality_rule": trust.POSTERIOR_QUALITY_RULE,
        "failed": [trust.finding_words(finding) for finding in found.judgement.failed],
        "recommendations": list(found.recommendations),
        "checks": {"headings": CHECK_HEADINGS, "rows": list(_checks(found))},
        "correlations": [
            (f"{pair.first} and {pair.second}", f"{pair.value:+.3f}", correlation_words(pair.value))
            for pair in trust.strongest_pairs(names, matrix)
        ],
        "shards": {"headings": SHARD_HEADINGS, "rows": [_shard(shard) for shard in found.shards]},
        "cost": list(_cost(found)),
    }


CHECK_HEADINGS = ("parameter", "ESS in the tails", "error of the mean", "prior sd", "contraction", "point fit", "z", "")


def _route_words(found: Posterior) -> str:
    if found.route == "exact":
        return "all data were sampled at once"
    accepted = sum(shard.accepted for shard in found.shards)
    strategy = str(found.settings.get("strategy", "parts")).replace("_", " ")
    anchor = " anchored at the point fit" if found.settings.get("anchor") == "point_fit" else ""
    return f"the data were cut into {len(found.shards)} shards ({strategy}), {accepted} were combined{anchor}"


def _table(names: tuple[str, ...], rows: list[Any]) -> dict[str, Any]:
    columns = filled_columns(rows)
    return {
        "headings": [names[c] for c in columns],
        "rows": [[row.cells()[c] for c in columns] for row in rows],
    }


def _checks(found: Posterior) -> Iterator[tuple[str, ...]]:
    summary = found.summary
    for k, name in enumerate(found.names):
        contraction, z = float(summary.contraction[k]), float(summary.z[k])
        yield (
            name,
            f"{summary.ess_tail[k]:,.0f}" if math.isfinite(summary.ess_tail[k]) else ABSENT,
            number(float(summary.mcse_mean[k]), 2),
            number(float(summary.prior_std[k]), 3),
            f"{contraction:.1%}" if math.isfinite(contraction) else ABSENT,
            number(float(summary.point_value[k])),
            f"{z:+.2f}" if math.isfinite(z) else ABSENT,
            trust.z_words(z, weighted=trust.weighs_shards(found)),
        )


def _shard(shard: Shard) -> tuple[str, ...]:
    return (
        *(str(shard.index), f"{shard.pairs:,}", number(float(shard.weight), 2)),
        "accepted" if shard.accepted else f"left out: {', '.join(shard.reasons)}",
        *(number(float(shard.r_hat), 4), f"{shard.ess:,.0f}" if math.isfinite(shard.ess) else ABSENT),
        *(f"{shard.divergences:,}", number(float(shard.bfmi), 2), str(shard.attempts)),
        *(f"{shard.gradients:,}", number(float(shard.seconds), 3)),
    )


def _cost(found: Posterior) -> Iterator[tuple[str, str]]:
    draws = found.chains * found.samples
    yield "draws", f"{draws:,} ({found.chains} chains of {found.samples}), seed {found.seed}"
    if warmup := found.settings.get("warmup"):
        yield "warm-up", f"{warmup} draws of each chain"
    if gradients := sum(shard.gradients for shard in found.shards):
        yield "gradients", f"{gradients:,} evaluations in all shards"
    elif found.statistics.num_steps.size:
        yield "gradients", f"{int(np.sum(found.statistics.num_steps)):,} evaluations after warm-up"
    if found.timings:
        yield "time", ", ".join(f"{name} {seconds:.3g} s" for name, seconds in found.timings.items())
