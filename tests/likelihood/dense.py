"""A small least-squares problem written out pair by pair, with dense linear algebra as the reference."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from hpcxpcs.likelihood.products import Products
from hpcxpcs.likelihood.scaling import Scaling

THETA = np.array([0.7, 2.0])


def shape(theta: np.ndarray, tau: np.ndarray, angle: float) -> np.ndarray:
    """A decay with an angle-dependent oscillation of lag tau (n,)."""
    return np.exp(-theta[0] * tau) * np.cos(theta[1] * tau * np.cos(np.deg2rad(angle))) ** 2


def slopes(theta: np.ndarray, tau: np.ndarray, angle: float) -> np.ndarray:
    """Derivatives of the shape along theta, (2, n), by hand."""
    along = tau * np.cos(np.deg2rad(angle))
    decay, phase = np.exp(-theta[0] * tau), theta[1] * along
    return np.stack([-tau * decay * np.cos(phase) ** 2, -along * decay * np.sin(2.0 * phase)])


@dataclass(frozen=True)
class Dense:
    """Lags, data and weights of every angle's pairs, each a tuple of (n_a,); noise sigma and angles phi (n_phi,)."""

    tau: tuple[np.ndarray, ...]
    data: tuple[np.ndarray, ...]
    weight: tuple[np.ndarray, ...]
    sigma: np.ndarray
    phi: np.ndarray

    @property
    def pairs(self) -> np.ndarray:
        """Number of pairs of each angle."""
        return np.array([float(d.size) for d in self.data])

    def products(self, theta: np.ndarray = THETA) -> Products:
        """Inner products with derivatives along both parameters."""
        columns = [
            np.concatenate([[shape(theta, t, a), np.ones_like(t)], slopes(theta, t, a)])
            for t, a in zip(self.tau, self.phi, strict=True)
        ]
        parts = list(zip(columns, self.weight, self.data, strict=True))
        return Products(
            jnp.asarray([(c * w) @ c.T for c, w, _ in parts]),
            jnp.asarray([(c * w) @ d for c, w, d in parts]),
            jnp.asarray([np.sum(w * d * d) for _, w, d in parts]),
        )

    def whitened(self) -> np.ndarray:
        """All data divided by their standard deviations, (n,)."""
        return np.concatenate([d * r for d, r in zip(self.data, self._roots(), strict=True)])

    def whitened_design(self, contrast: np.ndarray, offset: np.ndarray, theta: np.ndarray = THETA) -> np.ndarray:
        """Whitened rows (n, k_c + k_o) for coefficients of bases contrast (n_phi, k_c) and offset (n_phi, k_o)."""
        rows = []
        for k, root in enumerate(self._roots()):
            f = shape(theta, self.tau[k], self.phi[k])
            rows.append(np.concatenate([np.outer(f * root, contrast[k]), np.outer(root, offset[k])], axis=1))
        return np.concatenate(rows)

    def whitened_slopes(self, contrast: np.ndarray, theta: np.ndarray = THETA) -> np.ndarray:
        """Whitened derivatives (n, 2) of contrast·f along theta, contrast (n_phi,)."""
        return np.concatenate(
            [(contrast[k] * slopes(theta, self.tau[k], self.phi[k]) * root).T for k, root in enumerate(self._roots())]
        )

    def _roots(self) -> list[np.ndarray]:
        return [np.sqrt(w) / s for w, s in zip(self.weight, self.sigma, strict=True)]


def problem(
    contrast: np.ndarray, offset: np.ndarray, phi: np.ndarray, *, pairs: int = 14, noise: float = 0.01, seed: int = 0
) -> Dense:
    """Data with the given scaling (n_phi,) at THETA; noise, weights and the number of pairs differ between angles."""
    rng = np.random.default_rng(seed)
    tau, data, weight = [], [], []
    sigma = noise * (1.0 + 0.5 * rng.random(phi.size))
    for k, angle in enumerate(phi):
        lags = rng.uniform(0.05, 3.0, pairs + k % 3)
        weights = rng.uniform(0.5, 2.0, lags.size)
        error = sigma[k] / np.sqrt(weights) * rng.standard_normal(lags.size)
        tau.append(lags)
        weight.append(weights)
        data.append(offset[k] + contrast[k] * shape(THETA, lags, angle) + error)
    return Dense(tuple(tau), tuple(data), tuple(weight), sigma, phi)


def prior_root(scaling: Scaling) -> np.ndarray:
    """√Λ of the coefficients' prior, (k, k)."""
    return np.diag(np.sqrt(np.asarray(scaling.precision)))
