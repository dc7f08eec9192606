"""Gaussian likelihood from inner products: profile and marginal over the linear scaling."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from hpcxpcs.likelihood.products import Products
from hpcxpcs.likelihood.scaling import (
    Scaling,
    Solution,
    log_gaussian_integral,
    normal_equations,
    scaled_root,
    solve,
)

Factor = tuple[Array, Array]
"""Λ (k, k) and b (k,) of a factor exp(−½ xᵀ Λ x + bᵀ x) on the scaling coefficients x; they may depend on θ."""


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
    scale, root = scaled_root(information)
    half = jax.scipy.linalg.solve_triangular(root, (cross / scale).T, lower=True)
    return half.T @ half


def _conditional(
    scaling: Scaling, products: Products, sigma: Array, tempering: Array | float, factor: Factor | None
) -> tuple[Array, Array, Array]:
    """A, h and Σ w (d − base)²/σ² of the coefficients at fixed physics: likelihood, tempered prior and factor."""
    information, right, power = normal_equations(scaling, products, sigma, tempering)
    if factor is None:
        return information, right, power
    return information + factor[0], right + factor[1], power


def marginal_log_likelihood(
    scaling: Scaling,
    products: Products,
    sigma: Array,
    pairs: Array,
    noise_scale: Array | float = 1.0,
    *,
    tempering: Array | float = 1.0,
    factor: Factor | None = None,
) -> Array:
    """log ∫ L(d | θ, x) p(x)ᵗ exp(−½ xᵀ Λ x + bᵀ x) dx with noise s·σ_a; flat directions have unit density.

    `pairs` (n_phi,) counts the pairs; weights in the products multiply 1/σ². `tempering` is t, `factor` (Λ, b).
    """
    scaled = sigma * noise_scale
    information, right, power = _conditional(scaling, products, scaled, tempering, factor)
    value = -0.5 * power - jnp.sum(pairs * jnp.log(scaled)) - 0.5 * jnp.sum(pairs) * jnp.log(2.0 * jnp.pi)
    if right.shape[0] == 0:
        return value
    proper = scaling.precision > 0
    density = jnp.log(jnp.where(proper, scaling.precision, 1.0)) - jnp.log(2.0 * jnp.pi)
    prior = 0.5 * tempering * jnp.sum(jnp.where(proper, density, 0.0))
    return value + log_gaussian_integral(information, right) + prior


def coefficient_draw(
    scaling: Scaling,
    products: Products,
    sigma: Array,
    noise_scale: Array | float,
    normal: Array,
    *,
    tempering: Array | float = 1.0,
    factor: Factor | None = None,
) -> Array:
    """Scaling coefficients (k,) drawn from N(A⁻¹h, A⁻¹) at fixed physics and noise s·σ_a.

    `normal` (k,) holds standard normal numbers; zeros give the mean.
    """
    information, right, _ = _conditional(scaling, products, sigma * noise_scale, tempering, factor)
    if right.shape[0] == 0:
        return right
    scale, root = scaled_root(information)
    half = jax.scipy.linalg.solve_triangular(root, right / scale, lower=True)
    return jax.scipy.linalg.solve_triangular(root, half + normal, lower=True, trans=1) / scale
