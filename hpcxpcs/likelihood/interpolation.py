"""Chebyshev interpolation in logarithmic time: what lets a smooth correlation be stored at a few nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def chebyshev_nodes(low: float, high: float, count: int) -> Floats:
    """Chebyshev points of the first kind of ln(x) on [low, high], as values of x (ascending)."""
    angle = (2.0 * np.arange(count)[::-1] + 1.0) * np.pi / (2.0 * count)
    centre, half = 0.5 * (np.log(high) + np.log(low)), 0.5 * (np.log(high) - np.log(low))
    return np.exp(centre + half * np.cos(angle))


def nodes_for(points: Floats, order: int) -> Floats:
    """Interpolation nodes for ascending `points` (> 0): the points themselves where there are no more than `order`."""
    if points.size <= order:
        return points.copy()
    return chebyshev_nodes(float(points[0]), float(points[-1]), order)


def lagrange_matrix(points: Floats, nodes: Floats) -> Floats:
    """Matrix L (points, nodes) with f(points) ≈ L f(nodes): Lagrange interpolation in ln(x), barycentric form."""
    x, z = np.log(points)[:, None], np.log(nodes)[None, :]
    if nodes.size == 1:
        return np.ones((points.size, 1))
    scale = 4.0 / (z.max() - z.min())
    spread = (z.T - z) * scale
    np.fill_diagonal(spread, 1.0)
    weights = 1.0 / spread.prod(axis=1)
    distance = (x - z) * scale
    hit_row, hit_node = np.nonzero(distance == 0.0)
    distance[hit_row, hit_node] = 1.0
    terms = weights[None, :] / distance
    matrix = terms / terms.sum(axis=1, keepdims=True)
    matrix[hit_row] = 0.0
    matrix[hit_row, hit_node] = 1.0
    return matrix
