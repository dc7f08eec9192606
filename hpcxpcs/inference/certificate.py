"""The certificate: every approximate posterior is weighed against the full-data posterior it stands for.

Draws from a heavy-tailed fit of the approximation get the importance weights target/proposal. If their Pareto shape is
good, the resampled draws are draws of the full-data posterior, whatever the approximation was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hpcxpcs.inference.consensus import Combined
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

ENOUGH = 0.25
"""Effective share of the draws below which a better proposal is worth another weighing."""

REFITS = 2
"""How often the proposal is fitted again to the weighted draws before the verdict stands."""

REFIT_WORTH = 2.0
"""Effective draws per coordinate below which weighted draws say too little for a new proposal."""

DEFENCE = 0.2
"""Share of the old proposal in a new one, so that it never gets narrower than what was tried before."""

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
    weighed = best = _weigh(proposal, log_posterior, rng, draws)
    rounds = [_round(weighed)]
    while len(rounds) <= REFITS and best.worth(bound) < (True, ENOUGH * draws) and _tells(weighed):
        proposal = _refitted(proposal, weighed)
        weighed = _weigh(proposal, log_posterior, rng, draws)
        rounds.append(_round(weighed))
        best = max(best, weighed, key=lambda one: one.worth(bound))
    return _concluded(combined, best, rounds, bound, rng)


def _weigh(proposal: Proposal, log_posterior: LogPosterior, rng: np.random.Generator, count: int) -> _Weighed:
    """Draw from the proposal and weigh; where the log-posterior is not finite the weight is 0."""
    x = proposal.sample(rng, count)
    logs = np.array(log_posterior(x), dtype=np.float64)
    bad = ~np.isfinite(logs)
    logs[bad] = -np.inf
    if bad.all():
        return _Weighed(x, logs, np.full(count, 1.0 / count), None, count)
    smoothed = smooth(logs - proposal.log_density(x))
    return _Weighed(x, logs, np.exp(smoothed.log_weights), smoothed, int(bad.sum()))


def _round(weighed: _Weighed) -> Round:
    return Round(weighed.k_hat, weighed.ess, weighed.nonfinite)


def _tells(weighed: _Weighed) -> bool:
    """Whether the weights show where a better proposal should be."""
    return weighed.ess >= REFIT_WORTH * weighed.draws.shape[1]


def _refitted(proposal: Proposal, weighed: _Weighed) -> Proposal:
    """A proposal at the weighted mean and covariance, regularised by all draws, with some of the old one kept."""
    mean, covariance = _moments(weighed)
    dim = mean.size
    deviation = weighed.draws - mean
    broad = deviation.T @ deviation / len(deviation)
    trust = weighed.ess / (weighed.ess + dim + 1.0)
    return proposal_at(mean, trust * covariance + (1.0 - trust) * broad).blended(proposal, DEFENCE)


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
