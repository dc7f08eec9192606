"""A mixture of Student's t distributions fitted to weighted draws: proposals that follow skewed and bent posteriors."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from hpcxpcs.inference.proposal import FREEDOM, Proposal, log_student
from hpcxpcs.likelihood.interpolation import Floats

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


def fit_mixture(
    draws: Floats, weights: Floats, mean: Floats, covariance: Floats, *, ess: float, seed: int
) -> Proposal:
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
