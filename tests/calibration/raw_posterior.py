"""The posterior of a measurement from every raw pair, written a second time: own physics, own priors, own scaling.

Nothing of the product's physics, likelihood or inference is used. Frames with t = 0 and the diagonal carry no
information, as in the product; everything else follows from the written model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.typing import ArrayLike

RATES = {
    "static": ((0, 1, 2),),
    "laminar_flow": ((0, 1, 2), (3, 4, 5)),
    "two_component": ((0, 1, 2), (3, 4, 5), (6, 7, 8)),
}
"""Indices of amplitude, exponent and offset of each rate."""


@dataclass(frozen=True)
class Known:
    """What is given besides the data: q (1/Å), gap (Å), σ of a pair, prior widths of contrast and offset (or flat).

    `fixed` maps parameter indices to values; `priors` holds (kind, values, lower, upper) of every parameter.
    """

    model: str
    q: float
    gap: float
    sigma: float
    widths: tuple[float, float] | None
    fixed: Mapping[int, float]
    priors: Sequence[tuple[str, Mapping[str, float], float, float]]


class RawPosterior:
    """log p(θ, s | every raw pair) for matrices c2 (n_phi, N, N) at angles phi (n_phi,) in degrees, dt in s."""

    def __init__(self, known: Known, c2: np.ndarray, phi: np.ndarray, dt: float) -> None:
        """Keep the pairs i < j of frames with t > 0."""
        self.known, self.phi = known, jnp.asarray(phi)
        count = c2.shape[1]
        self.times = jnp.asarray(dt * np.arange(1, count))
        self.rows, self.columns = (jnp.asarray(index) for index in np.triu_indices(count - 1, 1))
        self.data = jnp.asarray(c2[:, 1:, 1:].astype(np.float64)[:, self.rows, self.columns])
        self.free = [k for k in range(len(known.priors)) if k not in known.fixed]
        self.t_mid = float(np.sqrt(self.times[0] * self.times[-1]))

    @property
    def size(self) -> int:
        """Free parameters and the logarithm of the noise scale."""
        return len(self.free) + 1

    def theta(self, x: Array) -> Array:
        """All parameters (p,) of simple coordinates: ln of a rate at mid-window, its slope, ln of the power's share.

        Where the offset is fixed they are ln of the power law at mid-window and its exponent.
        """
        place = {index: k for k, index in enumerate(self.free)}
        values: list[Any] = [
            self.known.fixed[k] if k in self.known.fixed else x[place[k]] for k in range(len(self.known.priors))
        ]
        for a, p, b in RATES[self.known.model]:
            if a not in place:
                continue
            level = jnp.exp(x[place[a]])
            if b in place:
                share = jnp.exp(x[place[b]])
                values[p] = values[p] / share if p in place else values[p]
                values[a], values[b] = level * share * self.t_mid ** -values[p], level * (1.0 - share)
            else:
                values[a] = level * self.t_mid ** -values[p]
        return jnp.stack([jnp.asarray(value, dtype=jnp.float64) for value in values])

    def coordinates(self, theta: ArrayLike) -> Array:
        """The simple coordinates (f,) of parameters (p,)."""
        values = jnp.asarray(theta, dtype=jnp.float64)
        found = {k: values[k] for k in self.free}
        for a, p, b in RATES[self.known.model]:
            if a not in found:
                continue
            power = values[a] * self.t_mid ** values[p]
            rate = power + (values[b] if b in found else 0.0)
            found[a] = jnp.log(rate)
            if b in found:
                found[b] = jnp.log(power / rate)
                if p in found:
                    found[p] = values[p] * power / rate
        return jnp.stack([found[k] for k in self.free])

    def log_prior(self, x: Array) -> Array:
        """Prior of the free parameters as a density of their coordinates; −∞ outside bounds or with negative rates."""
        free = jnp.asarray(self.free)
        theta = self.theta(x)
        jacobian = jax.jacfwd(lambda one: self.theta(one)[free])(x[: len(self.free)])
        total = jnp.linalg.slogdet(jacobian)[1]
        inside = jnp.asarray(True)
        for k in self.free:
            kind, values, lower, upper = self.known.priors[k]
            total = total + _log_density(kind, values, theta[k])
            inside &= (theta[k] >= lower) & (theta[k] <= upper)
        ends = jnp.stack([self.times[0], self.times[-1]])
        for a, p, b in RATES[self.known.model][:2]:
            inside &= jnp.all(theta[a] * ends ** theta[p] + theta[b] >= 0.0)
        return jnp.where(inside, total, -jnp.inf)

    def shapes(self, theta: Array) -> Array:
        """The shape f of every pair (n_phi, pairs)."""
        known, i, j = self.known, self.rows, self.columns
        grown = [
            theta[a] * self.times ** (1.0 + theta[p]) / (1.0 + theta[p]) + theta[b] * self.times
            for a, p, b in RATES[known.model]
        ]
        first = known.q**2 * (grown[0][j] - grown[0][i])
        if known.model == "static":
            return jnp.broadcast_to(jnp.exp(-first), (len(self.phi), i.size))
        if known.model == "laminar_flow":
            turn = jnp.cos(jnp.deg2rad(theta[6] - self.phi))[:, None]
            dephasing = 0.5 * known.q * known.gap * turn * (grown[1][j] - grown[1][i])
            return jnp.exp(-first) * jnp.sinc(dephasing / jnp.pi) ** 2
        x = theta[9] * jnp.exp(theta[10] * (self.times - theta[11])) + theta[12]
        x = jnp.clip(x, 0.0, 1.0)
        norm = x**2 + (1.0 - x) ** 2
        sample = jnp.exp(-0.5 * known.q**2 * (grown[1][j] - grown[1][i])) * x[i] * x[j]
        reference = jnp.exp(-0.5 * first) * (1.0 - x[i]) * (1.0 - x[j])
        phase = known.q * jnp.cos(jnp.deg2rad(self.phi - theta[13]))[:, None] * (grown[2][j] - grown[2][i])
        mixed = reference**2 + sample**2 + 2.0 * reference * sample * jnp.cos(phase)
        return mixed / (norm[i] * norm[j])

    def log_likelihood(self, theta: Array, log_scale: Array, contrast: Array, offset: Array) -> Array:
        """Independent normal noise on every pair, for contrast and offset (n_phi,)."""
        residual = self.data - offset[:, None] - contrast[:, None] * self.shapes(theta)
        noise = self.known.sigma * jnp.exp(log_scale)
        return -0.5 * jnp.sum(residual**2) / noise**2 - self.data.size * jnp.log(noise)

    def marginal(self, x: Array) -> Array:
        """log posterior of x (coordinates, then ln of the noise scale) with contrast and offset integrated out.

        Contrasts and offsets (c_a, o_a) are one normal vector of 2 n_phi numbers: a quadratic form from sums over raw
        pairs, plus, with pooling, the precision of independent deviations from a mean that is integrated too.
        """
        matrix, right = self.normal_form(x)
        noise = self.known.sigma * jnp.exp(x[-1])
        value = -0.5 * jnp.sum(self.data**2) / noise**2 - self.data.size * jnp.log(noise)
        integral = 0.5 * right @ jnp.linalg.solve(matrix, right) - 0.5 * jnp.linalg.slogdet(matrix)[1]
        return value + integral + self.log_prior(x)

    def normal_form(self, x: Array) -> tuple[Array, Array]:
        """Precision (2 n_phi, 2 n_phi) and precision × mean of (contrasts, offsets) at given x."""
        shape = self.shapes(self.theta(x))
        ones = jnp.full(len(self.phi), float(self.rows.size))
        squares, sums = jnp.sum(shape**2, axis=1), jnp.sum(shape, axis=1)
        variance = (self.known.sigma * jnp.exp(x[-1])) ** 2
        matrix = jnp.block([[jnp.diag(squares), jnp.diag(sums)], [jnp.diag(sums), jnp.diag(ones)]]) / variance
        right = jnp.concatenate([jnp.sum(shape * self.data, axis=1), jnp.sum(self.data, axis=1)]) / variance
        return matrix + self._pooling(), right

    def _pooling(self) -> Array:
        count = len(self.phi)
        if self.known.widths is None:
            return jnp.zeros((2 * count, 2 * count))
        centring = jnp.eye(count) - 1.0 / count
        contrast, offset = (centring / width**2 for width in self.known.widths)
        return jnp.block([[contrast, 0.0 * centring], [0.0 * centring, offset]])


def _log_density(kind: str, values: Mapping[str, float], value: Array) -> Array:
    if kind == "uniform":
        return jnp.zeros(())
    if kind == "lognormal":
        return dist.LogNormal(jnp.log(values["median"]), values["sigma"]).log_prob(value)
    if kind in ("normal", "truncated_normal"):
        return dist.Normal(values["mu"], values["sigma"]).log_prob(value)
    raise ValueError(f"no reference for a prior of kind {kind}")
