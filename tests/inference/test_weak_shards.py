"""Shards that know little, where averaging goes wrong: counts of a few events, in the logarithm of their rate.

Shard k saw n_k events: its log-likelihood n_k z − exp(z) is far from normal, that of all together nearly normal.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hpcxpcs.inference.certificate import certify
from hpcxpcs.inference.consensus import Combined, Part, anchored, averaged

GRID = np.linspace(-150.0, 8.0, 200001)
SHARDS, DRAWS = 24, 4000
COUNTS = np.random.default_rng(1).poisson(1.2, (SHARDS, 2))
PRIOR = 1.0 / 5.0**2


def log_likelihood(z: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of z (...,2) for counts (2,) of one shard."""
    return np.sum(counts * z - np.exp(z), axis=-1)


def log_posterior(z: np.ndarray) -> np.ndarray:
    """Of all shards together and the prior, at z (n,2)."""
    return log_likelihood(z, COUNTS.sum(axis=0) / SHARDS) * SHARDS - 0.5 * PRIOR * np.sum(z**2, axis=-1)


def truth() -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (2,) of the whole posterior, by quadrature."""
    found = []
    for total in COUNTS.sum(axis=0):
        logs = total * GRID - SHARDS * np.exp(GRID) - 0.5 * PRIOR * GRID**2
        weights = np.exp(logs - logs.max())
        mean = np.average(GRID, weights=weights)
        found.append((mean, np.sqrt(np.average((GRID - mean) ** 2, weights=weights))))
    means, spreads = np.array(found).T
    return means, spreads


def drawn(log_density: Callable[[np.ndarray, int], np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Draws (S,2) of two independent coordinates with the given log-density on the grid."""
    columns = []
    for axis in range(2):
        logs = log_density(GRID, axis)
        edges = np.cumsum(np.exp(logs - logs.max()))
        columns.append(np.interp(rng.uniform(size=DRAWS) * edges[-1], edges, GRID))
    return np.stack(columns, axis=1)


def classical() -> Combined:
    """Scott's average of shards with their share of the prior."""
    rng = np.random.default_rng(2)

    def shard(k: int) -> np.ndarray:
        return drawn(lambda z, a: COUNTS[k, a] * z - np.exp(z) - 0.5 * PRIOR / SHARDS * z**2, rng)

    return averaged([Part(k, shard(k), float(DRAWS)) for k in range(SHARDS)])


def around_the_point_fit() -> Combined:
    """Shards within the normal approximation of all others at the peak of the whole posterior."""
    rng = np.random.default_rng(3)
    totals = COUNTS.sum(axis=0)
    peak = np.log(totals / SHARDS)
    precision = SHARDS * np.exp(peak)

    def shard(k: int) -> np.ndarray:
        def density(z: np.ndarray, a: int) -> np.ndarray:
            cavity = (totals[a] - COUNTS[k, a] - (SHARDS - 1) * np.exp(peak[a])) * z
            cavity -= 0.5 * (SHARDS - 1) * np.exp(peak[a]) * (z - peak[a]) ** 2
            return COUNTS[k, a] * z - np.exp(z) + cavity

        return drawn(density, rng)

    parts = [Part(k, shard(k), float(DRAWS)) for k in range(SHARDS)]
    return anchored(parts, peak, np.diag(1.0 / precision), count=DRAWS)


def off(mean: np.ndarray) -> float:
    """Largest error of a mean in posterior standard deviations."""
    expected, spread = truth()
    return float(np.max(np.abs(mean - expected) / spread))


def test_given_weak_shards_then_the_average_is_off_by_more_than_a_standard_deviation():
    assert off(classical().mean) > 1.0


def test_given_the_same_shards_around_the_point_fit_then_little_is_left_to_correct():
    assert off(around_the_point_fit().mean) < 0.2


@pytest.mark.parametrize("combine", [classical, around_the_point_fit])
def test_the_certificate_repairs_either(combine):
    found = certify(combine(), log_posterior, seed=1)
    _, spread = truth()
    assert found.valid and off(found.draws.mean(axis=0)) < 0.1
    np.testing.assert_allclose(found.draws.std(axis=0), spread, rtol=0.05)


def test_the_certificate_does_not_call_the_average_right():
    assert certify(classical(), log_posterior, seed=1).word == "corrected"
