"""Certified consensus and exact posteriors against NumPyro's NUTS on every raw pair.

The references were made by bench/raw_posteriors.py, which shares no physics, likelihood, prior or sampler with the
product. Means must agree within 0.1 standard deviations and standard deviations within 5 %, plus two Monte Carlo
errors of the difference.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.inference.prepared import Prepared
from hpcxpcs.inference.target import log_densities
from tests.calibration.cases import CASES, case_data
from tests.calibration.posteriors import Sampled, case_fit, consensus_posterior, exact_posterior
from tests.calibration.raw_posterior import RawPosterior

pytestmark = pytest.mark.slow

REFERENCES = Path(__file__).parent / "references"
MEAN, STRETCH, ERRORS = 0.1, 0.05, 2.0

ANCHORED = [
    ("static 3 x 100", 4),
    ("laminar 3 x 100", 4),
    ("laminar 8 x 300", 16),
    ("two components", 4),
]
PLAIN = [("static 3 x 100", 4)]
EXACT = ["static 3 x 100", "laminar 3 x 100", "two components"]


def reference_of(name: str) -> dict:
    """The stored reference of a case."""
    return json.loads((REFERENCES / f"{name.replace(' ', '_')}.json").read_text())


def disagreement(known: dict, draws: np.ndarray, ess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far means and standard deviations of draws (n, m) are off, in units of what is allowed."""
    sd = np.array(known["sd"])
    kurtosis = np.mean(((draws - draws.mean(axis=0)) / draws.std(axis=0)) ** 4, axis=0)
    noise = np.hypot(np.array(known["mcse_mean"]) / sd, 1.0 / np.sqrt(ess))
    shift = np.abs(draws.mean(axis=0) - np.array(known["mean"])) / sd
    stretch_noise = np.hypot(np.array(known["mcse_sd"]) / sd, 0.5 * np.sqrt((kurtosis - 1.0) / ess))
    stretch = np.abs(draws.std(axis=0) / sd - 1.0)
    return shift / (MEAN + ERRORS * noise), stretch / (STRETCH + ERRORS * stretch_noise)


def require_agreement(name: str, found: Sampled) -> None:
    known = reference_of(name)
    for part, draws, ess in (
        ("parameters", found.values, found.ess),
        ("levels", found.levels, np.full(found.levels.shape[1], found.ess.min())),
    ):
        shift, stretch = disagreement(known[part], draws, ess)
        assert shift.max() < 1.0, (part, shift.round(2))
        assert stretch.max() < 1.0, (part, stretch.round(2))
    correlations = np.corrcoef(found.values, rowvar=False)
    np.testing.assert_allclose(correlations, np.array(known["correlations"]), atol=0.1)


@pytest.mark.parametrize("name", CASES)
def test_a_stored_reference_belongs_to_the_data_and_is_good_enough_to_compare_with(name):
    known = reference_of(name)
    assert known["fingerprint"] == case_data(name).fingerprint()
    assert known["command"] == f'python -m bench.raw_posteriors "{name}"'
    for part in ("parameters", "levels"):
        assert min(known[part]["ess"]) > 800 and max(known[part]["r_hat"]) < 1.02


@pytest.mark.parametrize("name", CASES)
def test_the_pooling_widths_of_a_reference_are_those_that_the_fit_learns(name):
    widths = reference_of(name)["widths"]
    if CASES[name].scaling == "hierarchical":
        np.testing.assert_allclose(case_fit(name).widths, widths, rtol=0.02)
    else:
        assert widths is None and case_fit(name).widths is None


@pytest.mark.parametrize("name", EXACT)
def test_the_reference_posterior_and_the_condensed_one_differ_by_a_constant(name):
    prepared = case_fit(name).prepared(1)
    reference = CASES[name].reference(case_fit(name).widths)
    z = jnp.asarray(np.random.default_rng(5).standard_normal((40, prepared.space.size)))
    own = np.asarray(log_densities(prepared.space, prepared.full, z))
    theirs = np.asarray(jax.jit(lambda rows: jax.lax.map(partial(raw_density, prepared, reference), rows))(z))
    assert np.ptp(own) > 3.0
    assert np.std(own - theirs) < 0.05


def raw_density(prepared: Prepared, reference: RawPosterior, z: jax.Array) -> jax.Array:
    """The reference's log density of whitened coordinates z (d,), by its own Jacobian of the whole map."""

    def simple(one: jax.Array) -> jax.Array:
        x = prepared.full.origin + prepared.full.transform @ one
        theta, scale, _ = prepared.space.parameters(x, prepared.full.softness)
        return jnp.append(reference.coordinates(theta), jnp.log(scale))

    return reference.marginal(simple(z)) + jnp.linalg.slogdet(jax.jacfwd(simple)(z))[1]


@pytest.mark.parametrize("name", EXACT)
def test_the_exact_posterior_agrees_with_every_raw_pair(name):
    require_agreement(name, exact_posterior(case_fit(name)))


@pytest.mark.parametrize(("name", "count"), ANCHORED)
def test_a_certified_consensus_of_anchored_shards_agrees_with_every_raw_pair(name, count):
    found = consensus_posterior(case_fit(name), count)
    assert found.word in ("certified", "corrected"), found.certificate.reason
    require_agreement(name, found)


@pytest.mark.parametrize(("name", "count"), PLAIN)
def test_a_plain_consensus_agrees_with_every_raw_pair_or_is_refused(name, count):
    found = consensus_posterior(case_fit(name), count, anchored=False)
    if found.word in ("certified", "corrected"):
        require_agreement(name, found)
    else:
        assert not found.certificate.valid


def test_the_comparison_notices_a_shift_of_a_fifth_and_a_stretch_of_a_tenth():
    known = reference_of("static 3 x 100")["parameters"]
    rng = np.random.default_rng(0)
    right = np.array(known["mean"]) + np.array(known["sd"]) * rng.standard_normal((4000, len(known["sd"])))
    ess = np.full(right.shape[1], 4000.0)
    assert all(off.max() < 1.0 for off in disagreement(known, right, ess))
    centre = np.array(known["mean"])
    assert disagreement(known, right + 0.25 * np.array(known["sd"]), ess)[0].min() > 1.0
    assert disagreement(known, centre + 1.15 * (right - centre), ess)[1].min() > 1.0
