"""One posterior from the draws of all shards, in unconstrained coordinates and with full covariances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcxpcs.errors import PosteriorError
from hpcxpcs.likelihood.interpolation import Floats

CURVATURE_RANGE = (0.25, 4.0)
"""How far the combined precision may leave the anchor's, along any direction: beyond, shards are not trusted."""

SINGULAR = 1.0e-12
"""Smallest eigenvalue of a correlation matrix at which draws still span all directions."""


@dataclass(frozen=True)
class Part:
    """Draws (S,d) of one shard in unconstrained coordinates, in order, and how many independent ones they are worth."""

    index: int
    draws: Floats
    ess: float


@dataclass(frozen=True)
class Combined:
    """Draws (S,d) of the whole posterior with its mean (d,) and covariance (d,d).

    `indices` (K,) of the parts, ascending, and their `weights`: share of the total precision (averaged), or of the
    draws (anchored). `notes` say in words what was limited or left out.
    """

    draws: Floats
    mean: Floats
    covariance: Floats
    indices: tuple[int, ...]
    weights: Floats
    notes: tuple[str, ...]


def averaged(parts: Sequence[Part]) -> Combined:
    """Weighted averages of draws, weights the inverse covariances (Scott et al. 2016): exact for normal shards.

    Each shard's draws must come from its likelihood times prior^(1/K).
    """
    ordered, length, notes = _aligned(parts)
    draws = np.stack([part.draws[:length] for part in ordered])
    if len(ordered) == 1:
        mean, covariance = _sample_moments(ordered[0], draws[0])
        return Combined(draws[0], mean, covariance, (ordered[0].index,), np.ones(1), notes)
    moments = [_sample_moments(part, own) for part, own in zip(ordered, draws, strict=True)]
    means, covariances = np.stack([m for m, _ in moments]), np.stack([c for _, c in moments])
    precisions = np.linalg.inv(covariances)
    covariance = np.linalg.inv(precisions.sum(axis=0))
    shares = covariance @ precisions
    return Combined(
        draws=np.einsum("kij,ksj->si", shares, draws),
        mean=np.einsum("kij,kj->i", shares, means),
        covariance=0.5 * (covariance + covariance.T),
        indices=tuple(part.index for part in ordered),
        weights=np.trace(shares, axis1=1, axis2=2) / means.shape[1],
        notes=notes,
    )


def anchored(
    parts: Sequence[Part], mean0: Floats, covariance0: Floats, *, count: int | None = None
) -> Combined:
    """Add up what each shard changes about the anchor N(mean0 (d,), covariance0 (d,d)), in natural parameters.

    Each shard's draws come from its own likelihood times the anchor without that shard (expectation propagation), so
    each is nearly the whole posterior: all are pooled, mapped to the combined moments, and thinned to `count`.
    """
    ordered = _checked(parts)
    factor = np.linalg.cholesky(covariance0)
    whites = [np.linalg.solve(factor, (part.draws - mean0).T).T for part in ordered]
    moments = [_sample_moments(part, white) for part, white in zip(ordered, whites, strict=True)]
    precision, pull, notes = _shrunk_sum(ordered, moments)
    values, vectors = np.linalg.eigh(precision)
    limited = np.clip(values, *CURVATURE_RANGE)
    if np.any(limited != values):
        notes += (
            f"{np.count_nonzero(limited != values)} of {values.size} directions changed their precision more than "
            f"{CURVATURE_RANGE[1]:g} times from the point fit's and were limited: the posterior is far from normal",
        )
    covariance = (vectors / limited) @ vectors.T
    mean = covariance @ pull
    pooled = [
        mean + (white - centre) @ _transport(spread, covariance)
        for white, (centre, spread) in zip(whites, moments, strict=True)
    ]
    draws = _thinned(np.concatenate(pooled), count)
    sizes = np.array([len(white) for white in whites], dtype=np.float64)
    return Combined(
        draws=mean0 + draws @ factor.T,
        mean=mean0 + factor @ mean,
        covariance=factor @ covariance @ factor.T,
        indices=tuple(part.index for part in ordered),
        weights=sizes / sizes.sum(),
        notes=notes,
    )


def _shrunk_sum(
    parts: Sequence[Part], moments: Sequence[tuple[Floats, Floats]]
) -> tuple[Floats, Floats, tuple[str, ...]]:
    """Precision (d,d) and precision × mean (d,) of all parts together, whitened by the anchor (I and 0).

    Each deviation carries Monte Carlo noise and the noise adds up, so their sums are shrunk towards the anchor by the
    share of noise expected in them (James and Stein).
    """
    dim = parts[0].draws.shape[1]
    bend, pull = np.zeros((dim, dim)), np.zeros(dim)
    bend_noise = pull_noise = 0.0
    for part, (mean, covariance) in zip(parts, moments, strict=True):
        worth = max(part.ess, dim + 3.0)
        precision = np.linalg.inv(covariance) * (worth - dim - 2.0) / (worth - 1.0)
        bend += precision - np.eye(dim)
        pull += precision @ mean
        bend_noise += (np.trace(precision) ** 2 + np.sum(precision**2)) / worth
        pull_noise += (np.trace(precision) + (dim + 1.0) * np.sum((precision @ mean) ** 2)) / worth
    bend_kept = _kept(float(np.sum(bend**2)), float(bend_noise))
    pull_kept = _kept(float(np.sum(pull**2)), float(pull_noise))
    notes = tuple(
        f"shard {part.index} is worth only {part.ess:.0f} draws for {dim} coordinates: its shape is hardly known"
        for part in parts
        if not part.ess >= 10.0 * dim
    )
    return np.eye(dim) + bend_kept * bend, pull_kept * pull, notes


def _kept(squared: float, noise: float) -> float:
    """Share of a vector to keep, given its squared length and the part of it that noise alone would have."""
    return max(0.0, 1.0 - noise / squared) if squared > 0.0 else 0.0


def _transport(source: Floats, target: Floats) -> Floats:
    """The symmetric map that takes covariance `source` to `target` with the least movement."""
    root = _root(source)
    back = np.linalg.inv(root)
    return np.asarray(back @ _root(root @ target @ root) @ back)


def _root(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    return (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T


def _thinned(draws: Floats, count: int | None) -> Floats:
    """`count` draws evenly spaced over all of them; all where there are no more."""
    if count is None or count >= len(draws):
        return draws
    return draws[(np.arange(count) * len(draws)) // count]


def _checked(parts: Sequence[Part]) -> list[Part]:
    """The parts in the order of their index, finite and of one dimension."""
    if not parts:
        raise PosteriorError("no shard was accepted: there is nothing to combine; see the reasons per shard")
    for part in parts:
        if not np.all(np.isfinite(part.draws)):
            raise PosteriorError(f"shard {part.index} has draws that are not finite: sample it again")
    return sorted(parts, key=lambda part: part.index)


def _aligned(parts: Sequence[Part]) -> tuple[list[Part], int, tuple[str, ...]]:
    """Checked parts and the number of draws that all of them have."""
    ordered = _checked(parts)
    for part in ordered:
        _sample_moments(part, part.draws)
    lengths = [len(part.draws) for part in ordered]
    if min(lengths) == max(lengths):
        return ordered, lengths[0], ()
    return (
        ordered,
        min(lengths),
        (f"shards have {min(lengths)} to {max(lengths)} draws: the last ones are left out",),
    )


def _sample_moments(part: Part, draws: Floats) -> tuple[Floats, Floats]:
    """Mean (d,) and covariance (d,d) of a part's draws, which must vary in every direction."""
    covariance = np.atleast_2d(np.cov(draws, rowvar=False))
    spread = np.sqrt(np.diag(covariance))
    if not np.all(spread > 0.0) or np.linalg.eigvalsh(covariance / np.outer(spread, spread))[0] < SINGULAR:
        raise PosteriorError(
            f"the {len(draws)} draws of shard {part.index} do not vary in all {spread.size} directions: "
            "its chains are stuck or too short; sample it again with more draws"
        )
    return draws.mean(axis=0), covariance
