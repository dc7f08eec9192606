"""NUTS in blocks: the whole state is data between blocks, so that a run can stop anywhere and go on with the same bits.

NumPyro's kernel is driven step by step. How many steps make a block is an argument of the compiled code, so neither
the block size nor a stop inside warm-up changes a draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.infer.hmc import hmc
from numpyro.infer.util import ParamInfo

from hpcxpcs.inference.target import Space, Target, log_density, with_gradient

BLOCK = 64
"""Most steps per call of the compiled block."""

OVER_DISPERSION = 2.0
"""Chains start this many standard deviations wide around the origin."""

DEEPEST_START = 50.0
"""A start more than this many nats below the origin is drawn in by halves."""

SHARD, EXACT = 0, 1
"""First number folded into the key: shards and full-data chains draw from different streams."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["space"],
    meta_fields=["warmup", "max_tree_depth", "target_acceptance"],
)
@dataclass(frozen=True)
class Sampler:
    """Where to sample, and choices that are compiled in."""

    space: Space
    warmup: int
    max_tree_depth: int
    target_acceptance: float


class Rows(NamedTuple):
    """What is kept of each step; leading axes (steps, chains) in a block, (chains, draws) in a record.

    z (…, d); energy and potential are in nats.
    """

    z: Any
    energy: Any
    potential: Any
    acceptance: Any
    num_steps: Any
    diverging: Any


@dataclass(frozen=True)
class Chains:
    """C chains so far: `step` steps done, the kernel's `state`, the draws after warm-up, the gradients spent."""

    step: int
    state: Any
    draws: Rows
    gradients: int

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything as plain arrays by name."""
        leaves = {
            f"state/{jax.tree_util.keystr(path, simple=True, separator='.')}": np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(self.state)
        }
        kept = {f"draws/{name}": np.asarray(rows) for name, rows in self.draws._asdict().items()}
        return {**leaves, **kept, "counts": np.array([self.step, self.gradients], dtype=np.int64)}


def _kernel(sampler: Sampler) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Start and step of a new kernel; it can step once its start has been traced, which sets its warm-up schedule."""

    def potential_of(target: Target) -> Callable[[Array], Array]:
        return lambda z: -log_density(sampler.space, target, z)

    init, sample = hmc(potential_fn_gen=potential_of, algo="NUTS")

    def start(target: Target, keys: Array, infos: tuple[Array, Array, Array]) -> Any:
        def one(key: Array, info: tuple[Array, Array, Array]) -> Any:
            return init(
                ParamInfo(*info),
                sampler.warmup,
                step_size=0.5,
                dense_mass=True,
                target_accept_prob=sampler.target_acceptance,
                max_tree_depth=sampler.max_tree_depth,
                model_args=(target,),
                rng_key=key,
            )

        return jax.vmap(one)(keys, infos)

    return start, jax.vmap(lambda target, state: sample(state, (target,), {}), in_axes=(None, 0))


@jax.jit
def _advanced(sampler: Sampler, target: Target, state: Any, count: Array) -> tuple[Any, Rows]:
    begin, step = _kernel(sampler)
    jax.eval_shape(begin, target, state.rng_key, (state.z, state.potential_energy, state.z_grad))

    def kept(now: Any) -> Rows:
        return Rows(now.z, now.energy, now.potential_energy, now.accept_prob, now.num_steps, now.diverging)

    empty = jax.tree.map(lambda leaf: jnp.zeros((BLOCK, *leaf.shape), leaf.dtype), jax.eval_shape(kept, state))

    def body(i: Array, carry: tuple[Any, Rows]) -> tuple[Any, Rows]:
        now = step(target, carry[0])
        return now, jax.tree.map(lambda rows, row: rows.at[i].set(row), carry[1], kept(now))

    return jax.lax.fori_loop(0, count, body, (state, empty))


def start(sampler: Sampler, target: Target, chains: int, stream: tuple[int, ...]) -> Chains:
    """Chains at over-dispersed starts; `stream` (seed, kind, index, attempt, …) names their random numbers."""
    keys, z = _starts(sampler.space, target, chains, stream)
    values, gradients = with_gradient(sampler.space, target, z)
    state = _kernel(sampler)[0](target, keys, (z, -values, -gradients))
    return Chains(0, state, _no_draws(chains, sampler.space.size), 0)


def advance(sampler: Sampler, target: Target, chains: Chains, steps: int) -> Chains:
    """The same chains `steps` (≤ BLOCK) steps later."""
    if not 0 < steps <= BLOCK:
        raise ValueError(f"a block has 1 … {BLOCK} steps, not {steps}")
    state, rows = _advanced(sampler, target, chains.state, jnp.asarray(steps))
    block = Rows(*(np.asarray(leaf)[:steps] for leaf in rows))
    first = min(steps, max(0, sampler.warmup - chains.step))
    kept = Rows(
        *(
            np.concatenate([np.asarray(old), new[first:].swapaxes(0, 1)], axis=1)
            for old, new in zip(chains.draws, block, strict=True)
        )
    )
    gradients = chains.gradients + int(block.num_steps.sum())
    return Chains(chains.step + steps, state, kept, gradients)


def resume_chains(sampler: Sampler, target: Target, arrays: Mapping[str, np.ndarray]) -> Chains:
    """Chains as Chains.to_arrays left them, in this process or another."""
    chains = arrays["draws/z"].shape[0]
    keys = jnp.zeros((chains, 2), dtype=jnp.uint32)
    z = jnp.zeros((chains, sampler.space.size))
    form = jax.eval_shape(_kernel(sampler)[0], target, keys, (z, jnp.zeros(chains), z))
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(form)]
    leaves = [jnp.asarray(arrays[f"state/{jax.tree_util.keystr(path, simple=True, separator='.')}"]) for path in paths]
    state = jax.tree.unflatten(jax.tree.structure(form), leaves)
    draws = Rows(*(arrays[f"draws/{name}"] for name in Rows._fields))
    step, gradients = (int(count) for count in arrays["counts"])
    return Chains(step, state, draws, gradients)


def density_moved(sampler: Sampler, target: Target, chains: Chains) -> float:
    """Largest relative change of the log density at the chains' positions since it was stored."""
    stored = np.asarray(chains.state.potential_energy)
    now = -np.asarray(with_gradient(sampler.space, target, chains.state.z)[0])
    moved = np.where(now == stored, 0.0, np.abs(now - stored) / np.maximum(np.abs(stored), 1.0))
    return float(np.max(np.where(np.isnan(moved), np.inf, moved)))


def _starts(space: Space, target: Target, chains: int, stream: tuple[int, ...]) -> tuple[Array, Array]:
    """Keys (C, 2) and starts (C, d) of a stream."""
    root = jax.random.PRNGKey(stream[0])
    for number in stream[1:]:
        root = jax.random.fold_in(root, number)
    keys = jax.random.split(root, 2 * chains)
    z = OVER_DISPERSION * jax.vmap(lambda key: jax.random.normal(key, (space.size,)))(keys[:chains])
    floor = float(with_gradient(space, target, jnp.zeros((1, space.size)))[0][0]) - DEEPEST_START
    for _ in range(20):
        low = np.asarray(with_gradient(space, target, z)[0]) < floor
        if not low.any():
            break
        z = jnp.where(jnp.asarray(low)[:, None], 0.5 * z, z)
    return keys[chains:], z


def _no_draws(chains: int, size: int) -> Rows:
    shape = (chains, 0)
    return Rows(
        z=np.zeros((*shape, size)),
        energy=np.zeros(shape),
        potential=np.zeros(shape),
        acceptance=np.zeros(shape),
        num_steps=np.zeros(shape, dtype=np.int64),
        diverging=np.zeros(shape, dtype=bool),
    )


def with_acceptance(sampler: Sampler, attempt: int) -> Sampler:
    """The sampler of a retry: each closes half of the gap between its target acceptance and 1."""
    return replace(sampler, target_acceptance=1.0 - (1.0 - sampler.target_acceptance) * 0.5**attempt)
