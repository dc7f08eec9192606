"""Condensed likelihoods: a few points per angle that stand for all nodes, within one posterior."""

from __future__ import annotations

import io
from functools import reduce
from operator import add

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.likelihood.cells import adapt_cells
from hpcxpcs.likelihood.compress import compress
from hpcxpcs.likelihood.condense import (
    Condensation,
    Condensed,
    condensation,
    condense,
    moments_from_arrays,
    moments_to_arrays,
)
from hpcxpcs.likelihood.gaussian import marginal_log_likelihood, profile
from hpcxpcs.likelihood.moments import MomentArrays, Moments
from hpcxpcs.likelihood.products import Source, compiled_products, no_tangents
from hpcxpcs.likelihood.raw import lattices
from hpcxpcs.likelihood.scaling import build_scaling
from tests.likelihood.measured import Case, measured


def moments_of(case: Case) -> Moments:
    cells = adapt_cells(case.model, case.theta[None], case.phi, case.strength, case.axis, error=0.5).cells
    return compress(case.angles, case.phi, cells, case.axis)


def draws_of(case: Case, moments: Moments, count: int, spread: float, seed: int) -> np.ndarray:
    """Laplace draws (count, p) around the truth; a prior of ±10 % bounds what the data leave open."""
    products = moments.products(case.model, jnp.asarray(case.theta), case.tangents)
    scaling = build_scaling("individual", case.phi)
    free = list(case.free)
    information = np.asarray(profile(scaling, products, jnp.asarray(case.sigma)).information)
    information = information + np.diag((0.1 * case.theta[free]) ** -2.0)
    white = spread * np.random.default_rng(seed).standard_normal((len(free), count))
    thetas = np.tile(case.theta, (count, 1))
    thetas[:, free] += np.linalg.solve(np.linalg.cholesky(information).T, white).T
    return thetas


def log_likelihoods(case: Case, source: Source, moments: Moments, thetas: np.ndarray) -> np.ndarray:
    scaling = build_scaling("individual", case.phi)

    @jax.jit
    def value(theta: jnp.ndarray) -> jnp.ndarray:
        products = compiled_products(case.model, source, theta, no_tangents(theta))
        return marginal_log_likelihood(scaling, products, jnp.asarray(case.sigma), jnp.asarray(moments.pairs))

    return np.array([float(value(jnp.asarray(theta))) for theta in thetas])


def spread_of_error(case: Case, condensed: Condensed, moments: Moments, thetas: np.ndarray) -> float:
    values = [log_likelihoods(case, source, moments, thetas) for source in (condensed.arrays, moments.arrays)]
    return float(np.std(values[0] - values[1]))


@pytest.fixture(scope="module")
def sheared() -> Case:
    return measured("laminar_flow")


@pytest.fixture(scope="module")
def sheared_moments(sheared: Case) -> Moments:
    return moments_of(sheared)


@pytest.mark.parametrize("name", ["static", "laminar_flow", "two_component"])
def test_condensed_and_full_log_likelihood_agree_over_the_posterior(name: str) -> None:
    case = measured(name)
    moments = moments_of(case)
    condensed = condense(moments, case.model, draws_of(case, moments, 240, 1.5, 0), case.strength)
    fresh = draws_of(case, moments, 24, 1.0, 1)
    assert spread_of_error(case, condensed, moments, fresh) < 0.02
    assert condensed.points < moments.node_count / 3


def test_the_error_responds_to_the_tolerance_and_is_reported(sheared: Case, sheared_moments: Moments) -> None:
    samples = draws_of(sheared, sheared_moments, 150, 1.5, 0)
    fresh = draws_of(sheared, sheared_moments, 24, 2.0, 1)
    found = [condense(sheared_moments, sheared.model, samples, sheared.strength, tolerance=t) for t in (3.0, 0.01)]
    coarse, fine = (spread_of_error(sheared, c, sheared_moments, fresh) for c in found)
    assert coarse > 0.2 > 0.05 > fine
    assert found[0].points < found[1].points
    assert found[0].error > found[1].error


def test_derivatives_along_the_parameters_survive(sheared: Case, sheared_moments: Moments) -> None:
    samples = draws_of(sheared, sheared_moments, 150, 1.5, 0)
    condensed = condense(sheared_moments, sheared.model, samples, sheared.strength)
    scaling, sigma = build_scaling("individual", sheared.phi), jnp.asarray(sheared.sigma)
    full, short = (
        profile(scaling, compiled_products(sheared.model, source, jnp.asarray(sheared.theta), sheared.tangents), sigma)
        for source in (sheared_moments.arrays, condensed.arrays)
    )
    sd = np.sqrt(np.diag(np.asarray(full.information)))
    np.testing.assert_allclose(short.information / np.outer(sd, sd), full.information / np.outer(sd, sd), atol=2e-3)
    np.testing.assert_allclose(short.gradient / sd, full.gradient / sd, atol=0.05)


def test_angles_with_different_masks_are_condensed_each_with_its_own(sheared: Case) -> None:
    masked = sheared.masked([5, 40], [], [41, 42, 43], [7])
    moments = moments_of(masked)
    condensed = condense(moments, masked.model, draws_of(masked, moments, 150, 1.5, 0), masked.strength)
    fresh = draws_of(masked, moments, 24, 1.0, 1)
    assert spread_of_error(masked, condensed, moments, fresh) < 0.02


def test_the_number_of_points_does_not_grow_with_the_number_of_frames() -> None:
    points = []
    for frames, dt in ((64, 1.5), (192, 0.5)):
        case = measured("laminar_flow", frames=frames, dt=dt)
        moments = moments_of(case)
        samples = draws_of(case, moments, 150, 1.5, 0)
        points.append(condense(moments, case.model, samples, case.strength).points)
    assert points[1] <= points[0] + 3


@pytest.fixture(scope="module")
def chosen(sheared: Case, sheared_moments: Moments) -> Condensation:
    samples = draws_of(sheared, sheared_moments, 150, 1.5, 0)
    return condensation(sheared_moments, sheared.model, samples, sheared.strength)


@pytest.fixture(scope="module")
def quarters(sheared: Case, sheared_moments: Moments) -> list[Moments]:
    """The four lattices of stride 2."""
    cells = sheared_moments.cells
    return [compress(sheared.angles, sheared.phi, cells, sheared.axis, part) for part in lattices(2)]


def leaves(arrays: MomentArrays) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(arrays)]


def test_given_parts_of_the_pairs_then_their_condensed_sums_are_those_of_all_pairs(
    sheared_moments: Moments, chosen: Condensation, quarters: list[Moments]
) -> None:
    whole = chosen.apply(sheared_moments).groups[0]
    parts = [chosen.apply(quarter).groups[0] for quarter in quarters]
    for name in ("gram", "data"):
        total = reduce(add, (np.asarray(getattr(part, name)) for part in parts))
        wanted = np.asarray(getattr(whole, name))
        np.testing.assert_allclose(total, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())


def test_given_parts_with_masks_of_their_own_then_all_have_the_same_shapes_and_points(
    sheared: Case, sheared_moments: Moments, chosen: Condensation, quarters: list[Moments]
) -> None:
    masked = sheared.masked([5, 40], [], [41, 42, 43], [7])
    other = compress(masked.angles, masked.phi, sheared_moments.cells, masked.axis, lattices(2)[1])
    assert other.arrays.phi.shape != quarters[0].arrays.phi.shape
    first, *others = [chosen.apply(m) for m in (sheared_moments, *quarters, other)]
    for arrays in others:
        assert [leaf.shape for leaf in leaves(arrays)] == [leaf.shape for leaf in leaves(first)]
        assert np.array_equal(arrays.groups[0].t1, first.groups[0].t1)
        assert np.array_equal(arrays.groups[0].t2, first.groups[0].t2)


def test_given_a_part_then_its_condensed_log_likelihood_is_that_of_its_nodes(
    sheared: Case, sheared_moments: Moments, chosen: Condensation, quarters: list[Moments]
) -> None:
    fresh = draws_of(sheared, sheared_moments, 24, 1.0, 1)
    condensed = Condensed(chosen.apply(quarters[2]), chosen.points, chosen.error)
    assert spread_of_error(sheared, condensed, quarters[2], fresh) < 0.02
    assert np.std(log_likelihoods(sheared, condensed.arrays, quarters[2], fresh)) > 0.3


def test_moments_over_other_cells_are_refused(sheared: Case, chosen: Condensation) -> None:
    other = compress(sheared.angles, sheared.phi, [sheared.axis.root()], sheared.axis)
    with pytest.raises(ValueError, match="other cells"):
        chosen.apply(other)


def test_given_stored_arrays_then_they_come_back_bit_by_bit(sheared_moments: Moments, chosen: Condensation) -> None:
    for arrays in (chosen.apply(sheared_moments), sheared_moments.arrays):
        file = io.BytesIO()
        np.savez(file, **moments_to_arrays(arrays))
        file.seek(0)
        with np.load(file, allow_pickle=False) as stored:
            back = moments_from_arrays(dict(stored))
        assert jax.tree.structure(back) == jax.tree.structure(arrays)
        for mine, its in zip(leaves(back), leaves(arrays), strict=True):
            assert mine.dtype == its.dtype and np.array_equal(mine, its)
