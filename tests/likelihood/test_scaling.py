"""Contrast and offset of every mode equal the dense least-squares answer over all pairs."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcxpcs.likelihood import gaussian, scaling
from hpcxpcs.likelihood.scaling import (
    POOLING_SCALE,
    build_scaling,
    fourier_basis,
    largest_fourier_order,
    learn_widths,
    resolve_mode,
)
from tests.likelihood.dense import Dense, problem

solve = jax.jit(scaling.solve)
spread_log_likelihood = jax.jit(scaling.spread_log_likelihood)
marginal_log_likelihood = jax.jit(gaussian.marginal_log_likelihood)

PHI = np.array([-150.0, -80.0, -15.0, 20.0, 70.0, 130.0])
CONTRAST = np.array([0.14, 0.16, 0.15, 0.13, 0.17, 0.15])
OFFSET = np.array([1.0, 1.004, 0.998, 1.001, 0.997, 1.003])


@pytest.fixture(scope="module")
def small() -> Dense:
    return problem(CONTRAST, OFFSET, PHI)


def harmonics(order: int) -> np.ndarray:
    """1, cos kφ, sin kφ as they stand in the textbook."""
    angle = np.deg2rad(PHI)[:, None] * np.arange(1, order + 1)
    return np.concatenate([np.ones((PHI.size, 1)), np.cos(angle), np.sin(angle)], axis=1)


def dense_answer(small: Dense, basis: np.ndarray) -> np.ndarray:
    """(contrast, offset) per angle (n_phi, 2) by least squares on every pair."""
    found = np.linalg.lstsq(small.whitened_design(basis, basis), small.whitened(), rcond=None)[0]
    return np.stack([basis @ found[: basis.shape[1]], basis @ found[basis.shape[1] :]], axis=1)


@pytest.mark.parametrize(
    ("mode", "order", "basis"),
    [
        ("averaged", 2, np.ones((6, 1))),
        ("individual", 2, np.eye(6)),
        ("fourier", 1, harmonics(1)),
        ("fourier", 2, harmonics(2)),
    ],
)
def test_the_solution_is_the_dense_least_squares_answer(small, mode, order, basis):
    found = solve(build_scaling(mode, PHI, fourier_order=order), small.products(), small.sigma)
    assert np.allclose(found.per_angle, dense_answer(small, basis), rtol=1e-8)
    assert found.coefficients.size == 2 * basis.shape[1]


def test_the_information_is_that_of_the_dense_problem(small):
    found = solve(build_scaling("individual", PHI), small.products(), small.sigma)
    rows = small.whitened_design(np.eye(6), np.eye(6))
    assert np.allclose(found.information, rows.T @ rows, rtol=1e-10)


@pytest.mark.parametrize("widths", [(0.1, 0.01), (0.005, 0.0005)])
def test_hierarchical_is_the_dense_ridge_answer_with_a_free_mean(small, widths):
    found = solve(build_scaling("hierarchical", PHI, widths=widths), small.products(), small.sigma)
    rows = np.concatenate([small.whitened_design(np.eye(6), np.eye(6)), np.zeros((small.whitened().size, 2))], axis=1)
    pull = np.zeros((12, 14))
    for k in range(6):
        pull[k, k], pull[k, 12] = 1.0 / widths[0], -1.0 / widths[0]
        pull[6 + k, 6 + k], pull[6 + k, 13] = 1.0 / widths[1], -1.0 / widths[1]
    right = np.concatenate([small.whitened(), np.zeros(12)])
    wanted = np.linalg.lstsq(np.concatenate([rows, pull]), right, rcond=None)[0]
    assert np.allclose(found.per_angle, wanted[:12].reshape(2, 6).T, rtol=1e-8)


def test_hierarchical_lies_between_averaged_and_individual(small):
    def answer(mode: str, **options) -> np.ndarray:
        return np.asarray(solve(build_scaling(mode, PHI, **options), small.products(), small.sigma).per_angle)

    averaged, individual = answer("averaged"), answer("individual")
    assert np.allclose(answer("hierarchical", widths=(1e-6, 1e-6)), averaged, atol=1e-6)
    assert np.allclose(answer("hierarchical", widths=(1e3, 1e3)), individual, atol=1e-6)
    middle = answer("hierarchical", widths=(0.005, 0.002))
    assert np.std(averaged[:, 0]) < np.std(middle[:, 0]) < np.std(individual[:, 0])


def test_constant_has_no_freedom(small):
    fixed = build_scaling("constant", PHI, fixed=(CONTRAST, OFFSET))
    found = solve(fixed, small.products(), small.sigma)
    assert found.coefficients.size == 0 and fixed.precision.size == 0
    assert np.array_equal(found.per_angle, np.stack([CONTRAST, OFFSET], axis=1))


def test_constant_without_values_is_refused():
    with pytest.raises(ValueError, match="constant"):
        build_scaling("constant", PHI)


def test_auto_pools_angles_from_three_on():
    assert [resolve_mode("auto", n) for n in (1, 2, 3, 23)] == ["individual"] * 2 + ["hierarchical"] * 2
    assert all(resolve_mode(mode, 2) == mode for mode in ("averaged", "constant", "individual", "fourier"))


@pytest.mark.parametrize(
    ("phi", "rank"),
    [
        ((0.0, 180.0, 360.0, -180.0, 540.0), 2),
        ((10.0, 190.0, 55.0, 235.0, 100.0, 280.0), 5),
        ((30.0, 390.0, -330.0, 30.0 + 1e-9, 210.0), 2),
        ((5.0, 5.0, 5.0, 5.0, 5.0), 1),
        ((-120.0, -50.0, 0.0, 40.0, 90.0), 5),
    ],
)
def test_the_fourier_basis_of_degenerate_angles_keeps_only_what_they_can_tell_apart(phi, rank):
    angles = np.array(phi)
    basis = fourier_basis(angles, 2)
    assert basis.shape == (angles.size, rank)
    assert np.allclose(basis.T @ basis, np.eye(rank), atol=1e-12)
    for wave in (np.ones(angles.size), *(w(k * np.deg2rad(angles)) for w in (np.cos, np.sin) for k in (1, 2))):
        assert np.allclose(basis @ (basis.T @ wave), wave, atol=1e-6)


def test_given_angles_and_their_opposites_then_fourier_scaling_is_determined():
    phi = np.array([0.0, 180.0, 360.0, -180.0, 540.0])
    opposite = problem(CONTRAST[:5], OFFSET[:5], phi)
    found = solve(build_scaling("fourier", phi), opposite.products(), opposite.sigma)
    assert np.linalg.cond(found.information) < 1e4
    per_angle = np.asarray(found.per_angle)
    assert np.allclose(per_angle[[1, 3, 4]], per_angle[1], atol=1e-12)
    assert np.abs(per_angle[0, 0] - per_angle[1, 0]) > 1e-4


@given(st.integers(1, 40), st.integers(0, 30))
def test_fourier_never_asks_for_more_coefficients_than_there_are_angles(count, order):
    phi = np.linspace(-170.0, 180.0, count)
    assert build_scaling("fourier", phi, fourier_order=order).contrast_basis.shape[1] <= count
    assert 1 + 2 * largest_fourier_order(count) <= count < 3 + 2 * largest_fourier_order(count)


def test_given_a_shape_that_vanishes_then_the_offset_is_still_found(small):
    products = small.products(np.array([1e6, 0.0]))
    for mode in ("individual", "averaged", "hierarchical"):
        found = np.asarray(solve(build_scaling(mode, PHI), products, small.sigma).per_angle)
        assert np.isfinite(found).all()
        assert np.allclose(found[:, 1], 1.0, atol=0.2)


def spread_problem(contrast_sd: float, offset_sd: float, seed: int) -> tuple[Dense, np.ndarray]:
    """Forty angles whose scalings scatter; and the scatter that they happen to have."""
    rng = np.random.default_rng(seed)
    phi = np.linspace(-175.0, 175.0, 40)
    scalings = np.stack([0.15 + contrast_sd * rng.standard_normal(40), 1.0 + offset_sd * rng.standard_normal(40)])
    return problem(*scalings, phi, pairs=60, noise=0.004, seed=seed), scalings.std(axis=1)


@pytest.mark.parametrize(("contrast_sd", "offset_sd"), [(0.015, 0.003), (0.004, 0.02)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_spread_between_angles_is_learned_within_its_uncertainty(contrast_sd, offset_sd, seed):
    measured, drawn = spread_problem(contrast_sd, offset_sd, seed)
    found = learn_widths(build_scaling("hierarchical", measured.phi), measured.products(), measured.sigma)
    own = 1.0 / np.sqrt(2.0 * 39.0)
    assert np.abs(np.log(np.array(found) / (contrast_sd, offset_sd))).max() < 3.0 * own
    assert np.abs(np.log(np.array(found) / drawn)).max() < 1.0 * own


def test_given_angles_that_agree_then_the_learned_spread_is_below_the_scatter_of_their_estimates():
    measured, _ = spread_problem(0.0, 0.0, 3)
    products = measured.products()
    individual = solve(build_scaling("individual", measured.phi), products, measured.sigma)
    found = learn_widths(build_scaling("hierarchical", measured.phi), products, measured.sigma)
    assert np.all(np.array(found) < 0.5 * np.std(np.asarray(individual.per_angle), axis=0))


def test_the_widths_a_scaling_carries_do_not_bias_the_ones_it_learns(small):
    learned = [
        learn_widths(build_scaling("hierarchical", PHI, widths=widths), small.products(), small.sigma)
        for widths in ((0.1, 0.01), (0.001, 0.3))
    ]
    assert np.allclose(*learned, rtol=1e-3)


def test_the_likelihood_of_the_widths_is_the_marginal_one_with_its_weak_prior(small):
    products, pairs = small.products(), small.pairs

    def both(widths: tuple[float, float]) -> float:
        pooled = build_scaling("hierarchical", PHI, widths=widths)
        prior = np.log(widths).sum() - np.log1p((np.array(widths) / POOLING_SCALE) ** 2).sum()
        return float(marginal_log_likelihood(pooled, products, small.sigma, pairs)) + float(prior)

    def learned(widths: tuple[float, float]) -> float:
        pooled = build_scaling("hierarchical", PHI)
        return float(spread_log_likelihood(pooled, products, small.sigma, np.log(widths)))

    one, two = (0.02, 0.004), (0.1, 0.001)
    assert learned(one) - learned(two) == pytest.approx(both(one) - both(two), rel=1e-8)
