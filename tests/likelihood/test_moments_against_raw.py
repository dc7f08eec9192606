"""Moments give the likelihood of the raw pairs over the whole posterior, for every model and mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.likelihood.cells import Cell, adapt_cells, geometric_cells
from hpcxpcs.likelihood.compress import compress
from hpcxpcs.likelihood.gaussian import marginal_log_likelihood, profile
from hpcxpcs.likelihood.moments import Moments
from hpcxpcs.likelihood.products import Products, no_tangents
from hpcxpcs.likelihood.raw import EVERY_PAIR, Lattice, lattices
from hpcxpcs.likelihood.scaling import Scaling, build_scaling
from tests.likelihood.measured import PHI, Case, measured, usable_pairs

MODELS = ("static", "laminar_flow", "two_component", "static_ref", "static_both")
TOLERANCE = 0.05
ERROR = 0.5
DRAWS = 24
DEAD = (0, 7, 8, 40, 95)

_profile = jax.jit(profile)
_marginals = jax.jit(jax.vmap(marginal_log_likelihood, in_axes=(None, 0, None, None)))


@dataclass(frozen=True)
class Posterior:
    """A measurement, parameter sets (k, p) spread over its posterior, and cells that adapt_cells made for it."""

    case: Case
    scaling: Scaling
    thetas: np.ndarray
    cells: tuple[Cell, ...]

    def compressed(self, case: Case, cells: Sequence[Cell] | None = None, lattice: Lattice = EVERY_PAIR) -> Moments:
        """Moments of a case; over these cells unless others are given."""
        return compress(case.angles, case.phi, cells or self.cells, case.axis, lattice)

    def spread(self, moments: Moments, case: Case) -> float:
        """Standard deviation (nats) over the posterior of the log-likelihood's error against the raw pairs."""
        thetas = jnp.asarray(self.thetas)
        packed = [moments.products(case.model, theta, no_tangents(theta)) for theta in thetas]
        stacked = Products(*(jnp.stack(leaf) for leaf in zip(*packed, strict=True)))
        sigma, pairs = jnp.asarray(case.sigma), jnp.asarray(moments.pairs)
        exact = _marginals(self.scaling, case.raw.products_many(case.model, thetas), sigma, pairs)
        assert float(jnp.std(exact)) > 0.5
        return float(jnp.std(_marginals(self.scaling, stacked, sigma, pairs) - exact))


def adapted(case: Case, error: float) -> tuple[Cell, ...]:
    partition = adapt_cells(case.model, case.theta[None], case.phi, case.strength, case.axis, error=error)
    assert partition.resolved
    return partition.cells


def draws(case: Case, scaling: Scaling, cells: Sequence[Cell]) -> np.ndarray:
    """Laplace draws (k, p) of the identified parameters; a prior of ±10 % bounds what few frames leave open."""
    theta = jnp.asarray(case.theta)
    moments = compress(case.angles, case.phi, cells, case.axis)
    products = moments.products(case.model, theta, case.tangents)
    information = np.asarray(_profile(scaling, products, jnp.asarray(case.sigma)).information)
    information = information + np.diag((0.1 * case.theta[list(case.free)]) ** -2.0)
    white = np.random.default_rng(1).standard_normal((DRAWS, len(case.free)))
    thetas = np.tile(case.theta, (DRAWS, 1))
    thetas[:, case.free] += np.linalg.solve(np.linalg.cholesky(information).T, white.T).T
    return thetas


def posterior_of(name: str) -> Posterior:
    case = measured(name)
    scaling = build_scaling("hierarchical", case.phi, widths=(0.015, 0.003))
    cells = adapted(case, ERROR)
    return Posterior(case, scaling, draws(case, scaling, cells), cells)


@pytest.fixture(scope="module", params=MODELS)
def posterior(request: pytest.FixtureRequest) -> Posterior:
    return posterior_of(request.param)


@pytest.fixture(scope="module")
def flow() -> Posterior:
    return posterior_of("laminar_flow")


def lattice_only(case: Case, lattice: Lattice) -> Case:
    """The same measurement with all pairs off a lattice masked."""
    first, second = np.indices((case.axis.count,) * 2)
    kept = (first % lattice.stride == lattice.row) & (second % lattice.stride == lattice.column)
    return case.changed(pair_ok=[kept] * len(case.phi))


def test_given_every_pair_then_the_log_likelihood_agrees_over_the_posterior(posterior):
    assert posterior.spread(posterior.compressed(posterior.case), posterior.case) < TOLERANCE


def test_given_dead_frames_then_the_log_likelihood_agrees_with_the_pairs_that_are_left(posterior):
    case = posterior.case.masked(DEAD)
    assert posterior.spread(posterior.compressed(case), case) < TOLERANCE


def test_given_lattice_shards_then_their_sum_agrees_with_all_pairs(posterior):
    case = posterior.case.masked(DEAD)
    total = reduce(add, (posterior.compressed(case, lattice=shard) for shard in lattices(3)))
    assert posterior.spread(total, case) < TOLERANCE


def test_given_different_dead_frames_per_angle_and_lattice_shards_then_their_sum_agrees(flow):
    case = flow.case.masked(DEAD, (), (50, 51), DEAD)
    total = reduce(add, (flow.compressed(case, lattice=shard) for shard in lattices(2)))
    assert flow.spread(total, case) < TOLERANCE


def test_given_one_lattice_shard_alone_then_it_agrees_with_its_own_pairs(flow):
    shard = Lattice(1, 2, 3)
    moments = flow.compressed(flow.case, lattice=shard)
    case = lattice_only(flow.case, shard)
    assert list(moments.pairs) == [len(usable_pairs(m)) for m in case.matrices]
    assert flow.spread(moments, case) < TOLERANCE


def test_given_masked_pairs_then_the_log_likelihood_agrees_with_the_others(flow):
    kept = np.random.default_rng(3).random((len(PHI), 96, 96)) > 0.3
    case = flow.case.changed(pair_ok=list(kept))
    assert flow.spread(flow.compressed(case), case) < TOLERANCE


def test_given_moments_of_the_wrong_mask_then_the_comparison_fails(flow):
    assert flow.spread(flow.compressed(flow.case), flow.case.masked(range(20, 40))) > 5 * TOLERANCE


def test_the_error_falls_as_cells_get_finer_and_one_cell_for_everything_is_far_too_coarse(flow):
    case = flow.case
    partitions = [(case.axis.root(),), *(adapted(case, error) for error in (10.0, 0.02))]
    spreads = [flow.spread(flow.compressed(case, cells), case) for cells in partitions]
    assert spreads[0] > 100 * TOLERANCE
    assert spreads[0] > 10 * spreads[1] > 100 * spreads[2]
    assert spreads[2] < 0.1 * TOLERANCE


@pytest.mark.parametrize("posterior", ["laminar_flow", "two_component"], indirect=True)
def test_the_products_and_their_derivatives_agree_to_a_thousandth(posterior):
    case = posterior.case.masked(DEAD)
    theta = jnp.asarray(case.theta)
    found = posterior.compressed(case).products(case.model, theta, case.tangents)
    wanted = case.raw.products(case.model, theta, case.tangents)
    scale = np.sqrt(np.einsum("aii->ai", np.asarray(wanted.gram)))
    gram = (found.gram - wanted.gram) / (scale[:, :, None] * scale[:, None, :])
    data = (found.data - wanted.data) / (scale * np.sqrt(wanted.power)[:, None])
    assert np.abs(gram).max() < 1e-3
    assert np.abs(data).max() < 1e-3
    assert np.allclose(found.power, wanted.power, rtol=1e-12)
    assert np.allclose(found.gram[:, 1, 1], wanted.gram[:, 1, 1], rtol=1e-12)


def test_given_errors_per_pair_then_weighted_moments_agree_with_weighted_pairs(flow):
    sigma = 0.002 + 0.003 * np.random.default_rng(4).random((len(PHI), 96, 96))
    case = flow.case.changed(sigma=list(sigma), frame_ok=[m.frame_ok for m in flow.case.masked(DEAD).matrices])
    moments = flow.compressed(case, adapted(flow.case, 0.1))
    theta = jnp.asarray(case.theta)
    found = moments.products(case.model, theta, no_tangents(theta))
    wanted = case.raw.products(case.model, theta, no_tangents(theta))
    for mine, its in zip(found, wanted, strict=True):
        assert np.allclose(mine, its, rtol=1e-4)


def test_geometric_cells_need_no_model_and_agree_too(flow):
    assert flow.spread(flow.compressed(flow.case, geometric_cells(flow.case.axis)), flow.case) < TOLERANCE
