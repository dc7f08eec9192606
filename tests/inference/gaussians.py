"""Normal posteriors cut into shards, for which every way of combining has a known answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcxpcs.inference.consensus import Combined, Part


@dataclass(frozen=True)
class Normal:
    """A normal distribution by precision (d,d) and precision × mean (d,): products are sums."""

    precision: np.ndarray
    pull: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """Inverse precision."""
        return np.linalg.inv(self.precision)

    @property
    def mean(self) -> np.ndarray:
        """Centre."""
        return np.linalg.solve(self.precision, self.pull)

    def __mul__(self, other: Normal) -> Normal:
        return Normal(self.precision + other.precision, self.pull + other.pull)

    def __truediv__(self, other: Normal) -> Normal:
        return Normal(self.precision - other.precision, self.pull - other.pull)

    def scaled(self, power: float) -> Normal:
        """The density to a power."""
        return Normal(power * self.precision, power * self.pull)

    def draws(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Independent draws (count,d)."""
        factor = np.linalg.cholesky(self.covariance)
        return self.mean + rng.standard_normal((count, self.pull.size)) @ factor.T

    def exact_draws(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws (count,d) whose sample mean and covariance are those of the distribution."""
        raw = rng.standard_normal((count, self.pull.size))
        raw -= raw.mean(axis=0)
        raw = np.linalg.solve(np.linalg.cholesky(np.atleast_2d(np.cov(raw, rowvar=False))), raw.T).T
        return self.mean + raw @ np.linalg.cholesky(self.covariance).T

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log-density (n,) up to a constant."""
        return x @ self.pull - 0.5 * np.einsum("si,ij,sj->s", x, self.precision, x)


def normal(mean: np.ndarray, covariance: np.ndarray) -> Normal:
    """A normal distribution by its mean (d,) and covariance (d,d)."""
    precision = np.linalg.inv(covariance)
    return Normal(precision, precision @ mean)


def random_normal(rng: np.random.Generator, dim: int, *, stretch: float = 1.0) -> Normal:
    """A normal distribution with correlated coordinates of different sizes, about one unit from the origin."""
    root = rng.standard_normal((2 * dim + 2, dim)) * np.geomspace(1.0, 5.0, dim)
    return Normal(root.T @ root / stretch**2, root.T @ rng.standard_normal(2 * dim + 2) / stretch)


def shards(rng: np.random.Generator, count: int, dim: int) -> tuple[Normal, list[Normal]]:
    """A broad prior and the likelihoods of `count` shards."""
    prior = Normal(0.01 * np.eye(dim), np.zeros(dim))
    return prior, [random_normal(rng, dim) for _ in range(count)]


def product(factors: list[Normal]) -> Normal:
    """The normalised product of densities."""
    whole = factors[0]
    for factor in factors[1:]:
        whole = whole * factor
    return whole


def combined_of(draws: np.ndarray) -> Combined:
    """Draws as if one shard had made them."""
    covariance = np.atleast_2d(np.cov(draws, rowvar=False))
    return Combined(draws, draws.mean(axis=0), covariance, (0,), np.ones(1), ())


def parts_of(sources: list[Normal], rng: np.random.Generator, count: int, *, exact: bool = False) -> list[Part]:
    """Parts with `count` draws from each source."""
    return [
        Part(k, source.exact_draws(rng, count) if exact else source.draws(rng, count), float(count))
        for k, source in enumerate(sources)
    ]
