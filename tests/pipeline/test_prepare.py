"""From data to shards ready for sampling, for every way to cut; no shard is sampled here."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from hpcxpcs.data.select import load
from hpcxpcs.errors import ConfigError
from hpcxpcs.inference.prepared import Prepared
from hpcxpcs.inference.target import log_densities
from hpcxpcs.likelihood.shards import STRATEGIES
from hpcxpcs.pipeline.plan import begin, is_prepared, plan_for
from hpcxpcs.pipeline.prepare import OpenRun, prepare
from hpcxpcs.pipeline.reporter import Silent
from hpcxpcs.pipeline.settings import configured
from hpcxpcs.runs.run import Run
from tests.cli.fitting import simulated


class Heard(Silent):
    """A reporter that keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated file with its configuration."""
    return simulated(tmp_path_factory.mktemp("measured"), frames=60)


def prepared_run(config_file: Path, folder: Path, *overrides: str, reporter: Silent | None = None) -> OpenRun:
    """A run of method cmc with its likelihood prepared."""
    config = configured(config_file, ("optimization.method=cmc", *overrides))
    run = OpenRun.of(begin(folder, config, load(config), reporter or Silent()))
    prepare(run, reporter or Silent())
    return run


def read(run: Run) -> Prepared:
    """The prepared likelihood as a worker reads it."""
    return OpenRun(run.folder, run.plan).likelihood


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_given_any_strategy_when_prepared_then_the_shards_hold_every_pair_once_and_add_up_to_the_whole(
    strategy: str, config_file: Path, tmp_path: Path
) -> None:
    sharding = f"optimization.cmc.sharding={{strategy: {strategy}, num_shards: 3}}"
    prepared = read(prepared_run(config_file, tmp_path, sharding))
    assert len(prepared.shards) == 3
    np.testing.assert_array_equal(sum(shard.pairs for shard in prepared.shards), prepared.full.pairs)
    for name in ("gram", "data"):
        parts = [np.asarray(getattr(shard.arrays.groups[0], name)) for shard in prepared.shards]
        whole = np.asarray(getattr(prepared.full.arrays.groups[0], name))
        np.testing.assert_allclose(sum(parts), whole, rtol=1e-9, atol=1e-9 * np.abs(whole).max())


def test_given_a_prepared_run_then_the_mode_is_where_the_whitened_coordinates_begin(
    config_file: Path, tmp_path: Path
) -> None:
    prepared = read(prepared_run(config_file, tmp_path))
    size = prepared.space.size
    around = np.concatenate([np.zeros((1, size)), 0.5 * np.eye(size), -0.5 * np.eye(size)])
    values = np.asarray(log_densities(prepared.space, prepared.full, jnp.asarray(around)))
    assert np.all(values[0] > values[1:])


def test_given_contiguous_shards_when_prepared_then_it_is_said_what_late_shards_lose(
    config_file: Path, tmp_path: Path
) -> None:
    heard = Heard()
    sharding = "optimization.cmc.sharding={strategy: contiguous, num_shards: 2}"
    run = prepared_run(config_file, tmp_path, sharding, reporter=heard)
    assert any("short lags" in warning for warning in heard.warnings)
    assert list(run.warnings) == heard.warnings


def test_given_a_prepared_run_then_its_point_fit_is_read_back(config_file: Path, tmp_path: Path) -> None:
    run = prepared_run(config_file, tmp_path)
    point, timings = run.point_fit(print)
    assert is_prepared(run)
    assert point.status.startswith("converged")
    assert timings["read"] > 0.0


def test_given_an_integrator_that_cannot_be_compressed_then_sampling_is_refused_with_the_remedy(
    config_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"conventions\.integrator.*--method nlsq"):
        prepared_run(config_file, tmp_path, "conventions.integrator=trapezoid")
    assert list(tmp_path.iterdir()) == []


def test_given_a_configuration_then_the_plan_depends_on_neither_outputs_nor_workers(config_file: Path) -> None:
    one = configured(config_file, ("optimization.method=cmc",))
    other = configured(config_file, ("optimization.method=cmc", "runtime.workers=7", "output.plots=false"))
    data = load(one)
    first, second = plan_for(one, data), plan_for(other, data)
    assert first.tasks == second.tasks and first.config == second.config
    assert first.config_fingerprint == second.config_fingerprint
