"""Inner products of model and data over all pairs of an angle: everything that a Gaussian fit needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from hpcxpcs.physics.model import Model


class Products(NamedTuple):
    """Weighted sums over the pairs of each angle, for the columns V = [f, 1, ∂f along each tangent].

    `gram` (n_phi, m, m) holds Σ w V_i V_j, `data` (n_phi, m) Σ w V_i d, `power` (n_phi,) Σ w d².
    """

    gram: Array
    data: Array
    power: Array


def joined(one: Products, other: Products) -> Products:
    """Products of the union of two disjoint sets of pairs."""
    return Products(*(mine + its for mine, its in zip(one, other, strict=True)))


class Source(Protocol):
    """Anything that supplies inner products is a likelihood: moments, or the raw pairs themselves."""

    def products(self, model: Model, theta: Array, tangents: Array) -> Products:
        """Products at physical parameters theta (p,), with derivatives along the columns of tangents (p, k)."""
        ...


def columns(model: Model, theta: Array, tangents: Array, t1: Array, t2: Array, phi: Array) -> Array:
    """The columns V = [f, 1, ∂f …], stacked on a leading axis, at the broadcast of t1, t2 (s) and phi (degrees)."""

    def shape(values: Array) -> Array:
        return model.shape(values, t1, t2, phi)

    if tangents.shape[1] == 0:
        value = shape(theta)
        return jnp.stack([value, jnp.ones_like(value)])
    value, slope = jax.linearize(shape, theta)
    slopes = jax.vmap(slope, in_axes=1)(tangents)
    basis = jnp.concatenate([value[None], jnp.ones_like(value)[None], slopes])
    # Without the barrier the compiler evaluates the model again for every consumer of a column (twice the time).
    return jax.lax.optimization_barrier(basis)


def no_tangents(theta: Array) -> Array:
    """Tangents for a value-only evaluation, shape (p, 0)."""
    return jnp.zeros((theta.shape[0], 0))


@jax.jit
def compiled_products(model: Model, source: Source, theta: Array, tangents: Array) -> Products:
    """Compiled products of a source made of arrays; they are arguments, so one compilation serves all."""
    return source.products(model, theta, tangents)


@dataclass(frozen=True)
class Compiled:
    """A source whose products are compiled once per shape."""

    source: Source

    def products(self, model: Model, theta: Array, tangents: Array) -> Products:
        """Products of the wrapped source."""
        return compiled_products(model, self.source, theta, tangents)
