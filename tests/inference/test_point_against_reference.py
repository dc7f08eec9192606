"""The point fit next to least squares of all raw pairs with SciPy: estimates, covariances, χ², every noise option."""

from dataclasses import replace

import numpy as np
import pytest

from hpcxpcs.data.twotime import from_arrays
from hpcxpcs.inference.measurement import measure
from tests.inference import fitting
from tests.inference.fitting import SHEAR, simulated
from tests.inference.reference import reference_fit

SIGMA = 0.003
CASES = {
    "static": lambda **spec: simulated("static", sd=SIGMA, seed=5, **spec),
    "laminar_flow": lambda **spec: simulated("laminar_flow", sd=SIGMA, seed=6, parameters=SHEAR, **spec),
}


def fit(case, **settings):
    """A fit whose compression may change log-likelihoods by 0.002 nats only, for close comparisons."""
    return fitting.fit(case, **{"compression_tolerance": 0.002, **settings})


def estimate(found, shared=False):
    """Values over (free physics, contrast…, offset…), and rows of the covariance that belong to them."""
    n_phi, count = len(found.scaling.contrast), int(found.free.sum())
    picked = [0] if shared else range(n_phi)
    rows = [*range(count), *(count + k for k in picked), *(count + n_phi + k for k in picked)]
    values = np.concatenate([found.values[found.free], found.scaling.contrast, found.scaling.offset])
    return values[rows], found.covariance[np.ix_(rows, rows)], found.robust_covariance[np.ix_(rows, rows)]


def agrees(found, reference, shared=False, scale=1.0):
    """Estimates within 0.02 sd, covariances within 2 % of the product of the sds."""
    values, covariance, _ = estimate(found, shared)
    sd = np.sqrt(np.diag(reference.covariance))
    np.testing.assert_array_less(np.abs(values - reference.values), 0.02 * sd)
    np.testing.assert_array_less(
        np.abs(covariance - scale**2 * reference.covariance), 0.02 * scale**2 * np.outer(sd, sd)
    )


@pytest.fixture(scope="module")
def cases():
    return {
        (name, shared): make(contrast_spread=0.0, offset_spread=0.0) if shared else make()
        for name, make in CASES.items()
        for shared in (False, True)
    }


@pytest.mark.parametrize("shared", [False, True], ids=["individual", "averaged"])
@pytest.mark.parametrize("name", CASES)
def test_estimate_and_covariance_are_those_of_all_raw_pairs(cases, name, shared):
    case = cases[name, shared]
    found = fit(case, scaling="averaged" if shared else "individual", noise=SIGMA, sample_noise_scale=False)
    reference = reference_fit(case, shared=shared, sigma=SIGMA)
    assert found.status == "converged" and found.compression.provider == "moments"
    agrees(found, reference, shared)
    assert found.chi_squared == pytest.approx(reference.chi_squared, rel=1e-4)
    assert found.pairs.sum() == reference.pairs
    assert found.degrees_of_freedom == pytest.approx(reference.pairs - len(reference.values), abs=1e-3)
    assert (found.sigma_source, found.noise_scale) == ("given", 1.0)
    np.testing.assert_array_equal(found.sigma, SIGMA)


def test_at_the_default_tolerance_the_estimate_moves_by_a_small_part_of_its_error(cases):
    case = cases["laminar_flow", False]
    found = fit(case, scaling="individual", noise=SIGMA, compression_tolerance=0.05)
    reference = reference_fit(case, sigma=SIGMA)
    values, _, _ = estimate(found)
    np.testing.assert_array_less(np.abs(values - reference.values), 0.1 * np.sqrt(np.diag(reference.covariance)))


def test_given_a_wrong_sigma_and_a_sampled_scale_then_errors_follow_the_scatter_of_the_data(cases):
    case = cases["static", False]
    found = fit(case, scaling="individual", noise=10.0 * SIGMA, sample_noise_scale=True)
    reference = reference_fit(case, sigma=SIGMA)
    rough = np.sqrt(reference.chi_squared / (reference.pairs - len(reference.values)))
    assert found.noise_scale == pytest.approx(0.1 * rough, rel=1e-3)
    agrees(found, reference, scale=rough)
    assert found.reduced_chi_squared == pytest.approx(0.01 * rough**2, rel=1e-3)


def test_given_a_wrong_sigma_and_a_fixed_scale_then_errors_follow_the_sigma(cases):
    case = cases["static", False]
    found = fit(case, scaling="individual", noise=2.0 * SIGMA, sample_noise_scale=False)
    agrees(found, reference_fit(case, sigma=2.0 * SIGMA))
    assert found.noise_scale == 1.0


def test_given_nothing_about_the_noise_then_it_is_taken_from_the_compression_residual(cases):
    found = fit(cases["laminar_flow", False], scaling="individual")
    assert found.sigma_source == "compression residual"
    np.testing.assert_allclose(found.sigma, SIGMA, rtol=0.08)
    assert found.reduced_chi_squared == pytest.approx(1.0, abs=0.05)


def test_given_a_sigma_for_every_pair_then_the_fit_is_the_weighted_one():
    case = CASES["static"]()
    spec, measurement = case.spec, case.measurement
    rng = np.random.default_rng(0)
    n_phi, count = len(measurement.phi), measurement.axis.count
    sigma = SIGMA * np.exp(rng.normal(0.0, 0.7, (n_phi, count, count)))
    sigma = np.triu(sigma) + np.triu(sigma, 1).swapaxes(1, 2)
    sigma = np.maximum(sigma, SIGMA)
    c2 = np.stack([measurement.angles(k).c2 for k in range(n_phi)])
    extra = np.sqrt(sigma**2 - SIGMA**2) * rng.standard_normal(c2.shape)
    c2 = c2 + np.triu(extra, 1) + np.triu(extra, 1).swapaxes(1, 2)
    weighted = replace(
        case, measurement=measure(from_arrays(c2, measurement.phi, spec.q, spec.dt, sigma=sigma), 1 << 30)
    )
    found = fit(weighted, scaling="individual", sample_noise_scale=False)
    assert found.sigma_source == "file" and found.compression.provider == "moments"
    agrees(found, reference_fit(weighted))


def test_dead_frames_take_no_part():
    case = CASES["laminar_flow"](dead_frames=(5, 6, 40))
    found = fit(case, scaling="individual", noise=SIGMA, sample_noise_scale=False)
    agrees(found, reference_fit(case, sigma=SIGMA))
    assert found.pairs.tolist() == [56 * 55 / 2] * 3


@pytest.mark.parametrize("fixed", [{"phi0": -4.0, "D_offset": 1000.0}, {"gamma_dot_t_offset": 1e-4, "beta": -0.3}])
def test_fixed_parameters_stay_and_the_rest_is_their_optimum(cases, fixed):
    case = cases["laminar_flow", False].told(fixed=fixed)
    found = fit(case, scaling="individual", noise=SIGMA, sample_noise_scale=False)
    agrees(found, reference_fit(case, sigma=SIGMA))
    for name, value in fixed.items():
        index = case.index(name)
        assert found.values[index] == value and not found.free[index]
        assert np.isnan(found.uncertainty[index]) and name not in found.covariance_names


def test_given_data_with_errors_of_their_own_then_the_robust_covariance_is_the_sandwich_over_frames_of_the_raw_pairs(
    cases,
):
    case = cases["static", False]
    matrices = [
        replace(matrix, sigma=np.full(matrix.c2.shape, SIGMA))
        for matrix in map(case.measurement.angles, range(len(case.measurement.phi)))
    ]
    known = replace(case.measurement, angles=matrices.__getitem__, has_sigma=True)
    found = fit(replace(case, measurement=known), scaling="individual", sample_noise_scale=False)
    assert found.noise is None
    reference = reference_fit(case, sigma=SIGMA)
    np.testing.assert_allclose(
        estimate(found)[2],
        sandwich(case, reference.values, SIGMA),
        rtol=0.02,
        atol=0.02 * reference.covariance.max(),
    )


def sandwich(case, values, sigma):
    """H⁻¹BH⁻¹ over frames, written out with dense indicator sums, with the allowance for fitted levels."""
    import jax

    from tests.inference.reference import pairs_of

    t1, t2, angle, data, _ = pairs_of(case)
    p, n_phi = case.truth.size, len(case.measurement.phi)
    contrast, offset = values[p : p + n_phi], values[p + n_phi :]

    def shape(theta):
        return case.model.shape(theta, t1, t2, case.measurement.phi[angle])

    f, slopes = np.asarray(shape(values[:p])), np.asarray(jax.jacfwd(shape)(values[:p]))
    member = np.eye(n_phi)[angle]
    design = np.concatenate([contrast[angle][:, None] * slopes, f[:, None] * member, member], axis=1) / sigma
    scores = design * ((data - offset[angle] - contrast[angle] * f) / sigma)[:, None]
    total = -scores.T @ scores
    for a in range(n_phi):
        for t in np.unique(np.concatenate([t1, t2])):
            g = scores[(angle == a) & ((t1 == t) | (t2 == t))].sum(axis=0)
            total += np.outer(g, g)
    frames = len(np.unique(np.concatenate([t1, t2])))
    inverse = np.linalg.inv(design.T @ design)
    return inverse @ total @ inverse * frames / (frames - 4.0)
