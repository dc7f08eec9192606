"""From shard chains to one posterior: which shards count, their consensus, and how it is certified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from hpcxpcs.inference.certificate import Certificate, certify
from hpcxpcs.inference.consensus import Combined, Part, anchored, averaged
from hpcxpcs.inference.draws import names_of, physical_draws
from hpcxpcs.inference.heterogeneity import Heterogeneity, heterogeneity
from hpcxpcs.inference.prepared import Prepared
from hpcxpcs.inference.target import log_densities
from hpcxpcs.likelihood.interpolation import Floats


@dataclass(frozen=True)
class ShardDraws:
    """Draws z (n, d) of one accepted shard in its own whitened coordinates, worth `ess` independent ones."""

    index: int
    z: Floats
    ess: float


def combined(prepared: Prepared, shards: Sequence[ShardDraws], *, seed: int) -> Combined:
    """Consensus of shard draws in the full posterior's whitened coordinates (n, d)."""
    if len(prepared.shards) == 1:
        only = shards[0]
        return averaged([Part(only.index, only.z, only.ess)])
    if prepared.anchored and prepared.picture is not None:
        parts = [Part(shard.index, shard.z, shard.ess) for shard in shards]
        return anchored(parts, prepared.picture.mean, prepared.picture.covariance, count=len(shards[0].z))
    return _without_scaling(averaged(_with_scaling(prepared, shards, seed)), prepared.space.size)


def _with_scaling(prepared: Prepared, shards: Sequence[ShardDraws], seed: int) -> list[Part]:
    """Shard draws joined with draws of the scaling (n, d + k): shards share contrast and offset, not only physics."""
    back = np.linalg.inv(np.asarray(prepared.full.transform))
    parts = []
    for shard in shards:
        target = prepared.shards[shard.index]
        found = physical_draws(prepared.space, target, shard.z, (seed, 2, shard.index))
        common = shard.z @ (back @ np.asarray(target.transform)).T
        parts.append(Part(shard.index, np.concatenate([common, found.coefficients], axis=1), shard.ess))
    return parts


def _without_scaling(joint: Combined, size: int) -> Combined:
    return Combined(
        joint.draws[:, :size],
        joint.mean[:size],
        joint.covariance[:size, :size],
        joint.indices,
        joint.weights,
        joint.notes,
    )


def certified(
    prepared: Prepared, consensus: Combined, *, draws: int, limit: float | None, seed: int
) -> Certificate:
    """Weigh a consensus against the likelihood of all data, each shard with the weight it was sampled with."""

    def log_posterior(z: Floats) -> Floats:
        return np.asarray(log_densities(prepared.space, prepared.full, jnp.asarray(z)))

    return certify(consensus, log_posterior, draws=draws, limit=limit, seed=seed)


def disagreement(prepared: Prepared) -> Heterogeneity | None:
    """Whether shards measure the same thing, from what each says alone, in full; None for a single shard."""
    if prepared.picture is None:
        return None
    transform = np.asarray(prepared.full.transform)
    estimates = prepared.picture.estimates @ transform.T
    covariances = transform @ prepared.picture.covariances @ transform.T
    return heterogeneity(names_of(prepared.space), estimates, covariances)
