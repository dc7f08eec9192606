"""Weighed independent draws against NUTS on all data, both by the whole program: at a bound, skewed, with two peaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import hpcxpcs
from hpcxpcs.answer.posterior import Posterior
from hpcxpcs.config import config_from_mapping
from hpcxpcs.data.simulate import NoiseSpec

pytestmark = pytest.mark.slow

Q = 0.0054
SHEAR = {"gamma_dot_t0": 9e-4, "beta": -0.3, "gamma_dot_t_offset": 0.0}
FLOW = {"D0": 1.2e4, "alpha": -0.4, "D_offset": 0.0, **SHEAR}
COMPARED: dict[str, Mapping[str, Any]] = {
    "at a bound": {
        "model": "static",
        "truth": {"D0": 1.2e4, "alpha": -0.4, "D_offset": 0.0},
        "fixed": {"alpha": -0.4},
        "bounds": [{"name": "D_offset", "min": 0.0, "max": 1e5, "prior": {"type": "uniform"}}],
        "angles": 3,
        "noise": 0.02,
    },
    "skewed": {
        "model": "static",
        "truth": {"D0": 1.2e4, "alpha": -0.4, "D_offset": 500.0},
        "fixed": {},
        "bounds": [],
        "angles": 3,
        "noise": 0.06,
    },
    "two peaks": {
        "model": "laminar_flow",
        "truth": {**FLOW, "phi0": -41.0},
        "fixed": {"D_offset": 0.0, "gamma_dot_t_offset": 0.0, "alpha": -0.4, "beta": -0.3},
        "bounds": [{"name": "phi0", "min": -90.0, "max": 0.0, "prior": {"type": "uniform"}}],
        "angles": 4,
        "noise": 0.04,
    },
}
CASES = COMPARED | {
    "mirror image": {
        "model": "laminar_flow",
        "truth": {**FLOW, "phi0": -4.0},
        "fixed": {"D_offset": 0.0, "gamma_dot_t_offset": 0.0},
        "bounds": [],
        "angles": 4,
        "noise": 0.02,
    },
}
QUIET = {"plots": False, "report": False, "fitted_data": False}
ERRORS = 4.5
"""Monte Carlo standard errors between two numbers that are the same: 24 to 60 numbers are compared."""


def posterior(name: str, method: str, folder) -> Posterior:
    """The posterior of a case by a method, from a file simulated once."""
    case = CASES[name]
    file = folder / "simulated.hdf"
    if not file.exists():
        hpcxpcs.simulate(
            hpcxpcs.SimulationSpec(
                case["model"],
                parameters=case["truth"],
                output=file,
                angles=case["angles"],
                frames=60,
                q=Q,
                contrast=0.3,
                noise=NoiseSpec("iid", sd=case["noise"]),
                seed=1,
            )
        )
    config = config_from_mapping(
        {
            "analysis_mode": case["model"],
            "experimental_data": {"file_path": str(file)},
            "analyzer_parameters": {"scattering": {"wavevector_q": Q}},
            "initial_parameters": {"fixed_parameters": dict(case["fixed"])},
            "parameter_space": {"bounds": list(case["bounds"])},
            "scaling": {"mode": "individual"},
            "noise": {"model": "independent"},
            "optimization": {"method": method, "cmc": {"certificate": {"on_reject": "report"}}},
            "output": QUIET,
            "runtime": {"workers": 1},
        }
    )
    found = hpcxpcs.fit(config, run=folder / method).posterior
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMPARED)
def test_given_the_same_data_then_both_find_the_same_means_deviations_and_interval_ends(name, tmp_path):
    drawn, sampled = (posterior(name, method, tmp_path) for method in ("importance", "exact"))
    assert (drawn.route, drawn.verdict) == ("importance", "certified"), drawn.words
    assert sampled.verdict == "exact", sampled.words
    for k, parameter in enumerate(drawn.names):
        one, other = (found.draws[..., k].ravel() for found in (drawn, sampled))
        worth = [float(min(found.summary.ess_bulk[k], found.summary.ess_tail[k])) for found in (drawn, sampled)]
        apart = np.abs(compared(one) - compared(other)) / errors(other, worth)
        assert np.all(apart < ERRORS), (parameter, apart)
    if sampled.log_evidence is not None:
        error = np.hypot(drawn.log_evidence_error, sampled.log_evidence_error)
        assert abs(drawn.log_evidence - sampled.log_evidence) < ERRORS * error
    assert name == "two peaks" or sampled.log_evidence is not None
    if name == "two peaks":
        assert drawn.modes.count == sampled.modes.count == 2
    if name == "at a bound":
        assert drawn.draws[..., 1].min() >= 0.0
        assert np.median(drawn.draws[..., 1]) < 1.2 * drawn.draws[..., 1].std()  # half of a normal has 1.1


def test_given_a_flow_and_its_mirror_image_then_draws_come_from_both_and_chains_say_that_they_have_no_evidence(
    tmp_path,
):
    drawn = posterior("mirror image", "importance", tmp_path)
    assert (drawn.route, drawn.verdict, drawn.modes.count) == ("importance", "certified", 2), drawn.words
    phi0 = drawn.draws[..., drawn.names.index("phi0")]
    assert np.mean(np.abs(phi0 + 4.0) < 3.0) == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.abs(phi0 + 86.0) < 3.0) == pytest.approx(0.5, abs=0.1)
    assert drawn.log_evidence is not None
    alone = posterior("mirror image", "exact", tmp_path)
    assert alone.log_evidence is None and alone.evidence is not None and "mirror image" in alone.evidence.words


def compared(draws: np.ndarray) -> np.ndarray:
    """Mean, standard deviation, and the ends of the central 95 % interval."""
    return np.array([draws.mean(), draws.std(), *np.quantile(draws, (0.025, 0.975))])


def errors(draws: np.ndarray, worth: list[float]) -> np.ndarray:
    """Monte Carlo standard errors of the differences of `compared` between draws worth so many independent ones."""
    share = sum(1.0 / ess for ess in worth)
    centred = draws - draws.mean()
    fourth = np.mean(centred**4) / draws.std() ** 2 - draws.std() ** 2
    grid = np.quantile(draws, (0.015, 0.035, 0.965, 0.985))
    slopes = np.array([grid[1] - grid[0], grid[3] - grid[2]]) / 0.02
    ends = np.sqrt(0.025 * 0.975 * share) * slopes
    return np.array([draws.std() * np.sqrt(share), 0.5 * np.sqrt(fourth * share), *ends])
