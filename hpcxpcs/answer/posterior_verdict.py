"""How far to trust a posterior, in words: each judgement with its threshold and its reason."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hpcxpcs.answer.fit import PointFit
from hpcxpcs.answer.fit_verdict import (
    compression_words,
    largest_inflation,
    quality_flag,
    verdict,
    weighs_speckles,
)
from hpcxpcs.answer.posterior import Certificate, Finding, Judgement, Mixing, Posterior
from hpcxpcs.answer.thresholds import (
    INFORMED,
    NOTABLE_INFLATION,
    NOTABLE_Z,
    R_HAT_GRADES,
    SERIOUS_INFLATION,
    SERIOUS_Z,
)

POSTERIOR_QUALITY_RULE = (
    "good: the verdict is certified, corrected or exact, every diagnostic is within its threshold and R-hat is "
    f"below {R_HAT_GRADES[1][0]:g} where there are chains; acceptable: the same verdicts and R-hat, but a "
    "diagnostic beyond its threshold; poor: rejected, or R-hat of chains above that or not a number"
)

_VERDICTS = {
    "certified": "Certified: the combined draws were checked against all data at once and hold.",
    "corrected": "Corrected: the combined draws were off, and reweighting them with all data at once put them right.",
    "exact": "Exact: the chains sampled the likelihood of all data; nothing was combined.",
    "rejected": "Rejected: the draws failed their check. The numbers below are not a result.",
}

_INDEPENDENT = "Certified: independent draws were weighed with all data at once, and the weights are reliable."

_FINDINGS = {
    "r_hat": "R-hat",
    "ess_bulk": "number of effective draws",
    "ess_tail": "number of effective draws in the tails",
    "divergence_rate": "share of divergent draws",
    "divergences": "number of divergent draws",
    "bfmi": "energy mixing (BFMI)",
}


_DISAGREEMENT = {
    "good": "the chains agree well, but less than was asked for: more draws",
    "acceptable": "the chains nearly agree: half as many draws again usually suffice",
    "poor": "the chains do not agree yet: double warm-up and draws",
    "failed": "the chains disagree or got stuck, and no number can be trusted: look at the trace plot for separate "
    "solutions, fix a parameter that the data do not determine, or use a simpler model",
}

_ENERGY = (
    "the sampler moves too slowly between energies to reach the tails: more warm-up, or a prior that excludes "
    "far-away tails of parameters that the data do not determine"
)

_DIVERGENT = (
    "the sampler could not follow the posterior everywhere and may miss a part of it: raise the target acceptance, "
    "fix a parameter that the data do not determine, or narrow its prior"
)

_FEW_DIVERGENCES = "few enough to tolerate; a higher target acceptance removes them"


def trusted(posterior: Posterior) -> bool:
    """Whether the draws represent the posterior of all data."""
    return posterior.verdict in ("certified", "corrected", "exact")


def posterior_quality(posterior: Posterior) -> str:
    """`good`, `acceptable` or `poor`, by POSTERIOR_QUALITY_RULE."""
    if not trusted(posterior) or not _chains_agree(posterior):
        return "poor"
    return "good" if posterior.judgement.passed else "acceptable"


def quality_of(fit: PointFit, posterior: Posterior | None) -> str:
    """The quality of an answer: of its posterior, or of the point fit where none was sampled."""
    return quality_flag(fit) if posterior is None else posterior_quality(posterior)


def first_sentence(fit: PointFit, posterior: Posterior | None, exit_code: int) -> str:
    """The verdict on an answer: on its posterior, or on the point fit where none was sampled."""
    return verdict(fit, exit_code) if posterior is None else verdict_sentence(posterior)


def _chains_agree(posterior: Posterior) -> bool:
    if is_independent(posterior):
        return True
    return r_hat_grade(float(np.max(posterior.summary.r_hat))) in ("good", "acceptable")


def is_independent(posterior: Posterior) -> bool:
    """Whether draws are independent of each other: there are no chains that could agree, and R-hat is not defined."""
    return posterior.route == "importance"


def verdict_sentence(posterior: Posterior) -> str:
    """The first sentence that a reader should see."""
    words = _VERDICTS.get(posterior.verdict, f"The verdict is {posterior.verdict}.")
    if is_independent(posterior) and posterior.verdict == "certified":
        words = _INDEPENDENT
    if weighs_shards(posterior):
        words = f"{words} Shards that contradict the others count less."
    count = len(posterior.judgement.failed)
    if not trusted(posterior) or (count == 0 and _chains_agree(posterior)):
        return words
    failed = {0: "the chains do not agree", 1: "a diagnostic failed"}.get(count, f"{count} diagnostics failed")
    return f"{words} But {failed}: read how far to trust it before quoting numbers."


def finding_words(finding: Finding) -> str:
    """A failed diagnostic with its value, its threshold and what to do."""
    name = _FINDINGS.get(finding.name, finding.name)
    subject = f"{name} of {finding.parameter}" if finding.parameter else name
    return f"{subject} is {finding.value:.4g}, the threshold {finding.threshold:.4g}: {finding.recommendation}"


def posterior_warnings(posterior: Posterior, fit: PointFit) -> list[str]:
    """Everything that should keep a reader from quoting the numbers as they are, each thing once."""
    too_narrow = largest_inflation(fit) >= SERIOUS_INFLATION and not is_widened(posterior)
    shared = [shared_noise_words(posterior, fit)] if too_narrow else []
    return list(dict.fromkeys((*posterior.warnings, *map(finding_words, posterior.judgement.failed), *shared)))


def trust_rows(posterior: Posterior, fit: PointFit) -> Iterator[tuple[str, str]]:
    """What was checked and what came out, a row of words each, most important first; `fit` is the point fit."""
    yield "verdict", f"{posterior.verdict}: {posterior.words}"
    if posterior.certificate is not None:
        yield "check against all data", certificate_words(posterior.certificate)
    if posterior.shards:
        yield "shards", shards_words(posterior)
    if posterior.heterogeneity is not None:
        yield "agreement of the shards", posterior.heterogeneity.words
    yield "convergence", convergence_words(posterior)
    yield "sampler", sampler_words(posterior)
    if posterior.judgement.remarks:
        yield "remarks", "; ".join(map(finding_words, posterior.judgement.remarks))
    yield "solutions", posterior.modes.words
    if posterior.evidence is not None:
        yield "evidence", posterior.evidence.words
    yield "prior or data", contraction_words(posterior)
    if fit.robust_uncertainty is not None:
        yield "shared noise", shared_noise_words(posterior, fit)
    yield "point fit", agreement_words(posterior)
    yield "summary of the data", compression_words(posterior.compression)


def certificate_words(certificate: Certificate) -> str:
    """What importance weighting with all data said about the combined draws."""
    lost = certificate.nonfinite
    outside = f"; {lost:,} draws lie outside of what the model or the prior allow" if lost else ""
    return f"{certificate.reason}{outside}"


def is_widened(posterior: Posterior) -> bool:
    """Whether draws were moved to the scatter of the point fit's robust error bars."""
    return bool(np.any(posterior.widening != 1.0))


def shared_noise_words(posterior: Posterior, fit: PointFit) -> str:
    """Whether points share noise, and what the posterior's intervals know of it."""
    largest, widest = largest_inflation(fit), float(np.max(posterior.widening))
    spread = f"draws are up to {widest:.2f} times wider than it has them, as the robust error bars of the point fit are"
    if weighs_speckles(fit):
        words = "points share the noise of their speckles, which the likelihood allows for"
        rest = f"; by the robust error bars of the point fit its intervals are up to {largest:.2f} times too narrow"
        return words + (f"; {spread}" if is_widened(posterior) else rest if largest >= NOTABLE_INFLATION else "")
    if is_widened(posterior):
        return f"points share noise, which the likelihood takes for independent: {spread}"
    if largest < NOTABLE_INFLATION:
        return "points share hardly any noise: treating them as independent is fair here"
    return (
        f"points share noise, which the posterior takes for independent: its intervals are too "
        f"narrow, by up to {largest:.1f} times by the robust error bars of the point fit"
    )


def r_hat_of(posterior: Posterior) -> str:
    """Which chains R-hat compares: combined draws have none of their own, and independent ones have none at all."""
    return {"consensus": "worst shard", "importance": "no chains: draws are independent"}.get(posterior.route, "chains")


def ess_of(posterior: Posterior) -> str:
    """What the effective sample sizes count."""
    return "chains" if posterior.route == "exact" else "importance weights"


def shards_words(posterior: Posterior) -> str:
    """How many shards were combined, and which were not and why."""
    rejected = [shard for shard in posterior.shards if not shard.accepted]
    count = len(posterior.shards)
    apart = "".join(
        f"; shard {shard.index} contradicts the others and counts with weight {shard.weight:.2g}"
        for shard in posterior.shards
        if shard.distance is not None
    )
    if not rejected:
        return (f"all {count} were accepted" if count > 1 else "the one shard was accepted") + apart
    reasons = "; ".join(f"shard {shard.index}: {', '.join(shard.reasons)}" for shard in rejected)
    return f"{count - len(rejected)} of {count} were accepted; left out: {reasons}{apart}"


def convergence_words(posterior: Posterior) -> str:
    """Agreement of the chains and the number of independent draws behind every number."""
    summary = posterior.summary
    if is_independent(posterior):
        return (
            "there are no chains: draws are independent, and R-hat is not defined. Every number rests on "
            f"{summary.fewest_effective:,.0f} effective draws"
        )
    worst = int(np.argmax(np.nan_to_num(summary.r_hat, nan=np.inf)))
    fewest = int(np.argmin(np.nan_to_num(summary.ess_bulk, nan=-np.inf)))
    chains = "the chains of the worst shard" if posterior.route == "consensus" else "the chains"
    return (
        f"R-hat compares {chains} with each other (1 is perfect): at most {summary.r_hat[worst]:.4g} "
        f"({posterior.names[worst]}). Every number rests on at least {summary.ess_bulk[fewest]:,.0f} effective draws "
        f"({posterior.names[fewest]})"
    )


def sampler_words(posterior: Posterior) -> str:
    """Divergences, energy and steps of the real chains; what was done where there are none."""
    statistics = posterior.statistics
    if statistics is None:
        rounds = 0 if posterior.certificate is None else len(posterior.certificate.rounds)
        weighed = "one weighing" if rounds == 1 else f"the best of {rounds} weighings"
        return f"no chains: {posterior.chains * posterior.samples:,} draws by weight, from {weighed}"
    divergent = statistics.divergences
    divergences = "no divergence" if divergent == 0 else f"{divergent:,} divergent"
    return (
        f"{statistics.label}: {divergences} in {statistics.diverging.size:,} draws, mean acceptance "
        f"{float(np.mean(statistics.acceptance)):.2f}, {float(np.mean(statistics.num_steps)):.3g} gradients per draw, "
        f"energy mixing (BFMI) {float(np.min(statistics.bfmi)):.2f} at worst (1 is best)"
    )


def contraction_words(posterior: Posterior) -> str:
    """Which parameters the data say little about."""
    contraction = np.asarray(posterior.summary.contraction, dtype=float)
    weak = [
        f"{name} ({value:.0%})" for name, value in zip(posterior.names, contraction, strict=True) if value < INFORMED
    ]
    if weak:
        return f"the data narrowed little what the prior said about {', '.join(weak)}: quote the prior with them"
    known = contraction[np.isfinite(contraction)]
    least = f": at least {math.floor(1e3 * known.min()) / 10:g} %" if known.size else ""
    return f"every parameter is determined by the data, not by its prior (contraction{least})"


def agreement_words(posterior: Posterior) -> str:
    """How far the posterior means are from the point fit, in posterior standard deviations."""
    z = np.asarray(posterior.summary.z, dtype=float)
    known = np.flatnonzero(np.isfinite(z))
    if not known.size:
        return "there is no point fit to compare with"
    worst = known[np.argmax(np.abs(z[known]))]
    away = f"at most {abs(z[worst]):.2f} standard deviations from it ({posterior.names[worst]})"
    return f"the posterior means are {away}: {z_words(float(z[worst]), weighted=weighs_shards(posterior))}"


def weighs_shards(posterior: Posterior) -> bool:
    """Whether shards count less in the posterior than in the point fit."""
    return any(shard.weight < 1.0 for shard in posterior.shards)


def z_words(z: float, *, weighted: bool = False) -> str:
    """What a distance between posterior mean and point fit means; `weighted` if shards count less in the posterior."""
    if not math.isfinite(z):
        return "no comparison"
    if abs(z) >= NOTABLE_Z and weighted:
        return "apart: shards that contradict the others count in full in the point fit, and less in the posterior"
    if abs(z) >= SERIOUS_Z:
        return "far: the posterior is skewed, or the point fit sits in another solution; look at the pictures"
    return "agrees" if abs(z) < NOTABLE_Z else "differs a little: the posterior is skewed, quote its interval"


def draw_correlations(posterior: Posterior) -> tuple[list[str], np.ndarray]:
    """Names of the sampled parameters and the correlation coefficients of their draws (n,n)."""
    flat = np.asarray(posterior.draws, dtype=float).reshape(-1, len(posterior.names))
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = np.atleast_2d(np.corrcoef(flat, rowvar=False))
    return list(posterior.names), matrix


@dataclass(frozen=True)
class Thresholds:
    """Limits of a judgement; the configuration documents each."""

    max_r_hat: float = 1.01
    min_ess: float = 400.0
    min_bfmi: float = 0.2
    max_divergence_rate: float = 0.01


def r_hat_grade(r_hat: float) -> str:
    """`good`, `acceptable`, `poor`, or `failed`, which NaN is too."""
    return next((word for limit, word in R_HAT_GRADES if r_hat < limit), "failed")


def judge(
    names: Sequence[str],
    found: Mixing,
    *,
    divergences: int,
    draws: int,
    bfmi: float,
    thresholds: Thresholds | None = None,
) -> Judgement:
    """Compare diagnostics of parameters `names` (d,) and of the run with their thresholds; NaN fails.

    `divergences` are counted among `draws` transitions of all chains; `bfmi` is the lowest of them.
    """
    limits = thresholds or Thresholds()
    failed = [*_agreement(names, found, limits), *_enough(names, found, limits)]
    rate = divergences / draws if draws > 0 else float("nan")
    if not rate <= limits.max_divergence_rate:
        failed.append(Finding("divergence_rate", rate, limits.max_divergence_rate, None, _DIVERGENT))
    if not bfmi >= limits.min_bfmi:
        failed.append(Finding("bfmi", bfmi, limits.min_bfmi, None, _ENERGY))
    few = divergences > 0 and rate <= limits.max_divergence_rate
    remarks = (Finding("divergences", float(divergences), 0.0, None, _FEW_DIVERGENCES),) if few else ()
    return Judgement(not failed, tuple(failed), remarks)


def judge_independent(names: Sequence[str], found: Mixing, thresholds: Thresholds) -> Judgement:
    """Compare the effective draws of independent, weighted draws with their threshold."""
    failed = tuple(_enough(names, found, thresholds))
    return Judgement(not failed, failed)


def _agreement(names: Sequence[str], found: Mixing, limits: Thresholds) -> Iterator[Finding]:
    for name, value in zip(names, found.r_hat, strict=True):
        if not value < limits.max_r_hat:
            yield Finding("r_hat", float(value), limits.max_r_hat, name, _DISAGREEMENT[r_hat_grade(value)])


def _enough(names: Sequence[str], found: Mixing, limits: Thresholds) -> Iterator[Finding]:
    for label, values in (("ess_bulk", found.ess_bulk), ("ess_tail", found.ess_tail)):
        for name, value in zip(names, values, strict=True):
            if not value >= limits.min_ess:
                yield Finding(label, float(value), limits.min_ess, name, _more_draws(value, limits.min_ess))


def _more_draws(value: float, wanted: float) -> str:
    if not value > 0.0:
        return "the draws are not finite or never moved: check the bounds and the data"
    part = "intervals" if value < wanted / 2.0 else "the ends of intervals"
    return f"{part} are noisy: about {np.ceil(10.0 * wanted / value) / 10.0:g} times as many draws are needed"
