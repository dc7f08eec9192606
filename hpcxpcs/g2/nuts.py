"""NUTS for all bins of a file as one compiled program: NumPyro's kernel, mapped over bins and chains.

Each bin is sampled in coordinates whitened by its own highest density, x = centre + factor·z, where its posterior is
near a standard normal: steps of one size suit all directions and nearly all bins. The mapped kernel works in lockstep,
every step as long as its longest tree, so that bins alike in shape waste little. Bins go through in blocks of one
size, which is compiled once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.infer.hmc import hmc
from numpyro.infer.util import ParamInfo

from hpcxpcs.arrays import Flags, Floats
from hpcxpcs.g2.least_squares import Bins, Prior, misfit
from hpcxpcs.g2.models import Scale, Shape, physical
from hpcxpcs.inference.nuts import DEEPEST_START, OVER_DISPERSION

CHAINS = 4
WARMUP = 250
"""Steps of adaptation: the coordinates are white already, only the step size and what is not normal remain."""

TREE_DEPTH = 8
ACCEPTANCES = (0.8, 0.95)
"""Target acceptance of the first attempt and of the second, which bins get whose first one was refused."""

BLOCK = 45
"""Bins in one program (180 chains): enough to make the cost of a step small per chain; 270 bins are six blocks."""

SHRINKS = (1.0, 0.5, 0.25, 0.125, 0.0)
"""Starts more than DEEPEST_START nats below the centre are drawn in by these."""


class Target(NamedTuple):
    """One bin, or bins by row: scale, data, prior, centre (p,) and factor (p, p) of the whitened coordinates."""

    scale: Scale
    bins: Bins
    prior: Prior
    centre: Array
    factor: Array


@dataclass(frozen=True)
class Draws:
    """Draws of B bins: parameters (B, C, S, p), energy (nats) and divergences (B, C, S)."""

    values: Floats
    energy: Floats
    diverging: Flags


def potential(shape: Shape, tau: Array, target: Target, z: Array) -> Array:
    """Minus the log posterior density (nats) of one bin, without its constant."""
    x = target.centre + target.factor @ z
    r = misfit(shape, target.scale, tau, target.bins, x)
    apart = (x - target.prior.mean) / target.prior.deviation
    return 0.5 * (r @ r + apart @ apart)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _chains(
    shape: Shape, warmup: int, draws: int, tau: Array, targets: Target, keys: Array, acceptance: Array
) -> tuple[Array, ...]:
    """Parameters (B, C, S, p), energy and divergences (B, C, S) of targets by row, from keys (B, C, 2)."""

    def of_target(target: Target) -> Any:
        return lambda z: potential(shape, tau, target, z)

    begin, kernel = hmc(potential_fn_gen=of_target, algo="NUTS")

    def started(target: Target, key: Array) -> Any:
        own, rest = jax.random.split(key)
        z = _start(shape, tau, target, own)
        value, slope = jax.value_and_grad(of_target(target))(z)
        return begin(
            ParamInfo(z, value, slope),
            warmup,
            step_size=0.5,
            dense_mass=False,  # the coordinates are white: a dense matrix costs half as much again
            target_accept_prob=acceptance,
            max_tree_depth=TREE_DEPTH,
            model_args=(target,),
            rng_key=rest,
        )

    every = jax.vmap(jax.vmap(lambda target, state: kernel(state, (target,), {}), in_axes=(None, 0)))
    state = jax.vmap(jax.vmap(started, in_axes=(None, 0)))(targets, keys)
    state = jax.lax.fori_loop(0, warmup, lambda _, now: every(targets, now), state)

    def kept(now: Any, _: None) -> tuple[Any, tuple[Array, ...]]:
        now = every(targets, now)
        return now, (now.z, now.energy, now.diverging)

    _, (z, energy, diverging) = jax.lax.scan(kept, state, None, length=draws)

    def values_of(target: Target, z: Array) -> Array:
        return jax.vmap(jax.vmap(lambda one: physical(shape, target.scale, target.centre + target.factor @ one)))(z)

    values = jax.vmap(values_of)(targets, jnp.moveaxis(z, 0, 2))
    return values, jnp.moveaxis(energy, 0, 2), jnp.moveaxis(diverging, 0, 2)


def _start(shape: Shape, tau: Array, target: Target, key: Array) -> Array:
    """A place OVER_DISPERSION deviations wide around the centre, drawn in where the density is hopeless there."""
    wide = OVER_DISPERSION * jax.random.normal(key, target.centre.shape)
    tried = jnp.asarray(SHRINKS)[:, None] * wide
    depth = jax.vmap(lambda z: potential(shape, tau, target, z))(tried)
    return tried[jnp.argmax(depth < depth[-1] + DEEPEST_START)]


def sample(
    shape: Shape, tau: Floats, targets: Target, names: Sequence[int], stream: tuple[int, int], draws: int
) -> Draws:
    """Draws of all bins; `stream` (seed, attempt) and the name of a bin decide its random numbers, no neighbour."""
    count = len(targets.centre)
    scale = Scale(*(jnp.broadcast_to(jnp.asarray(field, float), (count,)) for field in targets.scale))
    targets = targets._replace(scale=scale)
    seed, attempt = stream
    root, acceptance = jax.random.fold_in(jax.random.PRNGKey(seed), attempt), jnp.asarray(ACCEPTANCES[attempt])
    keys = jax.vmap(lambda k: jax.random.split(jax.random.fold_in(root, k), CHAINS))(jnp.asarray(names))
    parts = []
    for first in range(0, count, BLOCK):
        rows = np.minimum(np.arange(first, first + BLOCK), count - 1)  # the last block repeats its last bin
        block = jax.tree.map(lambda leaf, rows=rows: leaf[rows], targets)
        found = _chains(shape, WARMUP, draws, jnp.asarray(tau), block, keys[rows], acceptance)
        parts.append([np.asarray(leaf)[: count - first] for leaf in found])
    values, energy, diverging = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Draws(values, energy, diverging)
