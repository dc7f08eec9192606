"""Inner products over raw pairs, against sums written out pair by pair in plain NumPy."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.data.matrices import AngleMatrix
from hpcxpcs.likelihood import raw as raw_module
from hpcxpcs.likelihood.cells import TimeAxis
from hpcxpcs.likelihood.dyadic import clustered_scores
from hpcxpcs.likelihood.products import Products, compiled_products, no_tangents
from hpcxpcs.likelihood.raw import RawPairs, frame_subset
from hpcxpcs.physics.model import TimeGrid, build_model
from tests.likelihood.measured import Case, measured, shape_of, slopes_of, usable_pairs

DEAD = (2, 5)


def summed(case: Case, pairs_of=usable_pairs) -> Products:
    """gram, data and power by a double loop over the pairs."""
    size = 2 + case.theta.size
    gram, data, power = np.zeros((len(case.phi), size, size)), np.zeros((len(case.phi), size)), np.zeros(len(case.phi))
    times = case.axis.all_times()
    for k, (phi, matrix) in enumerate(zip(case.phi, case.matrices, strict=True)):
        for i, j in pairs_of(matrix):
            value = float(shape_of(case.model, case.theta, phi, times[i], times[j]))
            column = np.array([value, 1.0, *slopes_of(case.model, case.theta, phi, times[i], times[j])])
            weight = 1.0 if matrix.sigma is None else matrix.sigma[i, j] ** -2.0
            gram[k] += weight * np.outer(column, column)
            data[k] += weight * column * matrix.c2[i, j]
            power[k] += weight * matrix.c2[i, j] ** 2
    return Products(gram, data, power)


def assert_close(found: Products, wanted: Products, rtol: float) -> None:
    """Agreement relative to the norms of the two columns of each entry."""
    norm = np.sqrt(np.einsum("aii->ai", np.asarray(wanted.gram)))
    norm = np.where(norm > 0.0, norm, 1.0)
    assert np.abs((found.gram - wanted.gram) / (norm[:, :, None] * norm[:, None, :])).max() < rtol
    assert np.abs((found.data - wanted.data) / (norm * np.sqrt(np.asarray(wanted.power))[:, None])).max() < rtol
    assert np.allclose(found.power, wanted.power, rtol=1e-12)


@pytest.fixture(scope="module")
def tiny() -> Case:
    """Laminar flow, two angles of 13 frames: dead frames at both, masked pairs and errors per pair at one."""
    case = measured("laminar_flow", frames=13, phi=(-30.0, 40.0)).masked(DEAD, (7,))
    rng = np.random.default_rng(0)
    return case.changed(pair_ok=[None, rng.random((13, 13)) > 0.2], sigma=[None, 0.5 + rng.random((13, 13))])


def test_values_and_derivatives_are_the_sums_over_usable_pairs(tiny):
    found = tiny.raw.products(tiny.model, jnp.asarray(tiny.theta), jnp.eye(7))
    assert_close(found, summed(tiny), 1e-7)


def test_derivatives_follow_the_tangents_given(tiny):
    mixing = np.random.default_rng(1).standard_normal((7, 7)) * np.abs(tiny.theta)[:, None]
    found = tiny.raw.products(tiny.model, jnp.asarray(tiny.theta), jnp.asarray(mixing))
    whole = summed(tiny)
    lift = np.zeros((9, 9))
    lift[:2, :2], lift[2:, 2:] = np.eye(2), mixing.T
    wanted = Products(lift @ whole.gram @ lift.T, whole.data @ lift.T, whole.power)
    assert_close(found, wanted, 1e-7)


def test_given_data_that_are_not_numbers_where_masked_then_nothing_leaks(tiny):
    broken = tiny.changed(c2=[np.where(_used(m), m.c2, np.nan) for m in tiny.matrices])
    theta = jnp.asarray(tiny.theta)
    for mine, its in zip(*(c.raw.products(c.model, theta, no_tangents(theta)) for c in (broken, tiny)), strict=True):
        assert np.array_equal(mine, its)


def _used(matrix: AngleMatrix) -> np.ndarray:
    used = np.zeros(matrix.c2.shape, dtype=bool)
    used[tuple(np.transpose(usable_pairs(matrix)))] = True
    return used


def test_many_parameter_sets_in_one_pass_give_what_each_gives_alone(tiny):
    thetas = jnp.asarray(tiny.theta * np.array([[1.0], [1.1], [0.7]]))
    many = tiny.raw.products_many(tiny.model, thetas)
    for k, theta in enumerate(thetas):
        alone = tiny.raw.products(tiny.model, theta, no_tangents(theta))
        for mine, its in zip(many, alone, strict=True):
            assert np.allclose(mine[k], its, rtol=1e-12)


@pytest.mark.parametrize("side", [8, 24])
def test_given_a_matrix_of_several_tiles_and_batches_then_every_pair_is_summed_once(side, monkeypatch):
    monkeypatch.setattr(raw_module, "TILE", side)
    monkeypatch.setattr(raw_module, "BATCH", 3)
    case = measured("static", frames=41, phi=(-30.0, 40.0)).masked((2, 8), (40,))
    theta = jnp.asarray(case.theta)
    assert_close(case.raw.products(case.model, theta, jnp.eye(3)), summed(case), 1e-7)


def test_given_a_window_that_starts_late_then_its_first_frame_counts():
    case = measured("static", frames=12, phi=(10.0,))
    later = replace(
        case,
        axis=TimeAxis(3.0, 1.0, 12),
        matrices=tuple(replace(m, frame_ok=np.ones(12, dtype=bool)) for m in case.matrices),
    )
    found = later.raw.products(later.model, jnp.asarray(later.theta), jnp.eye(3))
    assert_close(found, summed(later), 1e-7)
    assert found.gram[0, 1, 1] == 66.0


def test_a_tile_knows_how_many_pairs_carry_weight(tiny):
    batches = list(tiny.raw.by_angle(lambda index, tiles: tiles.pairs))
    assert [int(pairs[0]) for (pairs,) in batches] == [len(usable_pairs(m)) for m in tiny.matrices]


def test_a_subset_of_frames_sums_the_pairs_among_them(tiny):
    chosen = [1, 3, 4, 7, 8, 12]
    tiles = frame_subset(tiny.angles, tiny.phi, tiny.axis, chosen)
    theta = jnp.asarray(tiny.theta)
    found = compiled_products(tiny.model, tiles, theta, jnp.eye(7))

    def among(matrix: AngleMatrix) -> list[tuple[int, int]]:
        return [(i, j) for i, j in usable_pairs(matrix) if i in chosen and j in chosen]

    assert_close(found, summed(tiny, among), 1e-7)
    assert list(tiles.pairs) == [len(among(m)) for m in tiny.matrices]


@pytest.mark.parametrize("frames", [60, 64, 130, 131])
def test_given_a_model_that_exists_on_frames_alone_then_padding_asks_for_no_other_times(frames: int) -> None:
    step = 1.0e-3
    grid = TimeGrid(0.0, step, frames)
    model = build_model("static", q=0.0054, integrator="trapezoid", grid=grid)
    matrix = AngleMatrix(np.full((frames, frames), 1.1), np.ones(frames, dtype=bool), None, None)
    raw = RawPairs(lambda k: matrix, np.zeros(1), TimeAxis(0.0, step, frames))
    theta = jnp.array([1.0e5, -0.3, 10.0])
    products = raw.products(model, theta, jnp.eye(3))
    assert all(np.all(np.isfinite(leaf)) for leaf in products)
    scores, _ = clustered_scores(raw, model, theta, jnp.eye(3), np.array([[0.1, 1.0]]), np.array([0.01]))
    assert np.all(np.isfinite(scores.by_frame)) and np.all(np.any(scores.by_frame[0, 1:] != 0.0, axis=1))
