"""Gaussian likelihood from inner products: profile and marginal over the linear scaling."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hpcxpcs.likelihood.products import Products
from hpcxpcs.likelihood.scaling import Scaling, Solution, normal_equations, solve


class Normal(NamedTuple):
    """Second-order picture of ½χ² at a point after the scaling is solved: value, gradient (k,), information (k, k).

    The information is the Gauss-Newton matrix of the physics directions with the scaling projected out.
    """

    cost: Array
    gradient: Array
    information: Array
    solution: Solution


@jax.jit
def chi_squared_per_angle(products: Products, per_angle: Array, sigma: Array) -> Array:
    """Σ w (d − offset − contrast f)²/σ² of each angle (n_phi,), for (contrast, offset) per_angle (n_phi, 2)."""
    gram, data = products.gram[:, :2, :2], products.data[:, :2]
    model = jnp.einsum("ai,aij,aj->a", per_angle, gram, per_angle)
    return (products.power - 2.0 * jnp.einsum("ai,ai->a", per_angle, data) + model) / sigma**2


def profile(scaling: Scaling, products: Products, sigma: Array) -> Normal:
    """½χ² (with the scaling prior) minimised over the scaling, and its Gauss-Newton expansion along the tangents."""
    solution = solve(scaling, products, sigma)
    contrast = solution.per_angle[:, 0]
    prior = 0.5 * jnp.sum(scaling.precision * solution.coefficients**2)
    cost = 0.5 * jnp.sum(chi_squared_per_angle(products, solution.per_angle, sigma)) + prior
    weight = sigma**-2.0
    slopes = products.gram[:, 2:, :]
    fitted = jnp.einsum("aij,aj->ai", slopes[:, :, :2], solution.per_angle)
    gradient = jnp.einsum("a,ai->i", weight * contrast, fitted - products.data[:, 2:])
    direct = jnp.einsum("a,aij->ij", weight * contrast**2, slopes[:, :, 2:])
    cross = jnp.einsum("a,aij,ajk->ik", weight * contrast, slopes[:, :, :2], scaling.design)
    return Normal(cost, gradient, direct - _projected(cross, solution.information), solution)


profiled = jax.jit(profile)
"""`profile`, compiled once per shape of its arguments."""


def _projected(cross: Array, information: Array) -> Array:
    """cross · information⁻¹ · crossᵀ; zero when there is no scaling to project out."""
    if information.shape[0] == 0:
        return jnp.zeros((cross.shape[0], cross.shape[0]))
    scale = jnp.sqrt(jnp.clip(jnp.diag(information), 1e-300))
    scaled = information / jnp.outer(scale, scale) + 1e-14 * jnp.eye(scale.shape[0])
    half = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(scaled), (cross / scale).T, lower=True)
    return half.T @ half


def marginal_log_likelihood(
    scaling: Scaling, products: Products, sigma: Array, pairs: Array, noise_scale: Array | float = 1.0
) -> Array:
    """log ∫ L(d | θ, x) p(x) dx with noise s·σ_a; flat directions of the prior integrate with unit density.

    `pairs` (n_phi,) counts the pairs; weights in the products multiply 1/σ².
    """
    scaled = sigma * noise_scale
    information, right, power = normal_equations(scaling, products, scaled)
    value = -0.5 * power - jnp.sum(pairs * jnp.log(scaled)) - 0.5 * jnp.sum(pairs) * jnp.log(2.0 * jnp.pi)
    count = right.shape[0]
    if count == 0:
        return value
    scale = jnp.sqrt(jnp.clip(jnp.diag(information), 1e-300))
    factor = jnp.linalg.cholesky(information / jnp.outer(scale, scale) + 1e-14 * jnp.eye(count))
    half = jax.scipy.linalg.solve_triangular(factor, right / scale, lower=True)
    log_det = 2.0 * jnp.sum(jnp.log(jnp.diag(factor))) + 2.0 * jnp.sum(jnp.log(scale))
    proper = scaling.precision > 0
    prior = 0.5 * jnp.sum(jnp.where(proper, jnp.log(jnp.where(proper, scaling.precision, 1.0)), 0.0))
    flat = 0.5 * jnp.sum(~proper) * jnp.log(2.0 * jnp.pi)
    return value + 0.5 * half @ half - 0.5 * log_det + prior + flat
