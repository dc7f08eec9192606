"""Simulation-based calibration: among draws of right posteriors the truth ranks uniformly (Talts et al., 2018).

Sixty small static measurements with parameters from their priors. The level of the test is 1 % over
all quantities and statistics; seeds are fixed.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.calibration.ranks import (
    QUANTITIES,
    consensus_draws,
    exact_draws,
    ranks,
    simulated_sets,
    smallest_chance,
    thinned,
)

SETS, SEED, LEVEL = 60, 11, 0.01
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes() -> dict[str, list]:
    """Truths (sets, 8), draws by route, and verdicts."""
    found: dict[str, list] = {"truth": [], "exact": [], "consensus": [], "words": []}
    for index, (truth, prepared) in enumerate(simulated_sets(SETS, SEED)):
        word, draws = consensus_draws(prepared, index)
        found["truth"].append(truth)
        found["words"].append(word)
        found["consensus"].append(draws)
        found["exact"].append(exact_draws(prepared, index))
    return found


def ranks_of(outcomes: dict[str, list], route: str, *, stretch: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """Ranks (sets, 8) among draws made narrower or wider about their mean, and moved by a part of their sd."""
    found = []
    for truth, draws in zip(outcomes["truth"], outcomes[route], strict=True):
        kept, mean, sd = thinned(draws), draws.mean(axis=0), draws.std(axis=0)
        found.append(ranks(truth, mean + shift * sd + stretch * (kept - mean)))
    return np.array(found)


@pytest.mark.parametrize("route", ["exact", "consensus"])
def test_the_truth_ranks_uniformly_among_the_draws(outcomes, route):
    found = ranks_of(outcomes, route)
    assert found.shape == (SETS, len(QUANTITIES))
    assert smallest_chance(found) > LEVEL


@pytest.mark.parametrize("route", ["exact", "consensus"])
def test_draws_too_narrow_by_a_fifth_fail_the_same_test(outcomes, route):
    assert smallest_chance(ranks_of(outcomes, route, stretch=0.8)) < LEVEL


def test_draws_too_wide_by_a_half_and_draws_off_by_half_a_standard_deviation_fail_the_same_test(outcomes):
    assert smallest_chance(ranks_of(outcomes, "exact", stretch=1.5)) < LEVEL
    assert smallest_chance(ranks_of(outcomes, "exact", shift=0.5)) < LEVEL


@pytest.mark.parametrize("route", ["exact", "consensus"])
@pytest.mark.parametrize("level", [0.68, 0.95])
def test_intervals_of_parameters_noise_contrast_and_offset_cover_as_often_as_they_say(outcomes, route, level):
    truth = np.array(outcomes["truth"])
    tails = [0.5 * (1.0 - level), 0.5 * (1.0 + level)]
    ends = np.array([np.quantile(draws, tails, axis=0) for draws in outcomes[route]])
    covered = np.mean((ends[:, 0] < truth) & (truth < ends[:, 1]), axis=0)
    error = np.sqrt(level * (1.0 - level) / SETS)
    # Eight quantities: 3.3 binomial errors are exceeded by chance in less than 1 % of such experiments.
    assert np.all(np.abs(covered - level) < 3.3 * error), dict(zip(QUANTITIES, covered, strict=True))


def test_most_consensus_posteriors_are_used_and_not_replaced_by_exact_ones(outcomes):
    usable = [word in ("certified", "corrected") for word in outcomes["words"]]
    assert np.mean(usable) > 0.9


def test_uniform_ranks_pass_and_a_spike_fails():
    rng = np.random.default_rng(0)
    uniform = rng.integers(0, 100, size=(SETS, 8))
    assert smallest_chance(uniform) > LEVEL
    uniform[:40, 3] = 0
    assert smallest_chance(uniform) < LEVEL
