"""τ(q) = a·q^−n over the bins of a file, with scatter of its own, and whether relaxation stops (τ levels off).

Errors of τ come from their fits, σ_i; what bins differ by beyond them is an intrinsic scatter s of ln τ, with which χ²
of the law is its degrees of freedom (Paule & Mandel, J. Res. NBS 87:377, 1982), 0 where χ² is smaller already. With s
the interval of n is that of Student's t. If n = 2 is inside it, D = 1/(τq²) is the mean over bins of the law with n =
2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, least_squares
from scipy.special import stdtrit

from hpcxpcs.arrays import Flags, Floats
from hpcxpcs.results.power_law import FEWEST_Q, PowerLaw, power_law

LEADING = 10.0
"""Gain in BIC from which a plateau counts as seen (odds of about 150 to 1)."""


@dataclass(frozen=True)
class Plateau:
    """τ = a·q^−n + offset (s), with standard errors; `gain` is by how much BIC is better than without the offset."""

    amplitude: float
    exponent: float
    exponent_error: float
    offset: float
    offset_error: float
    gain: float

    @property
    def seen(self) -> bool:
        """Whether relaxation becomes independent of q beyond doubt."""
        return self.gain > LEADING and self.offset > 2.0 * self.offset_error


@dataclass(frozen=True)
class TauLaw:
    """The law over `bins` bins: a in s·Å^−n, n with error and 95 % interval, scatter of ln τ, D in Å²/s or NaN."""

    amplitude: float
    exponent: float
    error: float
    low: float
    high: float
    scatter: float
    chi_squared: float
    freedom: int
    bins: int
    diffusion: float
    diffusion_error: float
    plateau: Plateau | None

    @property
    def diffusive(self) -> bool:
        """Whether n = 2 lies within the interval."""
        return self.low <= 2.0 <= self.high

    def at(self, q: Floats) -> Floats:
        """τ (s) of the law at q (1/Å)."""
        return np.asarray(self.amplitude * q ** (-self.exponent))

    @property
    def words(self) -> str:
        """The law in a sentence."""
        told = f"τ = a·q^−n over {self.bins} bins: n = {self.exponent:.4g} ± {self.error:.2g} "
        told += f"(95 %: {self.low:.4g} to {self.high:.4g})"
        told += f", bins scatter by {self.scatter:.1%} beyond their errors" if self.scatter > 0 else ""
        if self.diffusive:
            told += f"; n = 2 is inside, D = {self.diffusion:.4g} ± {self.diffusion_error:.2g} Å²/s"
        if self.plateau is not None and self.plateau.seen:
            told += (
                f"; τ levels off at {self.plateau.offset:.3g} ± {self.plateau.offset_error:.2g} s "
                f"(BIC better by {self.plateau.gain:.3g}): not one power of q"
            )
        return told


def tau_law(q: Floats, tau: Floats, log_sd: Floats, usable: Flags) -> TauLaw | None:
    """The law of τ (B,) in s at q (B,) in 1/Å with deviations of ln τ; None for fewer than FEWEST_Q different q."""
    kept = usable & np.isfinite(q) & (q > 0) & np.isfinite(tau) & np.isfinite(log_sd) & (log_sd > 0)
    q, tau, log_sd = q[kept], tau[kept], log_sd[kept]
    if len(set(q.tolist())) < FEWEST_Q:
        return None
    scatter = _scatter(q, tau, log_sd)
    law = _law(q, tau, np.hypot(log_sd, scatter))
    if law is None:
        return None
    wide = np.hypot(log_sd, scatter)
    t = 1.959963984540054 if scatter == 0 else float(stdtrit(law.freedom, 0.975))
    n = -law.exponent
    weights = 1.0 / wide**2
    log_d = float(np.sum(weights * -np.log(tau * q**2)) / weights.sum())
    inside = n - t * law.error <= 2.0 <= n + t * law.error
    return TauLaw(
        amplitude=law.amplitude * law.q_middle**n,
        exponent=n,
        error=law.error,
        low=n - t * law.error,
        high=n + t * law.error,
        scatter=scatter,
        chi_squared=law.chi_squared,
        freedom=law.freedom,
        bins=len(q),
        diffusion=float(np.exp(log_d)) if inside else np.nan,
        diffusion_error=float(np.exp(log_d) / np.sqrt(weights.sum())) if inside else np.nan,
        plateau=_plateau(q, tau, wide, law),
    )


def _law(q: Floats, tau: Floats, log_sd: Floats) -> PowerLaw | None:
    return power_law(q.tolist(), tau.tolist(), (tau * log_sd).tolist())


def _scatter(q: Floats, tau: Floats, log_sd: Floats) -> float:
    """Deviation s of ln τ beyond its errors that makes χ² as large as its degrees of freedom."""
    x, y = np.log(q), np.log(tau)

    def excess(s: float) -> float:
        weights = 1.0 / (log_sd**2 + s**2)
        centre, height = np.average(x, weights=weights), np.average(y, weights=weights)
        slope = np.sum(weights * (x - centre) * (y - height)) / np.sum(weights * (x - centre) ** 2)
        return float(np.sum(weights * (y - height - slope * (x - centre)) ** 2) - (len(x) - 2))

    if excess(0.0) <= 0.0:
        return 0.0
    return float(brentq(excess, 0.0, 10.0 * float(np.ptp(y)) + 1.0))


def _plateau(q: Floats, tau: Floats, log_sd: Floats, law: PowerLaw) -> Plateau | None:
    """The law with an offset, by least squares of ln τ; None where it cannot be determined."""
    if len(q) < FEWEST_Q + 1:
        return None
    x, lowest = np.log(q / law.q_middle), float(tau.min())

    def residuals(theta: Floats) -> Floats:
        model = np.exp(np.clip(theta[0] - theta[1] * x, -700, 700)) + lowest * theta[2]
        return np.asarray((np.log(np.maximum(model, 1e-300)) - np.log(tau)) / log_sd)

    start = np.array([np.log(law.amplitude), -law.exponent, 0.1])
    found = least_squares(residuals, start, bounds=([-np.inf, 0.0, 0.0], [np.inf, 20.0, np.inf]), x_scale="jac")
    square = found.jac.T @ found.jac
    if not found.success or np.linalg.cond(square) > 1e14:
        return None
    sd = np.sqrt(np.diag(np.linalg.inv(square)))
    straight = residuals(np.array([np.log(law.amplitude), -law.exponent, 0.0]))
    gain = float(straight @ straight - 2.0 * found.cost - np.log(len(q)))
    n = float(found.x[1])
    return Plateau(
        amplitude=float(np.exp(found.x[0]) * law.q_middle**n),
        exponent=n,
        exponent_error=float(sd[1]),
        offset=float(lowest * found.x[2]),
        offset_error=float(lowest * sd[2]),
        gain=gain,
    )
