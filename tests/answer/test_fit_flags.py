"""Status and flags from constructed evidence: each word has one cause."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from hpcxpcs.answer.fit import Asymmetry, CompressionReport, PointFit, ScalingEstimate
from hpcxpcs.answer.fit_verdict import Evidence, flags_of, named_directions, status_of
from tests.results.sample import sample_fit

SCALING = ScalingEstimate(
    "individual",
    contrast=np.array([0.2, 0.3]),
    offset=np.ones(2),
    contrast_uncertainty=np.full(2, 0.001),
    offset_uncertainty=np.full(2, 0.001),
    robust_contrast_uncertainty=None,
    robust_offset_uncertainty=None,
    widths={},
    notes=(),
)
COMPRESSION = CompressionReport("moments", 10, 360, 5000, 0.01, 0.02, 0.05, 5000, 17, 1)
CLEAN = sample_fit(
    2,
    names=("D0", "alpha"),
    values=np.array([1e4, -0.4]),
    free=np.ones(2, bool),
    covariance_names=("D0", "alpha", "contrast[0]", "contrast[1]", "offset[0]", "offset[1]"),
    covariance=np.diag([1e4, 1e-4, 1e-6, 1e-6, 1e-6, 1e-6]),
    robust_covariance=np.diag([1.2e4, 1.2e-4, 1e-6, 1e-6, 1e-6, 1e-6]),
    chi_squared=5000.0,
    degrees_of_freedom=4990.0,
    scaling=SCALING,
    compression=COMPRESSION,
)
EVIDENCE = Evidence(
    converged=True,
    exhausted=False,
    at_bound=(),
    undetermined=(),
    widths=np.array([1e5, 4.0]),
    rejects_shared_scaling=None,
    asymmetry=None,
)


def judged(change: dict[str, Any]) -> tuple[PointFit, Evidence]:
    """The clean fit and its evidence with changes to either."""
    own = {field.name for field in fields(Evidence)}
    return (
        replace(CLEAN, **{name: value for name, value in change.items() if name not in own}),
        replace(EVIDENCE, **{name: value for name, value in change.items() if name in own}),
    )


def lopsided(*odd: bool, curved: bool = False) -> dict[str, Asymmetry]:
    return {"asymmetry": Asymmetry(np.array([[9e3, 1.3e4], [-0.5, -0.3]]), np.array(odd), curved)}


STATUSES = {
    "nothing is wrong": ({}, "converged", "converged"),
    "a restart helped": ({"recovery_actions": ("restarted",)}, "converged_with_recovery", "restart"),
    "a parameter is held": ({"at_bound": ("alpha",)}, "at_bounds", "alpha"),
    "evaluations ran out": ({"converged": False, "exhausted": True}, "max_iterations", "max_iterations"),
    "no minimum": ({"converged": False}, "failed", "no minimum"),
    "an unseen direction": ({"undetermined": (("f0", "f2"),)}, "failed", "f0 with f2"),
    "no derivative": ({"covariance": np.full((6, 6), np.nan)}, "failed", "no error bars"),
    "cost is not finite": ({"chi_squared": float("nan")}, "failed", "not finite"),
    "a bound does not excuse a missing minimum": (
        {"converged": False, "at_bound": ("alpha",)},
        "failed",
        "minimum",
    ),
    "a restart at a bound is at the bound": (
        {"recovery_actions": ("restarted",), "at_bound": ("D0",)},
        "at_bounds",
        "D0",
    ),
    "what is not determined has no minimum": (
        {"undetermined": (("f0",),), "converged": False},
        "failed",
        "f0",
    ),
}


@pytest.mark.parametrize(("change", "status", "word"), STATUSES.values(), ids=STATUSES)
def test_status_and_its_sentence(change, status, word):
    found, message = status_of(*judged(change))
    assert found == status and word in message


def scaled(**fields):
    return {"scaling": replace(SCALING, **fields)}


def correlated(value):
    covariance = CLEAN.covariance.copy()
    covariance[0, 1] = covariance[1, 0] = value * np.sqrt(covariance[0, 0] * covariance[1, 1])
    return {"covariance": covariance}


def inflated(factor):
    return {"robust_covariance": CLEAN.covariance * factor**2}


FLAGS = {
    "misfit": ({"chi_squared": 6000.0}, "reduced χ² is 1.202"),
    "no freedom": ({"degrees_of_freedom": 0.0}, "no degrees of freedom"),
    "weak": ({"widths": np.array([150.0, 4.0])}, "D0 is hardly determined: its standard error is 100"),
    "correlated": (correlated(-0.995), "D0 and alpha are hard to tell apart (correlation -0.995)"),
    "lopsided": (lopsided(True, False), "95 % intervals are about D0 9000 to 1.3e+04"),
    "curved": (lopsided(False, False, curved=True), "far from a parabola"),
    "inflated": (inflated(2.0), "quote the robust ones (D0 ×2, alpha ×2)"),
    "contrast above 1": (scaled(contrast=np.array([0.2, 1.2])), "above 1"),
    "contrast below 0": (scaled(contrast=np.array([0.2, -0.2])), "below 0"),
    "no signal": (scaled(contrast=np.array([0.001, 0.002])), "no signal"),
    "a note of the scaling": (scaled(notes=("fourier_order lowered",)), "fourier_order lowered"),
    "not shared": ({"rejects_shared_scaling": 1e-9}, "do not share one contrast"),
    "compression": ({"compression": replace(COMPRESSION, error=0.2)}, "0.2 nats"),
}


@pytest.mark.parametrize(("change", "words"), FLAGS.values(), ids=FLAGS)
def test_each_flag_has_its_cause_and_comes_alone(change, words):
    flags = flags_of(*judged(change))
    assert len(flags) == 1 and words in flags[0]


QUIET = {
    "clean": {},
    "symmetric errors": lopsided(False, False),
    "significant but small misfit": {"chi_squared": 1.005e7, "degrees_of_freedom": 1e7},
    "large but insignificant misfit": {"chi_squared": 110.0, "degrees_of_freedom": 100.0},
    "a fit that is too good": {"chi_squared": 4500.0},
    "correlation just tolerable": correlated(0.94),
    "inflation just tolerable": inflated(1.4),
    "no robust covariance": {"robust_covariance": None},
    "contrast above 1 within its error": scaled(
        contrast=np.array([0.2, 1.02]), contrast_uncertainty=np.array([0.001, 0.01])
    ),
    "one angle without signal": scaled(contrast=np.array([0.2, 0.001])),
    "scaling may be shared": {"rejects_shared_scaling": 0.3},
    "raw pairs have no compression error": {"compression": replace(COMPRESSION, provider="raw", error=9.0)},
}


@pytest.mark.parametrize("change", QUIET.values(), ids=QUIET)
def test_what_is_fine_raises_no_flag(change):
    assert flags_of(*judged(change)) == ()


def test_given_directions_that_are_not_determined_then_their_missing_errors_raise_no_flags():
    covariance = CLEAN.covariance.copy()
    covariance[0, 0] = np.nan
    change = {"covariance": covariance, "robust_covariance": None, "undetermined": (("D0",),)}
    assert flags_of(*judged(change)) == ()


def test_a_direction_is_named_by_the_parameters_that_dominate_it():
    directions = [np.array([0.7, 0.02, -0.7]), np.array([0.0, 1.0, 0.05])]
    assert named_directions(directions, ("f0", "f1", "f2")) == (("f0", "f2"), ("f1",))
