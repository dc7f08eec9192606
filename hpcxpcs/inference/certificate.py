"""The certificate: every approximate posterior is weighed against the full-data posterior it stands for.

Draws from a heavy-tailed fit of the approximation get the importance weights target/proposal. If their Pareto shape is
good, the resampled draws are draws of the full-data posterior, whatever the approximation was.

Proposals are one or two normals with the tails of Student's t, then mixtures of such fitted to the weighted draws,
which follow skewed and bent posteriors. A proposal around the known peaks needs no approximation before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import gammaln, logsumexp

from hpcxpcs.answer.joint import Heterogeneity
from hpcxpcs.answer.posterior import Certificate, Modes, Round
from hpcxpcs.answer.thresholds import FEWEST_EFFECTIVE, LARGEST_SHIFT, LARGEST_STRETCH
from hpcxpcs.arrays import Floats
from hpcxpcs.inference.consensus import Combined, Part, anchored, averaged, heterogeneity
from hpcxpcs.inference.diagnostics import find_modes
from hpcxpcs.inference.draws import names_of, physical_draws
from hpcxpcs.inference.prepared import Prepared
from hpcxpcs.inference.psis import Smoothed, k_hat_limit, smooth
from hpcxpcs.inference.target import log_densities

FREEDOM = 7.0
"""Degrees of freedom ν: tails for skewed posteriors, yet 72 % efficient for a normal one in 15 dimensions."""


@dataclass(frozen=True)
class Proposal:
    """Mixture of c multivariate t distributions with ν = 7: weights (c,), means (c,d), Cholesky factors (c,d,d)."""

    weights: Floats
    means: Floats
    factors: Floats

    def sample(self, rng: np.random.Generator, count: int) -> Floats:
        """Independent draws (count,d), in random order."""
        which = rng.choice(self.weights.size, size=count, p=self.weights)
        normal = rng.standard_normal((count, self.means.shape[1]))
        stretch = np.sqrt(FREEDOM / rng.chisquare(FREEDOM, count))
        return np.asarray(self.means[which] + np.einsum("sij,sj->si", self.factors[which], normal * stretch[:, None]))

    def log_density(self, x: Floats) -> Floats:
        """Normalised log-density (n,) at x (n,d)."""
        return np.asarray(logsumexp(self.log_parts(x), axis=0))

    def log_parts(self, x: Floats) -> list[Floats]:
        """What each component adds to the density, its logarithm (n,) at x (n,d)."""
        return [
            np.log(weight) + log_student(x, mean, factor)
            for weight, mean, factor in zip(self.weights, self.means, self.factors, strict=True)
        ]

    def moments(self) -> tuple[Floats, Floats]:
        """Mean (d,) and covariance (d,d) of the mixture of normals with these means and scale matrices."""
        mean = self.weights @ self.means
        apart = self.means - mean
        within = np.einsum("c,cij,ckj->ik", self.weights, self.factors, self.factors)
        return mean, within + (self.weights * apart.T) @ apart

    def blended(self, other: Proposal, share: float) -> Proposal:
        """The mixture of this proposal and `share` of another."""
        return Proposal(
            np.concatenate([(1.0 - share) * self.weights, share * other.weights]),
            np.concatenate([self.means, other.means]),
            np.concatenate([self.factors, other.factors]),
        )


def proposal_from(modes: Modes) -> Proposal:
    """The proposal whose scale matrices are the covariances of the mixture that was found."""
    return Proposal(modes.weights, modes.means, np.linalg.cholesky(modes.covariances))


def proposal_at(mean: Floats, covariance: Floats) -> Proposal:
    """The proposal of one component at mean (d,) with scale matrix covariance (d,d)."""
    return Proposal(np.ones(1), mean[None], np.linalg.cholesky(covariance)[None])


def log_student(x: Floats, mean: Floats, factor: Floats) -> Floats:
    """Normalised log-density (n,) of Student's t with ν = 7 and scale factor · factorᵀ (d,d) at x (n,d)."""
    dim = mean.size
    squared = np.sum(solve_triangular(factor, (x - mean).T, lower=True) ** 2, axis=0)
    constant = gammaln(0.5 * (FREEDOM + dim)) - gammaln(0.5 * FREEDOM) - 0.5 * dim * np.log(FREEDOM * np.pi)
    height = constant - np.log(np.diag(factor)).sum()
    return np.asarray(height - 0.5 * (FREEDOM + dim) * np.log1p(squared / FREEDOM))


COUNTS = (1, 2, 4)
"""Numbers of components tried; the best by BIC counts."""

MOST_DRAWS = 4000
"""Draws used, evenly spaced among those that count."""

STEPS = 40
"""Most EM steps."""

SETTLED = 1.0e-4
"""Gain in mean log-density (nats per draw) below which EM has converged."""

NEGLIGIBLE = 1.0e-4
"""Draws lighter than this share of the mean weight are left out."""

PRIOR_SPREAD = 0.5
"""A component's covariance is drawn towards this share of the whole covariance, with the weight of d + 2 draws."""

FEWEST_SHARE = 1.0e-9
"""Smallest weight of a component."""


def fit_mixture(draws: Floats, weights: Floats, mean: Floats, covariance: Floats, *, ess: float, seed: int) -> Proposal:
    """The t mixture with ν = 7 that describes draws (S,d) with normalised weights (S,), worth `ess`, best.

    `mean` (d,) and `covariance` (d,d) are those of the whole: components with few draws keep close to its shape.
    """
    factor = np.linalg.cholesky(covariance)
    used = np.flatnonzero(weights > NEGLIGIBLE / weights.size)
    used = used[:: -(-used.size // MOST_DRAWS)]
    weights = weights[used] / weights[used].sum()
    white = solve_triangular(factor, (draws[used] - mean).T, lower=True).T
    rng = np.random.default_rng(seed)
    best, found = -np.inf, None
    for count in COUNTS:
        fitted, height = _climb(white, weights, _first_shares(white, weights, count, rng), ess)
        score = height - 0.5 * _numbers(count, mean.size) * np.log(ess) / ess
        if score > best:
            best, found = score, fitted
    assert found is not None
    return Proposal(found.weights, mean + found.means @ factor.T, factor @ found.factors)


def _numbers(count: int, dim: int) -> int:
    """Free numbers of a mixture."""
    return count * (1 + dim + dim * (dim + 1) // 2) - 1


def _first_shares(white: Floats, weights: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Shares (S,count) of draws around seeds that lie far from each other (k-means++)."""
    seeds = white[rng.choice(len(white), size=1, p=weights)]
    while len(seeds) < count:
        nearest = _squares(white, seeds).min(axis=1) * weights
        seeds = np.concatenate([seeds, white[rng.choice(len(white), size=1, p=nearest / nearest.sum())]])
    return 0.9 * np.eye(count)[_squares(white, seeds).argmin(axis=1)] + 0.1 / count


def _squares(white: Floats, seeds: Floats) -> Floats:
    return np.asarray(np.sum((white[:, None] - seeds) ** 2, axis=2))


def _climb(white: Floats, weights: Floats, shares: Floats, ess: float) -> tuple[Proposal, float]:
    """EM for a t mixture from each draw's shares (S,c); returns it and its weighted mean log-density."""
    stretch = np.ones_like(shares)
    last = -np.inf
    for _ in range(STEPS):
        mixture = _maximised(white, weights[:, None] * shares, stretch, ess)
        parts = list(zip(mixture.weights, mixture.means, mixture.factors, strict=True))
        logs = np.stack([np.log(w) + log_student(white, m, f) for w, m, f in parts], axis=1)
        total = logsumexp(logs, axis=1)
        height = float(weights @ total)
        if height - last < SETTLED:
            break
        last = height
        shares = np.exp(logs - total[:, None])
        far = [np.sum(solve_triangular(f, (white - m).T, lower=True) ** 2, axis=0) for _, m, f in parts]
        stretch = (FREEDOM + white.shape[1]) / (FREEDOM + np.stack(far, axis=1))
    return mixture, height


def _maximised(white: Floats, parts: Floats, stretch: Floats, ess: float) -> Proposal:
    """The likeliest components for weighted shares (S,c) and precision factors `stretch` (S,c) of the draws."""
    dim = white.shape[1]
    totals, pulled = parts.sum(axis=0), parts * stretch
    means = (pulled.T @ white) / pulled.sum(axis=0)[:, None]
    prior = (dim + 2.0) / ess
    factors = []
    for k, mean in enumerate(means):
        deviation = white - mean
        scatter = (pulled[:, k] * deviation.T) @ deviation + prior * PRIOR_SPREAD * np.eye(dim)
        factors.append(np.linalg.cholesky(scatter / (totals[k] + prior)))
    shares = np.maximum(totals, FEWEST_SHARE)
    return Proposal(shares / shares.sum(), means, np.array(factors))


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

SMALLEST_GROUP = 0.02
"""Share of the draws that every known peak keeps: what it holds may show late."""

LogPosterior = Callable[[Floats], Floats]


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


@dataclass(frozen=True)
class _Weighings:
    """What all weighings found: the best of them, and how each went."""

    best: _Weighed
    rounds: tuple[Round, ...]
    limit: float
    rng: np.random.Generator


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
    start = proposal_from(find_modes(combined.draws, seed=seed))
    found = _weighings(start, log_posterior, draws, limit, seed)
    shift, ratio = _compared(found.best, combined.mean, combined.covariance)
    word = _word(found, shift, ratio)
    return _concluded(found, word, _reason(word, found, shift, ratio), shift, ratio, combined.notes)


def certify_proposal(
    start: Proposal,
    log_posterior: LogPosterior,
    *,
    draws: int = 4000,
    limit: float | None = None,
    seed: int,
    separate: bool = False,
) -> Certificate:
    """Draw from a proposal, as `certify` does from a consensus: certified if the weights are reliable and enough.

    The proposal is where the search begins, and no answer that could be right or wrong: `mean_shift` and `sd_ratio` say
    how far its mean and scale matrix are from the posterior's, and do not count. Its components are `separate` peaks,
    or the shape of one.
    """
    found = _weighings(start, log_posterior, draws, limit, seed, start if separate else None)
    mean, covariance = start.moments()
    shift, ratio = _compared(found.best, mean, covariance)
    word = _word(found, np.zeros(1), np.ones(1))
    return _concluded(found, word, _reason_alone(word, found, shift, ratio, start.weights.size), shift, ratio, ())


def _weighings(
    start: Proposal,
    log_posterior: LogPosterior,
    draws: int,
    limit: float | None,
    seed: int,
    peaks: Proposal | None = None,
) -> _Weighings:
    """Weigh a proposal's draws, and those of proposals fitted to what was weighed, until that is good enough."""
    bound = k_hat_limit(draws) if limit is None else limit
    rng = np.random.default_rng(seed)
    tried = [_weigh(start, log_posterior, rng, draws)]
    best = tried[0]
    while len(tried) <= REFITS and not _settled(best, bound, draws):
        better = _refitted(tried, seed, peaks)
        if better is None:
            break
        tried.append(_weigh(better, log_posterior, rng, draws))
        best = max(best, tried[-1], key=lambda one: one.worth(bound))
    return _Weighings(best, tuple(_round(weighed) for weighed in tried), bound, rng)


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


def _refitted(tried: Sequence[_Weighed], seed: int, peaks: Proposal | None) -> Proposal | None:
    """A proposal fitted to all weighted draws so far; None where they say too little.

    It is fitted before the draws that will be weighed next are made, so that these are independent of it. Draws near
    each of several `peaks` are described on their own: what lies between says nothing of their shapes.
    """
    if tried[-1].smoothed is None:
        return None
    draws, smoothed = _pooled(tried)
    weights = np.exp(smoothed.log_weights)
    if peaks is None or peaks.weights.size == 1:
        return _fitted_to(draws, weights, seed)
    nearest = np.argmax(peaks.log_parts(draws), axis=0)
    found: Proposal | None = None
    total = 0.0
    for k in range(peaks.weights.size):
        share = float(weights[nearest == k].sum())
        own = None if share == 0.0 else _fitted_to(draws[nearest == k], weights[nearest == k] / share, seed)
        own, share = own or proposal_at(peaks.means[k], _square(peaks.factors[k])), max(share, SMALLEST_GROUP)
        total += share
        found = own if found is None else found.blended(own, share / total)
    return found


def _fitted_to(draws: Floats, weights: Floats, seed: int) -> Proposal | None:
    """A mixture that describes draws (n,d) of normalised weights (n,), with a wide component beside it."""
    dim, ess = draws.shape[1], float(1.0 / np.sum(weights**2))
    if not ess >= REFIT_WORTH * dim:
        return None
    trust = ess / (ess + dim + 1.0)
    mean = weights @ draws
    deviation = draws - mean
    narrow, broad = (weights * deviation.T) @ deviation, deviation.T @ deviation / len(draws)
    covariance = trust * narrow + (1.0 - trust) * broad
    wide = proposal_at(mean, DEFENCE_STRETCH * covariance)
    return fit_mixture(draws, weights, mean, covariance, ess=ess, seed=seed).blended(wide, DEFENCE)


def _square(factor: Floats) -> Floats:
    return np.asarray(factor @ factor.T)


def _moments(weighed: _Weighed) -> tuple[Floats, Floats]:
    mean = weighed.weights @ weighed.draws
    deviation = weighed.draws - mean
    return mean, (weighed.weights * deviation.T) @ deviation


def _compared(weighed: _Weighed, mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Weighted mean − mean in weighted standard deviations (d,), and weighted over given standard deviations (d,)."""
    right, spread = _moments(weighed)
    sd = np.sqrt(np.diag(spread))
    return (right - mean) / sd, sd / np.sqrt(np.diag(covariance))


def _concluded(
    found: _Weighings, word: str, reason: str, shift: Floats, ratio: Floats, notes: tuple[str, ...]
) -> Certificate:
    weighed = found.best
    chosen = systematic(weighed.weights, len(weighed.weights), found.rng)
    smoothed = weighed.smoothed
    return Certificate(
        word=word,
        reason=reason,
        k_hat=weighed.k_hat,
        limit=found.limit,
        ess=weighed.ess,
        parameter_ess=_parameter_ess(weighed, *_moments(weighed)),
        mean_shift=shift,
        sd_ratio=ratio,
        draws=weighed.draws[chosen],
        log_posterior=weighed.log_posterior[chosen],
        distinct=int(np.unique(chosen).size),
        nonfinite=weighed.nonfinite,
        evaluations=len(found.rounds) * len(weighed.weights),
        rounds=found.rounds,
        log_integral=-np.inf if smoothed is None else smoothed.log_mean,
        log_integral_error=np.inf if smoothed is None else smoothed.log_mean_error,
        notes=notes,
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


def _word(found: _Weighings, shift: Floats, ratio: Floats) -> str:
    if not found.best.k_hat < found.limit:
        return "rejected"
    if not found.best.ess >= FEWEST_EFFECTIVE:
        return "thin"
    right = np.all(np.abs(shift) < LARGEST_SHIFT) and np.all(np.abs(ratio - 1.0) <= LARGEST_STRETCH)
    return "certified" if right else "corrected"


_NOWHERE = "the full-data posterior is not finite at any draw of the proposal"


def _reason(word: str, found: _Weighings, shift: Floats, ratio: Floats) -> str:
    if found.best.smoothed is None:
        return _NOWHERE
    off, shape = _distance(shift, ratio), _shape(found)
    return {
        "certified": f"the consensus agrees with the full-data posterior: {off}; {shape}",
        "corrected": f"the consensus was off and has been corrected with the full-data posterior: {off}; {shape}",
        "thin": f"the weights are reliable but too few draws carry them: {shape}; {FEWEST_EFFECTIVE:.0f} are needed",
        "rejected": f"the consensus is too far from the full-data posterior to be corrected: {shape}",
    }[word]


def _reason_alone(word: str, found: _Weighings, shift: Floats, ratio: Floats, peaks: int) -> str:
    if found.best.smoothed is None:
        return _NOWHERE
    around, shape = "the peak" if peaks == 1 else f"{peaks} peaks", _shape(found)
    return {
        "certified": f"independent draws around {around}, weighed with all data: {shape}; from the normal "
        f"approximation that they began with, {_distance(shift, ratio)}",
        "thin": f"the weights of independent draws around {around} are reliable but too few draws carry them: {shape}; "
        f"{FEWEST_EFFECTIVE:.0f} are needed",
        "rejected": f"independent draws around {around} do not cover the full-data posterior: {shape}",
    }[word]


def _distance(shift: Floats, ratio: Floats) -> str:
    return (
        f"largest shift of a mean {np.max(np.abs(shift)):.2f} standard deviations, "
        f"standard deviations off by up to {np.max(np.abs(ratio - 1.0)):.0%}"
    )


def _shape(found: _Weighings) -> str:
    rounds, weighed = len(found.rounds), found.best
    after = "" if rounds == 1 else f" after the proposal was fitted again to weighted draws ({rounds} rounds)"
    return f"Pareto k = {weighed.k_hat:.2f} (limit {found.limit:.2f}), {weighed.ess:.0f} effective draws{after}"


def combined(prepared: Prepared, shards: Sequence[Part], *, seed: int) -> Combined:
    """Consensus in the full posterior's whitened coordinates (n, d) of draws of each shard in its own."""
    if len(prepared.shards) == 1:
        return averaged(shards[:1])
    if prepared.anchored and prepared.picture is not None:
        picture, count = prepared.picture, len(shards[0].draws)
        return anchored(shards, picture.mean, picture.covariance, count=count, matched=picture.matched)
    return _without_scaling(averaged(_with_scaling(prepared, shards, seed)), prepared.space.size)


def _with_scaling(prepared: Prepared, shards: Sequence[Part], seed: int) -> list[Part]:
    """Shard draws joined with draws of the scaling (n, d + k): shards share contrast and offset, not only physics."""
    back = np.linalg.inv(np.asarray(prepared.full.transform))
    parts = []
    for shard in shards:
        target = prepared.shards[shard.index]
        found = physical_draws(prepared.space, target, shard.draws, (seed, 2, shard.index))
        common = shard.draws @ (back @ np.asarray(target.transform)).T
        parts.append(Part(shard.index, np.concatenate([common, found.coefficients], axis=1), shard.ess))
    return parts


def _without_scaling(joint: Combined, size: int) -> Combined:
    return Combined(
        joint.draws[:, :size],
        joint.mean[:size],
        joint.covariance[:size, :size],
        joint.indices,
        joint.weights,
        joint.notes,
    )


def certified(prepared: Prepared, consensus: Combined, *, draws: int, limit: float | None, seed: int) -> Certificate:
    """Weigh a consensus against the likelihood of all data, each shard with the weight it was sampled with."""
    return certify(consensus, log_posterior_of(prepared), draws=draws, limit=limit, seed=seed)


def log_posterior_of(prepared: Prepared) -> LogPosterior:
    """Log densities of all data at whitened coordinates, as `certify` takes them."""

    def log_posterior(z: Floats) -> Floats:
        return np.asarray(log_densities(prepared.space, prepared.full, jnp.asarray(z)))

    return log_posterior


def disagreement(prepared: Prepared) -> Heterogeneity | None:
    """Whether shards measure the same thing, from what each says alone, in full; None for a single shard."""
    if prepared.picture is None:
        return None
    transform = np.asarray(prepared.full.transform)
    estimates = prepared.picture.estimates @ transform.T
    covariances = transform @ prepared.picture.covariances @ transform.T
    return heterogeneity(names_of(prepared.space), estimates, covariances)
