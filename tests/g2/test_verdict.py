"""What chains must pass: each threshold with a case that fails it alone."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hpcxpcs.answer.posterior import Mixing
from hpcxpcs.g2.verdict import judged, refusals

GOOD = {"r_hat": 1.0099999, "ess_bulk": 400.00001, "ess_tail": 400.00001, "divergences": 0, "bfmi": 0.2}


def told(**changed: float) -> tuple[str, ...]:
    found = {**GOOD, **changed}
    pair = {name: np.array([found[name], GOOD[name]]) for name in ("r_hat", "ess_bulk", "ess_tail")}
    blank = np.full(2, 0.01)
    return refusals(Mixing(**pair, mcse_mean=blank, mcse_sd=blank), found["divergences"], found["bfmi"])


def test_given_numbers_just_within_the_limits_then_chains_are_accepted():
    assert told() == ()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("r_hat", 1.01, "R-hat 1.01 is not below 1.01"),
        ("ess_bulk", 400.0, r"effective draws \(bulk\) 400 are not above 400"),
        ("ess_tail", 400.0, r"effective draws \(tail\) 400 are not above 400"),
        ("divergences", 1, "1 divergences"),
        ("bfmi", 0.1999999, "smallest BFMI 0.2 is below 0.2"),
        ("r_hat", np.nan, "R-hat nan"),
        ("ess_bulk", np.nan, r"\(bulk\) nan"),
        ("ess_tail", np.nan, r"\(tail\) nan"),
        ("bfmi", np.nan, "BFMI nan"),
    ],
)
def test_given_one_number_at_its_limit_then_it_alone_refuses_the_chains(name, value, words):
    reasons = told(**{name: value})
    assert len(reasons) == 1
    assert re.search(words, reasons[0])


def test_given_one_slow_chain_then_the_smallest_bfmi_counts():
    rng = np.random.default_rng(0)
    values, energy = rng.standard_normal((4, 750, 2)), rng.standard_normal((4, 750))
    assert judged(values, energy, np.zeros((4, 750), bool)).accepted
    energy[2] = np.cumsum(rng.standard_normal(750))
    found = judged(values, energy, np.zeros((4, 750), bool))
    assert len(found.refused) == 1 and "BFMI" in found.refused[0]


def test_given_chains_that_disagree_or_a_draw_that_is_no_number_then_they_are_refused():
    rng = np.random.default_rng(0)
    values, energy = rng.standard_normal((4, 750, 2)), rng.standard_normal((4, 750))
    apart = values + np.arange(4)[:, None, None]
    assert any("R-hat" in reason for reason in judged(apart, energy, np.zeros((4, 750), bool)).refused)
    values[0, 0, 0] = np.nan
    assert any("nan" in reason for reason in judged(values, energy, np.zeros((4, 750), bool)).refused)
