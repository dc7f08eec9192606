"""`combination.method: robust` from the data to the outputs: one of four shards of a run contradicts the others."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from hpcxpcs.cli import main
from hpcxpcs.inference.prepared import Prepared
from hpcxpcs.inference.target import joint_log_density
from hpcxpcs.likelihood.shards import partition
from hpcxpcs.pipeline.prepare import OpenRun
from hpcxpcs.runs.run import Run
from tests.cli.fitting import read_json, simulated
from tests.pipeline.test_prepare import Heard, prepared_run, read
from tests.small_problem import small_problem

FRAMES, ODD = 60, 1
SHARDING = "optimization.cmc.sharding={num_shards: 4, strategy: contiguous}"
TRUTH = {"D0": 12000.0, "alpha": -0.4, "D_offset": 500.0}
KEY = "optimization.cmc.combination.method"


def with_another_block(config: Path) -> Path:
    """Give the pairs that begin in the second block of time the dynamics of a sample that is 1.5 times faster."""
    faster = {**TRUTH, "D0": 1.5 * TRUTH["D0"]}
    other = simulated(config.parent, frames=FRAMES, name="faster", seed=4, parameters=faster)
    rows, columns = np.triu_indices(FRAMES, 1)
    block = partition("contiguous", 4, FRAMES, 42, first=1)[ODD].contains(rows, columns)
    rows, columns = rows[block], columns[block]
    with h5py.File(config.with_suffix(".hdf"), "r+") as file, h5py.File(other.with_suffix(".hdf")) as source:
        for name in (f"xpcs/twotime/correlation_map/c2_{k:05d}" for k in (1, 2, 3)):
            matrix = file[name][()]
            matrix[rows, columns] = source[name][()][rows, columns]
            file[name][...] = matrix
    return config


@pytest.fixture(scope="module")
def contradicted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A measurement whose second block of time differs."""
    report = {"plots": False, "report": True, "fitted_data": False}
    config = with_another_block(small_problem(tmp_path_factory.mktemp("odd"), 4, steps=200, output=report))
    # Left free, the constant part would bend the law of all blocks together towards a logarithm of time.
    settings = yaml.safe_load(config.read_text())
    settings["initial_parameters"]["fixed_parameters"] = {"D_offset": TRUTH["D_offset"]}
    config.write_text(yaml.safe_dump(settings))
    return config


@dataclass(frozen=True)
class Robust:
    """A finished run with its likelihood and the text on the terminal."""

    run: Path
    prepared: Prepared
    said: str


def fitted(config: Path, run: Path, *overrides: str) -> int:
    """`hpcxpcs fit CONFIG --run RUN --set …` in this process."""
    chosen = [part for override in (SHARDING, *overrides) for part in ("--set", override)]
    return main(["fit", str(config), "--run", str(run), *chosen])


@pytest.fixture(scope="module")
def plain(contradicted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of consensus."""
    run = tmp_path_factory.mktemp("plain")
    fitted(contradicted, run)
    return run


@pytest.fixture(scope="module")
def robust(contradicted: Path, tmp_path_factory: pytest.TempPathFactory) -> Robust:
    """A run of robust, its likelihood, and what the terminal showed."""
    run, said = tmp_path_factory.mktemp("robust"), StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        fitted(contradicted, run, f"{KEY}=robust")
    return Robust(run, read(Run.open(run)), said.getvalue())


def summary(run: Path) -> dict[str, dict[str, float]]:
    """Mean and standard deviation per parameter."""
    return read_json(run / "results" / "cmc" / "parameters.json")["parameters"]


def specific(run: Path) -> dict:
    """The part of diagnostics.json about the shards."""
    return read_json(run / "results" / "cmc" / "diagnostics.json")["cmc_specific"]


def off(found: dict[str, dict[str, float]], sd: float) -> float:
    """Distance of D0 from that of the other three blocks, in standard deviations."""
    return abs(found["D0"]["mean"] - TRUTH["D0"]) / sd


def test_given_a_shard_that_contradicts_then_robust_brings_the_answer_and_the_noise_of_the_others(
    plain: Path, robust: Robust
) -> None:
    one, other = summary(plain), summary(robust.run)
    sd = other["D0"]["std"]
    assert off(one, sd) > 4.0 and off(other, sd) < 3.0
    assert other["noise_scale"]["mean"] < 0.7 * one["noise_scale"]["mean"]


def test_given_a_shard_that_contradicts_then_it_is_named_in_the_diagnostics_with_its_weight(
    plain: Path, robust: Robust
) -> None:
    one, other = specific(plain), specific(robust.run)
    assert one["combination_method"] == "consensus" and other["combination_method"] == "robust"
    assert one["contradicting"] == other["contradicting"] == [ODD]
    weights = [shard["weight"] for shard in other["shard_summary"]]
    assert weights[ODD] < 0.3 and all(weight == 1.0 for k, weight in enumerate(weights) if k != ODD)
    assert [shard["weight"] for shard in one["shard_summary"]] == [1.0] * 4
    assert [shard["pairs"] for shard in one["shard_summary"]] == [shard["pairs"] for shard in other["shard_summary"]]


def test_given_a_shard_that_contradicts_then_report_verdict_and_terminal_say_what_all_data_means(
    robust: Robust,
) -> None:
    results = robust.run / "results"
    words = read_json(results / "cmc" / "diagnostics.json")["certificate"]["words"]
    assert f"all data: shard {ODD} with weight" in words
    assert f"shard {ODD} contradicts the others" in (results / "report.html").read_text()
    assert f"warning: shard {ODD} contradicts the others" in robust.said
    assert f"all were accepted; shard {ODD}" in robust.said.replace("all 4 were", "all were")


def test_given_a_robust_run_then_the_full_likelihood_is_that_of_the_shards_it_was_sampled_with(
    robust: Robust,
) -> None:
    prepared = robust.prepared
    rng, size = np.random.default_rng(0), prepared.space.size
    levels = prepared.full.scaling.precision.size
    x = np.asarray(prepared.full.origin) + 0.5 * rng.standard_normal((6, size)) @ np.asarray(prepared.full.transform).T
    coefficients = np.tile([0.3, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], (6, 1))[:, :levels]

    @jax.jit
    def joint(target, one, scaling):
        return joint_log_density(prepared.space, target, one, scaling)

    def values(target):
        pairs = zip(jnp.asarray(x), jnp.asarray(coefficients), strict=True)
        found = np.array([joint(target, one, scaling) for one, scaling in pairs])
        return found - found[0]

    bare = [replace(target, tempering=jnp.zeros(())) for target in (prepared.full, prepared.data, *prepared.shards)]
    full, data, *shards = map(values, bare)
    np.testing.assert_allclose(sum(shards), full, rtol=1e-8, atol=1e-6)
    unweighted = sum(shard / weight for shard, weight in zip(shards, prepared.weights, strict=True))
    np.testing.assert_allclose(unweighted, data, rtol=1e-8, atol=1e-6)
    assert np.abs(full - data).max() > 1.0


def test_given_no_shard_that_contradicts_then_robust_prepares_what_consensus_does_to_the_bit(
    tmp_path: Path,
) -> None:
    config, heard = simulated(tmp_path, frames=FRAMES), Heard()
    for anchor in ("point_fit", "none"):
        found = []
        for method in ("consensus", "robust"):
            shards, chosen = SHARDING.replace("contiguous", "random"), f"optimization.cmc.anchor={anchor}"
            folder = tmp_path / anchor / method
            run = prepared_run(config, folder, shards, chosen, f"{KEY}={method}", reporter=heard)
            found.append(OpenRun.of(run).sealed.arrays)
        one, other = found
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one), anchor
    assert not any("contradicts" in warning for warning in heard.warnings)


def test_given_two_shards_then_robust_says_that_it_needs_three(tmp_path: Path) -> None:
    heard = Heard()
    config = simulated(tmp_path, frames=FRAMES)
    two = "optimization.cmc.sharding={num_shards: 2}"
    prepared_run(config, tmp_path / "run", two, f"{KEY}=robust", reporter=heard)
    assert any("3 shards or more" in warning for warning in heard.warnings)
