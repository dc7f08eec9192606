"""More damage never scores higher, whatever the damage; and what the words of scores mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcxpcs.data.quality.report import examine
from hpcxpcs.data.quality.survey import covers, grade
from tests.data.quality.damage import CONTRAST, PHI, Case, N, both, clean_stack, lag_and_age

FEW = PHI[::3]
LAG, AGE = lag_and_age()


def _nan(matrix, order, amount):
    for i, j in order[: int(amount * len(order))]:
        both(matrix, i, j, np.nan)


def _zero(matrix, order, amount):
    for i, j in order[: int(amount * len(order))]:
        both(matrix, i, j, 0.0)


def _negative(matrix, order, amount):
    for i, j in order[: int(0.2 * amount * len(order))]:
        both(matrix, i, j, -1.0)


def _dead(matrix, order, amount):
    frames = list(dict.fromkeys(order[:, 0].tolist()))
    frames = frames[: int(amount * len(frames))]
    matrix[frames, :] = 0.0
    matrix[:, frames] = 0.0


def _asymmetric(matrix, order, amount):
    matrix += amount * np.tril(np.sin(LAG * 7.0) * CONTRAST, -1)


def _noisy(matrix, order, amount):
    noise = np.triu(np.random.default_rng(9).standard_normal((N, N)), 1)
    matrix += 10.0 * CONTRAST * amount * (noise + noise.T)


def _lower(matrix, order, amount):
    matrix -= amount


def _drifting(matrix, order, amount):
    matrix += 2.0 * CONTRAST * amount * AGE / N


GROWING = {
    "NaN": _nan,
    "zeros": _zero,
    "negative": _negative,
    "dead frames": _dead,
    "asymmetry": _asymmetric,
    "noise": _noisy,
    "lower baseline": _lower,
    "drift": _drifting,
}


def score(name, amount, seed, level, non_finite):
    stack = clean_stack(seed, phi=FEW)
    order = np.argwhere(np.triu(np.ones((N, N), dtype=bool), 1))
    np.random.default_rng(seed).shuffle(order)
    GROWING[name](stack[1], order, amount)
    return examine(Case(stack, FEW, {"non_finite": non_finite}).record(), level).score


@pytest.mark.parametrize("name", GROWING)
@settings(max_examples=8)
@given(
    amounts=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)).map(sorted),
    seed=st.integers(0, 3),
    level=st.sampled_from(["basic", "standard", "comprehensive"]),
    non_finite=st.sampled_from(["refuse", "mask"]),
)
def test_given_more_of_a_damage_then_the_score_is_not_higher(name, amounts, seed, level, non_finite):
    less, more = (score(name, amount, seed, level, non_finite) for amount in amounts)
    assert more <= less


@pytest.mark.parametrize("name", GROWING)
def test_given_all_of_a_damage_then_the_score_is_clearly_lower(name):
    assert score(name, 1.0, 0, "comprehensive", "refuse") < 85.0


def test_given_thresholds_then_grades_begin_at_them():
    assert [grade(value) for value in (0, 49.9, 50, 69.9, 70, 84.9, 85, 100)] == [
        *("poor", "poor", "usable", "usable", "good", "good", "excellent", "excellent")
    ]


def test_given_levels_then_each_covers_those_before_it():
    assert covers("comprehensive", "basic") and covers("standard", "standard")
    assert not covers("none", "basic") and not covers("basic", "standard")
