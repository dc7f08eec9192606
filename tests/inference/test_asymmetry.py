"""Error bars that are not symmetric are said to be so, with an interval that holds."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hpcxpcs.answer.fit import PointFit, PointSettings
from hpcxpcs.data.twotime import from_arrays
from hpcxpcs.inference.measurement import measure
from hpcxpcs.inference.point import fit_point
from hpcxpcs.physics.model import build_model
from tests.inference.fitting import parameters_for

TRUTH = np.array([1.2e4, -0.4, 500.0])
PHI = np.array([-60.0, 0.0, 60.0])


def static_fit(first_time: float, frames: int, seed: int) -> PointFit:
    """A static fit to frames of 0.1 s that begin at first_time (s): late and few frames see no curvature of J(t)."""
    model = build_model("static", q=0.0054)
    times = first_time + 0.1 * np.arange(frames)
    rng = np.random.default_rng(seed)
    c2 = np.empty((PHI.size, frames, frames))
    for k, phi in enumerate(PHI):
        noise = np.triu(rng.normal(0.0, 0.01, (frames, frames)), 1)
        c2[k] = 1.0 + 0.3 * np.asarray(model.shape(TRUTH, times[:, None], times[None, :], phi)) + noise + noise.T
    data = from_arrays(c2, PHI, 0.0054, 0.1, t=times)
    return fit_point(measure(data, 1 << 30), model, parameters_for("static"), PointSettings())


@pytest.fixture(scope="module")
def late() -> PointFit:
    return static_fit(first_time=1.0, frames=30, seed=3)


def test_given_a_window_that_cannot_tell_power_law_from_offset_then_the_flag_gives_intervals(
    late: PointFit,
) -> None:
    (flag,) = [flag for flag in late.flags if "errors are not symmetric" in flag]
    (low, high) = map(float, re.search(r"D0 (\S+) to ([^\s,]+)", flag).groups())
    assert low < TRUTH[0] < high
    assert TRUTH[0] > late.values[0] + 2.0 * late.uncertainty[0]


def test_given_a_long_window_from_the_start_then_errors_are_symmetric() -> None:
    fit = static_fit(first_time=0.1, frames=120, seed=1)
    assert not any("symmetric" in flag or "parabola" in flag for flag in fit.flags)
