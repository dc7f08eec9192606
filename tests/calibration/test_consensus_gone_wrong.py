"""Cut into many shards that know little each, plain consensus is off by more than a standard deviation: who notices?

Contrast and offset are known, so that every shard of 45 to 70 pairs still has a proper posterior of three parameters
and the noise, but a skewed one that the prior's share decides; priors are those of a laboratory that knows its rates.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hpcxpcs
from hpcxpcs.config import config_from_mapping
from hpcxpcs.data.simulate import NoiseSpec
from tests.calibration.posteriors import (
    Fit,
    Sampled,
    consensus_posterior,
    exact_posterior,
    fitted,
    physical,
)

pytestmark = pytest.mark.slow

FRAMES, NOISE = 60, 0.04
REPAIRABLE = 25
PRIORS = [
    {"name": "D0", "min": 100.0, "max": 1e5, "prior": {"type": "lognormal", "median": 3e3, "sigma": 2.0}},
    {"name": "D_offset", "min": -1e5, "max": 1e5, "prior": {"type": "normal", "mu": 0.0, "sigma": 3e3}},
]


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A noisy static measurement whose angles share contrast and offset."""
    return hpcxpcs.simulate(
        hpcxpcs.SimulationSpec(
            "static",
            angles=3,
            frames=FRAMES,
            contrast=0.3,
            contrast_spread=0.0,
            offset_spread=0.0,
            noise=NoiseSpec("iid", sd=NOISE),
            seed=3,
            output=tmp_path_factory.mktemp("plain") / "x.hdf",
        )
    )


def mapping(file: Path, **cmc) -> dict:
    """Consensus of this file, plain unless asked otherwise."""
    return {
        "analysis_mode": "static",
        "experimental_data": {"file_path": str(file)},
        "analyzer_parameters": {"scattering": {"wavevector_q": 0.0054}},
        "scaling": {"mode": "constant", "constant": {"contrast": 0.3, "offset": 1.0}},
        "noise": {"sigma": NOISE},
        "parameter_space": {"bounds": PRIORS},
        "optimization": {"method": "cmc", "cmc": {"anchor": "none", **cmc}},
        "output": {"plots": False, "report": False, "fitted_data": False},
        "runtime": {"workers": 1},
    }


@pytest.fixture(scope="module")
def fit(file) -> Fit:
    return fitted(hpcxpcs.load(mapping(file)), config_from_mapping(mapping(file)))


@pytest.fixture(scope="module")
def exact(fit) -> Sampled:
    return exact_posterior(fit, 200, 1000)


@pytest.fixture(scope="module")
def plain(fit) -> Sampled:
    return consensus_posterior(fit, REPAIRABLE, anchored=False, warmup=150, draws=150)


def test_plain_consensus_is_off_by_more_than_a_standard_deviation_and_the_certificate_says_so(plain):
    assert np.max(np.abs(plain.certificate.mean_shift)) > 1.0
    assert plain.word == "corrected"
    assert "has been corrected" in plain.certificate.reason


def test_the_certificates_shift_is_the_distance_to_the_exact_posterior(plain, exact, fit):
    prepared = fit.prepared(REPAIRABLE, anchored=False)
    own, _ = physical(prepared, plain.consensus.draws)
    off = np.abs(own.mean(axis=0) - exact.values.mean(axis=0)) / exact.values.std(axis=0)
    assert off.max() > 0.5


def test_the_corrected_draws_are_the_exact_posterior(plain, exact):
    spread = exact.values.std(axis=0)
    noise = np.sqrt(1.0 / plain.ess + 1.0 / exact.ess)
    off = np.abs(plain.values.mean(axis=0) - exact.values.mean(axis=0)) / spread
    assert np.all(off < 0.1 + 2.0 * noise), off
    assert np.all(np.abs(plain.values.std(axis=0) / spread - 1.0) < 0.05 + 2.0 * noise)


FEW = 4
SAMPLING = {"num_warmup": 150, "num_samples": 400, "num_chains": 2}
LENIENT = {"max_r_hat": 1.1, "min_ess": 100}


@pytest.fixture
def unreachable_bar(monkeypatch):
    """The check asks for more effective draws than there are draws: how a consensus fails it is not the question."""
    monkeypatch.setattr("hpcxpcs.inference.certificate.FEWEST_EFFECTIVE", 1e9)


def doomed(file: Path, on_reject: str, validation: dict | None = None) -> dict:
    return mapping(
        file,
        anchor="point_fit",
        sharding={"num_shards": FEW},
        per_shard_mcmc=SAMPLING,
        validation=validation or LENIENT,
        certificate={"on_reject": on_reject},
    )


def test_given_on_reject_report_then_a_consensus_that_fails_its_check_ends_with_exit_code_3(
    file, unreachable_bar, tmp_path
):
    found = hpcxpcs.fit(doomed(file, "report"), run=tmp_path)
    posterior = found.posterior
    assert posterior.verdict == "rejected" and posterior.route == "consensus"
    assert not posterior.certificate.valid and posterior.words == posterior.certificate.reason
    assert found.exit_code == 3 and not found.ok


def test_given_on_reject_exact_then_all_data_are_sampled_and_the_posterior_is_right(
    file, exact, unreachable_bar, tmp_path
):
    found = hpcxpcs.fit(doomed(file, "exact"), run=tmp_path)
    posterior = found.posterior
    assert posterior.route == "exact" and posterior.verdict == "exact" and found.exit_code == 0
    assert "instead of the consensus" in posterior.words
    ess = np.minimum(posterior.summary.ess_bulk, posterior.summary.ess_tail)
    off = np.abs(posterior.summary.mean - exact.values.mean(axis=0)) / exact.values.std(axis=0)
    assert np.all(off < 0.1 + 2.0 * np.sqrt(1.0 / exact.ess + 1.0 / ess)), off


def test_given_shards_that_do_not_reach_what_was_asked_then_nothing_is_combined(file, tmp_path):
    found = hpcxpcs.fit(doomed(file, "report", {"min_ess": 1e6}), run=tmp_path)
    assert found.exit_code == 3 and found.posterior.verdict == "rejected"
    assert f"0 of {FEW} shards were accepted" in found.posterior.words
    assert found.posterior.certificate is None
