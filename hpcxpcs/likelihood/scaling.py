"""Contrast and offset of every angle as a linear subspace: one code path for all scaling modes.

contrast = base_c + B_c β and offset = base_o + B_o γ over angles; the coefficients x = (β, γ) have a Gaussian prior
N(0, Λ⁻¹) with Λ diagonal (0 where flat).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hpcxpcs.arrays import Floats
from hpcxpcs.likelihood.products import Products

POOLING_SCALE = (0.1, 0.01)
"""Typical spread of contrast and offset between angles; scale of the weak prior on the learned spread."""

WIDTH_RANGE, WIDTH_GRID, ZOOMS = (1e-5, 3.0), 12, 4
"""Range of the learned spreads, points per axis of the grid, and how often it zooms in (to 1 %)."""

HIERARCHICAL_FROM = 3
"""Fewest angles from which `auto` pools them: two values cannot tell a spread from a mean."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["contrast_basis", "offset_basis", "precision", "contrast_base", "offset_base"],
    meta_fields=["mode"],
)
@dataclass(frozen=True)
class Scaling:
    """contrast_basis (n_phi, k_c), offset_basis (n_phi, k_o), precision (k_c + k_o,), bases (n_phi,)."""

    mode: str
    contrast_basis: Array
    offset_basis: Array
    precision: Array
    contrast_base: Array
    offset_base: Array

    @property
    def design(self) -> Array:
        """Map from the coefficients to (contrast, offset) of each angle, shape (n_phi, 2, k)."""
        zeros_c, zeros_o = jnp.zeros_like(self.contrast_basis), jnp.zeros_like(self.offset_basis)
        contrast = jnp.concatenate([self.contrast_basis, zeros_o], axis=1)
        offset = jnp.concatenate([zeros_c, self.offset_basis], axis=1)
        return jnp.stack([contrast, offset], axis=1)

    @property
    def base(self) -> Array:
        """Fixed part of (contrast, offset) of each angle, shape (n_phi, 2)."""
        return jnp.stack([self.contrast_base, self.offset_base], axis=1)


class Solution(NamedTuple):
    """Best coefficients x (k,), their information matrix (k, k) and (contrast, offset) per angle (n_phi, 2)."""

    coefficients: Array
    information: Array
    per_angle: Array


def resolve_mode(mode: str, n_phi: int) -> str:
    """The mode that `auto` stands for with n_phi angles."""
    if mode != "auto":
        return mode
    return "hierarchical" if n_phi >= HIERARCHICAL_FROM else "individual"


def fourier_basis(phi: Floats, order: int) -> Floats:
    """Orthonormal columns spanning 1, cos kφ, sin kφ (k ≤ order) on the angles phi (degrees), shape (n_phi, r)."""
    angle = np.deg2rad(phi)[:, None] * np.arange(1, order + 1)
    raw = np.concatenate([np.ones((phi.size, 1)), np.cos(angle), np.sin(angle)], axis=1)
    left, values, _ = np.linalg.svd(raw, full_matrices=False)
    return left[:, values > 1e-8 * values[0]]


def largest_fourier_order(n_phi: int) -> int:
    """Highest order whose 1 + 2K coefficients n_phi angles can determine."""
    return (n_phi - 1) // 2


def build_scaling(
    mode: str,
    phi: Floats,
    *,
    fourier_order: int = 2,
    fixed: tuple[Floats, Floats] | None = None,
    widths: tuple[float, float] = (0.1, 0.01),
) -> Scaling:
    """The subspace of a resolved mode on angles phi (n_phi,) degrees.

    `fixed` gives contrast and offset (n_phi,) for mode constant; `widths` the prior spread of contrast and
    offset between angles for mode hierarchical.
    """
    n_phi = len(phi)
    one, identity = np.ones((n_phi, 1)), np.eye(n_phi)
    zero = np.zeros(n_phi)
    if mode == "constant":
        if fixed is None:
            raise ValueError("mode constant needs fixed contrast and offset")
        none = np.zeros((n_phi, 0))
        return _scaling(mode, none, none, np.zeros(0), *fixed)
    if mode == "hierarchical":
        basis = np.concatenate([one, identity], axis=1)
        pooled = [np.concatenate([[0.0], np.full(n_phi, width**-2.0)]) for width in widths]
        return _scaling(mode, basis, basis, np.concatenate(pooled), zero, zero)
    bases = {
        "averaged": lambda: one,
        "individual": lambda: identity,
        "fourier": lambda: fourier_basis(
            np.asarray(phi, dtype=np.float64), min(fourier_order, largest_fourier_order(n_phi))
        ),
    }
    basis = bases[mode]()
    return _scaling(mode, basis, basis, np.zeros(2 * basis.shape[1]), zero, zero)


def _scaling(mode: str, *arrays: Floats) -> Scaling:
    return Scaling(mode, *(jnp.asarray(a, dtype=jnp.float64) for a in arrays))


def normal_equations(
    scaling: Scaling, products: Products, sigma: Array, tempering: Array | float = 1.0
) -> tuple[Array, Array, Array]:
    """Information A (k, k), right-hand side h (k,) and Σ w (d − base)²/σ² at noise sigma (n_phi,).

    Uses the columns f and 1 of the products only; `tempering` multiplies the precision of the prior.
    """
    weight = sigma**-2.0
    gram, data = products.gram[:, :2, :2], products.data[:, :2]
    fixed = jnp.einsum("aij,aj->ai", gram, scaling.base)
    power = products.power - 2.0 * jnp.einsum("ai,ai->a", scaling.base, data)
    power = power + jnp.einsum("ai,ai->a", scaling.base, fixed)
    bases = scaling.contrast_basis, scaling.offset_basis
    weighted = weight[:, None, None] * gram
    rows = [
        jnp.concatenate([(one.T * weighted[:, i, j]) @ other for j, other in enumerate(bases)], axis=1)
        for i, one in enumerate(bases)
    ]
    information = jnp.concatenate(rows, axis=0) + jnp.diag(tempering * scaling.precision)
    unexplained = weight[:, None] * (data - fixed)
    right = jnp.concatenate([unexplained[:, i] @ basis for i, basis in enumerate(bases)])
    return information, right, jnp.sum(weight * power)


def solve(scaling: Scaling, products: Products, sigma: Array) -> Solution:
    """Best-fitting (with the prior) coefficients for the given shape products."""
    information, right, _ = normal_equations(scaling, products, sigma)
    if right.shape[0] == 0:
        return Solution(right, information, scaling.base)
    scale, root = scaled_root(information)
    coefficients = jax.scipy.linalg.cho_solve((root, True), right / scale) / scale
    return Solution(coefficients, information, scaling.base + scaling.design @ coefficients)


def scaled_root(information: Array) -> tuple[Array, Array]:
    """Diagonal scale s (k,) and lower root R (k, k) of an information matrix ≈ diag(s) R Rᵀ diag(s).

    The scaled diagonal is one; a tiny ridge keeps the root defined where a shape vanishes.
    """
    scale = jnp.sqrt(jnp.clip(jnp.diag(information), 1e-300))
    return scale, jnp.linalg.cholesky(information / jnp.outer(scale, scale) + 1e-14 * jnp.eye(scale.shape[0]))


@jax.custom_jvp
def log_gaussian_integral(information: Array, right: Array) -> Array:
    """log ∫ exp(−½ xᵀ A x + hᵀ x) dx for an information matrix A (k, k) and right-hand side h (k,)."""
    return _integrated(information, right)[0]


@log_gaussian_integral.defjvp
def _log_gaussian_integral_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """∂/∂A = −½ (x xᵀ + A⁻¹) and ∂/∂h = x with x = A⁻¹h: far fewer operations than back through the factorisation."""
    (information, right), (its_change, change) = primals, tangents
    value, half, scale, root = _integrated(information, right)
    inverse_root = jax.scipy.linalg.solve_triangular(root, jnp.diag(1.0 / scale), lower=True)
    mean = inverse_root.T @ half
    slope = -0.5 * (jnp.outer(mean, mean) + inverse_root.T @ inverse_root)
    return value, jnp.sum(slope * its_change) + mean @ change


def _integrated(information: Array, right: Array) -> tuple[Array, Array, Array, Array]:
    """The logarithm of the integral, R⁻¹ diag(s)⁻¹ h, and s and R of `scaled_root`."""
    scale, root = scaled_root(information)
    half = jax.scipy.linalg.solve_triangular(root, right / scale, lower=True)
    log_det = 2.0 * jnp.sum(jnp.log(jnp.diag(root))) + 2.0 * jnp.sum(jnp.log(scale))
    value = 0.5 * half @ half - 0.5 * log_det + 0.5 * right.shape[0] * jnp.log(2.0 * jnp.pi)
    return value, half, scale, root


def spread_log_likelihood(scaling: Scaling, products: Products, sigma: Array, log_widths: Array) -> Array:
    """Marginal log-likelihood of the pooling widths exp(log_widths) (2,) at a fixed shape, up to a constant.

    A weak half-Cauchy-like prior at the scale of POOLING_SCALE keeps widths finite when angles agree.
    """
    count = scaling.contrast_base.shape[0]
    widths = jnp.exp(log_widths)
    pooled = jnp.concatenate([jnp.zeros(1), jnp.full(count, 1.0)])
    precision = jnp.concatenate([pooled * widths[0] ** -2.0, pooled * widths[1] ** -2.0])
    information, right, _ = normal_equations(scaling, products, sigma)
    information = information + jnp.diag(precision - scaling.precision)
    hyper = -jnp.sum(jnp.log1p((widths / jnp.asarray(POOLING_SCALE)) ** 2)) + jnp.sum(log_widths)
    return log_gaussian_integral(information, right) - count * jnp.sum(log_widths) + hyper


@jax.jit
def _spread_on_grid(scaling: Scaling, products: Products, sigma: Array, contrast: Array, offset: Array) -> Array:
    def value(log_contrast: Array, log_offset: Array) -> Array:
        return spread_log_likelihood(scaling, products, sigma, jnp.stack([log_contrast, log_offset]))

    return jax.vmap(jax.vmap(value, in_axes=(None, 0)), in_axes=(0, None))(contrast, offset)


def learn_widths(scaling: Scaling, products: Products, sigma: Array) -> tuple[float, float]:
    """Most probable spread of contrast and offset between angles at a fixed shape (mode hierarchical).

    Found on a grid over both logarithms that zooms in on its best point.
    """
    low, high = np.log([WIDTH_RANGE] * 2).T
    best = 0.5 * (low + high)
    for _ in range(ZOOMS):
        axes = np.linspace(low, high, WIDTH_GRID).T
        values = np.asarray(_spread_on_grid(scaling, products, sigma, jnp.asarray(axes[0]), jnp.asarray(axes[1])))
        place = np.unravel_index(int(np.nanargmax(values)), values.shape)
        best = axes[(0, 1), place]
        step = axes[:, 1] - axes[:, 0]
        low, high = best - 1.5 * step, best + 1.5 * step
    return float(np.exp(best[0])), float(np.exp(best[1]))
