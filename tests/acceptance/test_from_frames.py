"""The chain from frames to a fit at the command line: what was simulated is recovered, with its noise."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hpcxpcs import cli
from tests.cli.fitting import QUICK

MASK = "image: frames.h5\nqmap: frames.h5\noperations:\n  - threshold: {low: 1.0e-6}\n"
PARTITION = """
qmap: frames.h5
mask: mask.h5
q: {bins: 1, static_bins: 4, min: 0.0050, max: 0.0058}
phi: {bins: 6}
"""
TRUTH = {"D0": 1.0e4, "alpha": 0.0, "D_offset": 0.0, "gamma_dot_t0": 2.0e-3, "beta": 0.0, "gamma_dot_t_offset": 0.0}
TRUTH |= {"phi0": -4.0}
FIXED = ("D_offset", "gamma_dot_t_offset", "beta")


def run(*arguments: str) -> None:
    assert cli.main(list(arguments)) == 0


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_given_simulated_frames_then_the_chain_recovers_diffusion_shear_rate_and_direction(folder, capsys):
    (folder / "mask.yaml").write_text(MASK)
    (folder / "partition.yaml").write_text(PARTITION)
    values = [word for name, value in TRUTH.items() for word in ("--set", f"{name}={value}")]
    run(
        "simulate", "laminar_flow", "-o", "frames.h5", "--format", "frames", "--noise-model", "photon",
        "--photons", "1", "--frames", "80", "--angles", "6", "--pixels", "900", "--dead-frames", "17",
        "--config", "config.yaml", "--contrast-spread", "0", "--seed", "5", *values,
    )  # fmt: skip
    run("mask", "build", "mask.yaml", "-o", "mask.h5")
    run("qmap", "frames.h5", "-o", "qmap.h5", "--mask", "mask.h5")
    run("partition", "partition.yaml", "-o", "partition.h5")
    run("correlate", "frames.h5", "--qmap", "partition.h5", "-o", "frames_results.hdf", "--threads", "1")
    assert "dead 1: 17" in capsys.readouterr().out
    fixed = {name: TRUTH[name] for name in FIXED}
    quick = ("optimization.nlsq.multi_start=2", "scaling.mode=individual", *QUICK)
    settings = [f"initial_parameters.fixed_parameters={json.dumps(fixed)}", *quick]
    options = [word for one in settings for word in ("--set", one)]
    run("fit", "config.yaml", "--method", "nlsq", "--run", "run", *options)
    found = json.loads((folder / "run/results/nlsq/parameters.json").read_text())
    for name, value in TRUTH.items():
        if name not in fixed:
            one = found["parameters"][name]
            assert abs(one["value"] - value) < 3.5 * one["uncertainty"], name
            assert one["uncertainty"] < 0.35 * max(abs(value), 1.0), name
    photons = re.search(r"the file counts (\S+) photons", found["noise"]["words"])
    assert photons is not None and float(photons[1]) == pytest.approx(1.0, abs=0.03)
