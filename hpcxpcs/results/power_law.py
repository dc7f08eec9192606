"""A power of q through values with error bars, and whether one describes them at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import leastsq
from scipy.special import chdtrc

from hpcxpcs.answer.thresholds import SIGNIFICANCE
from hpcxpcs.arrays import Floats
from hpcxpcs.results.table import as_shown, measurement, number, powered

FEWEST_Q = 3
"""Different q below which a power law with two unknowns could not be wrong."""

CONVERGED = (1, 2, 3, 4)
"""What MINPACK returns where the sum of squares has a minimum."""

NORMAL_95 = 1.959963984540054
"""Standard deviations on either side of the mean that hold 95 % of a normal distribution."""


@dataclass(frozen=True)
class PowerLaw:
    """value = amplitude·(q/q_middle)^exponent; `error` of the exponent is one standard deviation, low to high 95 %.

    `chance` is the probability of a χ² at least as large if the law holds and the error bars are right.
    """

    amplitude: float
    q_middle: float
    exponent: float
    error: float
    low: float
    high: float
    chi_squared: float
    freedom: int
    chance: float

    @property
    def holds(self) -> bool:
        """Whether the values agree with any power of q."""
        return self.chance >= SIGNIFICANCE

    @property
    def interval(self) -> str:
        """The 95 % interval of the exponent, rounded as the exponent is."""
        shown = measurement(self.exponent, self.error)
        return powered(f"{as_shown(self.low, shown)} to {as_shown(self.high, shown)}", shown)

    @property
    def words(self) -> str:
        """The exponent with its interval, the misfit, and what follows."""
        exponent = f"exponent {measurement(self.exponent, self.error)} (95 %: {self.interval})"
        misfit = f"χ² {number(self.chi_squared, 3)} for {self.freedom} degree{'s' * (self.freedom != 1)} of freedom"
        return f"{exponent}, {misfit}, chance {number(self.chance, 2)}: {self.meaning}"

    @property
    def meaning(self) -> str:
        """What the exponent says about the q-dependence that the model has built in."""
        if not self.holds:
            return "no power law describes these values"
        if self.low <= 0.0 <= self.high:
            return "no dependence on q beyond that of the model"
        return "depends on q in another way than the model says"


def power_law(q: Sequence[float], values: Sequence[float], errors: Sequence[float]) -> PowerLaw | None:
    """Weighted least squares of the values themselves, not of their logarithms, whose errors would not be normal.

    q in 1/Å, all above 0, as errors (one standard deviation) are. None where values change sign, where less than
    FEWEST_Q different q are there, or where the exponent is not determined.
    """
    wavevectors, y, sigma = (np.asarray(numbers, dtype=float) for numbers in (q, values, errors))
    if len(set(wavevectors.tolist())) < FEWEST_Q or not np.all(y > 0):
        return None
    middle = math.exp(float(np.mean(np.log(wavevectors))))
    x = np.log(wavevectors / middle)

    def model(theta: Floats) -> Floats:
        return np.asarray(np.exp(theta[0] + theta[1] * x) / sigma)

    def jacobian(theta: Floats) -> Floats:
        return np.stack((model(theta), model(theta) * x), axis=1)

    with np.errstate(over="ignore", invalid="ignore"):
        start = _straight_line(x, np.log(y), y / sigma)
        best, covariance, _, _, stopped = leastsq(
            lambda theta: model(theta) - y / sigma, start, Dfun=jacobian, full_output=True
        )
    if covariance is None or stopped not in CONVERGED or not covariance[1, 1] > 0:
        return None
    exponent, error, freedom = float(best[1]), math.sqrt(covariance[1, 1]), len(y) - 2
    chi_squared = float(np.sum((model(best) - y / sigma) ** 2))
    return PowerLaw(
        amplitude=math.exp(float(best[0])),
        q_middle=middle,
        exponent=exponent,
        error=error,
        low=exponent - NORMAL_95 * error,
        high=exponent + NORMAL_95 * error,
        chi_squared=chi_squared,
        freedom=freedom,
        chance=float(chdtrc(freedom, chi_squared)),
    )


def _straight_line(x: Floats, y: Floats, weights: Floats) -> tuple[float, float]:
    """Intercept and slope; `weights` are one over the error of y."""
    share = weights**2 / np.sum(weights**2)
    apart = x - np.sum(share * x)
    slope = float(np.sum(share * apart * y) / np.sum(share * apart**2))
    return float(np.sum(share * (y - slope * x))), slope
