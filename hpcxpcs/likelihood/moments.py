"""Moments: per cell, the Gram matrix of the interpolation and the projected data; losslessly additive."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_derivatives import SymbolicZero

from hpcxpcs.arrays import Floats
from hpcxpcs.likelihood.cells import Cell, TimeAxis
from hpcxpcs.likelihood.products import Products, columns, compiled_products
from hpcxpcs.physics.model import Model


@partial(jax.tree_util.register_dataclass, data_fields=["t1", "t2", "gram", "data"], meta_fields=[])
@dataclass(frozen=True)
class CellGroup:
    """Cells of similar node count, padded to M nodes (padding has zero rows and columns everywhere).

    t1, t2 (C, M), or (K, 1, C, M) where every mask has its own, node times in s; gram (K, C, M, M) = Σ w PᵀP for
    K distinct masks; data (K, A, C, M) = Σ w Pᵀd.
    """

    t1: Array
    t2: Array
    gram: Array
    data: Array


@partial(jax.tree_util.register_dataclass, data_fields=["groups", "phi", "place", "power"], meta_fields=[])
@dataclass(frozen=True)
class MomentArrays:
    """The arrays of `Moments`; angles with equal masks stand together: phi (K, A) degrees, place (n_phi,) = k·A + a."""

    groups: tuple[CellGroup, ...]
    phi: Array
    place: Array
    power: Array

    def products(self, model: Model, theta: Array, tangents: Array) -> Products:
        """Inner products of every angle from the nodes alone: the cost does not depend on the number of frames."""
        size = 2 + tangents.shape[1]
        classes, members = self.phi.shape
        gram = jnp.zeros((classes, members, size, size))
        data = jnp.zeros((classes, members, size))
        for group, basis in zip(self.groups, self._bases(model, theta, tangents), strict=True):
            form, projected = (_few, _few_linear) if basis.shape[2:4] == (1, 1) else (_quadratic, _linear)
            gram, data = gram + form(basis, group.gram), data + projected(basis, group.data)
        flat = classes * members
        return Products(gram.reshape(flat, size, size)[self.place], data.reshape(flat, size)[self.place], self.power)

    def _bases(self, model: Model, theta: Array, tangents: Array) -> list[Array]:
        """The columns V at the nodes of every group, (m, K, A, C, M) each.

        The nodes of all groups are one list to the model: its code, which is most of what is compiled, is there once.
        """
        t1, t2 = (
            jnp.concatenate([t.reshape(*t.shape[:-2], -1) for t in times], axis=-1)
            for times in zip(*((group.t1, group.t2) for group in self.groups), strict=True)
        )
        found = columns(model, theta, tangents, t1, t2, self.phi[:, :, None])
        ends = np.cumsum([group.t1.shape[-2] * group.t1.shape[-1] for group in self.groups])
        parts = jnp.split(found, ends[:-1], axis=-1)
        return [
            part.reshape(*part.shape[:-1], *group.t1.shape[-2:]) for part, group in zip(parts, self.groups, strict=True)
        ]

    def weighted(self, weight: float) -> MomentArrays:
        """The arrays with every pair's weight in the sums multiplied by `weight`."""
        groups = tuple(replace(g, gram=weight * g.gram, data=weight * g.data) for g in self.groups)
        return replace(self, groups=groups, power=weight * self.power)


def _quadratic(basis: Array, gram: Array) -> Array:
    """Σ V_i G V_j of basis (m, K, A, C, M) and gram (K, C, M, M), shape (K, A, m, m), as two matrix products."""
    size, classes, members, cells, nodes = basis.shape
    stacked = basis.transpose(1, 3, 0, 2, 4).reshape(classes, cells, size * members, nodes)
    weighted = (stacked @ gram).reshape(classes, cells, size, members, nodes)
    left = weighted.transpose(0, 3, 2, 1, 4).reshape(classes, members, size, cells * nodes)
    right = basis.transpose(1, 2, 0, 3, 4).reshape(classes, members, size, cells * nodes)
    return left @ right.swapaxes(2, 3)


def _linear(basis: Array, data: Array) -> Array:
    """Σ V_i b of basis (m, K, A, C, M) and data (K, A, C, M), shape (K, A, m)."""
    size, classes, members = basis.shape[:3]
    columns_first = basis.transpose(1, 2, 0, 3, 4).reshape(classes, members, size, -1)
    return (columns_first @ data.reshape(classes, members, -1, 1))[..., 0]


@jax.custom_jvp
def _few(basis: Array, gram: Array) -> Array:
    """As _quadratic, of one cell and one member per mask: loops that XLA fuses, where products of many tiny matrices
    would cost a call each."""
    return _inner(basis[:, :, 0, 0], _weighted(basis[:, :, 0, 0], gram))[:, None]


@partial(_few.defjvp, symbolic_zeros=True)
def _few_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    """V_i G dV_j from G V_i, as G is symmetric: the way back needs no product with G."""
    (basis, gram), (change, its_change) = primals, tangents
    columns = basis[:, :, 0, 0]
    weighted = _weighted(columns, gram)
    slope = jnp.zeros((gram.shape[0], *2 * basis.shape[:1]))
    if not isinstance(change, SymbolicZero):
        half = _inner(change[:, :, 0, 0], weighted)
        slope = half + half.swapaxes(1, 2)
    if not isinstance(its_change, SymbolicZero):
        slope = slope + _inner(columns, _weighted(columns, its_change))
    return _inner(columns, weighted)[:, None], slope[:, None]


def _weighted(columns: Array, gram: Array) -> Array:
    """G V of columns (m, K, M), shape (m, K, M)."""
    return jnp.sum(columns[:, :, :, None] * gram[:, 0], axis=2)


def _inner(one: Array, other: Array) -> Array:
    """Σ one_i other_j of (m, K, M), shape (K, m, m)."""
    return jnp.sum(one[:, None] * other[None], axis=-1).transpose(2, 0, 1)


def _few_linear(basis: Array, data: Array) -> Array:
    """As _linear, of one cell and one member per mask."""
    return jnp.sum(basis[:, :, 0, 0] * data[:, 0, 0], axis=-1).T[:, None]


@dataclass(frozen=True)
class Moments:
    """What a smooth model can see of a set of pairs: cells, arrays, and per-angle pair counts (n_phi,)."""

    cells: tuple[Cell, ...]
    axis: TimeAxis
    arrays: MomentArrays
    pairs: np.ndarray

    @property
    def node_count(self) -> int:
        """Number of nodes per angle at which a model is evaluated."""
        return sum(int((np.diagonal(np.asarray(g.gram[0]), axis1=1, axis2=2) > 0).sum()) for g in self.arrays.groups)

    def products(self, model: Model, theta: Array, tangents: Array) -> Products:
        """Inner products of every angle; see MomentArrays.products."""
        return compiled_products(model, self.arrays, theta, tangents)

    def weighted(self, weight: float) -> Moments:
        """Moments of the same pairs with their likelihood raised to the power `weight`."""
        return Moments(self.cells, self.axis, self.arrays.weighted(weight), weight * self.pairs)

    def __add__(self, other: Moments) -> Moments:
        """Moments of the union of two disjoint sets of pairs over the same cells."""
        if self.cells != other.cells or self.axis != other.axis:
            raise ValueError("moments over different cells cannot be added")
        mine, its = self.arrays, other.arrays
        if mine.phi.shape != its.phi.shape or not np.array_equal(mine.place, its.place):
            mine, its = _one_class_per_angle(mine), _one_class_per_angle(its)
        groups = tuple(
            replace(a, gram=a.gram + b.gram, data=a.data + b.data) for a, b in zip(mine.groups, its.groups, strict=True)
        )
        arrays = replace(mine, groups=groups, power=mine.power + its.power)
        return Moments(self.cells, self.axis, arrays, self.pairs + other.pairs)

    def noise(self) -> tuple[Floats, Floats]:
        """Model-free noise σ (n_phi,) per unit weight, from what the cells cannot represent, and its freedom."""
        classes, members = self.arrays.phi.shape
        explained = np.zeros((classes, members))
        rank = np.zeros(classes)
        for group in self.arrays.groups:
            values, vectors = np.linalg.eigh(np.asarray(group.gram))
            kept = values > 1e-10 * values[..., -1:].clip(min=np.finfo(float).tiny)
            inverse = np.where(kept, 1.0 / np.where(kept, values, 1.0), 0.0)
            projected = np.einsum("kcij,kaci->kacj", vectors, np.asarray(group.data))
            explained += np.einsum("kacj,kcj->ka", projected**2, inverse)
            rank += kept.sum(axis=(1, 2))
        place = np.asarray(self.arrays.place)
        residual = np.asarray(self.arrays.power) - explained.ravel()[place]
        freedom = self.pairs - np.repeat(rank, members)[place]
        return np.sqrt(np.maximum(residual, 0.0) / np.maximum(freedom, 1.0)), freedom


def _one_class_per_angle(arrays: MomentArrays) -> MomentArrays:
    """The same arrays with a Gram matrix of its own for every angle."""
    place = np.asarray(arrays.place)
    members = arrays.phi.shape[1]
    groups = []
    for group in arrays.groups:
        data = np.asarray(group.data)
        flat = data.reshape(-1, *data.shape[2:])[place]
        gram = jnp.asarray(np.asarray(group.gram)[place // members])
        groups.append(replace(group, gram=gram, data=jnp.asarray(flat[:, None])))
    phi = jnp.asarray(np.asarray(arrays.phi).ravel()[place][:, None])
    return MomentArrays(tuple(groups), phi, jnp.arange(place.size), arrays.power)
