"""Damaged files and wrong configurations through `hpcxpcs fit`: whole results or none, and never a traceback."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hpcxpcs.config import load_config
from hpcxpcs.data.formats import write
from hpcxpcs.errors import ConfigError, OldConfigurationWarning
from tests.cli.fitting import QUICK, fit, read_json
from tests.data.stacks import stack_of
from tests.fuzz import configurations, layouts

EXIT_CODES = (0, 1, 2, 3)
FAST = (*QUICK, "optimization.nlsq.multi_start=1", "optimization.nlsq.max_iterations=10", "scaling.mode=averaged")
SEEDS = 24

pytestmark = pytest.mark.filterwarnings(
    f"ignore::{OldConfigurationWarning.__module__}.{OldConfigurationWarning.__name__}"
)


def whole_or_nothing(run: Path, outcome) -> bool:
    """Check what is left of a command; True when it is a whole set of results."""
    assert outcome.code in EXIT_CODES, outcome.err
    assert "Traceback" not in outcome.err and "Warning" not in outcome.err, outcome.err
    assert (outcome.code in (1, 2)) == ("hpcxpcs: error: " in outcome.err or "Error: " in outcome.err), outcome.err
    left = [entry.name for entry in run.iterdir()] if run.exists() else []
    assert not [name for name in left if name.endswith((".new", ".old", ".tmp"))]
    assert (outcome.code in (0, 3)) == ("results" in left)
    if "results" not in left:
        return False
    results = run / "results"
    assert read_json(results / "summary.json")["exit_code"] == outcome.code
    for name, digest in read_json(results / "provenance.json")["sha256"].items():
        assert hashlib.sha256((results / name).read_bytes()).hexdigest() == digest
    return True


def static_configuration(data: Path) -> str:
    return configurations.originals()[0].replace("tiny.h5", data.name)


@pytest.mark.slow
def test_given_damaged_files_then_a_fit_leaves_whole_results_or_none(tmp_path, capfd):
    data, config = tmp_path / "mutated.h5", tmp_path / "config.yaml"
    config.write_text(static_configuration(data))
    whole = []
    for seed in range(SEEDS):
        layouts.mutate(seed, data)
        outcome = fit(capfd, config, tmp_path / f"run{seed}", *FAST, options=("--method", "nlsq"))
        whole.append(whole_or_nothing(tmp_path / f"run{seed}", outcome))
    assert any(whole) and not all(whole)


@pytest.mark.slow
def test_given_wrong_configurations_then_a_fit_leaves_whole_results_or_none(tmp_path, capfd):
    write("nexus", tmp_path / "tiny.h5", stack_of([layouts.Q] * 2, [0.0, 90.0], 14))
    refused = accepted = seed = 0
    while refused < SEEDS or accepted < SEEDS // 4:
        seed += 1
        name, content = configurations.mutated(seed)
        config = tmp_path / name
        config.write_bytes(content)
        static = is_static(config)
        if (static and accepted >= SEEDS // 4) or (not static and refused >= SEEDS) or static is None:
            continue
        run = tmp_path / f"run{seed}"
        outcome = fit(capfd, config, run, *(FAST if static else ()), options=("--method", "nlsq"))
        whole_or_nothing(run, outcome)
        accepted, refused = accepted + bool(static), refused + (not static)


def is_static(config: Path) -> bool | None:
    """True for one that can be fitted in no time, None for one that would take long, False for a refused one."""
    try:
        found = load_config(config, FAST)
    except ConfigError:
        return False
    return found.analysis_mode == "static" or None


@pytest.mark.slow
def test_given_results_of_before_then_damaged_files_leave_them_as_they_are(tmp_path, capfd):
    data, config, run = tmp_path / "mutated.h5", tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(static_configuration(data))
    data.write_bytes(layouts.originals()[0])
    assert fit(capfd, config, run, *FAST).code in (0, 3)
    before = {path: path.read_bytes() for path in (run / "results").rglob("*") if path.is_file()}
    for seed in range(SEEDS):
        layouts.mutate(seed, data)
        if fit(capfd, config, run, *FAST).code == 1:
            after = {path: path.read_bytes() for path in (run / "results").rglob("*") if path.is_file()}
            assert after == before
        before = {path: path.read_bytes() for path in (run / "results").rglob("*") if path.is_file()}
