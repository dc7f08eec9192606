"""Chains whose whole state is data: any stop, any block size, any process gives the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.inference import nuts
from hpcxpcs.inference.target import Target, log_densities
from tests.inference.posteriors import Posed
from tests.inference.resumed_chains import CHAINS, STEPS, STREAM, WARMUP, problem, run, sampler, stored

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def compiled() -> Iterator[list[str]]:
    """Names of the functions that are compiled during these tests."""
    names: list[str] = []

    def heard(event: str, duration: float, **about: Any) -> None:
        if event.endswith("backend_compile_duration"):
            names.append(str(about.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(heard)
    yield names
    jax.monitoring.unregister_event_duration_listener(heard)


@pytest.fixture(scope="module")
def posterior() -> Posed:
    return problem()


@pytest.fixture(scope="module")
def kernel(posterior) -> nuts.Sampler:
    return sampler(posterior)


@pytest.fixture(scope="module")
def target(posterior) -> Target:
    return replace(posterior.full, arrays=posterior.condensed(posterior.moments)[0])


@pytest.fixture(scope="module")
def start(kernel, target) -> nuts.Chains:
    return nuts.start(kernel, target, CHAINS, STREAM)


@pytest.fixture(scope="module")
def straight(kernel, target, start) -> nuts.Chains:
    """The chains from start to end without a stop."""
    return run(kernel, target, start, [nuts.BLOCK])


def gaussian(target: Target) -> tuple[Target, np.ndarray, np.ndarray]:
    """A target without data and prior: the Gaussian of its cavity, with mean and covariance of z."""
    rng = np.random.default_rng(6)
    size = target.precision.shape[0]
    root = rng.standard_normal((size, size)) + 2.0 * np.eye(size)
    back = np.eye(size)
    back[:4, :4] = np.linalg.inv(np.asarray(target.transform))
    precision, centre = back.T @ root @ root.T @ back, np.linalg.solve(back, rng.standard_normal(size))
    empty = jax.tree.map(jnp.zeros_like, target.arrays)
    made = replace(
        target,
        arrays=empty,
        pairs=jnp.zeros_like(target.pairs),
        tempering=jnp.zeros(()),
        precision=jnp.asarray(precision),
        shift=jnp.asarray(precision @ centre),
    )
    return made, (back @ centre)[:4], np.linalg.inv(root @ root.T)[:4, :4]


def same(one: nuts.Chains | Mapping[str, np.ndarray], other: nuts.Chains) -> bool:
    first = one.to_arrays() if isinstance(one, nuts.Chains) else one
    second = other.to_arrays()
    assert set(first) == set(second)
    return all(
        first[name].dtype == second[name].dtype and first[name].tobytes() == second[name].tobytes() for name in second
    )


def test_given_chains_then_the_draws_after_warm_up_are_kept_and_every_gradient_is_counted(straight):
    assert straight.step == STEPS
    assert straight.draws.z.shape == (CHAINS, STEPS - WARMUP, 4)
    assert all(np.shape(rows)[:2] == (CHAINS, STEPS - WARMUP) for rows in straight.draws)
    assert straight.gradients > int(straight.draws.num_steps.sum()) >= CHAINS * (STEPS - WARMUP)
    assert np.unique(straight.draws.z.reshape(-1, 4), axis=0).shape[0] > 0.8 * CHAINS * (STEPS - WARMUP)


def test_given_draws_then_their_potential_is_minus_the_log_density(posterior, target, straight):
    values = log_densities(posterior.space, target, jnp.asarray(straight.draws.z))
    np.testing.assert_allclose(straight.draws.potential, -np.asarray(values), rtol=1e-9)
    assert np.all(straight.draws.energy >= straight.draws.potential)


@pytest.mark.parametrize("blocks", [[1], [7, 64, 30], [WARMUP // 2, WARMUP - WARMUP // 2]])
def test_given_any_block_sizes_then_the_chains_are_the_same_bits(kernel, target, start, straight, blocks):
    assert same(run(kernel, target, start, blocks), straight)


@pytest.mark.parametrize("steps", [0, -1, nuts.BLOCK + 1])
def test_given_an_impossible_block_size_then_it_is_refused(kernel, target, start, steps):
    with pytest.raises(ValueError, match="block"):
        nuts.advance(kernel, target, start, steps)


@pytest.mark.parametrize("stop", [0, 33, WARMUP, 141])
def test_given_a_stop_anywhere_when_taken_up_from_its_arrays_then_the_bits_are_the_same(
    kernel, target, start, straight, stop
):
    chains = start
    while chains.step < stop:
        chains = nuts.advance(kernel, target, chains, min(nuts.BLOCK, stop - chains.step))
    again = nuts.resume_chains(kernel, target, chains.to_arrays())
    assert same(again, chains)
    assert same(run(kernel, target, again, [nuts.BLOCK]), straight)


def test_given_stops_in_warm_up_and_after_when_another_process_goes_on_then_the_bits_are_the_same(
    kernel, target, start, straight, tmp_path
):
    np.savez(tmp_path / "target.npz", **stored(target))
    early = nuts.advance(kernel, target, start, 41)
    late = nuts.advance(kernel, target, nuts.advance(kernel, target, early, 60), 30)
    assert early.step < WARMUP < late.step
    np.savez(tmp_path / "early.npz", **early.to_arrays())
    np.savez(tmp_path / "late.npz", **late.to_arrays())
    command = [sys.executable, "-m", "tests.inference.resumed_chains", str(tmp_path), "early", "late"]
    environment = {**os.environ, "JAX_ENABLE_X64": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("early", "late"):
        with np.load(tmp_path / f"{name}.done.npz") as found:
            assert same(dict(found), straight)


@pytest.mark.parametrize(
    "stream", [(8, nuts.SHARD, 0, 0), (7, nuts.EXACT, 0, 0), (7, nuts.SHARD, 1, 0), (7, nuts.SHARD, 0, 1)]
)
def test_given_another_seed_kind_index_or_attempt_then_the_chains_are_others(kernel, target, start, stream):
    other = nuts.start(kernel, target, CHAINS, stream)
    assert not np.any(np.asarray(other.state.z) == np.asarray(start.state.z))
    assert not np.any(np.asarray(other.state.rng_key) == np.asarray(start.state.rng_key))


def test_given_the_same_stream_then_the_start_is_the_same_bits(kernel, target, start):
    assert same(nuts.start(kernel, target, CHAINS, STREAM), start)


def test_given_one_start_then_its_chains_differ(start, straight):
    assert not np.any(np.asarray(start.state.z[0]) == np.asarray(start.state.z[1]))
    assert not np.any(straight.draws.z[0] == straight.draws.z[1])


def test_given_the_stored_density_then_the_same_target_has_not_moved_and_another_has(kernel, target, straight):
    assert nuts.density_moved(kernel, target, straight) < 1e-9
    for changed in (
        replace(target, sigma=1.01 * target.sigma),
        replace(target, arrays=replace(target.arrays, power=target.arrays.power * (1.0 + 1e-6))),
        replace(target, origin=target.origin + 0.1 * target.transform[:, 0]),
    ):
        assert nuts.density_moved(kernel, changed, straight) > 1e-7


def test_given_a_density_that_is_not_a_number_any_more_then_it_has_moved(kernel, target, straight):
    broken = replace(target, sigma=jnp.nan * target.sigma)
    assert nuts.density_moved(kernel, broken, straight) == np.inf


def test_given_other_shards_blocks_and_processes_then_the_code_that_was_compiled_serves_them(
    posterior, kernel, straight, compiled
):
    before = len(compiled)
    shards = posterior.shards(4, tempering=np.float64(0.25))
    for index, shard in enumerate(shards[:2]):
        chains = nuts.start(kernel, shard, CHAINS, (7, nuts.SHARD, index, 0))
        chains = nuts.advance(kernel, shard, chains, 5 + index)
        chains = nuts.resume_chains(kernel, shard, chains.to_arrays())
        nuts.advance(kernel, shard, chains, nuts.BLOCK - index)
        assert nuts.density_moved(kernel, shard, chains) < 1e-9
    assert not any("_advanced" in name or "_expanded" in name for name in compiled[before:])
    assert sum("_advanced" in name for name in compiled) == 1


def test_given_a_gaussian_then_its_mean_and_covariance_are_sampled(kernel, target):
    target, mean, covariance = gaussian(target)
    chains = nuts.start(kernel, target, CHAINS, STREAM)
    while chains.step < WARMUP + 4000:
        chains = nuts.advance(kernel, target, chains, 60)
    z = chains.draws.z.reshape(-1, 4)
    root = np.linalg.inv(np.linalg.cholesky(covariance))
    white = (z - mean) @ root.T
    assert not chains.draws.diverging.any()
    assert np.abs(white.mean(axis=0)).max() < 0.06
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(4), atol=0.09)
    assert 0.7 < chains.draws.acceptance.mean() < 0.95


def test_given_a_posterior_that_is_much_narrower_than_thought_then_chains_start_where_it_is_not_negligible(
    posterior, kernel, target
):
    wide = replace(target, transform=1e3 * target.transform)
    chains = nuts.start(kernel, wide, CHAINS, STREAM)
    peak = float(log_densities(posterior.space, wide, jnp.zeros((1, 4)))[0])
    assert np.all(-np.asarray(chains.state.potential_energy) > peak - nuts.DEEPEST_START)
    assert np.all(np.asarray(chains.state.z) != 0.0)


def test_given_retries_then_each_halves_the_distance_of_its_target_acceptance_from_one(kernel):
    assert nuts.with_acceptance(kernel, 0) == kernel
    found = [nuts.with_acceptance(kernel, attempt).target_acceptance for attempt in (1, 2, 3)]
    assert found == pytest.approx([0.9, 0.95, 0.975])
