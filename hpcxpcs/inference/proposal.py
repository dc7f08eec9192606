"""Where importance draws come from: one or two normals with the tails of Student's t."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import gammaln, logsumexp

from hpcxpcs.inference.modes import Modes
from hpcxpcs.likelihood.interpolation import Floats

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
        return np.asarray(
            self.means[which] + np.einsum("sij,sj->si", self.factors[which], normal * stretch[:, None])
        )

    def log_density(self, x: Floats) -> Floats:
        """Normalised log-density (n,) at x (n,d)."""
        logs = [
            np.log(weight) + log_student(x, mean, factor)
            for weight, mean, factor in zip(self.weights, self.means, self.factors, strict=True)
        ]
        return np.asarray(logsumexp(logs, axis=0))

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
