"""Angles of two directions show a flow and its mirror image alike: one is quoted, and the other is named."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.cli.fitting import QUICK, fit, parameters, read_json, simulated

RATES = {"D0": 1.2e4, "alpha": -0.4, "D_offset": 500.0, "gamma_dot_t0": 9e-4, "beta": -0.3, "gamma_dot_t_offset": 1e-4}
NAMED = re.compile(r"mirror image: phi0 = (\S+), gamma_dot_t0 = (\S+), gamma_dot_t_offset = (\S+) fits")


def mirrored(folder, name="run"):
    """Direction and rate (at t = 1 s) of the mirror image that a run names; None when it names none."""
    flags = read_json(folder / name / "results" / "nlsq" / "convergence_metrics.json")["quality_warnings"]
    found = [match for match in map(NAMED.search, flags) if match]
    if not found:
        return None
    phi0, amplitude, offset = map(float, found[0].groups())
    return phi0, amplitude + offset


@pytest.fixture(scope="module")
def perpendicular(tmp_path_factory):
    """A flow at −4 degrees, seen at ±45 and ±135 degrees."""
    folder = tmp_path_factory.mktemp("perpendicular")
    return simulated(folder, "laminar_flow", parameters={**RATES, "phi0": -4.0}, angles=4, frames=60)


@pytest.mark.parametrize(
    ("setting", "quoted", "named"),
    [
        ((), -4.0, -86.0),
        (("initial_parameters.parameter_names=[phi0]", "initial_parameters.values=[-80]"), -86.0, -4.0),
        (("parameter_space.bounds=[{name: phi0, min: 60, max: 120}]",), 94.0, None),
    ],
    ids=["nearer to zero", "nearer to the start", "the only one inside the bounds"],
)
def test_given_two_perpendicular_directions_then_the_likelier_flow_is_quoted_and_the_other_is_named(
    setting, quoted, named, perpendicular, tmp_path, capfd
):
    done = fit(capfd, perpendicular, tmp_path / "run", *QUICK, *setting)
    assert done.code == 0, done.out
    found = parameters(tmp_path / "run")["phi0"]
    assert abs(found["value"] - quoted) < 5.0 * found["uncertainty"]
    other = mirrored(tmp_path)
    assert ("careful  these angles do not tell the flow" in done.out) == (named is not None)
    if named is None:
        assert other is None
    else:
        rates = parameters(tmp_path / "run")
        own = rates["gamma_dot_t0"]["value"] + rates["gamma_dot_t_offset"]["value"]
        np.testing.assert_allclose(other, (named, own), rtol=0.02)


def test_given_two_oblique_directions_then_the_mirror_image_has_the_rate_that_geometry_gives_it(tmp_path, capfd):
    # At 30 and 90 degrees s·cos(20° − 30°) and −s·cos(20° − 90°) are those of a flow of 52.9 degrees, 7 % faster.
    config = simulated(tmp_path, "laminar_flow", parameters={**RATES, "phi0": 20.0}, angles=6, frames=60)
    seen = np.radians([30.0, 90.0])
    shown = np.cos(np.radians(20.0) - seen) * [1.0, -1.0]
    along, across = np.linalg.solve(np.column_stack([np.cos(seen), np.sin(seen)]), shown)
    expected = np.degrees(np.arctan2(across, along)), np.hypot(along, across) * 1e-3
    two = "data_filtering.phi_ranges=[{min: 10, max: 50}, {min: 80, max: 100}]"
    done = fit(capfd, config, tmp_path / "run", *QUICK, two)
    assert done.code == 0, done.out
    found = parameters(tmp_path / "run")
    own = found["phi0"]["value"], found["gamma_dot_t0"]["value"] + found["gamma_dot_t_offset"]["value"]
    pair = sorted([own, mirrored(tmp_path)])
    wanted = sorted([(20.0, 1e-3), expected])
    np.testing.assert_allclose(pair, wanted, rtol=0.05)


def test_given_a_third_direction_then_the_flow_is_the_only_one(tmp_path, capfd):
    config = simulated(tmp_path, "laminar_flow", parameters={**RATES, "phi0": 20.0}, angles=6, frames=60)
    done = fit(capfd, config, tmp_path / "run", *QUICK)
    assert done.code == 0 and "mirror image" not in done.out and mirrored(tmp_path) is None
