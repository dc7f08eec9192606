"""τ(q): the power, its interval, the scatter of bins, D, and a plateau."""

from __future__ import annotations

import numpy as np
import pytest

from hpcxpcs.g2.tau_q import tau_law

Q = np.linspace(0.003, 0.05, 24)
ALL = np.ones(24, bool)


def noisy(tau, log_sd, extra=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return tau * np.exp(log_sd * rng.standard_normal(len(tau)) + extra * rng.standard_normal(len(tau)))


def test_given_diffusion_then_n_is_2_and_d_is_that_of_the_bins():
    sd = np.full(24, 0.05)
    hits = []
    for seed in range(60):
        law = tau_law(Q, noisy(1 / (1e5 * Q**2), sd, seed=seed), sd, ALL)
        hits.append(law.low <= 2.0 <= law.high)
    assert sum(hits) >= 52
    law = tau_law(Q, noisy(1 / (1e5 * Q**2), sd), sd, ALL)
    assert law.diffusive and law.diffusion == pytest.approx(1e5, rel=4 * law.diffusion_error / 1e5)
    assert "D = " in law.words and not law.plateau.seen


def test_given_bins_that_scatter_beyond_their_errors_then_the_interval_still_holds_n():
    sd, hits, found = np.full(24, 0.01), [], []
    for seed in range(60):
        law = tau_law(Q, noisy(1 / (1e5 * Q**2), sd, 0.2, seed), sd, ALL)
        hits.append(law.low <= 2.0 <= law.high)
        found.append(law.scatter)
    assert sum(hits) >= 52 and np.median(found) == pytest.approx(0.2, rel=0.25)


def test_given_another_power_then_no_d_is_quoted():
    law = tau_law(Q, 3.0 * Q**-1.0, np.full(24, 0.01), ALL)
    assert law.exponent == pytest.approx(1.0, abs=1e-3) and not law.diffusive and np.isnan(law.diffusion)


def test_given_relaxation_that_levels_off_then_the_plateau_is_seen():
    sd = np.full(24, 0.02)
    law = tau_law(Q, noisy(1 / (1e5 * Q**2) + 0.05, sd), sd, ALL)
    assert law.plateau.seen and law.plateau.offset == pytest.approx(0.05, rel=0.2)
    assert "levels off" in law.words


def test_given_too_few_q_or_bins_without_an_answer_then_there_is_no_law():
    tau = 1 / (1e5 * Q**2)
    assert tau_law(Q[:2], tau[:2], np.full(2, 0.1), ALL[:2]) is None
    assert tau_law(Q, np.full(24, np.nan), np.full(24, 0.1), ALL) is None
    assert tau_law(np.full(24, np.nan), tau, np.full(24, 0.1), ALL) is None
