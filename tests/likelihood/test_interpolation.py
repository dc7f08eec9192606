"""Lagrange interpolation at Chebyshev points of logarithmic time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import polynomial

from hpcxpcs.likelihood.cells import chebyshev_nodes, lagrange_matrix, nodes_for

spans = st.tuples(st.floats(1e-3, 1e3), st.floats(1.05, 1e3)).map(lambda s: (s[0], s[0] * s[1]))


@given(spans, st.integers(2, 8))
def test_chebyshev_points_lie_inside_the_interval_ascend_and_are_symmetric_in_the_logarithm(span, count):
    low, high = span
    nodes = chebyshev_nodes(low, high, count)
    assert nodes.shape == (count,)
    assert low < nodes[0] and nodes[-1] < high
    assert np.all(np.diff(nodes) > 0)
    assert np.allclose(nodes * nodes[::-1], low * high, rtol=1e-9)


def test_chebyshev_points_are_the_zeros_of_the_chebyshev_polynomial():
    nodes = chebyshev_nodes(np.exp(-1.0), np.e, 6)
    assert np.allclose(np.cos(6.0 * np.arccos(np.log(nodes))), 0.0, atol=1e-12)


@given(spans, st.integers(1, 7), st.integers(0, 10_000))
def test_a_polynomial_in_the_logarithm_below_the_order_is_reproduced_exactly(span, order, seed):
    rng = np.random.default_rng(seed)
    points = np.geomspace(*span, 23)
    nodes = nodes_for(points, order)
    centred = lambda x: np.log(x / points[0]) / np.log(points[-1] / points[0])  # noqa: E731
    coefficients = rng.standard_normal(order)
    wanted = polynomial.polyval(centred(points), coefficients)
    found = lagrange_matrix(points, nodes) @ polynomial.polyval(centred(nodes), coefficients)
    assert np.allclose(found, wanted, atol=1e-9)


def test_a_polynomial_of_the_order_itself_is_not_reproduced():
    points = np.geomspace(1.0, 20.0, 23)
    nodes = nodes_for(points, 4)
    error = lagrange_matrix(points, nodes) @ np.log(nodes) ** 4 - np.log(points) ** 4
    assert np.abs(error).max() > 1e-2


@given(spans, st.integers(1, 6), st.integers(1, 6))
def test_given_no_more_points_than_the_order_then_interpolation_is_the_identity(span, count, extra):
    points = np.geomspace(*span, count)
    nodes = nodes_for(points, count + extra - 1)
    assert np.array_equal(nodes, points)
    assert np.array_equal(lagrange_matrix(points, nodes), np.eye(count))


def test_given_a_point_on_a_node_between_others_then_its_row_selects_that_node():
    nodes = chebyshev_nodes(1.0, 9.0, 5)
    matrix = lagrange_matrix(np.array([1.0, nodes[2], 9.0]), nodes)
    assert np.array_equal(matrix[1], np.eye(5)[2])
    assert np.allclose(matrix.sum(axis=1), 1.0)


def test_given_nodes_that_are_a_copy_then_changing_them_leaves_the_points_alone():
    points = np.array([1.0, 2.0])
    nodes_for(points, 6)[0] = 7.0
    assert points[0] == 1.0


@pytest.mark.parametrize("order", [4, 6, 8])
def test_a_decay_over_a_factor_of_two_in_time_is_interpolated_to_spectral_accuracy(order):
    points = np.linspace(1.0, 2.0, 50)
    nodes = nodes_for(points, order)
    error = np.abs(lagrange_matrix(points, nodes) @ np.exp(-nodes) - np.exp(-points)).max()
    assert error < 10.0 ** (0.5 - order)
