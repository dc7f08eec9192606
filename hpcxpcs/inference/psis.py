"""Importance weights smoothed by a Pareto tail, and how far they can be trusted.

Pareto smoothing is that of Vehtari, Simpson, Gelman, Yao and Gabry (JMLR 25:72, 2024); the tail is fitted as in Zhang
and Stephens (Technometrics 51:316, 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from hpcxpcs.arrays import Floats

LARGEST_K = 0.7
"""Pareto shape above which a mean by importance sampling is not usable at any affordable number of draws."""

FEWEST_TAIL = 5
"""A tail of fewer ratios cannot be fitted."""

FLAT = 1.0e-9
"""Log-ratios whose tail spans less than this (nats) are equal up to rounding."""

PRIOR_DRAWS = 10.0
"""Weight of the weak prior on k, centred at one half, in draws of the tail."""

PRIOR_CENTRE = 0.5
"""Centre of the weak prior on k: a wrong guess errs on the careful side."""


@dataclass(frozen=True)
class Smoothed:
    """Normalised log-weights (S,), the shape k of their upper tail (−∞: all equal), and Kish's sample size.

    `log_mean` (nats) is ln of the mean ratio: an estimate of ln ∫ target.
    """

    log_weights: Floats
    k_hat: float
    ess: float
    log_mean: float

    @property
    def log_mean_error(self) -> float:
        """Standard error of `log_mean` (nats): that of a mean of independent ratios, relative to it."""
        return float(np.sqrt(max(1.0 / self.ess - 1.0 / self.log_weights.size, 0.0)))


def k_hat_limit(draws: int) -> float:
    """Largest shape k at which `draws` draws suffice for a stable mean."""
    return min(1.0 - 1.0 / np.log10(draws), LARGEST_K) if draws > 1 else -np.inf


def smooth(log_ratios: Floats) -> Smoothed:
    """Smooth log importance ratios ln target − ln proposal (S,); −∞ is weight zero, NaN and +∞ are refused."""
    ratios = np.array(log_ratios, dtype=np.float64)
    if np.any(np.isnan(ratios)) or np.any(ratios == np.inf) or not np.any(np.isfinite(ratios)):
        raise ValueError("log_ratios must be numbers or -inf, and not all -inf")
    largest = float(ratios.max())
    ratios -= largest
    length = int(min(ratios.size / 5.0, 3.0 * np.sqrt(ratios.size)))
    k_hat = np.inf
    if length >= FEWEST_TAIL:
        order = np.argsort(ratios, kind="stable")
        tail, cutoff = order[-length:], ratios[order[-length - 1]]
        ratios[tail], k_hat = _smoothed_tail(ratios[tail], float(cutoff))
    total = logsumexp(ratios)
    log_weights = ratios - total
    log_mean = largest + float(total) - np.log(ratios.size)
    return Smoothed(log_weights, k_hat, float(np.exp(-logsumexp(2.0 * log_weights))), log_mean)


def _smoothed_tail(tail: Floats, cutoff: float) -> tuple[Floats, float]:
    """Ascending log-ratios above the cutoff, replaced by quantiles of the fitted Pareto tail, and its shape."""
    if -cutoff < FLAT:
        return tail, -np.inf
    if not np.isfinite(cutoff):
        return tail, np.inf
    floor = np.exp(cutoff)
    k, scale = fit_pareto(np.exp(tail) - floor)
    if not np.isfinite(k) or not np.isfinite(scale):
        return tail, np.inf
    places = (np.arange(tail.size) + 0.5) / tail.size
    smoothed = np.log(floor + pareto_quantiles(places, k, scale))
    return np.minimum(smoothed, 0.0), k


def fit_pareto(excess: Floats) -> tuple[float, float]:
    """Shape k and scale of a generalised Pareto distribution from ascending values (M,) ≥ 0; (∞, ∞) if none fits.

    The posterior mean of θ = −k/scale under a data-dependent prior on a grid, k then drawn weakly towards one half.
    """
    size = excess.size
    quartile, largest = excess[int(size / 4.0 + 0.5) - 1], excess[-1]
    if not quartile > np.finfo(float).tiny * size**2:
        return np.inf, np.inf
    grid = 30 + int(np.sqrt(size))
    steps = 1.0 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))
    theta = 1.0 / largest + steps / (3.0 * quartile)
    shape = np.log1p(-theta[:, None] * excess).mean(axis=1)
    likelihood = size * (np.log(-theta / shape) - shape - 1.0)
    mean = float(np.exp(likelihood - logsumexp(likelihood)) @ theta)
    k = float(np.log1p(-mean * excess).mean())
    scale = -k / mean
    return (size * k + PRIOR_DRAWS * PRIOR_CENTRE) / (size + PRIOR_DRAWS), scale


def pareto_quantiles(probabilities: Floats, k: float, scale: float) -> Floats:
    """Quantiles of the generalised Pareto distribution with lower end 0."""
    exponential = -np.log1p(-probabilities)
    return scale * (exponential if k == 0.0 else np.expm1(k * exponential) / k)
