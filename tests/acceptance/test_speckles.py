"""A posterior of photons on speckles: weighed by the noise that pairs share, the same whoever computes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

import hpcxpcs
from hpcxpcs.data.simulate import NoiseSpec
from tests.acceptance.jobs import Jobs, digest, prepared_digest, ranks
from tests.made_once import made_once
from tests.small_problem import small_problem


@dataclass(frozen=True)
class Runs:
    """A consensus by one process, the same by two ranks with two threads each, and all data at once.

    `unweighed` is all data at once, taken for independent.
    """

    alone: Path
    together: Path
    exact: Path
    unweighed: Path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, private_cache: None) -> Runs:
    def make(folder: Path) -> None:
        config = small_problem(folder, 2, steps=200)
        settings = yaml.safe_load(config.read_text())
        settings["initial_parameters"] = {"fixed_parameters": {"D_offset": 0.0}}
        config.write_text(yaml.safe_dump(settings))
        photons = NoiseSpec("photon", photons=5.0, pixels=2000)
        spec = {"angles": 3, "frames": 60, "contrast": 0.15, "noise": photons, "seed": 11, "offset_spread": 0.0}
        slow = {"D0": 1.0e4, "alpha": 0.0, "D_offset": 0.0}
        hpcxpcs.simulate(
            hpcxpcs.SimulationSpec("static", output=config.with_suffix(".hdf"), parameters=slow, force=True, **spec)
        )
        two = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
        with Jobs(folder, config) as jobs:
            jobs.fit(folder / "alone")
            jobs.fit(folder / "together", before=ranks(2), environment=two)
            jobs.fit(folder / "exact", "--method", "exact")
            jobs.fit(folder / "unweighed", "--method", "exact", "--set", "noise.model=independent")

    folder = made_once(tmp_path_factory, "speckles", make)
    return Runs(*(folder / name for name in ("alone", "together", "exact", "unweighed")))


def summary(run: Path) -> dict[str, dict[str, float]]:
    return json.loads((run / "results" / "cmc" / "parameters.json").read_text())["parameters"]


def test_ranks_and_threads_draw_the_same_as_one_process(runs):
    assert prepared_digest(runs.together) == prepared_digest(runs.alone)
    assert digest(runs.together) == digest(runs.alone)


def test_shards_of_the_weighed_squares_come_to_the_posterior_of_all_data(runs):
    some, every = summary(runs.alone), summary(runs.exact)
    for name in ("D0", "alpha"):
        assert some[name]["mean"] == pytest.approx(every[name]["mean"], abs=0.3 * every[name]["std"])
        assert some[name]["std"] == pytest.approx(every[name]["std"], rel=0.25)


def test_the_posterior_is_as_wide_as_the_point_fit_and_its_likelihood_was_checked_on_all_squares(runs):
    point = json.loads((runs.exact / "results" / "nlsq" / "parameters.json").read_text())
    assert point["noise"]["model"] == "speckle"
    every = summary(runs.exact)
    for name in ("D0", "alpha"):
        assert every[name]["std"] == pytest.approx(point["parameters"][name]["uncertainty"], rel=0.25)
    assert (runs.exact / "data" / "squares.h5").exists()
    metrics = json.loads((runs.exact / "results" / "summary.json").read_text())["metrics"]
    assert metrics["compression_error"] < 0.05


def test_a_posterior_of_pairs_taken_for_independent_is_as_wide_as_its_robust_error_bars(runs):
    point = json.loads((runs.unweighed / "results" / "nlsq" / "parameters.json").read_text())["parameters"]
    analysis = json.loads((runs.unweighed / "results" / "cmc" / "analysis_results_cmc.json").read_text())
    found, widening = summary(runs.unweighed), analysis["sampling_quality"]["widening"]
    for name in ("D0", "alpha"):
        assert point[name]["robust_uncertainty"] > 3.0 * point[name]["uncertainty"]
        assert found[name]["std"] == pytest.approx(point[name]["robust_uncertainty"], rel=0.25)
        assert found[name]["mean"] == pytest.approx(point[name]["value"], abs=0.3 * found[name]["std"])
        expected = point[name]["robust_uncertainty"] / point[name]["uncertainty"]
        assert widening[name] == pytest.approx(expected, rel=0.25)
    assert widening["noise_scale"] == 1.0
    assert not any("too narrow" in words for words in analysis["sampling_quality"]["warnings"])


def test_results_name_the_noise(runs):
    import xarray

    path = runs.exact / "results" / "cmc" / "inference_data.nc"
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        observed = tree["observed_data"]
        assert observed.attrs["noise_model"] == "speckle"
        np.testing.assert_allclose(observed["photons"], 5.0, rtol=0.1)
