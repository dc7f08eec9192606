"""Do the chains agree, are there enough draws, and has the posterior one peak or two.

Two peaks are seen by a mixture of two normals against one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from hpcxpcs.answer.posterior import Mixing, Modes
from hpcxpcs.arrays import Floats

TAIL = 0.05
"""Probability of each tail in which effective draws are counted."""


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


STARTS = 8
"""Random cuts of the draws from which the mixture is fitted; the likeliest result counts."""

FIRST_STEPS = 20
"""EM steps before the best start is chosen."""

STEPS = 300
"""Most EM steps."""

SETTLED = 1.0e-7
"""Gain in mean log-likelihood (nats per draw) below which EM has converged."""

MOST_DRAWS = 4000
"""Draws used, evenly spaced among those given: more would change no decision."""

DECISIVE = 10.0
"""Gain in BIC from which two components are taken for real (odds of about 150 to 1)."""

DIP = 0.9
"""Density between two peaks, relative to the lower one, below which they count as separate modes."""

RIDGE = 1.0e-6
"""Smallest variance of a component, in units of the whole posterior's."""


UNSPANNED = "the draws do not span all directions: whether there is more than one peak cannot be told"


class _Mixture(NamedTuple):
    weights: Floats
    means: Floats
    covariances: Floats
    log_likelihood: float


def log_normal(x: Floats, mean: Floats, covariance: Floats) -> Floats:
    """Log-density (n,) of a normal distribution at x (n,d)."""
    factor = np.linalg.cholesky(covariance)
    scaled = solve_triangular(factor, (x - mean).T, lower=True)
    constant = 0.5 * mean.size * np.log(2.0 * np.pi) + np.log(np.diag(factor)).sum()
    return np.asarray(-0.5 * np.sum(scaled**2, axis=0) - constant)


def find_modes(draws: Floats, *, seed: int, ess: float | None = None) -> Modes:
    """Compare one normal with two on draws (S,d); `ess` is what the draws are worth if fewer than their number."""
    mean, covariance = draws.mean(axis=0), np.atleast_2d(np.cov(draws, rowvar=False))
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return Modes(1, np.ones(1), mean[None], covariance[None], -np.inf, UNSPANNED)
    used = draws[np.arange(0, len(draws), -(-len(draws) // MOST_DRAWS))]
    white = solve_triangular(factor, (used - mean).T, lower=True).T
    size = len(used) if ess is None else float(np.clip(ess, 2.0, len(used)))
    pair = _fit_pair(white, np.random.default_rng(seed))
    gain = -np.inf if pair is None else _bic_gain(white, pair, size)
    if pair is None or not gain > DECISIVE:
        return Modes(1, np.ones(1), mean[None], covariance[None], gain, "the posterior has one peak")
    separate = _dip(pair) < DIP
    return Modes(
        count=2 if separate else 1,
        weights=pair.weights,
        means=mean + pair.means @ factor.T,
        covariances=factor @ pair.covariances @ factor.T,
        delta_bic=gain,
        words=_words(pair, separate),
    )


def _words(pair: _Mixture, separate: bool) -> str:
    if not separate:
        return "the posterior has one peak, which is not a normal distribution (skewed or heavy-tailed)"
    heavy = pair.weights.max()
    return (
        f"the posterior has two separate peaks, with {heavy:.0%} and {1.0 - heavy:.0%} of the probability: mean and "
        "standard deviation describe neither; look at the pair plot"
    )


def _bic_gain(white: Floats, pair: _Mixture, size: float) -> float:
    """BIC of one normal minus BIC of two, with likelihoods scaled to `size` independent draws."""
    count, dim = white.shape
    single = log_normal(white, white.mean(axis=0), np.atleast_2d(np.cov(white, rowvar=False, bias=True))).sum()
    extra = 1 + dim + dim * (dim + 1) // 2
    return float(2.0 * (pair.log_likelihood - single) * size / count - extra * np.log(size))


def _fit_pair(white: Floats, rng: np.random.Generator) -> _Mixture | None:
    """The likeliest mixture of two over several starts; None where each start loses a component."""
    best: tuple[float, Floats] | None = None
    for _ in range(STARTS):
        direction = rng.standard_normal(white.shape[1])
        along = white @ direction
        share = along > np.quantile(along, rng.uniform(0.1, 0.9))
        found = _climb(white, np.where(share, 0.99, 0.01), FIRST_STEPS)
        if found is not None and (best is None or found[0].log_likelihood > best[0]):
            best = found[0].log_likelihood, found[1]
    found = None if best is None else _climb(white, best[1], STEPS)
    return None if found is None else found[0]


def _climb(white: Floats, second: Floats, steps: int) -> tuple[_Mixture, Floats] | None:
    """EM from the second component's share of each draw (S,); None when a component has too few draws to exist."""
    count, dim = white.shape
    last = -np.inf
    for _ in range(steps):
        shares = np.stack([1.0 - second, second])
        if shares.sum(axis=1).min() < 2.0 * (dim + 1):
            return None
        weights, means, covariances = _moments(white, shares)
        logs = [np.log(w) + log_normal(white, m, c) for w, m, c in zip(weights, means, covariances, strict=True)]
        total = logsumexp(logs, axis=0)
        second = np.exp(logs[1] - total)
        mixture = _Mixture(weights, means, covariances, float(total.sum()))
        if mixture.log_likelihood - last < SETTLED * count:
            break
        last = mixture.log_likelihood
    return mixture, second


def _moments(white: Floats, shares: Floats) -> tuple[Floats, Floats, Floats]:
    """Weights (2,), means (2,d) and covariances (2,d,d) of draws that belong to two components by shares (2,S)."""
    totals = shares.sum(axis=1)
    means = shares @ white / totals[:, None]
    covariances = np.stack(
        [
            (share * (white - mean).T) @ (white - mean) / total + RIDGE * np.eye(white.shape[1])
            for share, mean, total in zip(shares, means, totals, strict=True)
        ]
    )
    return totals / totals.sum(), means, covariances


def _dip(pair: _Mixture) -> float:
    """Lowest density between the two peaks relative to the lower one, 1 for a single peak.

    Every stationary point of the mixture lies on the ridge line (Ray and Lindsay, Ann. Stat. 33:2042, 2005).
    """
    precisions = np.linalg.inv(pair.covariances)
    pulls = np.einsum("cij,cj->ci", precisions, pair.means)
    path = np.linspace(0.0, 1.0, 401)
    blends = np.stack([1.0 - path, path], axis=1)
    ridge = np.linalg.solve(np.einsum("sc,cij->sij", blends, precisions), (blends @ pulls)[..., None])[..., 0]
    logs = [
        np.log(w) + log_normal(ridge, m, c) for w, m, c in zip(pair.weights, pair.means, pair.covariances, strict=True)
    ]
    density = logsumexp(logs, axis=0)
    # The deepest point seen from the lower of the highest points on either side of it.
    lower = np.minimum(np.maximum.accumulate(density), np.maximum.accumulate(density[::-1])[::-1])
    return float(np.exp(np.min(density - lower)))
