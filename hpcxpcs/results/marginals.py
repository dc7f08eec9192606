"""Draws of each quantity as a few numbers, and the curve at the posterior mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcxpcs.results.posterior_records import Posterior
from hpcxpcs.results.records import Fit


@dataclass(frozen=True)
class Marginals:
    """Mean, standard deviation and median (m,) of m quantities; hdi (m,2) is the narrowest interval."""

    mean: np.ndarray
    std: np.ndarray
    median: np.ndarray
    hdi: np.ndarray


@dataclass(frozen=True)
class Curve:
    """Where a model is evaluated: all parameters (p,) in canonical order, contrast and offset (n_phi,)."""

    values: np.ndarray
    contrast: np.ndarray
    offset: np.ndarray


def marginals(draws: np.ndarray, probability: float) -> Marginals:
    """What draws (C,S,m) say about each of m quantities; the interval holds `probability` of them."""
    from arviz_stats.base.array import array_stats

    flat = np.asarray(draws, dtype=float).reshape(-1, np.shape(draws)[-1])
    return Marginals(
        mean=flat.mean(axis=0),
        std=flat.std(axis=0, ddof=1),
        median=np.median(flat, axis=0),
        hdi=np.asarray(array_stats.hdi(flat, prob=probability, axis=0)),
    )


def at_mean(fit: Fit, posterior: Posterior) -> Curve:
    """The curve at the posterior mean; parameters that were not sampled keep their value in the fit."""
    scaling = (np.mean(part, axis=(0, 1)) for part in (posterior.contrast, posterior.offset))
    return Curve(with_sampled(fit, posterior, posterior.summary.mean), *scaling)


def drawn_curves(fit: Fit, posterior: Posterior, count: int) -> list[Curve]:
    """At most `count` draws, evenly spaced among all chains."""
    total = posterior.draws.shape[0] * posterior.draws.shape[1]
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))
    draws, contrast, offset = (
        np.asarray(part).reshape(total, -1)[chosen]
        for part in (posterior.draws, posterior.contrast, posterior.offset)
    )
    return [
        Curve(with_sampled(fit, posterior, one), *scaling)
        for one, *scaling in zip(draws, contrast, offset, strict=True)
    ]


def with_sampled(fit: Fit, posterior: Posterior, sampled: np.ndarray) -> np.ndarray:
    """The fit's values (p,) with those of the sampled parameters (n,) in their places."""
    known = dict(zip(posterior.names, np.asarray(sampled, dtype=float), strict=True))
    return np.array([known.get(name, value) for name, value in zip(fit.names, fit.values, strict=True)])
