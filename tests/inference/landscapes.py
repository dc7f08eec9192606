"""Objectives with known minima, in the shape that the minimiser wants them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np

from hpcxpcs.likelihood.gaussian import Normal
from hpcxpcs.likelihood.scaling import Solution

NOTHING = Solution(jnp.zeros(0), jnp.zeros((0, 0)), jnp.zeros((0, 2)))


def normal_of(residual: np.ndarray, jacobian: np.ndarray, floor: float = 0.0) -> Normal:
    """½|r|² + floor with its Gauss-Newton expansion."""
    return Normal(
        jnp.asarray(floor + 0.5 * residual @ residual),
        jnp.asarray(jacobian.T @ residual),
        jnp.asarray(jacobian.T @ jacobian),
        NOTHING,
    )


@dataclass
class Landscape(ABC):
    """A cost over coordinates; counts how often it was expanded."""

    calls: int = field(default=0, init=False)

    @abstractmethod
    def parts(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Residuals (n,) and Jacobian (n, f)."""

    def expand(self, u: np.ndarray) -> Normal:
        """Cost, gradient and information at u (f,)."""
        self.calls += 1
        return normal_of(*self.parts(np.asarray(u, dtype=float)), floor=self.floor)

    def cost(self, u: np.ndarray) -> float:
        """Cost alone."""
        residual, _ = self.parts(np.asarray(u, dtype=float))
        return float(self.floor + 0.5 * residual @ residual)

    @property
    def floor(self) -> float:
        """Cost at the minimum: that of the noise of 10⁵ pairs."""
        return 5.0e4


@dataclass
class Bowl(Landscape):
    """A quadratic around `centre` with the given standard deviations along rotated axes."""

    centre: np.ndarray
    spread: np.ndarray

    def parts(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Linear residuals."""
        size = self.centre.size
        rotation = np.linalg.qr(np.random.default_rng(3).standard_normal((size, size)))[0]
        jacobian = rotation / self.spread[:, None]
        return jacobian @ (u - self.centre), jacobian


@dataclass
class Banana(Landscape):
    """Rosenbrock's valley with its minimum at (1, 1), `steepness` times narrower than long."""

    steepness: float = 100.0

    def parts(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Curved residuals."""
        x, y = u
        residual = np.array([self.steepness * (y - x**2), 1.0 - x])
        return residual, np.array([[-2.0 * self.steepness * x, self.steepness], [-1.0, 0.0]])
