"""The certificate: every approximate posterior is weighed against the full-data posterior it stands for.

Draws from a heavy-tailed fit of the approximation get the importance weights target/proposal. If their Pareto shape is
good, the resampled draws are draws of the full-data posterior, whatever the approximation was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from hpcxpcs.inference.consensus import Combined
from hpcxpcs.inference.mixture import fit_mixture
from hpcxpcs.inference.modes import find_modes
from hpcxpcs.inference.proposal import Proposal, proposal_at, proposal_from
from hpcxpcs.inference.psis import Smoothed, k_hat_limit, smooth
from hpcxpcs.likelihood.interpolation import Floats

FEWEST_EFFECTIVE = 400.0
"""Effective draws below which intervals are too noisy to quote."""

LARGEST_SHIFT = 0.1
"""Shift of a mean, in posterior standard deviations, up to which the consensus itself counts as right."""

LARGEST_STRETCH = 0.05
"""Relative error of a standard deviation up to which the consensus itself counts as right."""

ENOUGH = 0.5
"""Effective share of the draws below which a better proposal is worth another weighing."""

COMFORTABLE = 0.5
"""Pareto shape below which weights have a finite variance: above, a better proposal is worth another weighing."""

REFITS = 4
"""How often the proposal is fitted again to the weighted draws before the verdict stands."""

REFIT_WORTH = 2.0
"""Effective draws per coordinate below which weighted draws say too little for a new proposal."""

DEFENCE, DEFENCE_STRETCH = 0.1, 4.0
"""Share of one wide component in a fitted proposal, and its variances in units of the weighted draws'."""

LogPosterior = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Round:
    """One weighing: Pareto shape, effective draws, and draws at which the log-posterior was not finite."""

    k_hat: float
    ess: float
    nonfinite: int


@dataclass(frozen=True)
class Certificate:
    """Verdict on a consensus of d coordinates, and `draws` (S,d) resampled from the full-data posterior.

    `word` is "certified" (the consensus was right), "corrected" (it was off, the draws are right), "thin" (right, but
    fewer than 400 effective draws) or "rejected" (k_hat above its limit: the draws are no posterior). `mean_shift` (d,)
    is corrected mean − consensus mean in corrected standard deviations, `sd_ratio` (d,) corrected over consensus
    standard deviation; `parameter_ess` (d,) is that of each coordinate's mean. `log_posterior` (S,) in nats; `distinct`
    counts different draws; `rounds` hold every weighing: the verdict is about the best of them.
    """

    word: str
    reason: str
    k_hat: float
    limit: float
    ess: float
    parameter_ess: Floats
    mean_shift: Floats
    sd_ratio: Floats
    draws: Floats
    log_posterior: Floats
    distinct: int
    nonfinite: int
    evaluations: int
    rounds: tuple[Round, ...]

    @property
    def valid(self) -> bool:
        """Whether the draws may be used as the full-data posterior."""
        return self.word in ("certified", "corrected")


class _Weighed(NamedTuple):
    proposal: Proposal
    draws: Floats
    log_posterior: Floats
    weights: Floats
    smoothed: Smoothed | None
    nonfinite: int

    @property
    def k_hat(self) -> float:
        return np.inf if self.smoothed is None else self.smoothed.k_hat

    @property
    def ess(self) -> float:
        return 0.0 if self.smoothed is None else self.smoothed.ess

    def worth(self, limit: float) -> tuple[bool, float]:
        """What weighings are ranked by: reliable ones first, then by effective draws."""
        return self.k_hat < limit, self.ess


def certify(
    combined: Combined,
    log_posterior: LogPosterior,
    *,
    draws: int = 4000,
    limit: float | None = None,
    seed: int,
) -> Certificate:
    """Weigh a consensus against log_posterior, which maps (S,d) to (S,) nats up to a constant.

    `limit` on k_hat defaults to min(1 − 1/log10 S, 0.7); the same seed gives the same draws.
    """
    bound = k_hat_limit(draws) if limit is None else limit
    rng = np.random.default_rng(seed)
    proposal = proposal_from(find_modes(combined.draws, seed=seed))
    tried = [_weigh(proposal, log_posterior, rng, draws)]
    best = tried[0]
    while len(tried) <= REFITS and not _settled(best, bound, draws):
        better = _refitted(tried, seed)
        if better is None:
            break
        tried.append(_weigh(better, log_posterior, rng, draws))
        best = max(best, tried[-1], key=lambda one: one.worth(bound))
    rounds = [_round(weighed) for weighed in tried]
    return _concluded(combined, best, rounds, bound, rng)


def _weigh(proposal: Proposal, log_posterior: LogPosterior, rng: np.random.Generator, count: int) -> _Weighed:
    """Draw from the proposal and weigh; where the log-posterior is not finite the weight is 0."""
    x = proposal.sample(rng, count)
    logs = np.array(log_posterior(x), dtype=np.float64)
    bad = ~np.isfinite(logs)
    logs[bad] = -np.inf
    if bad.all():
        return _Weighed(proposal, x, logs, np.full(count, 1.0 / count), None, count)
    smoothed = smooth(logs - proposal.log_density(x))
    return _Weighed(proposal, x, logs, np.exp(smoothed.log_weights), smoothed, int(bad.sum()))


def _round(weighed: _Weighed) -> Round:
    return Round(weighed.k_hat, weighed.ess, weighed.nonfinite)


def _settled(best: _Weighed, limit: float, draws: int) -> bool:
    """Whether another weighing could hardly do better."""
    return best.k_hat < min(limit, COMFORTABLE) and best.ess >= ENOUGH * draws


def _pooled(tried: Sequence[_Weighed]) -> tuple[Floats, Smoothed]:
    """All draws (n,d) so far, weighed as draws of the mixture of all proposals so far."""
    draws = np.concatenate([one.draws for one in tried])
    logs = np.concatenate([one.log_posterior for one in tried])
    mixed = logsumexp([one.proposal.log_density(draws) for one in tried], axis=0)
    return draws, smooth(logs - mixed)


def _refitted(tried: Sequence[_Weighed], seed: int) -> Proposal | None:
    """A proposal fitted to all weighted draws so far, with a wide component beside it; None where they say too little.

    It is fitted before the draws that will be weighed next are made, so that these are independent of it.
    """
    if tried[-1].smoothed is None:
        return None
    draws, smoothed = _pooled(tried)
    dim = draws.shape[1]
    if not smoothed.ess >= REFIT_WORTH * dim:
        return None
    weights, trust = np.exp(smoothed.log_weights), smoothed.ess / (smoothed.ess + dim + 1.0)
    mean = weights @ draws
    deviation = draws - mean
    narrow, broad = (weights * deviation.T) @ deviation, deviation.T @ deviation / len(draws)
    covariance = trust * narrow + (1.0 - trust) * broad
    wide = proposal_at(mean, DEFENCE_STRETCH * covariance)
    return fit_mixture(draws, weights, mean, covariance, ess=smoothed.ess, seed=seed).blended(wide, DEFENCE)


def _moments(weighed: _Weighed) -> tuple[Floats, Floats]:
    mean = weighed.weights @ weighed.draws
    deviation = weighed.draws - mean
    return mean, (weighed.weights * deviation.T) @ deviation


def _concluded(
    combined: Combined, weighed: _Weighed, rounds: list[Round], limit: float, rng: np.random.Generator
) -> Certificate:
    mean, covariance = _moments(weighed)
    spread = np.sqrt(np.diag(covariance))
    shift = (mean - combined.mean) / spread
    ratio = spread / np.sqrt(np.diag(combined.covariance))
    word = _word(weighed, shift, ratio, limit)
    chosen = systematic(weighed.weights, len(weighed.weights), rng)
    return Certificate(
        word=word,
        reason=_reason(word, weighed, shift, ratio, limit, len(rounds)),
        k_hat=weighed.k_hat,
        limit=limit,
        ess=weighed.ess,
        parameter_ess=_parameter_ess(weighed, mean, covariance),
        mean_shift=shift,
        sd_ratio=ratio,
        draws=weighed.draws[chosen],
        log_posterior=weighed.log_posterior[chosen],
        distinct=int(np.unique(chosen).size),
        nonfinite=weighed.nonfinite,
        evaluations=len(rounds) * len(weighed.weights),
        rounds=tuple(rounds),
    )


def systematic(weights: Floats, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices (count,) drawn by normalised weights with one uniform number (each within one of its share), shuffled."""
    edges = np.cumsum(weights)
    places = (np.arange(count) + rng.uniform()) / count * edges[-1]
    chosen = np.searchsorted(edges, places, side="right")
    rng.shuffle(chosen)
    return np.minimum(chosen, np.flatnonzero(weights)[-1])


def _parameter_ess(weighed: _Weighed, mean: Floats, covariance: Floats) -> Floats:
    """Effective draws (d,) behind each weighted mean: posterior variance over the variance of the estimate."""
    noise = (weighed.weights**2) @ (weighed.draws - mean) ** 2
    return np.asarray(np.diag(covariance) / noise) if weighed.smoothed is not None else np.zeros(mean.size)


def _word(weighed: _Weighed, shift: Floats, ratio: Floats, limit: float) -> str:
    if not weighed.k_hat < limit:
        return "rejected"
    if not weighed.ess >= FEWEST_EFFECTIVE:
        return "thin"
    right = np.all(np.abs(shift) < LARGEST_SHIFT) and np.all(np.abs(ratio - 1.0) <= LARGEST_STRETCH)
    return "certified" if right else "corrected"


def _reason(word: str, weighed: _Weighed, shift: Floats, ratio: Floats, limit: float, rounds: int) -> str:
    if weighed.smoothed is None:
        return "the full-data posterior is not finite at any draw of the proposal"
    after = "" if rounds == 1 else f" after the proposal was fitted again to weighted draws ({rounds} rounds)"
    shape = f"Pareto k = {weighed.k_hat:.2f} (limit {limit:.2f}), {weighed.ess:.0f} effective draws{after}"
    off = (
        f"largest shift of a mean {np.max(np.abs(shift)):.2f} standard deviations, "
        f"standard deviations off by up to {np.max(np.abs(ratio - 1.0)):.0%}"
    )
    return {
        "certified": f"the consensus agrees with the full-data posterior: {off}; {shape}",
        "corrected": f"the consensus was off and has been corrected with the full-data posterior: {off}; {shape}",
        "thin": f"the weights are reliable but too few draws carry them: {shape}; {FEWEST_EFFECTIVE:.0f} are needed",
        "rejected": f"the consensus is too far from the full-data posterior to be corrected: {shape}",
    }[word]
