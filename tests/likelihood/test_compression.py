"""Compression counts every pair exactly once, whatever the cells, lattices, masks and errors."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcxpcs.data.matrices import AngleMatrix
from hpcxpcs.likelihood import raw as pairs_module
from hpcxpcs.likelihood.cells import Cell, TimeAxis, adapt_cells, cell_nodes, geometric_cells, lagrange_matrix
from hpcxpcs.likelihood.compress import compress
from hpcxpcs.likelihood.moments import Moments
from hpcxpcs.likelihood.products import no_tangents
from hpcxpcs.likelihood.raw import Lattice, lattices
from tests.likelihood.measured import measured, pairs_of_cell, random_cells, usable_pairs
from tests.likelihood.sums import assert_same_sums, random_angles, sums_of

PHI = np.array([-40.0, 10.0, 75.0])


def ones(count: int, frame_ok: np.ndarray) -> AngleMatrix:
    """Data that are 1 for every usable pair and not a number elsewhere."""
    c2 = np.where(np.triu(frame_ok[:, None] & frame_ok[None, :], 1), 1.0, np.nan)
    return AngleMatrix(c2, frame_ok)


def added_lattices(angles: Sequence[AngleMatrix], cells: Sequence[Cell], axis: TimeAxis, stride: int) -> Moments:
    phi = PHI[: len(angles)]
    return reduce(add, (compress(angles.__getitem__, phi, cells, axis, shard) for shard in lattices(stride)))


def column_sums(moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """1ᵀG1 and 1ᵀb of every angle: both count the pairs of data that are one."""
    grams, data = sums_of(moments)[:-2:2], sums_of(moments)[1:-2:2]
    return sum(g.sum(axis=(1, 2, 3)) for g in grams), sum(d.sum(axis=(1, 2)) for d in data)


counts = st.integers(3, 40)
starts = st.sampled_from([0.0, 0.1])


@given(counts, starts, st.data(), st.integers(0, 12), st.integers(1, 4))
def test_given_data_of_one_then_every_lattice_counts_its_pairs_exactly_in_cells_cut_at_random(
    count, start, data, cuts, stride
):
    axis = TimeAxis(start, 0.1, count)
    frame_ok = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    frame_ok[: axis.first_usable] = False
    matrix = ones(count, frame_ok)
    cells = random_cells(axis, data, cuts)
    for shard in lattices(stride):
        moments = compress(lambda k: matrix, PHI[:1], cells, axis, shard)
        wanted = sum(i % stride == shard.row and j % stride == shard.column for i, j in usable_pairs(matrix))
        by_gram, by_data = column_sums(moments)
        assert moments.pairs == moments.arrays.power == wanted
        assert by_gram == pytest.approx(wanted, abs=1e-8)
        assert by_data == pytest.approx(wanted, abs=1e-8)


@settings(max_examples=40)
@given(counts, st.floats(1.0, 6.0), st.integers(1, 4), st.integers(0, 1000))
def test_the_moments_of_all_lattices_add_up_to_the_moments_of_all_pairs(count, ratio, stride, seed):
    axis = TimeAxis(0.1, 0.1, count)
    cells = geometric_cells(axis, ratio)
    angles = random_angles(axis, ("plain", "pairs", "sigma"), seed)
    whole = compress(angles.__getitem__, PHI, cells, axis)
    assert_same_sums(added_lattices(angles, cells, axis, stride), whole)


@settings(max_examples=12)
@given(st.integers(10, 60), st.sampled_from([0.05, 0.5]), st.integers(2, 4))
def test_lattices_add_up_over_adapted_cells_too(count, error, stride):
    axis = TimeAxis(0.0, 1.0, count)
    cells = adapt_cells(STATIC.model, STATIC.theta[None], STATIC.phi, STATIC.strength, axis, error=error).cells
    angles = random_angles(axis, ("dead", "other", "dead"))
    assert_same_sums(added_lattices(angles, cells, axis, stride), compress(angles.__getitem__, PHI, cells, axis))


@pytest.mark.parametrize("lattice", [Lattice(1, 1, 6), Lattice(6, 4, 7), Lattice(6, 9, 12), Lattice(30, 0, 31)])
def test_given_a_stride_as_wide_as_the_window_then_nothing_outside_the_matrix_is_read(lattice):
    axis = TimeAxis(0.1, 0.1, 8)
    matrix = ones(8, np.ones(8, dtype=bool))
    wanted = sum(
        i % lattice.stride == lattice.row and j % lattice.stride == lattice.column for i, j in usable_pairs(matrix)
    )
    moments = compress(lambda k: matrix, PHI[:1], geometric_cells(axis), axis, lattice)
    assert moments.pairs == wanted
    assert np.allclose(column_sums(moments), wanted, atol=1e-9)
    assert wanted > 0 or not any(np.any(total) for total in sums_of(moments))


@pytest.mark.parametrize("kind", ["plain", "dead", "pairs", "sigma"])
def test_gram_and_data_are_the_weighted_sums_over_the_pairs_of_each_cell(kind):
    axis = TimeAxis(0.0, 0.1, 26)
    (matrix,) = random_angles(axis, (kind,), seed=3)
    usable = set(usable_pairs(matrix))
    for cell in geometric_cells(axis, 3.0):
        found = sums_of(compress(lambda k: matrix, PHI[:1], [cell], axis))
        starts, lags = cell_nodes(cell, axis)
        gram = np.zeros((starts.size * lags.size,) * 2)
        data = np.zeros(starts.size * lags.size)
        for i, j in usable & set(pairs_of_cell(cell, axis.count)):
            row = lagrange_matrix(axis.times(np.array([i])), starts)[0]
            lag = lagrange_matrix(np.array([axis.step * (j - i)]), lags)[0]
            both = np.outer(row, lag).ravel()
            weight = 1.0 if matrix.sigma is None else matrix.sigma[i, j] ** -2.0
            gram += weight * np.outer(both, both)
            data += weight * both * matrix.c2[i, j]
        assert np.allclose(found[0][0, 0, : data.size, : data.size], gram, atol=1e-10)
        assert np.allclose(found[1][0, 0, : data.size], data, atol=1e-10)
        assert not found[0][0, 0, data.size :].any() and not found[1][0, 0, data.size :].any()


def test_power_is_the_weighted_sum_of_squares():
    axis = TimeAxis(0.1, 0.1, 20)
    angles = random_angles(axis, ("dead", "pairs", "sigma"), seed=4)
    power = compress(angles.__getitem__, PHI, geometric_cells(axis), axis).arrays.power
    for matrix, found in zip(angles, power, strict=True):
        weight = np.ones((20, 20)) if matrix.sigma is None else matrix.sigma**-2.0
        assert found == pytest.approx(sum(weight[p] * matrix.c2[p] ** 2 for p in usable_pairs(matrix)), rel=1e-12)


def test_given_slabs_of_a_few_rows_then_the_moments_are_the_same(monkeypatch):
    axis = TimeAxis(0.0, 0.1, 33)
    angles = random_angles(axis, ("dead", "pairs", "sigma"), seed=5)
    cells = geometric_cells(axis, 2.0)
    whole = compress(angles.__getitem__, PHI, cells, axis, Lattice(1, 0, 2))
    monkeypatch.setattr("hpcxpcs.likelihood.compress.slabs", lambda n: pairs_module.slabs(n, 8 * n * 4))
    assert_same_sums(compress(angles.__getitem__, PHI, cells, axis, Lattice(1, 0, 2)), whole)


@pytest.mark.parametrize(
    ("kinds", "classes"),
    [
        (("plain", "plain", "plain"), 1),
        (("plain", "dead", "plain"), 2),
        (("dead", "other", "plain"), 3),
        (("pairs", "pairs", "sigma"), 3),
    ],
)
def test_angles_share_a_gram_matrix_when_their_masks_agree_and_only_then(kinds, classes):
    axis = TimeAxis(0.1, 0.1, 24)
    angles = random_angles(axis, kinds)
    cells = geometric_cells(axis)
    moments = compress(angles.__getitem__, PHI, cells, axis)
    assert moments.arrays.phi.shape[0] == classes
    alone = [compress(lambda k, a=a: a, PHI[:1], cells, axis) for a in angles]
    for mine, its in zip(sums_of(moments), zip(*map(sums_of, alone), strict=True), strict=True):
        assert np.allclose(mine, np.concatenate(its), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("plain", "plain", "plain"), ("dead", "dead", "dead")),
        (("plain", "plain", "plain"), ("dead", "other", "dead")),
        (("dead", "other", "dead"), ("dead", "dead", "other")),
        (("plain", "dead", "pairs"), ("plain", "plain", "plain")),
        (("sigma", "sigma", "sigma"), ("other", "plain", "other")),
    ],
)
def test_moments_add_per_angle_whatever_masks_their_parts_share(first, second):
    axis = TimeAxis(0.0, 1.0, 30)
    cells = geometric_cells(axis, 2.5)
    parts = [
        compress(random_angles(axis, kinds, seed).__getitem__, PHI, cells, axis)
        for seed, kinds in enumerate((first, second))
    ]
    total = parts[0] + parts[1]
    for mine, left, right in zip(*map(sums_of, (total, *parts)), strict=True):
        assert np.allclose(mine, left + right, rtol=1e-12, atol=1e-12)


def test_given_classes_that_differ_then_products_of_a_sum_are_sums_of_products_angle_by_angle():
    axis = TimeAxis(0.0, 1.0, 30)
    layouts = (("plain", "plain", "plain"), ("dead", "other", "dead"))
    angles = [random_angles(axis, kinds, seed) for seed, kinds in enumerate(layouts)]
    parts = [compress(a.__getitem__, PHI, [axis.root()], axis) for a in angles]
    total = parts[0] + parts[1]
    theta = jnp.asarray(STATIC.theta)
    found, *both = (m.products(STATIC.model, theta, no_tangents(theta)) for m in (total, *parts))
    jax.tree_util.tree_map(lambda a, b, c: np.testing.assert_allclose(a, b + c, rtol=1e-10), found, *both)


def test_moments_over_different_cells_or_axes_refuse_to_be_added():
    axis = TimeAxis(0.1, 0.1, 20)
    angles = random_angles(axis, ("plain",))
    coarse, fine = (compress(angles.__getitem__, PHI[:1], geometric_cells(axis, r), axis) for r in (4.0, 1.5))
    with pytest.raises(ValueError, match="different cells"):
        coarse + fine
    with pytest.raises(ValueError, match="different cells"):
        coarse + replace(coarse, axis=TimeAxis(0.2, 0.1, 20))


def test_each_angle_is_read_once_in_order():
    axis = TimeAxis(0.1, 0.1, 20)
    angles = random_angles(axis, ("plain", "dead", "sigma"))
    read = []

    def angle(k: int) -> AngleMatrix:
        read.append(k)
        return angles[k]

    compress(angle, PHI, geometric_cells(axis), axis)
    assert read == [0, 1, 2]


def test_given_large_matrices_then_memory_stays_near_one_slab_whatever_the_number_of_angles():
    script = """
        import tracemalloc
        import numpy as np
        from hpcxpcs.data.twotime import AngleMatrix
        from hpcxpcs.likelihood.cells import TimeAxis, geometric_cells
        from hpcxpcs.likelihood.compress import compress
        axis = TimeAxis(0.1, 0.1, 1500)
        matrix = AngleMatrix(np.ones((1500, 1500), dtype=np.float32), np.ones(1500, dtype=bool))
        cells = geometric_cells(axis, 4.0)
        tracemalloc.start()
        peaks = []
        for n_phi in (1, 8):
            tracemalloc.reset_peak()
            compress(lambda k: matrix, np.arange(float(n_phi)), cells, axis)
            peaks.append(tracemalloc.get_traced_memory()[1])
        print(*peaks)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    one, eight = map(int, done.stdout.split())
    slab = 8 * 1500 * 1500
    assert one < 6 * slab
    assert eight < one + slab


STATIC = measured("static", frames=16)
