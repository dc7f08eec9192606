"""Do the chains agree, and are there enough draws: diagnostics of real NUTS chains, judged and put into words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hpcxpcs.likelihood.interpolation import Floats

R_HAT_GRADES = ((1.01, "good"), (1.05, "acceptable"), (1.1, "poor"))
"""R-hat below which chains agree so well; above the last one they fail."""

TAIL = 0.05
"""Probability of each tail in which effective draws are counted."""


@dataclass(frozen=True)
class Thresholds:
    """Limits of a judgement; the configuration documents each."""

    max_r_hat: float = 1.01
    min_ess: float = 400.0
    min_bfmi: float = 0.2
    max_divergence_rate: float = 0.01


@dataclass(frozen=True)
class Mixing:
    """How chains mixed, per parameter (d,): rank-normalised split R-hat, effective draws, Monte Carlo errors.

    The errors are of the mean and of the standard deviation, in the units of the parameter.
    """

    r_hat: Floats
    ess_bulk: Floats
    ess_tail: Floats
    mcse_mean: Floats
    mcse_sd: Floats


@dataclass(frozen=True)
class Finding:
    """One diagnostic beyond its threshold: for one parameter, or for the run (None), and what to do about it."""

    name: str
    value: float
    threshold: float
    parameter: str | None
    recommendation: str


@dataclass(frozen=True)
class Judgement:
    """Whether all diagnostics pass; `failed` ones count, `remarks` are worth knowing and do not."""

    passed: bool
    failed: tuple[Finding, ...]
    remarks: tuple[Finding, ...] = ()


def mixing(draws: Floats) -> Mixing:
    """Diagnostics of draws (C,S,d); NaN where a parameter has a draw that is not finite, or never moved."""
    from arviz_stats.base.array import array_stats

    chains = np.moveaxis(np.asarray(draws, dtype=np.float64), -1, 0)
    found = np.full((5, len(chains)), np.nan)
    for k, chain in enumerate(chains):
        if np.all(np.isfinite(chain)) and np.ptp(chain) > 0.0 and chain.shape[1] >= 4:
            found[:, k] = (
                _r_hat(chain),
                array_stats.ess(chain, method="bulk"),
                array_stats.ess(chain, method="tail", prob=(TAIL, 1.0 - TAIL)),
                array_stats.mcse(chain, method="mean"),
                array_stats.mcse(chain, method="sd"),
            )
    return Mixing(*found)


def _r_hat(chain: Floats) -> float:
    """R-hat of one parameter's chains (C,S); a single chain is compared half against half, chains that stick are ∞."""
    from arviz_stats.base.array import array_stats

    half = chain.shape[1] // 2
    halves = np.concatenate([chain[:, :half], chain[:, -half:]])
    if not np.all(np.ptp(halves, axis=1) > 0.0):
        return np.inf
    # arviz refuses a single chain, and splits again what it gets: whole chains where there are two or more.
    return float(array_stats.rhat(chain if len(chain) > 1 else halves, method="rank"))


def narrowest_interval(draws: Floats, probability: float = 0.95) -> Floats:
    """Highest-density interval (d,2) of draws (C,S,d) or (S,d): the narrowest that holds `probability` of them."""
    from arviz_stats.base.array import array_stats

    flat = np.asarray(draws, dtype=np.float64).reshape(-1, np.shape(draws)[-1])
    return np.asarray(array_stats.hdi(flat, prob=probability, axis=0))


def chain_bfmi(energy: Floats) -> Floats:
    """Energy Bayesian fraction of missing information (C,) of energies (C,S) in nats; NaN for an energy that is flat.

    Mean squared step over variance: below 0.2 the sampler's kicks are too small for the posterior's energy range.
    """
    energy = np.asarray(energy, dtype=np.float64)
    centred = energy - energy.mean(axis=1, keepdims=True)
    spread = np.sum(centred**2, axis=1)
    steps = np.sum(np.diff(energy, axis=1) ** 2, axis=1)
    return np.divide(steps, spread, out=np.full(len(energy), np.nan), where=spread > 0.0)


def lowest_bfmi(energy: Floats) -> float:
    """The smallest chain_bfmi over chains; NaN if any is NaN."""
    return float(np.min(chain_bfmi(energy)))


def contraction(prior_std: Floats, std: Floats) -> Floats:
    """1 − posterior/prior standard deviation (n,): 1 where the data say everything, 0 where they say nothing."""
    return np.asarray(1.0 - np.asarray(std) / np.asarray(prior_std))


def z_against(point: Floats, mean: Floats, std: Floats) -> Floats:
    """Distance (mean − point) of posterior means (n,) from a point fit, in posterior standard deviations."""
    return np.asarray((np.asarray(mean) - np.asarray(point)) / np.asarray(std))


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
        failed.append(_divergent(rate, limits.max_divergence_rate))
    if not bfmi >= limits.min_bfmi:
        failed.append(Finding("bfmi", bfmi, limits.min_bfmi, None, _ENERGY))
    few = divergences > 0 and rate <= limits.max_divergence_rate
    remarks = (Finding("divergences", float(divergences), 0.0, None, _FEW_DIVERGENCES),) if few else ()
    return Judgement(not failed, tuple(failed), remarks)


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


def _divergent(rate: float, limit: float) -> Finding:
    advice = (
        "the sampler could not follow the posterior everywhere and may miss a part of it: raise the target acceptance, "
        "fix a parameter that the data do not determine, or narrow its prior"
    )
    return Finding("divergence_rate", rate, limit, None, advice)


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

_FEW_DIVERGENCES = "few enough to tolerate; a higher target acceptance removes them"
