"""Joint fits: repeats and q with one set of physical parameters, tested against what the data were made with."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import hpcxpcs
from hpcxpcs.config import config_from_mapping
from hpcxpcs.data.quality.photons import counted
from hpcxpcs.data.simulate import NoiseSpec
from hpcxpcs.errors import ConfigError, DataError
from hpcxpcs.pipeline.fit import FitRun
from hpcxpcs.results.joint import own_values
from tests.acceptance.jobs import PROGRAM, Job
from tests.acceptance.test_campaign import asked
from tests.cli.fitting import read_json, simulated

RINGS = (0.0054 / 1.3, 0.0054, 0.0054 * 1.3)
STEADY = {"D0": 12000.0, "alpha": 0.0, "D_offset": 0.0}
REPEATS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten repeats with three q each, and a sample that is a fifth faster."""
    folder = tmp_path_factory.mktemp("joint")
    for repeat in range(REPEATS):
        simulated(folder, name=f"A_r{repeat}", parameters=STEADY, extra_q=2, seed=repeat, frames=60)
    simulated(folder, name="fast", parameters={**STEADY, "D0": 14400.0}, seed=77, frames=60)
    return folder


def fitted(folder: Path, run: Path, sets: list[dict[str, Any]], free: Any = (), method: str = "nlsq") -> FitRun:
    settings = {
        "analysis_mode": "static",
        "joint": {"sets": sets, "free": free},
        "analyzer_parameters": {"scattering": {"wavevector_q": 0.0054}},
        "initial_parameters": {"fixed_parameters": {"D_offset": 0.0}},
        "optimization": {"method": method},
        "output": {"plots": False, "report": False, "fitted_data": False},
    }
    if len(sets) == 1:
        settings |= {"experimental_data": {"file_path": sets[0]["file"]}, "joint": None}
    return hpcxpcs.fit(config_from_mapping(settings, folder), run=run)


def error(found: FitRun, name: str = "D0") -> float:
    return float(found.point.uncertainty[found.point.names.index(name)])


def value(found: FitRun, name: str = "D0") -> float:
    return float(found.point.values[found.point.names.index(name)])


def test_given_ten_repeats_then_errors_of_the_joint_fit_are_smaller_by_the_square_root_of_ten(folder, tmp_path):
    files = [{"file": f"A_r{repeat}.hdf"} for repeat in range(REPEATS)]
    alone = [fitted(folder, tmp_path / f"r{k}", [files[k]]) for k in (0, 3, 6)]
    together = fitted(folder, tmp_path / "all", files)
    ratio = np.mean([error(one) for one in alone]) / error(together)
    assert ratio == pytest.approx(np.sqrt(REPEATS), rel=0.1)
    assert abs(value(together) - 12000.0) < 4.0 * error(together)
    joint = together.point.joint
    assert joint is not None and joint.labels == tuple(f"A_r{k}" for k in range(REPEATS))
    assert not joint.agreement.disagreeing and joint.agreement.joint_probability > 1e-4
    assert together.point.scaling.contrast.shape == (3 * REPEATS,)


def test_given_sets_of_three_q_then_diffusion_does_not_depend_on_q(folder, tmp_path):
    sets = [{"file": "A_r1.hdf", "q": q, "label": f"q {q:.4f}"} for q in RINGS]
    together = fitted(folder, tmp_path / "shared", sets)
    assert abs(value(together) - 12000.0) < 4.0 * error(together) and not together.point.joint.agreement.disagreeing
    free = fitted(folder, tmp_path / "free", sets, ["D0"])
    (own,) = own_values(free.point)
    assert own.values.shape == (3,) and np.all(np.abs(own.values - 12000.0) < 4.0 * own.errors)
    assert own.probability > 1e-3 and abs(own.exponent[0]) < 4.0 * own.exponent[1] < 0.5
    assert free.point.names[-2:] == ("ln_D0_2", "ln_D0_3")
    assert own.values[1] / own.values[0] == pytest.approx(np.exp(value(free, "ln_D0_2")), rel=1e-6)


def test_given_a_set_that_is_another_sample_then_the_fit_says_that_one_value_does_not_hold(folder, tmp_path):
    sets = [{"file": f"A_r{k}.hdf"} for k in range(3)] + [{"file": "fast.hdf"}]
    shared = fitted(folder, tmp_path / "shared", sets)
    assert "D0" in shared.point.joint.agreement.disagreeing
    assert any("4 data sets disagree about D0" in flag and "joint.free" in flag for flag in shared.point.flags)
    free = fitted(folder, tmp_path / "free", sets, {"D0": "hierarchical"})
    assert not free.point.joint.agreement.disagreeing
    (own,) = own_values(free.point)
    assert own.drawn and own.probability < 1e-6
    assert own.values[3] / own.values[:3].mean() == pytest.approx(1.2, abs=0.05)
    assert own.spread_interval[0] < own.spread < own.spread_interval[1] and 0.03 < own.spread < 0.5
    record = read_json(free.results / "nlsq" / "parameters.json")["data_sets"]
    assert record["own"]["D0"]["values"] == pytest.approx(own.values.tolist())
    assert [one["data_set"] for one in read_json(free.results / "nlsq" / "parameters.json")["scaling"]["per_angle"]][
        ::3
    ] == ["A_r0", "A_r1", "A_r2", "fast"]


def test_given_sets_alike_then_hierarchical_values_are_drawn_together_and_sets_of_one_label_share_theirs(
    folder, tmp_path
):
    sets = [{"file": f"A_r{k}.hdf"} for k in range(5)]
    own = next(own_values(fitted(folder, tmp_path / "own", sets, ["D0"]).point))
    drawn = next(own_values(fitted(folder, tmp_path / "drawn", sets, {"D0": "hierarchical"}).point))
    assert np.ptp(drawn.values) < 0.7 * np.ptp(own.values) and np.all(drawn.errors < own.errors)
    pairs = [{**one, "label": "first" if k < 2 else "second"} for k, one in enumerate(sets[:4])]
    grouped = fitted(folder, tmp_path / "grouped", pairs, ["D0"])
    assert grouped.point.joint.labels == ("first", "second") and grouped.point.names[-1] == "ln_D0_2"


def test_given_joint_data_then_importance_and_chains_agree(folder, tmp_path):
    sets = [{"file": "A_r0.hdf", "q": q} for q in RINGS[:2]]
    found = [fitted(folder, tmp_path / method, sets, ["D0"], method).posterior for method in ("importance", "exact")]
    first, second = (one.summary for one in found)
    assert found[0].names == found[1].names and "ln_D0_2" in found[0].names
    assert np.all(np.abs(first.mean - second.mean) < 0.15 * second.std)
    np.testing.assert_allclose(first.std, second.std, rtol=0.12)


def test_given_photons_then_every_set_has_the_brightness_and_pixels_of_its_own_file(tmp_path):
    for name, photons in (("dim", 1.0), ("bright", 4.0)):
        light = NoiseSpec(model="photon", photons=photons, pixels=300)
        simulated(tmp_path, name=name, parameters=STEADY, noise=light, angles=2, frames=30)
    settings = {
        "analysis_mode": "static",
        "joint": {"sets": [{"file": "dim.hdf"}, {"file": "bright.hdf"}]},
        "analyzer_parameters": {"scattering": {"wavevector_q": 0.0054}},
    }
    told = counted(hpcxpcs.load(config_from_mapping(settings, tmp_path)))
    assert told is not None and told.drift is not None and told.drift.shape == (4, 30)
    np.testing.assert_allclose(told.photons, [1.0, 1.0, 4.0, 4.0], rtol=0.1)


WRONG = {
    "one set": ({"sets": [{"file": "A_r0.hdf"}]}, "joint.sets"),
    "unknown parameter": ({"free": ["D1"]}, "joint.free.D1"),
    "the constant part": ({"free": ["D_offset"]}, "cannot differ between data sets"),
    "an exponent with a free constant part": ({"free": ["alpha"]}, "D_offset is fixed"),
    "how it is free": ({"free": {"D0": "much"}}, "own or hierarchical"),
    "q of zero": ({"sets": [{"file": "A_r0.hdf", "q": 0}, {"file": "A_r1.hdf"}]}, r"sets\[0\].q: 0 must be greater"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_given_a_joint_fit_that_cannot_be_then_the_key_is_named(wrong, folder):
    joint, words = WRONG[wrong]
    settings = {
        "analysis_mode": "static",
        "joint": {"sets": [{"file": "A_r0.hdf"}, {"file": "A_r1.hdf"}], **joint},
        "analyzer_parameters": {"scattering": {"wavevector_q": 0.0054}},
    }
    with pytest.raises(ConfigError, match=words):
        config_from_mapping(settings, folder)


def test_given_sets_of_other_times_then_both_files_are_named(folder, tmp_path):
    simulated(tmp_path, name="short", parameters=STEADY, frames=40)
    with pytest.raises(DataError, match=r"short.hdf: has 40 frames.*A_r0.hdf has 60.*equal times"):
        fitted(folder, tmp_path / "run", [{"file": "A_r0.hdf"}, {"file": str(tmp_path / "short.hdf")}])


def test_given_a_campaign_then_a_pooled_item_is_the_joint_fit_that_its_configuration_says(folder, tmp_path):
    settings = {
        "analysis_mode": "static",
        "campaign": {"files": str(folder / "A_r{repeat:d}.hdf"), "q": list(RINGS[:2]), "pool": ["repeat"]},
        "initial_parameters": {"fixed_parameters": {"D_offset": 0.0}},
        "optimization": {"method": "nlsq"},
        "runtime": {"workers": 1},
    }
    config = tmp_path / "campaign.yaml"
    config.write_text(yaml.safe_dump(settings))
    run = tmp_path / "run"
    asked(tmp_path, "fit", config, "--run", run)
    single = tmp_path / "one.yaml"
    single.write_text(asked(tmp_path, "campaign", "config", run, "q0.0054"))
    asked(tmp_path, "fit", single, "--run", tmp_path / "single")
    asked(tmp_path, "report", run, "--item", "q0.0054")
    places = (run / "results" / "items" / "q0.0054", tmp_path / "single" / "results")
    ours, theirs = (read_json(place / "nlsq" / "parameters.json") for place in places)
    assert {**ours, "timestamp": ""} == {**theirs, "timestamp": ""}
    assert ours["data_sets"]["labels"] == [f"repeat {k}" for k in range(REPEATS)]


def test_given_a_campaign_that_is_watched_then_files_that_come_are_fitted_until_it_is_ended(folder, tmp_path):
    shutil.copy(folder / "A_r0.hdf", tmp_path)
    old = time.time() - 3600.0
    os.utime(tmp_path / "A_r0.hdf", (old, old))
    settings = {
        "analysis_mode": "static",
        "campaign": {"files": "A_r{repeat:d}.hdf", "q": [RINGS[1]]},
        "optimization": {"method": "nlsq"},
        "runtime": {"workers": 1},
    }
    config, run = tmp_path / "campaign.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(settings))
    job = Job(tmp_path / "watching", (*PROGRAM, "fit", config, "--run", run, "--watch", 1), {})
    try:
        job.until((run / "results" / "campaign.csv").exists)
        shutil.copy(folder / "A_r1.hdf", tmp_path / "new")
        os.utime(tmp_path / "new", (old, old))
        (tmp_path / "new").rename(tmp_path / "A_r1.hdf")
        job.until(lambda: "A_r1" in (run / "results" / "campaign.csv").read_text())
        os.kill(job.process.pid, signal.SIGTERM)
        assert job.wait() == 0, job.text()
    finally:
        job.end()
    assert "2: 2 done" in job.text()
